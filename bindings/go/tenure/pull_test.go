package tenure

// In the package, to give a service a descriptor that can't be waited for.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

func TestEventsThatCannotBePulled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	options := Options{Endpoints: []string{"memory://" + t.Name()}, Service: "s"}
	handle, failure := capi.Open(options.settings().list)
	if failure != nil {
		t.Fatal(failure.Message)
	}
	service := &Service{handle: handle, drained: make(chan struct{})}
	campaign, err := service.Campaign(ctx, "e", CampaignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	observations, err := service.Observe(ctx, "e")
	if err != nil {
		t.Fatal(err)
	}

	file, err := os.Create(filepath.Join(t.TempDir(), "file")) // epoll refuses those.
	if err != nil {
		t.Fatal(err)
	}
	for !campaign.IsLeader() { // Nobody tells yet.
		time.Sleep(time.Millisecond)
	}
	service.pull(file)
	if campaign.IsLeader() {
		t.Error("it leads, though it could not be told of the end of that")
	}

	var status Status
	for status = range campaign.Statuses() {
	}
	if status.State != StateClosed || !errors.Is(status.Err, ErrSystem) {
		t.Errorf("the last status is %+v", status)
	}
	var seen Observation
	for seen = range observations {
	}
	if !seen.Closed || !errors.Is(seen.Err, ErrSystem) {
		t.Errorf("the last observation is %+v", seen)
	}
	if _, err := service.Campaign(ctx, "f", CampaignOptions{}); !errors.Is(err, ErrSystem) {
		t.Errorf("another campaign: %v", err)
	}
	if _, err := service.Observe(ctx, "f"); !errors.Is(err, ErrSystem) {
		t.Errorf("another observer: %v", err)
	}
	if err := campaign.Resign(ctx); err != nil {
		t.Errorf("resign: %v", err)
	}
	if err := service.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}
