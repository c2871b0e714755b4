package tenure_test

// What each method does where all goes well, in memory and on etcd.

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

func TestOneLeadsThenTheOther(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		one, two := open(t, options), open(t, options)
		first := lead(t, one, "e", tenure.CampaignOptions{Value: []byte("one")})
		second := stand(t, two, "e", tenure.CampaignOptions{Value: []byte("two")})
		expectNext(t, second, tenure.StateFollower)
		eventually(t, "two candidates", func() bool {
			list, err := one.Candidates(within(t, patience), "e")
			must(t, err)
			return len(list) == 2 && string(list[0].Value) == "one" && string(list[1].Value) == "two"
		})
		token := first.Token()
		expectNext(t, first, tenure.StateFollower)
		expectNext(t, first, tenure.StateLeader)
		if first.State() != tenure.StateLeader || second.State() != tenure.StateFollower || second.IsLeader() {
			t.Errorf("states are %v and %v", first.State(), second.State())
		}
		if left := first.Remaining(); left <= 0 || left > 10*time.Second {
			t.Errorf("remaining: %v", left)
		}

		must(t, first.Resign(within(t, patience)))
		if first.IsLeader() || first.Token() != 0 || first.Remaining() != 0 || first.State() == tenure.StateLeader {
			t.Error("it leads after it has resigned")
		}
		status := expectNext(t, second, tenure.StateLeader)
		if !second.IsLeader() || second.Token() <= token || second.Token() != status.Token {
			t.Errorf("token %d, then %d, told %d", token, second.Token(), status.Token)
		}
		if left := status.Deadline.Until(); left <= 0 || left > 10*time.Second {
			t.Errorf("the deadline is in %v", left)
		}
		if string(status.Value) != "two" || status.Election != "e" || status.ClusterID == 0 || status.Revision == 0 || status.Err != nil {
			t.Errorf("told: %+v", status)
		}
		expectStates(t, first, "FOLLOWER CLOSED")
	})
}

func TestResigningAgainAndWhileWaiting(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service, other := open(t, options), open(t, options)
		leader := lead(t, service, "", tenure.CampaignOptions{})
		waiting := stand(t, other, "default", tenure.CampaignOptions{})
		expectError(t, waiting.ResignLeader(background), tenure.ErrNotLeader)
		must(t, waiting.Resign(background))
		must(t, waiting.Resign(background))
		expectStates(t, waiting, "FOLLOWER FOLLOWER CLOSED")
		must(t, leader.ResignLeader(within(t, patience)))
		expectError(t, leader.ResignLeader(background), tenure.ErrNotLeader)
		if waiting.State() != tenure.StateClosed {
			t.Errorf("the state is %v", waiting.State())
		}
		lead(t, service, "", tenure.CampaignOptions{}) // At once, the former being over.
	})
}

func TestLeaderAndProclaim(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		options.Value = "by default"
		service := open(t, options)
		_, err := service.Leader(background, "e")
		expectError(t, err, tenure.ErrNoLeader)
		list, err := service.Candidates(background, "e")
		if err != nil || len(list) != 0 {
			t.Errorf("candidates of an empty election: %v, %v", list, err)
		}

		campaign := lead(t, service, "e", tenure.CampaignOptions{})
		for _, value := range [][]byte{[]byte("by default"), {}, {0, 255, 0}, []byte("text"), bytes.Repeat([]byte("x"), 1<<20)} {
			if string(value) != "by default" {
				must(t, campaign.Proclaim(within(t, patience), value))
			}
			leader, err := service.Leader(within(t, patience), "e")
			must(t, err)
			if !bytes.Equal(leader.Value, value) || leader.Token != campaign.Token() || leader.Key == "" || leader.Lease == 0 {
				t.Errorf("the leader is %+.200v", leader)
			}
		}
		must(t, campaign.Resign(background))
		expectError(t, campaign.Proclaim(background, nil), tenure.ErrNotLeader)
	})
}

// cgo looks for pointers in all of the object that the bytes lie in.
func TestAValueInsideAStruct(t *testing.T) {
	t.Parallel()
	service := open(t, tenure.Options{Endpoints: []string{"memory://" + t.Name()}, Service: "s"})
	worker := &struct {
		id   [4]byte
		name string
	}{[4]byte{'o', 'n', 'e', '!'}, strings.Repeat("made while it runs ", 3)}
	campaign := lead(t, service, "e", tenure.CampaignOptions{Value: worker.id[:]})
	expect := func(value string) {
		t.Helper()
		leader, err := service.Leader(background, "e")
		if err != nil || string(leader.Value) != value {
			t.Errorf("the leader of %s: %+v, %v", worker.name, leader, err)
		}
	}
	expect("one!")
	copy(worker.id[:], "two!")
	must(t, campaign.Proclaim(background, worker.id[:]))
	expect("two!")
}

