package leader_test

// What a program written for M3's package sees, in memory and on etcd; and each of M3's contradictions has one meaning.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/leader"
	"github.com/tenure-election/tenure/bindings/go/tenure"
)

const patience = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func everywhere(t *testing.T, test func(t *testing.T, endpoint string)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, "memory://"+t.Name())
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		test(t, etcd(t))
	})
}

func etcd(t testing.TB) string {
	t.Helper()
	endpoint := os.Getenv("ETCD_ENDPOINTS")
	if endpoint == "" {
		t.Fatal("no ETCD_ENDPOINTS: run make test-go")
	}
	return endpoint
}

func optionsFor(t testing.TB, endpoint string) leader.Options {
	id := leader.NewServiceID().SetEnvironment("test").SetName(strings.ReplaceAll(t.Name(), "/", "-"))
	times := leader.NewElectionOptions().SetTTLSecs(5).SetLeaderTimeout(patience).SetResignTimeout(patience)
	return leader.NewOptions().SetServiceID(id).SetElectionOpts(times).
		SetConnection(tenure.Options{Endpoints: []string{endpoint}})
}

func newService(t testing.TB, endpoint string) leader.LeaderService {
	t.Helper()
	service, err := leader.NewService(optionsFor(t, endpoint))
	must(t, err)
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return service
}

func standing(t testing.TB, service leader.LeaderService, election, value string) <-chan leader.Status {
	t.Helper()
	options, err := leader.NewCampaignOptions()
	must(t, err)
	statuses, err := service.Campaign(election, options.SetLeaderValue(value))
	must(t, err)
	return statuses
}

func next[T any](t testing.TB, channel <-chan T) T {
	t.Helper()
	select {
	case element, ok := <-channel:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return element
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}

func expect(t testing.TB, statuses <-chan leader.Status, states ...leader.State) {
	t.Helper()
	for _, want := range states {
		if got := next(t, statuses); got.State != want {
			t.Fatalf("got %v (%v), want %v", got.State, got.Err, want)
		}
	}
}

func expectEnd[T any](t testing.TB, channel <-chan T) {
	t.Helper()
	select {
	case element, ok := <-channel:
		if ok {
			t.Fatalf("got %v, want the end", element)
		}
	case <-time.After(patience):
		t.Fatal("the channel isn't closed")
	}
}

func TestOneLeadsThenTheOther(t *testing.T) {
	everywhere(t, func(t *testing.T, endpoint string) {
		one, two := newService(t, endpoint), newService(t, endpoint)
		if _, err := two.Leader("e"); err != leader.ErrNoLeader {
			t.Errorf("got %v", err)
		}
		values, err := two.Observe("e")
		must(t, err)
		first := standing(t, one, "e", "one")
		expect(t, first, leader.Follower, leader.Leader)
		if value := next(t, values); value != "one" {
			t.Errorf("observed %q", value)
		}
		second := standing(t, two, "e", "two")
		expect(t, second, leader.Follower)
		if _, err := one.Campaign("e", nil); err != leader.ErrCampaignInProgress {
			t.Errorf("got %v", err)
		}
		if value, err := two.Leader("e"); value != "one" || err != nil {
			t.Errorf("got %q, %v", value, err)
		}

		must(t, one.Resign("e"))
		expect(t, first, leader.Follower)
		expectEnd(t, first)
		expect(t, second, leader.Leader)
		if value := next(t, values); value != "two" {
			t.Errorf("observed %q", value)
		}
		must(t, two.Close())
		expect(t, second, leader.Closed)
		expectEnd(t, second)
		expectEnd(t, values)
	})
}

func TestResigningWhileWaiting(t *testing.T) {
	everywhere(t, func(t *testing.T, endpoint string) {
		one, two := newService(t, endpoint), newService(t, endpoint)
		expect(t, standing(t, one, "e", "one"), leader.Follower, leader.Leader)
		waiting := standing(t, two, "e", "two")
		must(t, two.Resign("e"))
		expect(t, waiting, leader.Follower, leader.Follower)
		expectEnd(t, waiting)
		must(t, two.Resign("e"))
		must(t, two.Resign("an election never heard of"))
	})
}

// Nobody reads LEADER here before resigning: it isn't told afterwards (M-1 of M3's bugs), and standing again works at once (M-2).
func TestNoLeaderAfterResigning(t *testing.T) {
	everywhere(t, func(t *testing.T, endpoint string) {
		service, other := newService(t, endpoint), newService(t, endpoint)
		for round := 0; round < 20; round++ {
			statuses := standing(t, service, "", "me")
			for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
				if value, err := other.Leader("default"); err == nil && value == "me" {
					break
				} else if time.Now().After(until) {
					t.Fatal(err)
				}
			}
			must(t, service.Resign("default"))
			expect(t, statuses, leader.Follower, leader.Follower)
			expectEnd(t, statuses)
		}
	})
}

