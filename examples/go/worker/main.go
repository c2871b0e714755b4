// A worker that acts only while it leads: of all workers of one election, one at a time. It takes the same arguments and
// prints the same lines as the one in C, examples/c/worker.c, which says what they mean; the two stand in one election.
//
//	worker --endpoints http://127.0.0.1:2379 --service shop --election billing --value alpha
//	worker --endpoints memory://trial --service shop --for 3      (no server; it elects itself)
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// One line of the claims file. A power of two, so that no line crosses a page: kill -9 can't tear one.
const claimBytes = 64

type settings struct {
	options  tenure.Options
	election string
	claims   string
	poll     time.Duration
	duration time.Duration // 0: until told to end
}

// claim is the time for which the worker has been leading, as far as it is proved: from after the first look that said so to
// before the latest one.
type claim struct {
	token      int64 // 0: none
	start, end tenure.BootTime
}

type worker struct {
	service  *tenure.Service
	election string
	poll     time.Duration
	claims   *os.File // nil: none

	events sync.WaitGroup // what prints statuses

	mu       sync.Mutex
	campaign *tenure.Campaign
}

// say prints a line by one write, so that lines of several goroutines don't mix and none is lost in a buffer.
func say(format string, values ...any) {
	line := []byte(fmt.Sprintf(format, values...))
	if len(line) > 4095 { // PIPE_BUF with the end of the line: so much is written to a pipe in one piece.
		line = line[:4095]
	}
	for place, letter := range line {
		if letter < ' ' {
			line[place] = ' ' // A value may hold anything; a line is a line.
		}
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		fmt.Fprintln(os.Stderr, "worker: stdout:", err)
		os.Exit(1)
	}
}

// codeOf is the name of what a call answered, and the sentence that goes with it.
func codeOf(err error) (name, message string) {
	var failure *tenure.Error
	switch {
	case err == nil:
		return "OK", ""
	case errors.As(err, &failure):
		return failure.Code.Name(), failure.Message
	}
	return "INTERNAL", err.Error()
}

func complain(what string, err error) {
	if err != nil {
		code, message := codeOf(err)
		fmt.Fprintf(os.Stderr, "worker: %s: %s: %s\n", what, code, message)
	}
}

func (w *worker) printEvents(campaign *tenure.Campaign) {
	defer w.events.Done()
	for status := range campaign.Statuses() {
		atRisk := 0
		if status.AtRisk {
			atRisk = 1
		}
		reason, message := codeOf(status.Err)
		say("event time_ns=%d sequence=%d state=%s reason=%s token=%d at_risk=%d deadline_ns=%d message=%s",
			tenure.Now(), status.Sequence, status.State, reason, status.Token, atRisk, status.Deadline, message)
	}
}

func (w *worker) stand() error {
	options := tenure.CampaignOptions{Rejoin: true, AtRisk: true}
	campaign, err := w.service.Campaign(context.Background(), w.election, options)
	if err != nil {
		return err
	}
	w.events.Add(1)
	go w.printEvents(campaign)
	w.mu.Lock()
	w.campaign = campaign
	w.mu.Unlock()
	return nil
}

func (w *worker) current() *tenure.Campaign {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.campaign
}

// storeClaim keeps the claim where it outlives this process, however it ends.
func (w *worker) storeClaim(number int, c claim) error {
	if w.claims == nil {
		return nil
	}
	line := fmt.Sprintf("%20d %20d %21d\n", c.start, c.end, c.token)
	_, err := w.claims.WriteAt([]byte(line), int64(number)*claimBytes)
	return err
}

func (c claim) say() {
	say("claim start_ns=%d end_ns=%d token=%d", c.start, c.end, c.token)
}

// work asks before every step whether it leads, and takes that step, which is to note that it may, only then.
func (w *worker) work(stop <-chan struct{}) {
	var held claim
	number := -1
	for last := false; ; {
		select {
		case <-stop:
			last = true
		default:
		}
		campaign, before, token := w.current(), tenure.Now(), int64(0)
		if campaign.IsLeader() {
			token = campaign.Token()
		}
		after := tenure.Now()

		var err error
		switch {
		case token != held.token:
			if held.token != 0 {
				held.say()
			}
			held = claim{token, after, after}
			if token != 0 {
				held.say()
				number++
				err = w.storeClaim(number, held)
			}
		case token != 0 && before > held.end:
			held.end = before
			err = w.storeClaim(number, held)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "worker: claims file:", err)
			os.Exit(1)
		}
		if last {
			return
		}
		time.Sleep(w.poll)
	}
}

