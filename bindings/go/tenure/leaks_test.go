package tenure_test

// Whoever doesn't read, or forgets, leaves nothing behind; and nothing is confused by many at a time.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// resources of this process: goroutines, threads, descriptors.
func resources(t *testing.T) [3]int {
	t.Helper()
	count := func(folder string) int {
		entries, err := os.ReadDir(folder)
		must(t, err)
		return len(entries)
	}
	return [3]int{runtime.NumGoroutine(), count("/proc/self/task"), count("/proc/self/fd")}
}

// alone runs the test again in a process of its own, where it is the only one that counts; true in that process.
func alone(t *testing.T) bool {
	t.Helper()
	t.Parallel()
	if os.Getenv("TENURE_TEST_ALONE") == t.Name() {
		return true
	}
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), "TENURE_TEST_ALONE="+t.Name())
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

// expectFlat runs a round often; after the first ones it must not take more of anything.
func expectFlat(t *testing.T, rounds int, round func(number int)) {
	t.Helper()
	for number := 0; number < rounds/4; number++ {
		round(number)
	}
	// Threads stay when they have nothing to do; the runtime may need one or two more at any time, but not one a round.
	slack := [3]int{0, 4, 0}
	before := resources(t)
	for number := rounds / 4; number < rounds; number++ {
		round(number)
	}
	var after [3]int
	is := func() bool {
		runtime.GC()
		after = resources(t)
		for which := range after {
			if after[which] > before[which]+slack[which] {
				return false
			}
		}
		return true
	}
	for until := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			stacks := make([]byte, 1<<16)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("goroutines, threads, descriptors: %v, after %d rounds more: %v\n%s", before, rounds, after, stacks)
		}
	}
}

// Opens, campaigns, observes, reads nothing, closes.
func oneRound(t *testing.T, options tenure.Options) {
	t.Helper()
	service, err := tenure.Open(background, options)
	must(t, err)
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	campaign, err := service.Campaign(ctx, "e", tenure.CampaignOptions{Rejoin: true})
	must(t, err)
	must(t, campaign.WaitForLeadership(ctx))
	_, err = service.Observe(background, "e")
	must(t, err)
	_, err = service.Observe(ctx, "e")
	must(t, err)
	_, err = service.Leader(ctx, "e")
	must(t, err)
	must(t, service.Close(ctx))
}

func TestOpeningAndClosingManyTimes(t *testing.T) {
	if !alone(t) {
		return
	}
	expectFlat(t, 200, func(int) {
		oneRound(t, tenure.Options{Endpoints: []string{"memory://" + t.Name()}, Service: "s"})
	})
	expectFlat(t, 60, func(int) {
		oneRound(t, tenure.Options{Endpoints: []string{etcd(t)}, Service: serviceName(t)})
	})
}

func TestManyCampaignsThatNobodyReads(t *testing.T) {
	if !alone(t) {
		return
	}
	service := open(t, tenure.Options{Endpoints: []string{"memory://" + t.Name()}, Service: "s"})
	expectFlat(t, 400, func(number int) {
		campaign := lead(t, service, fmt.Sprint("election ", number%7), tenure.CampaignOptions{Rejoin: true})
		ctx, cancel := context.WithCancel(background)
		_, err := service.Observe(ctx, "election 0")
		must(t, err)
		must(t, campaign.Resign(background))
		cancel()
	})
}

func TestCancelledCallsLeaveNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	// Each call goes on for its own time, which is short here.
	service := open(t, tenure.Options{
		Endpoints: []string{deadPort(t)}, Service: "s", OpenOffline: true, CallTimeout: 20 * time.Millisecond,
	})
	still := runtime.NumGoroutine()
	ended := func() {
		t.Helper()
		eventually(t, "the end of the call", func() bool { return runtime.NumGoroutine() <= still })
	}
	expectFlat(t, 100, func(int) {
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		if _, err := service.Leader(ctx, "e"); err == nil {
			t.Error("somebody leads where no etcd is")
		}
		cancel()
		ended()
	})
	expectFlat(t, 20, func(int) {
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		_, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{deadPort(t)}, Service: "s", DialTimeout: 20 * time.Millisecond})
		if err == nil {
			t.Error("opened where no etcd is")
		}
		cancel()
		ended()
	})
}