func TestObserving(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service := open(t, options)
		ctx, stop := context.WithCancel(background)
		defer stop()
		observations, err := service.Observe(ctx, "e")
		must(t, err)
		expect := func(value string) {
			t.Helper()
			for {
				seen := next(t, observations)
				if seen.Closed || seen.Election != "e" {
					t.Fatalf("got %+v", seen)
				}
				if seen.HasLeader == (value != "") && string(seen.Leader.Value) == value && seen.Connected {
					return
				}
			}
		}
		expect("")
		campaign := lead(t, service, "e", tenure.CampaignOptions{Value: []byte("one")})
		expect("one")
		must(t, campaign.Proclaim(background, []byte("two")))
		expect("two")
		must(t, campaign.Resign(background))
		expect("")
		stop()
		all := rest(t, observations)
		if len(all) == 0 || !all[len(all)-1].Closed || all[len(all)-1].Err != nil {
			t.Errorf("the end is %+v", all)
		}
	})
}

func TestClosingTellsEverybody(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service, other := open(t, options), open(t, options)
		leader := lead(t, service, "e", tenure.CampaignOptions{})
		waiting := stand(t, service, "f", tenure.CampaignOptions{})
		lead(t, other, "g", tenure.CampaignOptions{})
		observations, err := service.Observe(background, "e")
		must(t, err)

		must(t, service.Close(within(t, patience)))
		if leader.IsLeader() {
			t.Error("it leads after its service was closed")
		}
		expectStates(t, leader, "FOLLOWER CLOSED") // The LEADER was unread when its term ended.
		all := rest(t, waiting.Statuses())
		if all[len(all)-1].State != tenure.StateClosed {
			t.Errorf("the last status is %v", all[len(all)-1])
		}
		seen := rest(t, observations)
		if !seen[len(seen)-1].Closed {
			t.Errorf("the last observation is %+v", seen)
		}
		list, err := other.Candidates(within(t, patience), "e")
		if err != nil || len(list) != 0 {
			t.Errorf("left behind: %v, %v", list, err)
		}
		expectError(t, leader.WaitForLeadership(background), tenure.ErrClosed)
	})
}

func TestTheNamesOfAnElectionAreItsKeys(t *testing.T) {
	t.Parallel()
	options := tenure.Options{Endpoints: []string{etcd(t)}, Service: "svc", Environment: t.Name(), Root: "_root"}
	lead(t, open(t, options), "a/b", tenure.CampaignOptions{})
	leader, err := open(t, options).Leader(background, "a/b")
	must(t, err)
	if !strings.HasPrefix(leader.Key, "_root/"+t.Name()+"/svc/a/b/") {
		t.Errorf("the key is %s", leader.Key)
	}
	lead(t, open(t, tenure.Options{Endpoints: []string{etcd(t)}, Prefix: "/" + t.Name() + "/"}), "jobs", tenure.CampaignOptions{})
	if keys := etcdctl(t, "get", "--prefix", "--keys-only", "/"+t.Name()+"/jobs/"); strings.TrimSpace(keys) == "" {
		t.Error("no key under the prefix")
	}
}

func TestTheLog(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
	service := open(t, tenure.Options{Endpoints: []string{deadPort(t)}, Service: "s", Logger: logger, OpenOffline: true, TTL: 2 * time.Second})
	stand(t, service, "e", tenure.CampaignOptions{})
	eventually(t, "a line", func() bool { return strings.Contains(lines.String(), "level=WARN") })
}

// A handler that blocks delays nothing.
func TestALoggerThatBlocks(t *testing.T) {
	t.Parallel()
	handler := &blockingHandler{Handler: slog.NewTextHandler(io.Discard, nil), entered: make(chan struct{}), leave: make(chan struct{})}
	defer close(handler.leave)
	options := tenure.Options{Endpoints: []string{deadPort(t)}, Service: "s", Logger: slog.New(handler), OpenOffline: true, TTL: 2 * time.Second}
	service := open(t, options)
	first := stand(t, service, "e", tenure.CampaignOptions{})
	next(t, handler.entered)
	second := stand(t, service, "f", tenure.CampaignOptions{WaitLimit: time.Millisecond})
	expectNext(t, first, tenure.StateFollower)
	expectNext(t, second, tenure.StateFollower)
	expectNext(t, second, tenure.StateError)
}

type blockingHandler struct {
	slog.Handler
	once           sync.Once
	entered, leave chan struct{}
}

func (h *blockingHandler) Handle(context.Context, slog.Record) error {
	h.once.Do(func() { h.entered <- struct{}{} })
	<-h.leave
	return nil
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
