package tenure

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
	"github.com/tenure-election/tenure/bindings/go/internal/outbox"
)

// State is the state of a campaign.
type State int32

const (
	// StateFollower stands for election, or has withdrawn from it: not the leader.
	StateFollower State = 1
	// StateLeader leads, until the deadline unless renewed.
	StateLeader State = 2
	// StateError has lost the candidacy; Status.Err says why. StateFollower follows with Rejoin, else StateClosed.
	StateError State = 3
	// StateClosed is the end of the campaign; its last status.
	StateClosed State = 4
)

// String is FOLLOWER, LEADER, ERROR or CLOSED, as in every language.
func (s State) String() string {
	switch s {
	case StateFollower:
		return "FOLLOWER"
	case StateLeader:
		return "LEADER"
	case StateError:
		return "ERROR"
	case StateClosed:
		return "CLOSED"
	}
	return fmt.Sprintf("State(%d)", int32(s))
}

// BootTime is an instant in nanoseconds on CLOCK_BOOTTIME, which goes on while the machine is suspended. (The clock of
// time.Time stops then, so no deadline can be kept by it.)
type BootTime int64

// Now is the present instant.
func Now() BootTime { return BootTime(capi.Now()) }

// Until is the time from now to t; negative if t is past.
func (t BootTime) Until() time.Duration { return time.Duration(t - Now()) }

// Status is one event of a campaign.
type Status struct {
	// Sequence counts the campaign's statuses from 1; a gap means that newer ones took the place of unread ones.
	Sequence uint64
	// Time is when the library told it: the difference to [Now] is how late the reader is.
	Time BootTime
	// State is the state entered.
	State State
	// Err is why, an [*Error]; nil where nothing went wrong.
	Err error
	// Election is the election's name.
	Election string
	// Value is what the candidate announces.
	Value []byte
	// Token is the fencing token; 0 while there is no key.
	Token int64
	// ClusterID is the cluster that the token belongs to; 0 while unknown.
	ClusterID uint64
	// Revision is etcd's at which this was so; 0 where the status isn't based on one.
	Revision int64
	// Deadline is until when leadership is certain unless renewed; 0 for other states.
	Deadline BootTime
	// AtRisk tells a leader that a renewal is overdue.
	AtRisk bool
}

// Campaign is one candidacy of this process in one election. All methods may be called from all goroutines at any time.
// It ends by [Campaign.Resign], by a loss unless it rejoins, or with its service; it needs no closing of its own.
type Campaign struct {
	election string
	handle   atomic.Uintptr
	statuses *outbox.Outbox[Status]

	// Closed when the last status was delivered.
	over chan struct{}

	mu sync.Mutex
	// Closed, and another in its place, by every status.
	changed chan struct{}
	// Why it is over; nil while it isn't.
	ended error
}

func newCampaign(election string) *Campaign {
	leads := func(status Status) bool { return status.State == StateLeader }
	return &Campaign{
		election: election,
		statuses: outbox.New(leads),
		over:     make(chan struct{}),
		changed:  make(chan struct{}),
	}
}

func (c *Campaign) capi() capi.Campaign { return capi.Campaign(c.handle.Load()) }

// String names the type and the election.
func (c *Campaign) String() string { return fmt.Sprintf("tenure.Campaign(%q)", c.election) }

// GoString is the same for %#v.
func (c *Campaign) GoString() string { return c.String() }

// Election is the name that it was started with.
func (c *Campaign) Election() string { return c.election }

// Statuses tells what happens, in order; the channel is closed after StateClosed. It is one channel, whose statuses go to
// whoever reads first. Reading is optional and may be slow: it delays nothing, and what was missed is left out. A Leader that
// is unread when its term ends is not told; a loss of what was read, and the last status, always are.
func (c *Campaign) Statuses() <-chan Status { return c.statuses.Items() }

// IsLeader tells whether this process leads right now. This is the one thing to ask before acting as the leader: it compares
// the clock with the time until which leadership is certain, and never waits.
func (c *Campaign) IsLeader() bool { return c.capi().IsLeader() }

// Remaining is for how long from now leadership is certain, in whole milliseconds; longer if it is renewed, and 0 where
// IsLeader is false. It never waits.
func (c *Campaign) Remaining() time.Duration {
	return time.Duration(c.capi().RemainingMS()) * time.Millisecond
}

// Token is the fencing token of the term: greater than every earlier leader's. Pass it along with what you do as the leader,
// so that the receiver can refuse smaller ones. 0 where IsLeader is false. It never waits.
func (c *Campaign) Token() int64 { return c.capi().Token() }