// Whichever comes first, a term is not the last that is told.
func TestResigningWhileClosing(t *testing.T) {
	t.Parallel()
	for round := 0; round < 300; round++ {
		service := newService(t, fmt.Sprintf("memory://%s-%d", t.Name(), round))
		statuses := standing(t, service, "e", "a")
		expect(t, statuses, leader.Follower, leader.Leader)
		resigned := make(chan error, 1)
		go func() { resigned <- service.Resign("e") }()
		must(t, service.Close())
		if err := service.Resign("e"); !errors.Is(err, tenure.ErrClosed) {
			t.Fatalf("round %d: resigning after Close: %v", round, err)
		}
		if err := <-resigned; err != nil && !errors.Is(err, tenure.ErrClosed) {
			t.Fatal(err)
		}
		last := leader.NewStatus(leader.Leader)
		for status := range statuses {
			last = status
		}
		if last.State == leader.Leader {
			t.Fatalf("round %d ends with %v", round, last.State)
		}
	}
}

func TestNilOptionsAreTheHostName(t *testing.T) {
	everywhere(t, func(t *testing.T, endpoint string) {
		service := newService(t, endpoint)
		host, err := os.Hostname()
		must(t, err)
		statuses, err := service.Campaign("e", nil)
		must(t, err)
		expect(t, statuses, leader.Follower, leader.Leader)
		if value, err := service.Leader("e"); value != host || err != nil {
			t.Errorf("got %q, %v", value, err)
		}
	})
}

func TestALostSession(t *testing.T) {
	t.Parallel()
	service, other := newService(t, etcd(t)), newService(t, etcd(t))
	for round := 0; round < 5; round++ {
		leading := standing(t, service, "e", "one")
		expect(t, leading, leader.Follower, leader.Leader)
		waiting := standing(t, other, "e", "two")
		expect(t, waiting, leader.Follower)
		for _, key := range keys(t, "_ld/test/"+t.Name()+"/e/", 2) {
			lease := key[strings.LastIndex(key, "/")+1:]
			etcdctl(t, "lease", "revoke", lease)
		}
		for _, lost := range []struct {
			service  leader.LeaderService
			statuses <-chan leader.Status
		}{{service, leading}, {other, waiting}} {
			status := next(t, lost.statuses)
			if status.State == leader.Leader { // The other one's lease went first.
				status = next(t, lost.statuses)
			}
			if status.State != leader.Error || !errors.Is(status.Err, tenure.ErrLeaseRevoked) {
				t.Fatalf("got %+v", status)
			}
			// Whoever has read Error may stand again at once.
			again, err := lost.service.Campaign("f", nil)
			must(t, err)
			must(t, lost.service.Resign("f"))
			expect(t, again, leader.Follower, leader.Follower)
			again, err = lost.service.Campaign("e", nil)
			must(t, err)
			expect(t, again, leader.Follower)
			must(t, lost.service.Resign("e"))
			expect(t, lost.statuses, leader.Closed)
			expectEnd(t, lost.statuses)
		}
	}
}

