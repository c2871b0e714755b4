package leader

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-election/tenure/bindings/go/internal/outbox"
	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// The engine's name for the election without one.
const defaultElectionID = "default"

var (
	// ErrNoLeader is what Leader returns when nobody leads; as it is, so that == finds it.
	ErrNoLeader error = tenure.ErrNoLeader
	// ErrCampaignInProgress is what Campaign returns when this service campaigns or leads already; as it is, so that ==
	// finds it.
	ErrCampaignInProgress error = tenure.ErrCampaignInProgress
)

// LeaderService elects leaders. Its methods may be called from all goroutines at any time. Elections are named by an ID; the
// empty one is "default". Errors other than those named are [*tenure.Error].
type LeaderService interface {
	// Close withdraws from every election and closes every channel. It waits for etcd to confirm, for at most the resign
	// timeout. Closing again is fine; everything else fails from then on, with an error that is tenure.ErrClosed.
	Close() error

	// Campaign stands for election. The channel tells how it goes: Follower first; Leader when elected; Error, and then
	// Closed, when the candidacy is lost; Follower after Resign; Closed after Close. Then it is closed, and Campaign may be
	// called again. Options may be nil.
	//
	// Returns ErrCampaignInProgress while an earlier campaign of this service for this election goes on.
	Campaign(electionID string, options CampaignOptions) (<-chan Status, error)

	// Resign withdraws from an election, leading or waiting, and returns when etcd has confirmed it, or an error that is
	// tenure.ErrPending when the resign timeout is over: resigning again waits on. Without a campaign there is nothing to do.
	Resign(electionID string) error

	// Leader asks etcd who leads, and returns what the leader announces, or ErrNoLeader. It waits for at most the leader
	// timeout.
	Leader(electionID string) (string, error)

	// Observe tells what the leader announces, at once if there is one, and whenever the leader or its value changes; the newest
	// takes the place of one that is unread. That nobody leads isn't told; package tenure's Observe does. The channel is
	// closed when the service is.
	Observe(electionID string) (<-chan string, error)
}

// NewService opens a service: where M3's takes an etcd client, the options have a connection.
func NewService(options Options) (LeaderService, error) {
	if options == nil {
		return nil, errNoServiceID
	}
	if err := options.Validate(); err != nil {
		return nil, err
	}
	connection := options.Connection()
	connection.Service = options.ServiceID().Name()
	connection.Environment = options.ServiceID().Environment()
	if ttl := options.ElectionOpts().TTLSecs(); ttl != 0 {
		connection.TTL = time.Duration(ttl) * time.Second
	}
	opened, err := tenure.Open(context.Background(), connection)
	if err != nil {
		return nil, err
	}
	return &service{tenure: opened, times: options.ElectionOpts(), campaigns: map[string]*campaign{}}, nil
}

type service struct {
	tenure *tenure.Service
	times  ElectionOptions
	closed atomic.Bool

	mu sync.Mutex
	// The latest of each election.
	campaigns map[string]*campaign
}

type campaign struct {
	tenure   *tenure.Campaign
	statuses *outbox.Outbox[Status]
	// It was resigned, so its end is no news.
	resigned atomic.Bool
	// Error was told, and the end is to follow.
	failed atomic.Bool
	// Closed when it is over.
	over chan struct{}
}

func (s *service) Close() error {
	s.closed.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), s.times.ResignTimeout())
	defer cancel()
	return s.tenure.Close(ctx)
}

func (s *service) Campaign(electionID string, options CampaignOptions) (<-chan Status, error) {
	var choice tenure.CampaignOptions
	if options != nil && options.LeaderValue() != "" {
		choice.Value = []byte(options.LeaderValue())
	}
	if former := s.campaign(electionID); former != nil && former.failed.Load() {
		// Whoever has read Error may stand again, although what is left of the former candidacy may still be on its way out.
		s.waitFor(former)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	stood, err := s.tenure.Campaign(context.Background(), electionID, choice)
	if errors.Is(err, ErrCampaignInProgress) {
		return nil, ErrCampaignInProgress
	}
	if err != nil {
		return nil, err
	}
	leads := func(status Status) bool { return status.State == Leader }
	made := &campaign{tenure: stood, statuses: outbox.New(leads), over: make(chan struct{})}
	s.campaigns[nameOf(electionID)] = made
	go func() {
		made.forward()
		s.forget(electionID, made)
	}()
	return made.statuses.Items(), nil
}

func (s *service) Resign(electionID string) error {
	if s.closed.Load() {
		return &tenure.Error{Code: tenure.ErrClosed, Message: "the service is closed"}
	}
	resigning := s.campaign(electionID)
	if resigning == nil {
		return nil
	}
	resigning.resigned.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), s.times.ResignTimeout())
	defer cancel()
	if err := resigning.tenure.Resign(ctx); err != nil {
		return err
	}
	<-resigning.over // The last status is on its way.
	return nil
}

func (s *service) Leader(electionID string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.times.LeaderTimeout())
	defer cancel()
	found, err := s.tenure.Leader(ctx, electionID)
	if errors.Is(err, ErrNoLeader) {
		return "", ErrNoLeader
	}
	return string(found.Value), err
}

func (s *service) Observe(electionID string) (<-chan string, error) {
	observations, err := s.tenure.Observe(context.Background(), electionID)
	if err != nil {
		return nil, err
	}
	values := make(chan string, 1)
	go forwardValues(observations, values)
	return values, nil
}

func (s *service) campaign(electionID string) *campaign {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.campaigns[nameOf(electionID)]
}

func (s *service) forget(electionID string, past *campaign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.campaigns[nameOf(electionID)] == past {
		delete(s.campaigns, nameOf(electionID))
	}
}

func (s *service) waitFor(former *campaign) {
	ctx, cancel := context.WithTimeout(context.Background(), s.times.ResignTimeout())
	defer cancel()
	select {
	case <-former.over:
	case <-ctx.Done(): // Then it is still in progress, as the engine will say.
	}
}

// forward ends with the campaign, whether or not anybody reads.
func (c *campaign) forward() {
	leads := false
	for status := range c.tenure.Statuses() {
		switch status.State {
		case tenure.StateFollower:
			c.statuses.Put(NewStatus(Follower))
		case tenure.StateLeader:
			c.statuses.Put(NewStatus(Leader))
		case tenure.StateError:
			c.failed.Store(true) // Before it is told.
			c.statuses.Put(NewErrorStatus(status.Err))
		case tenure.StateClosed:
			// Where the service was closed before the resignation got there, no Follower has ended the term.
			if leads || !c.resigned.Load() {
				c.statuses.Put(NewStatus(Closed))
			}
		}
		leads = status.State == tenure.StateLeader
	}
	close(c.over)
	c.statuses.Close()
}

func forwardValues(observations <-chan tenure.Observation, values chan string) {
	var told tenure.Candidate
	for seen := range observations {
		isNew := seen.Leader.Token != told.Token || string(seen.Leader.Value) != string(told.Value)
		if !seen.HasLeader || !isNew {
			continue
		}
		told = seen.Leader
		select {
		case <-values: // Unread, and older.
		default:
		}
		values <- string(told.Value)
	}
	close(values)
}

func nameOf(electionID string) string {
	if electionID == "" {
		return defaultElectionID
	}
	return electionID
}
