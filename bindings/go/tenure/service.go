package tenure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

// Service is a connection to one etcd cluster, with a namespace for elections and a session. One per process is normal.
// All methods may be called from all goroutines at any time. End it with [Service.Close].
type Service struct {
	handle capi.Service

	mu     sync.Mutex
	lastID uintptr
	// Who gets the events that carry the number. What isn't here has had its last.
	subscribers map[uintptr]subscriber
	// Why nobody can subscribe any more; nil while events are pulled.
	ended error

	log *logWriter
	// Closed when the last event was delivered.
	drained chan struct{}
	// Waits in the background for the confirmation that a caller of Close didn't wait for.
	confirm sync.Once
	free    sync.Once
}

// subscriber is a campaign or an observer. Its methods are called by the service's one goroutine and don't wait.
type subscriber interface {
	// Tells whether it was the last event.
	deliver(event *capi.Event) (last bool)
	// Nothing more will come, although no last event was delivered.
	abandon(failure *capi.Failure)
}

// Candidate is a leader, or another candidate.
type Candidate struct {
	// Value is what it announces.
	Value []byte
	// Token is its fencing token: it grows with every term within one cluster.
	Token int64
	// Key is its key in etcd.
	Key string
	// Lease is what its key is attached to; 0 for none.
	Lease int64
}

// Version is the version of the library at hand, 1.2.3.
func Version() string { return capi.Version() }

// Open opens a service. It waits for etcd for at most Options.DialTimeout, or until the context is done.
//
// Errors: ErrInvalidValue, ErrUnknownOption, ErrInvalidName, ErrUnavailable, ErrTLS, ErrAuthenticationFailed,
// ErrPermissionDenied, ErrSystem; the context's.
func Open(ctx context.Context, options Options) (*Service, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tenure: open: %w", err)
	}
	if failure := capi.CheckVersion(); failure != nil {
		return nil, asError(failure)
	}
	set := options.settings()
	if set.failure != nil {
		return nil, asError(set.failure)
	}
	if ctx.Done() == nil {
		return open(set.list, &options)
	}
	type answer struct {
		service *Service
		err     error
	}
	answered := make(chan answer)
	go func() {
		service, err := open(set.list, &options)
		select {
		case answered <- answer{service, err}:
		case <-ctx.Done():
			if err == nil {
				service.abandon()
			}
		}
	}()
	select {
	case got := <-answered:
		return got.service, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("tenure: open: %w", ctx.Err())
	}
}

func open(list []capi.Setting, options *Options) (*Service, error) {
	handle, failure := capi.Open(list)
	if failure != nil {
		return nil, asError(failure)
	}
	service := &Service{handle: handle, subscribers: map[uintptr]subscriber{}, drained: make(chan struct{})}
	events, err := eventFile(handle)
	if err != nil {
		handle.Free()
		return nil, err
	}
	service.log = newLogWriter(options.Logger)
	go service.pull(events)
	return service, nil
}

// Campaign stands for election and returns at once: the campaign goes on until it is resigned, lost or the service closed,
// whatever becomes of the context. The empty name is "default". Statuses tell how it goes; the first is FOLLOWER.
//
// Errors: ErrInvalidName, ErrInvalidValue, ErrUnknownOption, ErrValueTooLarge, ErrCampaignInProgress while an earlier
// campaign of this service for the same election isn't closed, ErrClosed, ErrSystem; the context's, if it is done. Once
// events couldn't be pulled any more, which closes all campaigns: why.
func (s *Service) Campaign(ctx context.Context, election string, options CampaignOptions) (*Campaign, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tenure: campaign for %q: %w", election, err)
	}
	set := options.settings()
	if set.failure != nil {
		return nil, asError(set.failure)
	}
	campaign := newCampaign(election)
	id, err := s.subscribe(campaign) // Before the call: events may come before it returns.
	if err != nil {
		return nil, err
	}
	handle, failure := s.handle.Campaign(election, set.list, options.Value, id)
	if failure != nil {
		s.unsubscribe(id)
		return nil, asError(failure)
	}
	campaign.handle.Store(uintptr(handle))
	return campaign, nil
}

