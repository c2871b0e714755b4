package tenure

import (
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"time"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

// Options are those of a service. Service or Prefix must be set; every other zero value is the default.
type Options struct {
	// Endpoints are the members of one etcd cluster: http://host:port, https://host:port, host:port or unix:///path. Or
	// memory://NAME alone: a store inside this process, shared by all services that name the same NAME, for unit tests.
	// Default: http://127.0.0.1:2379.
	Endpoints []string
	// Service is the program whose processes elect a leader; the third part of every key.
	Service string
	// Environment is the second part of every key; left out when empty.
	Environment string
	// Root is the first part of every key. Default: _ld, as in M3's leader package.
	Root string
	// Prefix takes the place of Root, Environment and Service, and is used as it is: NewElection(session, "/jobs") of
	// etcd's package concurrency is Prefix "/" and election "jobs". For an empty prefix set More["prefix"] to "".
	Prefix string
	// TTL is how long after a crash etcd keeps the leader's key, and how long a leader that is cut off may go on: 2 s to
	// 24 h, whole seconds. Default: 10 s.
	TTL time.Duration
	// Username and Password are for etcd's own authentication.
	Username, Password string
	// CAFile has the certificates, in PEM, of the authorities that may sign the server's. Default: the system's.
	CAFile string
	// CertFile and KeyFile are the client's certificate and private key, in PEM.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must hold. Default: the endpoint's host.
	ServerName string
	// DialTimeout is the longest time that one connection, and Open, may take: 10 ms to 5 min. Default: 5 s.
	DialTimeout time.Duration
	// CallTimeout is the longest time that one request to etcd may take, and how long a call waits whose context has no
	// deadline: 10 ms to 5 min. Default: 5 s.
	CallTimeout time.Duration
	// OpenOffline lets Open succeed while no endpoint answers; campaigns and observers join when etcd comes.
	OpenOffline bool
	// Value is what campaigns announce that set none of their own. Default: the host name.
	Value string
	// Logger gets the library's log lines, of the levels that it is enabled for when the service opens, on a goroutine of
	// its own. Lines that it is too slow for are left out. Default: no log.
	Logger *slog.Logger
	// More sets options by the names that docs/options.md lists, those included that this package is too old to have a
	// field for.
	More map[string]string
}

// hidden stands where a password is shown.
const hidden = "***"

// shown are options without a password, printed as any other struct is.
type shown Options

func (o Options) withoutPassword() shown {
	if o.Password != "" {
		o.Password = hidden
	}
	more := o.More
	if _, isSet := more["password"]; isSet {
		o.More = make(map[string]string, len(more))
		for name, value := range more {
			o.More[name] = value
		}
		o.More["password"] = hidden
	}
	return shown(o)
}

// Format prints the options without the password, which would else be in every log that shows them.
func (o Options) Format(state fmt.State, verb rune) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), o.withoutPassword())
}

// LogValue is what log/slog shows: the options without the password.
func (o Options) LogValue() slog.Value { return slog.AnyValue(o.withoutPassword()) }

// CampaignOptions are those of a campaign. Every zero value is the default.
type CampaignOptions struct {
	// Value is what the candidate announces, bytes of any kind, at most 1 MiB; nil is the service's. An empty one is
	// []byte{}.
	Value []byte
	// Rejoin makes the campaign stand again after a loss, with a new session, until it is resigned.
	Rejoin bool
	// AtRisk asks for statuses that tell that a renewal is overdue, and when that has passed.
	AtRisk bool
	// StepDownMargin makes leadership end this much before it must, so that the work can stop before another is elected:
	// up to a third of the TTL.
	StepDownMargin time.Duration
	// WaitLimit makes the campaign withdraw, with ErrWaitLimit, when it isn't elected within this time: up to 24 h.
	WaitLimit time.Duration
	// More sets options by name, as in [Options].
	More map[string]string
}

// settings collects options that differ from their zero value.
type settings struct {
	list    []capi.Setting
	failure *capi.Failure
}

func (s *settings) text(name, value string) {
	if value != "" {
		s.list = append(s.list, capi.Setting{Name: name, Value: value})
	}
}

func (s *settings) flag(name string, value bool) {
	if value {
		s.text(name, "true")
	}
}

func (s *settings) duration(name string, value time.Duration) {
	if value%time.Millisecond != 0 {
		message := fmt.Sprintf("option `%s`: %v isn't a whole number of milliseconds", name, value)
		s.failure = &capi.Failure{Code: capi.InvalidValue, Message: message}
	}
	if value != 0 {
		s.text(name, fmt.Sprintf("%dms", value.Milliseconds()))
	}
}

func (s *settings) more(named map[string]string) {
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	sort.Strings(names) // So that it is always the same one of several mistakes that is told.
	for _, name := range names {
		s.list = append(s.list, capi.Setting{Name: name, Value: named[name]})
	}
}

func (o *Options) settings() settings {
	var s settings
	s.text("endpoints", strings.Join(o.Endpoints, ","))
	s.text("service", o.Service)
	s.text("environment", o.Environment)
	s.text("root", o.Root)
	s.text("prefix", o.Prefix)
	s.duration("ttl", o.TTL)
	s.text("username", o.Username)
	s.text("password", o.Password)
	s.text("ca_file", o.CAFile)
	s.text("cert_file", o.CertFile)
	s.text("key_file", o.KeyFile)
	s.text("server_name", o.ServerName)
	s.duration("dial_timeout", o.DialTimeout)
	s.duration("call_timeout", o.CallTimeout)
	s.flag("open_offline", o.OpenOffline)
	s.text("value", o.Value)
	s.text("log_level", levelOf(o.Logger))
	s.more(o.More)
	return s
}

func (o *CampaignOptions) settings() settings {
	var s settings
	s.flag("rejoin", o.Rejoin)
	s.flag("at_risk", o.AtRisk)
	s.duration("step_down_margin", o.StepDownMargin)
	s.duration("wait_limit", o.WaitLimit)
	s.more(o.More)
	return s
}
