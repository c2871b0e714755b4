package tenure_test

// What each call answers where it can't do what it was asked for.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

func TestCodesAreThoseOfTheLibrary(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("../../../tests/golden/codes.txt")
	must(t, err)
	codes := map[string]tenure.Code{
		"INVALID_ARGUMENT": tenure.ErrInvalidArgument, "NULL_POINTER": tenure.ErrNullPointer,
		"INVALID_HANDLE": tenure.ErrInvalidHandle, "WRONG_THREAD": tenure.ErrWrongThread, "FORKED": tenure.ErrForked,
		"PANIC": tenure.ErrPanic, "UNKNOWN_OPTION": tenure.ErrUnknownOption, "INVALID_VALUE": tenure.ErrInvalidValue,
		"INVALID_NAME": tenure.ErrInvalidName, "CLOSED": tenure.ErrClosed,
		"CAMPAIGN_IN_PROGRESS": tenure.ErrCampaignInProgress, "NO_LEADER": tenure.ErrNoLeader,
		"NOT_LEADER": tenure.ErrNotLeader, "PENDING": tenure.ErrPending, "TIMEOUT": tenure.ErrTimeout,
		"UNAVAILABLE": tenure.ErrUnavailable, "AUTHENTICATION_FAILED": tenure.ErrAuthenticationFailed,
		"PERMISSION_DENIED": tenure.ErrPermissionDenied, "TLS": tenure.ErrTLS,
		"SESSION_EXPIRED": tenure.ErrSessionExpired, "LEASE_REVOKED": tenure.ErrLeaseRevoked,
		"KEY_DELETED": tenure.ErrKeyDeleted, "CLUSTER_CHANGED": tenure.ErrClusterChanged,
		"NAME_COLLISION": tenure.ErrNameCollision, "VALUE_TOO_LARGE": tenure.ErrValueTooLarge,
		"NO_SPACE": tenure.ErrNoSpace, "REFUSED": tenure.ErrRefused, "WAIT_LIMIT": tenure.ErrWaitLimit,
		"WRONG_MODE": tenure.ErrWrongMode, "SYSTEM": tenure.ErrSystem, "INTERNAL": tenure.ErrInternal,
	}
	lines := strings.Split(strings.TrimSpace(string(golden)), "\n")
	if len(lines) != len(codes)+1 { // OK is no error.
		t.Errorf("%d codes in the library's list, %d here", len(lines), len(codes)+1)
	}
	for _, line := range lines[1:] {
		var number int32
		var name string
		if _, err := fmt.Sscan(line, &number, &name); err != nil {
			t.Fatal(err)
		}
		code := codes[name]
		if int32(code) != number || code.Name() != name || !strings.HasPrefix(code.Error(), "tenure: ") {
			t.Errorf("%s is %d, here %d: %s, %v", name, number, code, code.Name(), code)
		}
	}
	if !tenure.ErrNoLeader.Retriable() || tenure.ErrInvalidName.Retriable() || tenure.Code(4711).Name() != "UNKNOWN" {
		t.Error("what codes say of themselves")
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]struct {
		options tenure.Options
		code    tenure.Code
		names   string
	}{
		"nothing":      {tenure.Options{}, tenure.ErrInvalidValue, "service"},
		"ttl":          {tenure.Options{Service: "s", TTL: time.Second}, tenure.ErrInvalidValue, "ttl"},
		"half seconds": {tenure.Options{Service: "s", TTL: 2500 * time.Millisecond}, tenure.ErrInvalidValue, "ttl"},
		"microseconds": {tenure.Options{Service: "s", TTL: time.Microsecond}, tenure.ErrInvalidValue, "ttl"},
		"negative":     {tenure.Options{Service: "s", CallTimeout: -time.Second}, tenure.ErrInvalidValue, "call_timeout"},
		"endpoint":     {tenure.Options{Service: "s", Endpoints: []string{"ftp://there"}}, tenure.ErrInvalidValue, "endpoints"},
		"two stores":   {tenure.Options{Service: "s", Endpoints: []string{"memory://a", "memory://b"}}, tenure.ErrInvalidValue, "memory"},
		"NUL":          {tenure.Options{Service: "s\x00t"}, tenure.ErrInvalidValue, "service"},
		"UTF-8":        {tenure.Options{Service: "\xff"}, tenure.ErrInvalidValue, "UTF-8"},
		"prefix":       {tenure.Options{Service: "s", Prefix: "p"}, tenure.ErrInvalidValue, "prefix"},
		"password":     {tenure.Options{Service: "s", Username: "u"}, tenure.ErrInvalidValue, "password"},
		"unknown":      {tenure.Options{Service: "s", More: map[string]string{"tll": "5s"}}, tenure.ErrUnknownOption, "ttl"},
	} {
		_, err := tenure.Open(background, wrong.options)
		var failure *tenure.Error
		if !errors.As(err, &failure) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if failure.Code != wrong.code || !strings.Contains(failure.Message, wrong.names) {
			t.Errorf("%s: got %s: %v", name, failure.Code.Name(), err)
		}
	}
}

