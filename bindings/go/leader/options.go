package leader

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// M3's defaults.
const (
	defaultLeaderTimeout = 10 * time.Second
	defaultResignTimeout = 10 * time.Second
)

// What the engine accepts as a time to live.
const (
	minTTLSecs = 2
	maxTTLSecs = 24 * 60 * 60
)

var (
	errNoServiceID       = errors.New("leader options: no service ID: call SetServiceID")
	errNoServiceName     = errors.New("leader options: the service ID has no name: call SetName on it")
	errNoElectionOptions = errors.New("leader options: the election options are nil")
)

// ServiceID is the program whose processes elect a leader. Setters return a changed copy.
type ServiceID interface {
	// Name is the service's name.
	Name() string
	// SetName sets the name.
	SetName(name string) ServiceID
	// Environment is what precedes the name in keys; it may be empty.
	Environment() string
	// SetEnvironment sets the environment.
	SetEnvironment(environment string) ServiceID
	// Zone says where the service runs. It is no part of keys: a zone has an etcd of its own, named in the options.
	Zone() string
	// SetZone sets the zone.
	SetZone(zone string) ServiceID
	// Equal tells whether all three are the same.
	Equal(other ServiceID) bool
	// String describes it.
	String() string
}

// NewServiceID makes an empty one.
func NewServiceID() ServiceID { return serviceID{} }

type serviceID struct{ name, environment, zone string }

func (s serviceID) Name() string                  { return s.name }
func (s serviceID) SetName(name string) ServiceID { s.name = name; return s }
func (s serviceID) Environment() string           { return s.environment }
func (s serviceID) SetEnvironment(environment string) ServiceID {
	s.environment = environment
	return s
}
func (s serviceID) Zone() string                  { return s.zone }
func (s serviceID) SetZone(zone string) ServiceID { s.zone = zone; return s }

func (s serviceID) Equal(other ServiceID) bool {
	return other != nil && s == serviceID{other.Name(), other.Environment(), other.Zone()}
}

func (s serviceID) String() string {
	return fmt.Sprintf("[name: %s, env: %s, zone: %s]", s.name, s.environment, s.zone)
}

// ElectionOptions are times. Setters return a changed copy.
type ElectionOptions interface {
	// LeaderTimeout is how long Leader waits for etcd. Default: 10 s.
	LeaderTimeout() time.Duration
	// SetLeaderTimeout sets it; 0 is the default.
	SetLeaderTimeout(timeout time.Duration) ElectionOptions
	// ResignTimeout is how long Resign and Close wait for etcd. Default: 10 s.
	ResignTimeout() time.Duration
	// SetResignTimeout sets it; 0 is the default.
	SetResignTimeout(timeout time.Duration) ElectionOptions
	// TTLSecs is the session's time to live in seconds: how long after a crash another may lead.
	TTLSecs() int
	// SetTTLSecs sets it, from 2 to 86400; 0 is the default of package tenure, 10 s.
	SetTTLSecs(ttl int) ElectionOptions
}

// NewElectionOptions makes the defaults.
func NewElectionOptions() ElectionOptions { return electionOptions{} }

type electionOptions struct {
	leaderTimeout, resignTimeout time.Duration
	ttlSecs                      int
}

func (e electionOptions) LeaderTimeout() time.Duration {
	return orDefault(e.leaderTimeout, defaultLeaderTimeout)
}

func (e electionOptions) SetLeaderTimeout(timeout time.Duration) ElectionOptions {
	e.leaderTimeout = timeout
	return e
}

func (e electionOptions) ResignTimeout() time.Duration {
	return orDefault(e.resignTimeout, defaultResignTimeout)
}

func (e electionOptions) SetResignTimeout(timeout time.Duration) ElectionOptions {
	e.resignTimeout = timeout
	return e
}

func (e electionOptions) TTLSecs() int { return e.ttlSecs }

func (e electionOptions) SetTTLSecs(ttl int) ElectionOptions {
	e.ttlSecs = ttl
	return e
}

func orDefault(timeout, otherwise time.Duration) time.Duration {
	if timeout == 0 {
		return otherwise
	}
	return timeout
}

// CampaignOptions are those of one campaign. Setters return a changed copy.
type CampaignOptions interface {
	// LeaderValue is what the candidate announces, and what Leader and Observe tell. Empty: the host name.
	LeaderValue() string
	// SetLeaderValue sets it.
	SetLeaderValue(value string) CampaignOptions
}

// NewCampaignOptions makes options with the host name as the value.
func NewCampaignOptions() (CampaignOptions, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("leader: campaign options: %w", err)
	}
	return campaignOptions{host}, nil
}

type campaignOptions struct{ value string }

func (c campaignOptions) LeaderValue() string { return c.value }

func (c campaignOptions) SetLeaderValue(value string) CampaignOptions {
	c.value = value
	return c
}

// Options are those of a service. Setters return a changed copy.
type Options interface {
	// ServiceID is the service that the elections are of.
	ServiceID() ServiceID
	// SetServiceID sets it.
	SetServiceID(id ServiceID) Options
	// ElectionOpts are the times.
	ElectionOpts() ElectionOptions
	// SetElectionOpts sets them.
	SetElectionOpts(options ElectionOptions) Options
	// Connection is how etcd is reached.
	Connection() tenure.Options
	// SetConnection sets it: endpoints, credentials, certificates, log. It is what M3 has an etcd client for. Its Service and
	// Environment, and its TTL where the election options have one, give way to those of these options.
	SetConnection(connection tenure.Options) Options
	// Validate finds what is missing or out of range.
	Validate() error
}

// NewOptions makes options that lack a service ID.
func NewOptions() Options { return options{election: NewElectionOptions()} }

type options struct {
	id         ServiceID
	election   ElectionOptions
	connection tenure.Options
}

func (o options) ServiceID() ServiceID { return o.id }

func (o options) SetServiceID(id ServiceID) Options {
	o.id = id
	return o
}

func (o options) ElectionOpts() ElectionOptions { return o.election }

func (o options) SetElectionOpts(election ElectionOptions) Options {
	o.election = election
	return o
}

func (o options) Connection() tenure.Options { return o.connection }

func (o options) SetConnection(connection tenure.Options) Options {
	o.connection = connection
	return o
}

func (o options) Validate() error {
	if o.id == nil {
		return errNoServiceID
	}
	if o.id.Name() == "" {
		return errNoServiceName
	}
	if o.election == nil {
		return errNoElectionOptions
	}
	if ttl := o.election.TTLSecs(); ttl != 0 && (ttl < minTTLSecs || ttl > maxTTLSecs) {
		return fmt.Errorf("leader options: a TTL of %d s is not from %d to %d", ttl, minTTLSecs, maxTTLSecs)
	}
	if timeout := o.election.LeaderTimeout(); timeout < 0 {
		return fmt.Errorf("leader options: the leader timeout, %v, is negative", timeout)
	}
	if timeout := o.election.ResignTimeout(); timeout < 0 {
		return fmt.Errorf("leader options: the resign timeout, %v, is negative", timeout)
	}
	return nil
}