// Leader asks etcd who leads an election now.
//
// Errors: ErrNoLeader, ErrInvalidName, ErrNameCollision, ErrTimeout, ErrUnavailable, ErrTLS, ErrAuthenticationFailed,
// ErrPermissionDenied, ErrClosed; the context's.
func (s *Service) Leader(ctx context.Context, election string) (Candidate, error) {
	found, err := ask(ctx, fmt.Sprintf("leader of %q", election), func(timeoutMS int32) (capi.Candidate, *capi.Failure) {
		return s.handle.Leader(election, timeoutMS)
	})
	return Candidate(found), err
}

// Candidates asks etcd who stands in an election: the leader first, then in the order in which they would follow. None is
// no error.
//
// Errors: as [Service.Leader], without ErrNoLeader.
func (s *Service) Candidates(ctx context.Context, election string) ([]Candidate, error) {
	what := fmt.Sprintf("candidates of %q", election)
	found, err := ask(ctx, what, func(timeoutMS int32) ([]capi.Candidate, *capi.Failure) {
		return s.handle.Candidates(election, timeoutMS)
	})
	list := make([]Candidate, len(found))
	for place := range found {
		list[place] = Candidate(found[place])
	}
	return list, err
}

func ask[T any](ctx context.Context, what string, call func(timeoutMS int32) (T, *capi.Failure)) (T, error) {
	if err := ctx.Err(); err != nil {
		var none T
		return none, interrupted(ctx, what, ErrTimeout)
	}
	return await(ctx, what, ErrTimeout, call)
}

// String names the type: what a service is made of changes while it is printed.
func (s *Service) String() string { return "tenure.Service" }

// GoString is the same for %#v.
func (s *Service) GoString() string { return s.String() }

// Close closes the service: leadership ends at once, every candidacy is withdrawn, every campaign and observer gets its last
// status, the session ends. Then it waits for etcd to confirm, until the context is done or for CallTimeout. Closing again is
// fine. After nil, every channel is closed and nothing of the service is left in this process.
//
// Close begins even if the context is done already.
//
// Errors: ErrPending: not confirmed yet; the library goes on by itself, and closing again waits on.
func (s *Service) Close(ctx context.Context) error {
	_, err := begin(ctx, "close", func(timeoutMS int32) (none, *capi.Failure) {
		failure := s.handle.Close(timeoutMS)
		if failure != nil && failure.Code == capi.InvalidHandle {
			failure = nil // Closed before.
		}
		if failure == nil {
			s.finish()
		}
		return none{}, failure
	})
	if errors.Is(err, ErrPending) {
		s.confirm.Do(func() { go s.abandon() })
	}
	return err
}

// abandon closes a service that nobody waits for.
func (s *Service) abandon() {
	if failure := s.handle.Close(math.MaxInt32); failure == nil {
		s.finish()
	}
}

// finish is called when the service is closed.
func (s *Service) finish() {
	<-s.drained
	s.free.Do(s.handle.Free)
}

type none struct{}

// begin makes a call take effect whatever the context says, and then waits for etcd's word as long as that allows.
func begin(ctx context.Context, what string, call func(timeoutMS int32) (none, *capi.Failure)) (none, error) {
	_, failure := call(0)
	switch {
	case failure == nil || Code(failure.Code) != ErrPending:
		return none{}, asError(failure)
	case ctx.Err() != nil:
		return none{}, interrupted(ctx, what, ErrPending)
	}
	return await(ctx, what, ErrPending, call)
}

func (s *Service) subscribe(who subscriber) (uintptr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return 0, s.ended
	}
	if s.subscribers == nil {
		s.subscribers = map[uintptr]subscriber{}
	}
	s.lastID++
	s.subscribers[s.lastID] = who
	return s.lastID, nil
}

func (s *Service) unsubscribe(id uintptr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, id)
}

func (s *Service) subscriber(id uintptr) subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribers[id]
}
