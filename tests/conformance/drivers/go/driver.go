// Command driver is the conformance driver for Go: requests come as JSON lines on standard input, answers and events go as
// JSON lines to standard output. tests/conformance/README.md describes both. No logic beyond naming what the package has.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

type request struct {
	ID        int         `json:"id"`
	Call      string      `json:"call"`
	Handle    string      `json:"handle"`
	Service   string      `json:"service"`
	Election  string      `json:"election"`
	Options   [][2]string `json:"options"`
	Value     *string     `json:"value"`
	TimeoutMS *int        `json:"timeout_ms"`
	Beside    bool        `json:"beside"`
}

type line map[string]any

var (
	mu        sync.Mutex
	services  = map[string]*tenure.Service{}
	campaigns = map[string]*tenure.Campaign{}
	// Observers end with their contexts.
	observers = map[string]context.CancelFunc{}

	output sync.Mutex
	// Who still writes: readers of events, until the last one, and calls beside others.
	writers sync.WaitGroup
)

func main() {
	// What isn't referred to any more is left to the collector; negative times have a context that is done.
	write(line{
		"hello": "Go",
		"lacks": []string{"freed handles", "letting go", "negative timeouts", "callbacks", "fork"},
	})
	lines := bufio.NewReader(os.Stdin)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r request
		check(json.Unmarshal(text, &r))
		if !r.Beside {
			r.perform()
			continue
		}
		writers.Add(1)
		go func() {
			defer writers.Done()
			r.perform()
		}()
	}
	writers.Wait()
}

func (r request) perform() {
	value, err := r.call()
	answer := line{"id": r.ID, "value": value}
	if err != nil {
		var failure *tenure.Error
		if !errors.As(err, &failure) {
			check(err)
		}
		answer = line{"id": r.ID, "error": failure.Code.Name(), "retriable": failure.Retriable(), "message": err.Error()}
	}
	write(answer)
}

func (r request) call() (any, error) {
	ctx := context.Background()
	if r.TimeoutMS != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*r.TimeoutMS)*time.Millisecond)
		defer cancel()
	}
	switch r.Call {
	case "open":
		return nil, r.open(ctx)
	case "campaign":
		return nil, r.campaign(ctx)
	case "observe":
		return nil, r.observe()
	case "leader":
		found, err := service(r.Service).Leader(ctx, bytes(r.Election))
		return candidate(found), err
	case "candidates":
		found, err := service(r.Service).Candidates(ctx, bytes(r.Election))
		list := make([]line, 0, len(found))
		for _, one := range found {
			list = append(list, candidate(one))
		}
		return list, err
	case "wait_leader":
		return nil, campaign(r.Handle).WaitForLeadership(ctx)
	case "proclaim":
		return nil, campaign(r.Handle).Proclaim(ctx, []byte(bytes(*r.Value)))
	case "resign":
		return nil, campaign(r.Handle).Resign(ctx)
	case "resign_leader":
		return nil, campaign(r.Handle).ResignLeader(ctx)
	case "is_leader":
		return campaign(r.Handle).IsLeader(), nil
	case "remaining":
		return campaign(r.Handle).Remaining().Milliseconds(), nil
	case "token":
		return campaign(r.Handle).Token(), nil
	case "state":
		return campaign(r.Handle).State().String(), nil
	case "close":
		mu.Lock()
		cancel := observers[r.Handle]
		mu.Unlock()
		if cancel != nil {
			cancel()
			return nil, nil
		}
		return nil, service(r.Handle).Close(ctx)
	}
	panic("unknown call " + r.Call)
}

func (r request) options() map[string]string {
	options := map[string]string{}
	for _, pair := range r.Options {
		options[bytes(pair[0])] = bytes(pair[1])
	}
	return options
}

func (r request) open(ctx context.Context) error {
	opened, err := tenure.Open(ctx, tenure.Options{More: r.options()})
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	services[r.Handle] = opened
	return nil
}

func (r request) campaign(ctx context.Context) error {
	options := tenure.CampaignOptions{More: r.options()}
	if r.Value != nil {
		options.Value = []byte(bytes(*r.Value))
	}
	begun, err := service(r.Service).Campaign(ctx, bytes(r.Election), options)
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	campaigns[r.Handle] = begun
	writers.Add(1)
	go func() {
		defer writers.Done()
		for status := range begun.Statuses() {
			reason, message := reasonOf(status.Err)
			write(line{
				"event": "status", "handle": r.Handle, "sequence": status.Sequence, "time_ns": int64(status.Time), "election": status.Election,
				"state": status.State.String(), "reason": reason, "message": message, "at_risk": status.AtRisk,
				"value": text(status.Value), "token": status.Token, "revision": status.Revision,
				"deadline_ns": int64(status.Deadline), "cluster": status.ClusterID != 0,
			})
		}
	}()
	return nil
}

func (r request) observe() error {
	ctx, cancel := context.WithCancel(context.Background())
	observations, err := service(r.Service).Observe(ctx, bytes(r.Election))
	if err != nil {
		cancel()
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	observers[r.Handle] = cancel
	writers.Add(1)
	go func() {
		defer writers.Done()
		for seen := range observations {
			reason, message := reasonOf(seen.Err)
			var leader any
			if seen.HasLeader {
				leader = candidate(seen.Leader)
			}
			write(line{
				"event": "observation", "handle": r.Handle, "sequence": seen.Sequence, "time_ns": int64(seen.Time), "election": seen.Election,
				"leader": leader, "connected": seen.Connected, "closed": seen.Closed, "reason": reason,
				"message": message, "revision": seen.Revision, "cluster": seen.ClusterID != 0,
			})
		}
	}()
	return nil
}

func candidate(found tenure.Candidate) line {
	return line{"value": text(found.Value), "token": found.Token, "key": text([]byte(found.Key)), "lease": found.Lease}
}

func reasonOf(err error) (name, message string) {
	var reason *tenure.Error
	if errors.As(err, &reason) {
		return reason.Code.Name(), reason.Message
	}
	return "OK", ""
}

func service(handle string) *tenure.Service {
	mu.Lock()
	defer mu.Unlock()
	return services[handle]
}

func campaign(handle string) *tenure.Campaign {
	mu.Lock()
	defer mu.Unlock()
	return campaigns[handle]
}

// Bytes travel as text: each byte is the character of that number.
func bytes(text string) string {
	var bytes []byte
	for _, character := range text {
		bytes = append(bytes, byte(character))
	}
	return string(bytes)
}

func text(bytes []byte) string {
	characters := make([]rune, len(bytes))
	for i, one := range bytes {
		characters[i] = rune(one)
	}
	return string(characters)
}

func write(l line) {
	text, err := json.Marshal(l)
	check(err)
	output.Lock()
	defer output.Unlock()
	_, err = os.Stdout.Write(append(text, '\n'))
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver: "+err.Error())
		os.Exit(2)
	}
}