// State is the state now, never StateLeader where IsLeader is false. It never waits.
func (c *Campaign) State() State { return State(c.capi().State()) }

// WaitForLeadership returns nil as soon as this campaign leads. It waits until the context is done, without one for ever.
//
// Errors: when the campaign is over, why: ErrClosed after resigning or closing, ErrSessionExpired, ErrLeaseRevoked,
// ErrKeyDeleted, ErrClusterChanged, ErrNameCollision, ErrPermissionDenied, ErrWaitLimit and others; ErrTimeout and the
// context's.
func (c *Campaign) WaitForLeadership(ctx context.Context) error {
	for {
		c.mu.Lock()
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		if c.IsLeader() {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return interrupted(ctx, fmt.Sprintf("waiting to lead %q", c.election), ErrTimeout)
		}
	}
}

// Proclaim changes the announced value during a term, without losing it. Waits for etcd's answer until the context is done,
// without a deadline for CallTimeout. A context that is done already changes nothing.
//
// Errors: ErrNotLeader, ErrValueTooLarge, ErrPermissionDenied, ErrNoSpace, ErrClosed; ErrPending: not confirmed yet, the
// library goes on trying; the context's.
func (c *Campaign) Proclaim(ctx context.Context, value []byte) error {
	what := fmt.Sprintf("proclaim in %q", c.election)
	if ctx.Err() != nil || !enter(ctx) {
		return fmt.Errorf("tenure: %s: %w", what, ctx.Err())
	}
	value = append([]byte(nil), value...) // The call may begin after this one has ended with its context.
	_, err := awaitInside(ctx, what, ErrPending, func(timeoutMS int32) (none, *capi.Failure) {
		defer runtime.KeepAlive(c)
		return none{}, c.capi().Proclaim(value, timeoutMS)
	})
	return err
}

// Resign withdraws from the election, leading or waiting. Leadership ends at once, even if the context is done already; then
// it waits for etcd to confirm that the key is gone, until the context is done, without a deadline for CallTimeout. Nil means
// confirmed, also when there was nothing to withdraw; no LEADER can be read from Statuses any more, which is closed.
//
// Errors: ErrPending: not confirmed yet; the library goes on by itself, and calling again waits on.
func (c *Campaign) Resign(ctx context.Context) error {
	_, err := begin(ctx, fmt.Sprintf("resign from %q", c.election), func(timeoutMS int32) (none, *capi.Failure) {
		defer runtime.KeepAlive(c)
		failure := c.capi().Resign(timeoutMS)
		if failure == nil {
			<-c.over // The last status is on its way.
		}
		return none{}, failure
	})
	return err
}

// ResignLeader is [Campaign.Resign] for the leader only: a campaign that waits or is over is left as it is.
//
// Errors: ErrNotLeader, with nothing changed; otherwise as Resign.
func (c *Campaign) ResignLeader(ctx context.Context) error {
	if failure := c.capi().ResignLeader(0); failure != nil && Code(failure.Code) != ErrPending {
		return asError(failure)
	}
	return c.Resign(ctx) // It leads no more; this waits on.
}

func (c *Campaign) deliver(event *capi.Event) bool {
	status := Status{
		Sequence:  event.Sequence,
		Time:      BootTime(event.TimeNS),
		State:     State(event.State),
		Election:  event.Election,
		Value:     event.Value,
		Token:     event.Token,
		ClusterID: event.ClusterID,
		Revision:  event.Revision,
		Deadline:  BootTime(event.DeadlineNS),
		AtRisk:    event.AtRisk,
	}
	if event.Reason != capi.OK {
		status.Err = &Error{Code: Code(event.Reason), Message: event.Message}
	}
	c.tell(status)
	return event.Closed
}

func (c *Campaign) abandon(failure *capi.Failure) {
	c.tell(Status{State: StateClosed, Election: c.election, Err: asError(failure)})
}

func (c *Campaign) tell(status Status) {
	c.statuses.Put(status)
	c.mu.Lock()
	close(c.changed)
	c.changed = make(chan struct{})
	if status.State == StateClosed {
		c.ended = status.Err
		if c.ended == nil {
			c.ended = &Error{Code: ErrClosed, Message: fmt.Sprintf("the campaign for %q is over", c.election)}
		}
	}
	c.mu.Unlock()
	if status.State == StateClosed {
		c.statuses.Close()
		close(c.over)
		// Not before: a live campaign is ended by its owner, and not by the garbage collector.
		runtime.SetFinalizer(c, func(c *Campaign) { c.capi().Free() })
	}
}
