// What leadership alone can't prevent, and what the fencing token is for.
//
//	fencing http://127.0.0.1:2379 /tmp/ledger
//
// A leader asks whether it leads, and is stopped before it acts: by the scheduler, a debugger, a suspended machine. When it
// goes on, another has led and written, and the check of before is worth nothing. Only the ledger can tell: it keeps the
// highest token that it was written with, and refuses lower ones.
//
// Two processes play this: `first` leads and is stopped (SIGSTOP) between its check and its write, `second` is elected when the
// lease of the first is over and writes, then `first` goes on. Ends with 0 if its late write was refused.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// How this program is told which of the two to be.
const partVariable = "FENCING_PART"

// refused is what the ledger says to a leader of the past.
type refused struct{ token, highest int64 }

func (r refused) Error() string {
	return fmt.Sprintf("refused, token %d is older than %d", r.token, r.highest)
}

// appendLine adds a line to the resource, a file whose first line is the highest token seen. The lock makes the check and the
// write one; a token checked by the caller would not do.
func appendLine(path string, token int64, text string) (err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // Closing unlocks.
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var highest int64
	// In decimal: Fscan would take the leading zeros for octal.
	if _, err := fmt.Fscanf(file, "%d", &highest); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: no token in the first line: %w", path, err)
	}
	if token < highest {
		return refused{token, highest}
	}
	// The token first, and safe on the disk: a line without it would let an older leader write behind it.
	if _, err := file.WriteAt([]byte(fmt.Sprintf("%020d\n", token)), 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	end, err := file.Seek(0, 2)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt([]byte(fmt.Sprintf("%d %s\n", token, text)), end); err != nil {
		return errors.Join(err, file.Truncate(end)) // No half lines.
	}
	return file.Sync()
}

func writeLine(who, path string, token int64, text string) error {
	err := appendLine(path, token, text)
	if err != nil {
		fmt.Printf("%s: %v\n", who, err)
	} else {
		fmt.Printf("%s: wrote with token %d\n", who, token)
	}
	return err
}

// beFirst leads, looks, and is stopped before it can do what the look allowed.
func beFirst(campaign *tenure.Campaign, path string) error {
	token := campaign.Token()
	if err := writeLine("first", path, token, "the first leader was here"); err != nil {
		return err
	}
	if !campaign.IsLeader() {
		return errors.New("lost leadership too early for this example")
	}
	fmt.Println("first: is the leader; falls asleep before it acts")
	// To this very thread: it would go on for a while if another one took the signal.
	runtime.LockOSThread()
	if err := syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP); err != nil {
		return err
	}
	fmt.Println("first: awake, and acts on what it knew")
	err := writeLine("first", path, token, "the first leader is late")
	if !errors.As(err, new(refused)) {
		return fmt.Errorf("the late write was not refused: %v", err)
	}
	if campaign.IsLeader() {
		return errors.New("claims to lead although another does")
	}
	return nil
}

func beSecond(campaign *tenure.Campaign, path string) error {
	return writeLine("second", path, campaign.Token(), "the second leader was here")
}

func lead(who, endpoints, path string, play func(*tenure.Campaign, string) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	service, err := tenure.Open(ctx, tenure.Options{
		Endpoints: []string{endpoints}, Service: "fencing-example", TTL: 2 * time.Second, Value: who,
	})
	if err != nil {
		return err
	}
	campaign, err := service.Campaign(ctx, "ledger", tenure.CampaignOptions{})
	if err == nil {
		err = campaign.WaitForLeadership(ctx)
	}
	if err == nil {
		err = play(campaign, path)
	}
	return errors.Join(err, service.Close(context.Background()))
}

// start makes each leader a process of its own. It is killed with this one: nobody is to be left behind asleep.
func start(who string) (*os.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.Command(self, os.Args[1:]...)
	child.Env = append(os.Environ(), partVariable+"="+who)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = child.Start()
	return child.Process, err
}

// finish waits until the child did its part, that is, is asleep or has ended well.
func finish(child *os.Process, options int) error {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(child.Pid, &status, options, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return err
		}
	}
	if status.Stopped() || status.Exited() && status.ExitStatus() == 0 {
		return nil
	}
	return fmt.Errorf("a leader ended with status %d", status)
}

func play() error {
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the child.
	first, err := start("first")
	if err != nil {
		return err
	}
	if err := finish(first, syscall.WUNTRACED); err != nil {
		return err
	}
	second, err := start("second")
	if err == nil {
		err = finish(second, 0)
	}
	if err := first.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	return errors.Join(err, finish(first, 0))
}

func run(endpoints, path string) error {
	switch os.Getenv(partVariable) {
	case "first":
		return lead("first", endpoints, path, beFirst)
	case "second":
		return lead("second", endpoints, path, beSecond)
	}
	return play()
}

func main() {
	if len(os.Args) != 3 || strings.HasPrefix(os.Args[1], "memory:") {
		fmt.Fprintln(os.Stderr, "usage: fencing ENDPOINTS LEDGER-FILE   (two processes take part, so it needs an etcd)")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "fencing:", err)
		os.Exit(1)
	}
}