func TestWrongCampaigns(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service := open(t, options)
		for name, wrong := range map[string]struct {
			election string
			options  tenure.CampaignOptions
			code     tenure.Code
		}{
			"NUL":       {"a\x00b", tenure.CampaignOptions{}, tenure.ErrInvalidName},
			"UTF-8":     {"\xff", tenure.CampaignOptions{}, tenure.ErrInvalidName},
			"long":      {strings.Repeat("x", 1025), tenure.CampaignOptions{}, tenure.ErrInvalidName},
			"value":     {"e", tenure.CampaignOptions{Value: make([]byte, 1<<20+1)}, tenure.ErrValueTooLarge},
			"margin":    {"e", tenure.CampaignOptions{StepDownMargin: time.Hour}, tenure.ErrInvalidValue},
			"precision": {"e", tenure.CampaignOptions{WaitLimit: time.Microsecond}, tenure.ErrInvalidValue},
			"unknown":   {"e", tenure.CampaignOptions{More: map[string]string{"rejion": "true"}}, tenure.ErrUnknownOption},
		} {
			if _, err := service.Campaign(background, wrong.election, wrong.options); !errors.Is(err, wrong.code) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		for _, election := range []string{"a\x00b", "\xff"} {
			_, err := service.Leader(background, election)
			expectError(t, err, tenure.ErrInvalidName)
			_, err = service.Candidates(background, election)
			expectError(t, err, tenure.ErrInvalidName)
			_, err = service.Observe(background, election)
			expectError(t, err, tenure.ErrInvalidName)
		}

		leader := lead(t, service, "e", tenure.CampaignOptions{})
		_, err := service.Campaign(background, "e", tenure.CampaignOptions{})
		expectError(t, err, tenure.ErrCampaignInProgress)
		expectError(t, leader.Proclaim(background, make([]byte, 1<<20+1)), tenure.ErrValueTooLarge)
		waiting := stand(t, open(t, options), "e", tenure.CampaignOptions{WaitLimit: 50 * time.Millisecond})
		expectError(t, waiting.Proclaim(background, nil), tenure.ErrNotLeader)
		expectError(t, waiting.WaitForLeadership(within(t, patience)), tenure.ErrWaitLimit)
		all := expectStates(t, waiting, "FOLLOWER ERROR CLOSED")
		expectError(t, all[1].Err, tenure.ErrWaitLimit)
	})
}

func TestNestedElectionsCollide(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service, other := open(t, options), open(t, options)
		lead(t, service, "a/b", tenure.CampaignOptions{})
		_, err := other.Leader(background, "a")
		expectError(t, err, tenure.ErrNameCollision)
		_, err = other.Candidates(background, "a")
		expectError(t, err, tenure.ErrNameCollision)
		campaign := stand(t, other, "a", tenure.CampaignOptions{})
		expectError(t, campaign.WaitForLeadership(within(t, patience)), tenure.ErrNameCollision)
	})
}

func TestClosedObjects(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service := open(t, options)
		campaign := lead(t, service, "e", tenure.CampaignOptions{})
		must(t, service.Close(background))
		must(t, service.Close(background))
		_, err := service.Campaign(background, "e", tenure.CampaignOptions{})
		expectError(t, err, tenure.ErrClosed)
		_, err = service.Leader(background, "e")
		expectError(t, err, tenure.ErrClosed)
		_, err = service.Candidates(background, "e")
		expectError(t, err, tenure.ErrClosed)
		_, err = service.Observe(background, "e")
		expectError(t, err, tenure.ErrClosed)
		must(t, campaign.Resign(background))
		expectError(t, campaign.ResignLeader(background), tenure.ErrNotLeader)
		if err := campaign.Proclaim(background, nil); err == nil {
			t.Error("it proclaims after its service was closed")
		}
		if campaign.IsLeader() || campaign.State() != tenure.StateClosed || campaign.Token() != 0 {
			t.Errorf("after closing: %v, token %d", campaign.State(), campaign.Token())
		}
	})
}

