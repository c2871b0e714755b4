package tenure_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// Longer than anything takes that goes well, on a busy machine as well.
const patience = 30 * time.Second

var background = context.Background()

// etcd is the server that the tests are run with.
func etcd(t testing.TB) string {
	t.Helper()
	endpoints := os.Getenv("ETCD_ENDPOINTS")
	if endpoints == "" {
		t.Fatal("no ETCD_ENDPOINTS: run make test-go")
	}
	return endpoints
}

// everywhere runs a test on a store in memory and on etcd.
func everywhere(t *testing.T, test func(t *testing.T, options tenure.Options)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, tenure.Options{Endpoints: []string{"memory://" + t.Name()}, Service: serviceName(t)})
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		test(t, tenure.Options{Endpoints: []string{etcd(t)}, Service: serviceName(t)})
	})
}

func serviceName(t testing.TB) string {
	return strings.ReplaceAll(t.Name(), "/", "-")
}

func within(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(background, limit)
	t.Cleanup(cancel)
	return ctx
}

// open opens a service that is closed after the test.
func open(t testing.TB, options tenure.Options) *tenure.Service {
	t.Helper()
	service, err := tenure.Open(within(t, patience), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(background, patience)
		defer cancel()
		if err := service.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return service
}

func stand(t testing.TB, service *tenure.Service, election string, options tenure.CampaignOptions) *tenure.Campaign {
	t.Helper()
	campaign, err := service.Campaign(background, election, options)
	if err != nil {
		t.Fatal(err)
	}
	return campaign
}

func lead(t testing.TB, service *tenure.Service, election string, options tenure.CampaignOptions) *tenure.Campaign {
	t.Helper()
	campaign := stand(t, service, election, options)
	must(t, campaign.WaitForLeadership(within(t, patience)))
	return campaign
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expectError(t testing.TB, err error, wanted ...error) {
	t.Helper()
	for _, want := range wanted {
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// next is the next element of a channel; its absence fails the test.
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

// rest reads a channel to its end.
func rest[T any](t testing.TB, channel <-chan T) []T {
	t.Helper()
	var all []T
	for {
		select {
		case element, ok := <-channel:
			if !ok {
				return all
			}
			all = append(all, element)
		case <-time.After(patience):
			t.Fatalf("the channel isn't closed after %v", all)
		}
	}
}

func states(statuses []tenure.Status) string {
	var names []string
	for _, status := range statuses {
		names = append(names, status.State.String())
	}
	return strings.Join(names, " ")
}

func expectStates(t testing.TB, campaign *tenure.Campaign, want string) []tenure.Status {
	t.Helper()
	all := rest(t, campaign.Statuses())
	if got := states(all); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	return all
}

func expectNext(t testing.TB, campaign *tenure.Campaign, want tenure.State) tenure.Status {
	t.Helper()
	status := next(t, campaign.Statuses())
	if status.State != want {
		t.Fatalf("got %v (%v), want %v", status.State, status.Err, want)
	}
	return status
}

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, look func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !look(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func etcdctl(t testing.TB, arguments ...string) string {
	t.Helper()
	program := os.Getenv("ETCDCTL")
	if program == "" {
		t.Fatal("no ETCDCTL: run make test-go")
	}
	output, err := exec.Command(program, append([]string{"--endpoints", etcd(t)}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v: %s", arguments, err, output)
	}
	return string(output)
}

// onAnEtcdOfItsOwn runs the test again, alone, in a process with another etcd, and tells whether this is that process.
func onAnEtcdOfItsOwn(t *testing.T) bool {
	t.Helper()
	if os.Getenv("TENURE_TEST_ALONE") == t.Name() {
		return true
	}
	tool, err := filepath.Abs("../../../tests/tools/with_etcd.py")
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(tool, os.Getenv("ETCD"), self, "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), "TENURE_TEST_ALONE="+t.Name(), "FORMER_ETCD_ENDPOINTS="+etcd(t))
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

// proxy passes connections on, until it is told not to.
type proxy struct {
	listener net.Listener

	mu          sync.Mutex
	target      string
	swallows    bool
	connections []net.Conn
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: listener, target: strings.TrimPrefix(target, "http://")}
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
	})
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			p.connect(from)
		}
	}()
	return p
}

func (p *proxy) endpoint() string { return fmt.Sprintf("http://%s", p.listener.Addr()) }

func (p *proxy) connect(from net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = from.Close()
		return
	}
	p.connections = append(p.connections, from, to)
	go p.pass(from, to)
	go p.pass(to, from)
}

func (p *proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		swallows := p.swallows
		p.mu.Unlock()
		if swallows {
			continue
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// swallow keeps connections open and loses what they carry.
func (p *proxy) swallow(swallows bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallows = swallows
}

// redirect takes all that comes from now on to another server.
func (p *proxy) redirect(target string) {
	p.mu.Lock()
	p.target = strings.TrimPrefix(target, "http://")
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, connection := range p.connections {
		_ = connection.Close()
	}
	p.connections = nil
}

// silence is an address that takes connections and never answers.
func silence(t testing.TB) string {
	t.Helper()
	p := newProxy(t, etcd(t))
	p.swallow(true)
	return p.endpoint()
}

// deadPort is an address where nobody listens.
func deadPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return fmt.Sprintf("http://%s", listener.Addr())
}
