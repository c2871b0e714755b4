// A host process in Go that ends, or goes on, in the way that its first argument names: see host.c.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

var ctx = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open(ttl time.Duration) *tenure.Service {
	service, err := tenure.Open(ctx, tenure.Options{
		Endpoints: []string{os.Getenv("ETCD_ENDPOINTS")}, Service: "hosts", Environment: os.Args[2], TTL: ttl,
		CallTimeout: 30 * time.Second, DialTimeout: 30 * time.Second,
	})
	check(err)
	return service
}

func lead(ttl time.Duration) (*tenure.Service, *tenure.Campaign) {
	service := open(ttl)
	// A machine so busy that a short lease is lost only makes it wait.
	campaign, err := service.Campaign(ctx, "e", tenure.CampaignOptions{Rejoin: true})
	check(err)
	check(campaign.WaitForLeadership(ctx))
	return service, campaign
}

const (
	brief = 2 * time.Second
	long  = 30 * time.Second
)

func signalled(number syscall.Signal) func() {
	return func() {
		lead(brief)
		check(syscall.Kill(os.Getpid(), number))
		select {}
	}
}

// While services come and go.
func atAnyTime(end func()) func() {
	return func() {
		for number := range 2 {
			go func() {
				for {
					service := open(brief)
					campaign, err := service.Campaign(ctx, fmt.Sprint("e-", number), tenure.CampaignOptions{Rejoin: true})
					check(err)
					check(campaign.WaitForLeadership(ctx))
					check(service.Close(ctx))
				}
			}()
		}
		time.Sleep(time.Duration(os.Getpid()%97) * time.Millisecond / 5)
		end()
	}
}

func closeReturn() {
	service, _ := lead(long)
	check(service.Close(ctx))
}

func panicAfterDefer() {
	service, _ := lead(long)
	defer func() { check(service.Close(ctx)) }()
	panic("after the deferred close")
}

func panicRecovered() {
	defer func() {
		if recover() == nil {
			os.Exit(1)
		}
	}()
	service, _ := lead(long)
	defer func() { check(service.Close(ctx)) }()
	panic("recovered")
}

func panicInGoroutine() {
	lead(brief)
	go func() { panic("a goroutine's") }()
	select {}
}

// The other goroutines go on; the last one ends the program.
func goexit() {
	service, campaign := lead(long)
	go func() {
		time.Sleep(10 * time.Millisecond)
		if !campaign.IsLeader() {
			os.Exit(1)
		}
		check(service.Close(ctx))
		os.Exit(0)
	}()
	runtime.Goexit()
}

// As servers do.
func notified() {
	service, _ := lead(long)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	check(syscall.Kill(os.Getpid(), syscall.SIGTERM))
	<-stop
	check(service.Close(ctx))
}

// What other programs inherit is nothing.
func commands() {
	service, campaign := lead(long)
	token := campaign.Token()
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			out, err := exec.Command("/bin/sh", "-c", "ls /proc/self/fd | wc -l").Output()
			check(err)
			if string(out) != "4\n" { // 0 to 2, and the folder
				check(fmt.Errorf("a child has %s descriptors", out))
			}
		}()
	}
	all.Wait()
	if campaign.Token() != token {
		check(errors.New("the term ended"))
	}
	check(service.Close(ctx))
}

func execItself() {
	lead(brief)
	check(syscall.Exec("/bin/true", []string{"true"}, os.Environ()))
}

// SIGPROF on every thread, a thousand times a second.
func profiled() {
	file, err := os.CreateTemp("", "tenure-hosts")
	check(err)
	check(os.Remove(file.Name()))
	runtime.SetCPUProfileRate(1000)
	check(pprof.StartCPUProfile(file))
	var all sync.WaitGroup
	for number := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.LockOSThread()
			service := open(long)
			for range 3 {
				campaign, err := service.Campaign(ctx, fmt.Sprint("e-", number), tenure.CampaignOptions{})
				check(err)
				check(campaign.WaitForLeadership(ctx))
				check(campaign.Resign(ctx))
				for range campaign.Statuses() {
				}
			}
			check(service.Close(ctx))
		}()
	}
	all.Wait()
	pprof.StopCPUProfile()
}

func closeAmidStatuses() {
	service, campaign := lead(long)
	var all sync.WaitGroup
	for range 5 {
		seen, err := service.Observe(ctx, "e")
		check(err)
		all.Add(1)
		go func() {
			defer all.Done()
			for range seen {
			}
		}()
	}
	all.Add(1)
	go func() {
		defer all.Done()
		for number := 0; campaign.Proclaim(ctx, []byte(fmt.Sprint(number))) == nil; number++ {
		}
	}()
	time.Sleep(time.Duration(os.Getpid()%31) * time.Millisecond / 10)
	check(service.Close(ctx))
	all.Wait()
}

// A limit that Go's own runtime, which raised it at the start, doesn't lift.
func fewDescriptors() {
	probe, err := os.Open("/dev/null")
	check(err)
	used := probe.Fd()
	check(probe.Close())
	var before, few syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	few = before
	few.Cur = uint64(used) + uint64(os.Getpid()%10)
	check(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	service, err := tenure.Open(ctx, tenure.Options{
		Endpoints: []string{os.Getenv("ETCD_ENDPOINTS")}, Service: "hosts", Environment: os.Args[2], DialTimeout: brief,
	})
	if err == nil {
		campaign, err := service.Campaign(ctx, "e", tenure.CampaignOptions{})
		check(err)
		check(campaign.WaitForLeadership(ctx))
		check(service.Close(ctx))
	} else if !errors.Is(err, tenure.ErrSystem) && !errors.Is(err, tenure.ErrUnavailable) {
		check(err)
	}
	check(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	closeReturn()
}

var endings = map[string]func(){
	"close-return":        closeReturn,
	"return":              func() { lead(brief) },
	"exit":                func() { lead(brief); os.Exit(3) },
	"exit-anytime":        atAnyTime(func() { os.Exit(3) }),
	"return-anytime":      atAnyTime(func() {}),
	"fatal":               func() { lead(brief); log.Fatal("fatal") },
	"panic":               func() { lead(brief); panic("main's") },
	"panic-after-defer":   panicAfterDefer,
	"panic-recovered":     panicRecovered,
	"panic-in-goroutine":  panicInGoroutine,
	"goexit":              goexit,
	"kill":                signalled(syscall.SIGKILL),
	"kill-anytime":        atAnyTime(func() { check(syscall.Kill(os.Getpid(), syscall.SIGKILL)); select {} }),
	"sigterm":             signalled(syscall.SIGTERM),
	"sigquit":             signalled(syscall.SIGQUIT),
	"sigabrt":             signalled(syscall.SIGABRT),
	"notified":            notified,
	"commands":            commands,
	"exec":                execItself,
	"profiled":            profiled,
	"close-amid-statuses": closeAmidStatuses,
	"few-descriptors":     fewDescriptors,
}

func main() {
	endings[os.Args[1]]()
}