func TestZeroValues(t *testing.T) {
	t.Parallel()
	var service tenure.Service
	_, err := service.Campaign(background, "e", tenure.CampaignOptions{})
	expectError(t, err, tenure.ErrNullPointer)
	_, err = service.Observe(background, "e")
	expectError(t, err, tenure.ErrNullPointer)
	_, err = service.Leader(background, "e")
	expectError(t, err, tenure.ErrNullPointer)
	expectError(t, service.Close(background), tenure.ErrNullPointer)
	var campaign tenure.Campaign
	expectError(t, campaign.Resign(background), tenure.ErrNullPointer)
	expectError(t, campaign.ResignLeader(background), tenure.ErrNullPointer)
	expectError(t, campaign.Proclaim(background, nil), tenure.ErrNullPointer)
	if campaign.IsLeader() || campaign.Remaining() != 0 || campaign.Token() != 0 {
		t.Error("a campaign of nothing leads")
	}
}

func TestUnreachableEtcd(t *testing.T) {
	t.Parallel()
	options := tenure.Options{Endpoints: []string{deadPort(t)}, Service: "s", DialTimeout: 300 * time.Millisecond, TTL: 2 * time.Second}
	_, err := tenure.Open(background, options)
	expectError(t, err, tenure.ErrUnavailable)
	if !strings.Contains(err.Error(), options.Endpoints[0]) {
		t.Errorf("the endpoint isn't named: %v", err)
	}

	options.OpenOffline = true
	options.CallTimeout = 300 * time.Millisecond
	service := open(t, options)
	_, err = service.Leader(background, "e")
	if !errors.Is(err, tenure.ErrUnavailable) && !errors.Is(err, tenure.ErrTimeout) {
		t.Errorf("leader: %v", err)
	}
	campaign := stand(t, service, "e", tenure.CampaignOptions{})
	must(t, campaign.Resign(background)) // It never got so far as to leave anything behind.
}

func TestHTTPSWhereThereIsNone(t *testing.T) {
	t.Parallel()
	https := strings.Replace(etcd(t), "http://", "https://", 1)
	_, err := tenure.Open(background, tenure.Options{Endpoints: []string{https}, Service: "s", DialTimeout: time.Second})
	expectError(t, err, tenure.ErrTLS)
	_, err = tenure.Open(background, tenure.Options{Endpoints: []string{https}, Service: "s", CAFile: "/nonexistent.pem"})
	var failure *tenure.Error
	if !errors.As(err, &failure) || !strings.Contains(failure.Message, "/nonexistent.pem") {
		t.Errorf("got %v", err)
	}
}

func TestPasswordsAndPermissions(t *testing.T) {
	t.Parallel()
	if !onAnEtcdOfItsOwn(t) {
		return
	}
	etcdctl(t, "user", "add", "root:secret")
	etcdctl(t, "user", "grant-role", "root", "root")
	etcdctl(t, "user", "add", "nobody:word")
	etcdctl(t, "auth", "enable")
	options := tenure.Options{Endpoints: []string{etcd(t)}, Service: "s", Username: "root", Password: "wrong"}
	_, err := tenure.Open(background, options)
	expectError(t, err, tenure.ErrAuthenticationFailed)
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the password is in the message: %v", err)
	}
	options.Password = "secret"
	lead(t, open(t, options), "e", tenure.CampaignOptions{})

	options.Username, options.Password = "nobody", "word"
	service, err := tenure.Open(background, options)
	if err == nil {
		defer service.Close(background)
		_, err = service.Leader(background, "e")
		expectError(t, err, tenure.ErrPermissionDenied)
		campaign := stand(t, service, "e", tenure.CampaignOptions{})
		err = campaign.WaitForLeadership(within(t, patience))
	}
	expectError(t, err, tenure.ErrPermissionDenied)
}

