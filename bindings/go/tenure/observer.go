package tenure

import (
	"context"
	"fmt"
	"sync"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

// Observation is who leads an election: a state, not a log.
type Observation struct {
	// Sequence counts the observer's events from 1; a gap means that newer ones took the place of unread ones.
	Sequence uint64
	// Time is when the library told it: the difference to [Now] is how late the reader is.
	Time BootTime
	// Election is the election's name.
	Election string
	// HasLeader tells whether anybody leads.
	HasLeader bool
	// Leader is who, if anybody.
	Leader Candidate
	// ClusterID is the cluster; 0 while unknown.
	ClusterID uint64
	// Revision is etcd's at which this was so. It never falls, until ErrClusterChanged is told.
	Revision int64
	// Connected is false while etcd is out of reach: Leader is then the last one known.
	Connected bool
	// Closed marks the last observation. It tells nothing of who leads.
	Closed bool
	// Err is why it isn't connected or was closed, an [*Error]; nil where nothing went wrong.
	Err error
}

// Observe watches who leads an election, without taking part, until the context is done or the service closed. The first
// observation tells what is found. A newer one takes the place of one that is unread, so reading may be slow. The last says
// Closed; then the channel is closed. The empty name is "default".
//
// Errors: ErrInvalidName, ErrClosed, ErrSystem; the context's, if it is done. Once events couldn't be pulled any more, which
// closes all observers: why.
func (s *Service) Observe(ctx context.Context, election string) (<-chan Observation, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tenure: observe %q: %w", election, err)
	}
	observer := &observer{election: election, observations: make(chan Observation, 1)}
	id, err := s.subscribe(observer)
	if err != nil {
		return nil, err
	}
	handle, failure := s.handle.Observe(election, id)
	if failure != nil {
		s.unsubscribe(id)
		return nil, asError(failure)
	}
	observer.end = handle.Free
	// No goroutine waits for the context meanwhile.
	stop := context.AfterFunc(ctx, func() { observer.once.Do(observer.end) })
	observer.started(stop)
	return observer.observations, nil
}

type observer struct {
	election     string
	observations chan Observation
	end          func()
	once         sync.Once

	mu   sync.Mutex
	stop func() bool
	over bool
}

// started keeps what unties the observer from its context, or does it if all is over by now.
func (o *observer) started(stop func() bool) {
	o.mu.Lock()
	o.stop = stop
	over := o.over
	o.mu.Unlock()
	if over {
		o.release()
	}
}

// release frees the handle, and leaves nothing with the context.
func (o *observer) release() {
	o.stop()
	o.once.Do(o.end)
}

func (o *observer) deliver(event *capi.Event) bool {
	observation := Observation{
		Sequence:  event.Sequence,
		Time:      BootTime(event.TimeNS),
		Election:  event.Election,
		HasLeader: event.HasLeader,
		ClusterID: event.ClusterID,
		Revision:  event.Revision,
		Connected: event.Connected,
		Closed:    event.Closed,
	}
	if event.HasLeader {
		observation.Leader = Candidate{Value: event.Value, Token: event.Token, Key: event.Key, Lease: event.Lease}
	}
	if event.Reason != capi.OK {
		observation.Err = &Error{Code: Code(event.Reason), Message: event.Message}
	}
	o.tell(observation)
	return event.Closed
}

func (o *observer) abandon(failure *capi.Failure) {
	o.tell(Observation{Election: o.election, Closed: true, Err: asError(failure)})
}

func (o *observer) tell(observation Observation) {
	select {
	case <-o.observations: // The reader hasn't come for it; this one is newer.
	default:
	}
	o.observations <- observation
	if !observation.Closed {
		return
	}
	close(o.observations)
	o.mu.Lock()
	o.over = true
	started := o.stop != nil
	o.mu.Unlock()
	if started {
		o.release()
	}
}