func (w *worker) printCandidates() {
	list, err := w.service.Candidates(context.Background(), w.election)
	complain("candidates", err)
	for place, candidate := range list {
		say("candidate place=%d token=%d value=%s", place+1, candidate.Token, candidate.Value)
	}
	code, _ := codeOf(err)
	say("candidates time_ns=%d code=%s count=%d", tenure.Now(), code, len(list))
}

// obey tells whether to go on.
func (w *worker) obey(command string) bool {
	switch command {
	case "resign":
		start := tenure.Now()
		err := w.current().Resign(context.Background())
		complain("resign", err)
		code, _ := codeOf(err)
		say("resign start_ns=%d time_ns=%d code=%s", start, tenure.Now(), code)
	case "campaign":
		err := w.stand()
		complain("campaign", err)
		code, _ := codeOf(err)
		say("campaign time_ns=%d code=%s", tenure.Now(), code)
	case "candidates":
		w.printCandidates()
	case "quit":
		return false
	case "":
	default:
		fmt.Fprintf(os.Stderr, "worker: unknown command `%s`; there are resign, campaign, candidates and quit\n", command)
	}
	return true
}

// commands are the lines of stdin. At its end none come any more: a worker without commands goes on working.
func commands() <-chan string {
	lines := make(chan string)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			lines <- input.Text()
		}
		if err := input.Err(); err != nil {
			fmt.Fprintln(os.Stderr, "worker: stdin:", err)
		}
	}()
	return lines
}

// run returns when a command, a signal or the time says that it is enough.
func (w *worker) run(duration time.Duration, signals <-chan os.Signal) {
	var end <-chan time.Time
	if duration > 0 {
		end = time.After(duration)
	}
	for lines := commands(); ; {
		select {
		case line := <-lines:
			if !w.obey(line) {
				return
			}
		case <-signals:
			return
		case <-end:
			return
		}
	}
}

// serve goes from an open service to a closed one.
func (w *worker) serve(duration time.Duration, signals <-chan os.Signal) error {
	if err := w.stand(); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		w.work(stop)
		close(stopped)
	}()
	w.run(duration, signals)
	// Withdraws, so that the others don't have to wait until the lease is over.
	err := w.service.Close(context.Background())
	close(stop)
	<-stopped
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	w.events.Wait()
	return nil
}

func number(place *int64) func(text string) error {
	return func(text string) error {
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < 1 || value > 1_000_000_000 {
			return fmt.Errorf("`%s` is not a number from 1 to 1000000000", text)
		}
		*place = value
		return nil
	}
}

func parse(arguments []string) (settings, error) {
	set := settings{options: tenure.Options{Service: "worker", More: map[string]string{}}}
	pollUS, seconds := int64(200), int64(0)
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	option := func(name string) func(string) error {
		return func(value string) error {
			set.options.More[name] = value
			return nil
		}
	}
	flags.Func("endpoints", "", option("endpoints"))
	flags.Func("service", "", option("service"))
	flags.Func("value", "", option("value"))
	flags.Func("ttl", "", option("ttl"))
	flags.Func("option", "", func(assignment string) error {
		name, value, found := strings.Cut(assignment, "=")
		if !found {
			return fmt.Errorf("`%s` is not NAME=VALUE", assignment)
		}
		return option(name)(value)
	})
	flags.StringVar(&set.election, "election", "", "")
	flags.StringVar(&set.claims, "claims", "", "")
	flags.Func("poll-us", "", number(&pollUS))
	flags.Func("for", "", number(&seconds))
	err := flags.Parse(arguments)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("what is `%s`?", flags.Arg(0))
	}
	if err != nil {
		return set, fmt.Errorf(`%w
usage: worker [--endpoints URLS] [--service NAME] [--election NAME] [--value TEXT] [--ttl 10s]
              [--option NAME=VALUE]... [--claims FILE] [--poll-us N] [--for SECONDS]
--option sets any other option of the service, see docs/options.md.`, err)
	}
	set.poll = time.Duration(pollUS) * time.Microsecond
	set.duration = time.Duration(seconds) * time.Second
	return set, nil
}

func run() error {
	set, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	w := &worker{election: set.election, poll: set.poll}
	if set.claims != "" {
		w.claims, err = os.OpenFile(set.claims, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer w.claims.Close()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	w.service, err = tenure.Open(context.Background(), set.options)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return w.serve(set.duration, signals)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