func TestLosses(t *testing.T) {
	t.Parallel()
	options := tenure.Options{Endpoints: []string{etcd(t)}, Service: "losses", TTL: 2 * time.Second}
	lose := func(name string, why tenure.Code, how func(t *testing.T, leader tenure.Candidate, p *proxy)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := options
			p := newProxy(t, etcd(t))
			options.Endpoints = []string{p.endpoint()}
			service := open(t, options)
			campaign := lead(t, service, name, tenure.CampaignOptions{})
			leader, err := service.Leader(background, name)
			must(t, err)
			expectNext(t, campaign, tenure.StateFollower)
			expectNext(t, campaign, tenure.StateLeader)
			how(t, leader, p)
			expectError(t, expectNext(t, campaign, tenure.StateError).Err, why)
			if campaign.IsLeader() {
				t.Error("it leads after its loss was told")
			}
			p.swallow(false)
			all := expectStates(t, campaign, "CLOSED")
			expectError(t, all[0].Err, why)
			expectError(t, campaign.WaitForLeadership(background), why)
		})
	}
	lose("key deleted", tenure.ErrKeyDeleted, func(t *testing.T, leader tenure.Candidate, _ *proxy) {
		etcdctl(t, "del", leader.Key)
	})
	lose("lease revoked", tenure.ErrLeaseRevoked, func(t *testing.T, leader tenure.Candidate, _ *proxy) {
		etcdctl(t, "lease", "revoke", fmt.Sprintf("%x", leader.Lease))
	})
	lose("session expired", tenure.ErrSessionExpired, func(_ *testing.T, _ tenure.Candidate, p *proxy) {
		p.swallow(true)
	})
}

func TestRejoining(t *testing.T) {
	t.Parallel()
	service := open(t, tenure.Options{Endpoints: []string{etcd(t)}, Service: serviceName(t)})
	campaign := lead(t, service, "e", tenure.CampaignOptions{Rejoin: true})
	expectNext(t, campaign, tenure.StateFollower)
	first := expectNext(t, campaign, tenure.StateLeader)
	leader, err := service.Leader(background, "e")
	must(t, err)
	etcdctl(t, "del", leader.Key)
	expectNext(t, campaign, tenure.StateError)
	expectNext(t, campaign, tenure.StateFollower)
	if second := expectNext(t, campaign, tenure.StateLeader); second.Token <= first.Token {
		t.Errorf("token %d follows %d", second.Token, first.Token)
	}
}

func TestAtRisk(t *testing.T) {
	t.Parallel()
	p := newProxy(t, etcd(t))
	service := open(t, tenure.Options{Endpoints: []string{p.endpoint()}, Service: serviceName(t), TTL: 6 * time.Second})
	campaign := lead(t, service, "e", tenure.CampaignOptions{AtRisk: true})
	expectNext(t, campaign, tenure.StateFollower)
	if expectNext(t, campaign, tenure.StateLeader).AtRisk {
		t.Error("at risk from the start")
	}
	p.swallow(true)
	if !expectNext(t, campaign, tenure.StateLeader).AtRisk {
		t.Error("told again without a risk")
	}
	p.swallow(false)
	p.cut()
	if expectNext(t, campaign, tenure.StateLeader).AtRisk || !campaign.IsLeader() {
		t.Error("the danger isn't over")
	}
}

func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	if !onAnEtcdOfItsOwn(t) {
		return
	}
	p := newProxy(t, os.Getenv("FORMER_ETCD_ENDPOINTS"))
	service := open(t, tenure.Options{Endpoints: []string{p.endpoint()}, Service: serviceName(t), TTL: 5 * time.Second})
	campaign := lead(t, service, "e", tenure.CampaignOptions{})
	observations, err := service.Observe(background, "e")
	must(t, err)
	next(t, observations)
	p.redirect(etcd(t))
	for seen := range observations {
		if errors.Is(seen.Err, tenure.ErrClusterChanged) {
			break
		}
	}
	eventually(t, "the end of the term", func() bool { return !campaign.IsLeader() })
	p.redirect(os.Getenv("FORMER_ETCD_ENDPOINTS")) // So that it can be closed at once.
	all := rest(t, campaign.Statuses())
	expectError(t, all[len(all)-1].Err, tenure.ErrClusterChanged)
}
