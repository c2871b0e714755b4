package tenure_test

// Contexts wake whoever waits, at once, and change nothing else.

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// What waking may take, on a busy machine; far less than the calls' own timeouts.
const atOnce = 2 * time.Second

// expectWoken runs a call that waits, cancels its context, and returns its error.
func expectWoken(t *testing.T, name string, call func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(background)
	answered := make(chan error, 1)
	go func() { answered <- call(ctx) }()
	select {
	case err := <-answered:
		t.Errorf("%s didn't wait: %v", name, err)
	case <-time.After(100 * time.Millisecond):
	}
	start := time.Now()
	cancel()
	err := next(t, answered)
	if took := time.Since(start); took > atOnce {
		t.Errorf("%s: woken after %v", name, took)
	}
	expectError(t, err, context.Canceled)

	ctx, cancel = context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	start = time.Now()
	late := call(ctx)
	if took := time.Since(start); took > atOnce {
		t.Errorf("%s: ended %v after the start of 50 ms", name, took)
	}
	expectError(t, late, context.DeadlineExceeded)
	return err
}

func TestCancellingCalls(t *testing.T) {
	t.Parallel()
	p := newProxy(t, etcd(t))
	options := tenure.Options{
		Endpoints: []string{p.endpoint()}, Service: serviceName(t), TTL: 30 * time.Second, CallTimeout: 20 * time.Second,
	}
	service := open(t, options)
	campaign := lead(t, service, "e", tenure.CampaignOptions{})
	other := lead(t, service, "f", tenure.CampaignOptions{})
	p.swallow(true)

	err := expectWoken(t, "Leader", func(ctx context.Context) error {
		_, err := service.Leader(ctx, "e")
		return err
	})
	if errors.Is(err, tenure.ErrTimeout) {
		t.Errorf("a cancelled call says %v", err)
	}
	expectWoken(t, "Candidates", func(ctx context.Context) error {
		_, err := service.Candidates(ctx, "e")
		return err
	})
	err = expectWoken(t, "Proclaim", func(ctx context.Context) error { return campaign.Proclaim(ctx, []byte("new")) })
	expectError(t, err, tenure.ErrPending)
	if !campaign.IsLeader() {
		t.Error("a cancelled Proclaim ends the term")
	}
	err = expectWoken(t, "Resign", campaign.Resign)
	expectError(t, err, tenure.ErrPending)
	if campaign.IsLeader() {
		t.Error("it leads after a cancelled Resign")
	}
	err = expectWoken(t, "ResignLeader", func(ctx context.Context) error {
		if other.IsLeader() {
			return other.ResignLeader(ctx)
		}
		return other.Resign(ctx)
	})
	expectError(t, err, tenure.ErrPending)
	err = expectWoken(t, "Close", service.Close)
	expectError(t, err, tenure.ErrPending)

	p.swallow(false)
	p.cut() // The rest is over soon.
	must(t, campaign.Resign(within(t, patience)))
	must(t, service.Close(within(t, patience)))
}

func TestCancellingWaits(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		lead(t, open(t, options), "e", tenure.CampaignOptions{})
		waiting := stand(t, open(t, options), "e", tenure.CampaignOptions{})
		expectWoken(t, "WaitForLeadership", waiting.WaitForLeadership)
	})
}

func TestCancellingOpen(t *testing.T) {
	t.Parallel()
	options := tenure.Options{Endpoints: []string{silence(t)}, Service: "s", DialTimeout: 3 * time.Second}
	expectWoken(t, "Open", func(ctx context.Context) error {
		_, err := tenure.Open(ctx, options)
		return err
	})
}

func TestContextsThatAreDone(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		done, cancel := context.WithCancel(background)
		cancel()
		_, err := tenure.Open(done, options)
		expectError(t, err, context.Canceled)
		service := open(t, options)
		_, err = service.Campaign(done, "e", tenure.CampaignOptions{})
		expectError(t, err, context.Canceled)
		_, err = service.Leader(done, "e")
		expectError(t, err, context.Canceled)
		_, err = service.Candidates(done, "e")
		expectError(t, err, context.Canceled)
		_, err = service.Observe(done, "e")
		expectError(t, err, context.Canceled)

		campaign := lead(t, service, "e", tenure.CampaignOptions{Value: []byte("old")})
		expectError(t, campaign.Proclaim(done, []byte("new")), context.Canceled)
		leader, err := service.Leader(background, "e")
		if err != nil || string(leader.Value) != "old" {
			t.Errorf("a Proclaim that had no time: %s, %v", leader.Value, err)
		}
		// These two begin all the same.
		if err := campaign.Resign(done); err != nil {
			expectError(t, err, tenure.ErrPending, context.Canceled)
		}
		if campaign.IsLeader() {
			t.Error("it leads after Resign with a context that was done")
		}
		must(t, campaign.Resign(background))
		campaign = lead(t, service, "f", tenure.CampaignOptions{})
		if err := service.Close(done); err != nil {
			expectError(t, err, tenure.ErrPending, context.Canceled)
		}
		if campaign.IsLeader() {
			t.Error("it leads after Close with a context that was done")
		}
		must(t, service.Close(background))
	})
}

func TestACampaignOutlivesItsContext(t *testing.T) {
	everywhere(t, func(t *testing.T, options tenure.Options) {
		service := open(t, options)
		ctx, cancel := context.WithCancel(background)
		campaign, err := service.Campaign(ctx, "e", tenure.CampaignOptions{})
		must(t, err)
		cancel()
		must(t, campaign.WaitForLeadership(within(t, patience)))
		_, err = service.Leader(background, "e")
		must(t, err)
	})
}