// An etcd that doesn't answer, and a program that goes on asking, must not make a thread of every question.
func TestCancelledCallsShareThreads(t *testing.T) {
	if !alone(t) {
		return
	}
	p := newProxy(t, etcd(t))
	service := open(t, tenure.Options{Endpoints: []string{p.endpoint()}, Service: serviceName(t)})
	p.swallow(true)
	before := resources(t)
	for call := 0; call < 1000; call++ {
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		if _, err := service.Leader(ctx, "e"); err == nil {
			t.Error("an answer that can't have come")
		}
		cancel()
	}
	if after := resources(t); after[1] > before[1]+120 {
		t.Errorf("goroutines, threads, descriptors: %v, then %v", before, after)
	}
	p.swallow(false)
	p.cut()
}

// A thousand candidates wait without a thread or goroutine for each.
func TestManyCampaignsAtOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	service := open(t, tenure.Options{Endpoints: []string{"memory://" + t.Name()}, Service: "s"})
	before := resources(t)
	var campaigns []*tenure.Campaign
	for number := 0; number < 1000; number++ {
		campaigns = append(campaigns, stand(t, service, fmt.Sprint(number), tenure.CampaignOptions{}))
	}
	for _, campaign := range campaigns {
		must(t, campaign.WaitForLeadership(within(t, patience)))
	}
	after := resources(t)
	if after[0] > before[0]+5 || after[1] > before[1]+5 || after[2] > before[2] {
		t.Errorf("goroutines, threads, descriptors: %v, then %v", before, after)
	}
}

// A slow reader is told the truth, late: each term that it hears of, it hears the end of.
func TestAReaderWhoStops(t *testing.T) {
	t.Parallel()
	service := open(t, tenure.Options{Endpoints: []string{etcd(t)}, Service: serviceName(t)})
	other := lead(t, service, "other", tenure.CampaignOptions{})
	for read := 1; read <= 2; read++ { // FOLLOWER, or LEADER as well, before the reader stops.
		campaign := lead(t, service, "e", tenure.CampaignOptions{Rejoin: true})
		for _, state := range []tenure.State{tenure.StateFollower, tenure.StateLeader}[:read] {
			expectNext(t, campaign, state)
		}
		for round := 0; round < 4; round++ {
			leader, err := service.Leader(background, "e")
			must(t, err)
			token := campaign.Token()
			etcdctl(t, "del", leader.Key)
			eventually(t, "another term", func() bool { return campaign.Token() > token })
		}
		if !other.IsLeader() {
			t.Error("another campaign was disturbed")
		}
		must(t, campaign.Resign(background))
		all := rest(t, campaign.Statuses())
		expectNoLeader(t, all)
		if all[0].State != tenure.StateError || !errors.Is(all[0].Err, tenure.ErrKeyDeleted) {
			t.Errorf("the first after %d of %s: %v", read, states(all), all[0].Err)
		}
		if all[len(all)-1].State != tenure.StateClosed {
			t.Errorf("the last of %s", states(all))
		}
	}
}

// expectNoLeader is for what is told when all terms are over.
func expectNoLeader(t *testing.T, all []tenure.Status) {
	t.Helper()
	for place, status := range all {
		if status.State == tenure.StateLeader {
			t.Errorf("a term that was over is told at %d of %s", place, states(all))
		}
		if place > 0 && status.Sequence <= all[place-1].Sequence {
			t.Errorf("sequence %d follows %d", status.Sequence, all[place-1].Sequence)
		}
	}
}

// Everything at once, from many goroutines, while the service closes: for the race detector.
func TestManyGoroutines(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		for round := 0; round < 5; round++ {
			service := open(t, options)
			var all sync.WaitGroup
			for number := 0; number < 8; number++ {
				number := number
				all.Add(1)
				go func() {
					defer all.Done()
					for step := 0; step < 20; step++ {
						campaign, err := service.Campaign(background, fmt.Sprint(number%3), tenure.CampaignOptions{})
						if err != nil {
							if !errors.Is(err, tenure.ErrCampaignInProgress) && !errors.Is(err, tenure.ErrClosed) {
								t.Error(err)
							}
							continue
						}
						ctx, cancel := context.WithTimeout(background, time.Millisecond)
						_, err = service.Observe(ctx, "0")
						if err != nil && !errors.Is(err, tenure.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						cancel()
						_ = campaign.IsLeader() && campaign.Token() > 0
						// Closing may overtake it, and is as good.
						if err := campaign.Resign(within(t, patience)); err != nil {
							t.Error(err)
						}
						rest(t, campaign.Statuses())
					}
				}()
			}
			if round > 0 {
				time.Sleep(time.Duration(round) * time.Millisecond) // Close in the midst of it.
				must(t, service.Close(within(t, patience)))
			}
			all.Wait()
		}
	})
}