func TestAfterClosing(t *testing.T) {
	everywhere(t, func(t *testing.T, endpoint string) {
		service := newService(t, endpoint)
		leading := standing(t, service, "e", "me")
		expect(t, leading, leader.Follower, leader.Leader)
		must(t, service.Close())
		must(t, service.Close())
		expect(t, leading, leader.Closed)
		expectEnd(t, leading)
		_, campaignErr := service.Campaign("e", nil)
		_, leaderErr := service.Leader("e")
		_, observeErr := service.Observe("e")
		for call, err := range map[string]error{
			"Campaign": campaignErr, "Leader": leaderErr, "Observe": observeErr, "Resign": service.Resign("e"),
		} {
			if !errors.Is(err, tenure.ErrClosed) {
				t.Errorf("%s: got %v", call, err)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	valid := optionsFor(t, "memory://"+t.Name())
	must(t, valid.Validate())
	times := valid.ElectionOpts()
	for what, options := range map[string]leader.Options{
		"no service ID": leader.NewOptions(),
		"no name":       valid.SetServiceID(leader.NewServiceID().SetEnvironment("e")),
		"are nil":       valid.SetElectionOpts(nil),
		"TTL of 1 s":    valid.SetElectionOpts(times.SetTTLSecs(1)),
		"TTL of -1 s":   valid.SetElectionOpts(times.SetTTLSecs(-1)),
		"leader time":   valid.SetElectionOpts(times.SetLeaderTimeout(-1)),
		"resign time":   valid.SetElectionOpts(times.SetResignTimeout(-1)),
	} {
		if err := options.Validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
		if _, err := leader.NewService(options); err == nil {
			t.Errorf("%s: a service was made", what)
		}
	}
	if _, err := leader.NewService(nil); err == nil {
		t.Error("a service of nothing was made")
	}
	if _, err := leader.NewService(valid.SetConnection(tenure.Options{Endpoints: []string{"ftp://x"}})); !errors.Is(err, tenure.ErrInvalidValue) {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreValues(t *testing.T) {
	t.Parallel()
	empty := leader.NewServiceID()
	id := empty.SetName("n").SetEnvironment("e").SetZone("z")
	if empty.Name() != "" || id.Name() != "n" || id.Environment() != "e" || id.Zone() != "z" {
		t.Errorf("got %v and %v", empty, id)
	}
	if !id.Equal(leader.NewServiceID().SetZone("z").SetEnvironment("e").SetName("n")) || id.Equal(empty) || id.Equal(nil) {
		t.Error("Equal")
	}
	if id.String() != "[name: n, env: e, zone: z]" {
		t.Errorf("got %v", id)
	}
	times := leader.NewElectionOptions()
	if times.LeaderTimeout() != 10*time.Second || times.ResignTimeout() != 10*time.Second || times.TTLSecs() != 0 {
		t.Errorf("defaults: %+v", times)
	}
	options := leader.NewOptions().SetServiceID(id).SetElectionOpts(times.SetTTLSecs(7))
	if options.ServiceID() != id || options.ElectionOpts().TTLSecs() != 7 {
		t.Errorf("got %+v", options)
	}
	names := fmt.Sprint(leader.Follower, leader.Leader, leader.Error, leader.Closed, leader.State(9))
	if names != "Follower Leader Error Closed State(9)" {
		t.Errorf("got %v", names)
	}
	if (leader.NewStatus(leader.Leader) != leader.Status{State: leader.Leader}) || leader.NewErrorStatus(os.ErrClosed).Err != os.ErrClosed {
		t.Error("statuses")
	}
}

// In a process of its own, where nothing else comes and goes.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	if os.Getenv("TENURE_TEST_ALONE") != t.Name() {
		self, err := os.Executable()
		must(t, err)
		command := exec.Command(self, "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), "TENURE_TEST_ALONE="+t.Name())
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
		return
	}
	before := runtime.NumGoroutine()
	for round := 0; round < 50; round++ {
		service, err := leader.NewService(optionsFor(t, "memory://"+t.Name()))
		must(t, err)
		for election := 0; election < 5; election++ {
			_ = standing(t, service, fmt.Sprint(election), "me")
			_, err := service.Observe(fmt.Sprint(election))
			must(t, err)
		}
		must(t, service.Resign("0"))
		must(t, service.Close())
	}
	for until := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func keys(t testing.TB, prefix string, count int) []string {
	t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if found := strings.Fields(etcdctl(t, "get", "--prefix", "--keys-only", prefix)); len(found) == count {
			return found
		}
	}
	t.Fatalf("%d keys are missing below %s", count, prefix)
	return nil
}

func etcdctl(t testing.TB, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(os.Getenv("ETCDCTL"), append([]string{"--endpoints", etcd(t)}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v: %s", arguments, err, output)
	}
	return string(output)
}
