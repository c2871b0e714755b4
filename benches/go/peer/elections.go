package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	rpc "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
)

// A candidate stands in one election; campaign returns when it is elected.
type candidate interface {
	Campaign(ctx context.Context, value string) error
	Resign(ctx context.Context) error
}

// served is a candidate by the server's election RPC.
type served struct {
	client rpc.ElectionClient
	name   []byte
	lease  int64
	won    *rpc.LeaderKey
}

func (c *served) Campaign(ctx context.Context, value string) error {
	response, err := c.client.Campaign(ctx, &rpc.CampaignRequest{Name: c.name, Lease: c.lease, Value: []byte(value)})
	if err == nil {
		c.won = response.Leader
	}
	return err
}

func (c *served) Resign(ctx context.Context) error {
	if c.won == nil {
		return errors.New("not elected")
	}
	_, err := c.client.Resign(ctx, &rpc.ResignRequest{Leader: c.won})
	return err
}

// session is one with a connection of its own.
func session(ttl int) *concurrency.Session {
	session, err := concurrency.NewSession(connect(), concurrency.WithTTL(ttl))
	check(err)
	return session
}

// elections are those in one service's place: 10,000 of them share a session.
type elections struct {
	stand   func(session *concurrency.Session, election string) candidate
	session *concurrency.Session
	many    []candidate
	elected atomic.Int64
	last    atomic.Int64
}

func electionCommands(stand func(*concurrency.Session, string) candidate) commands {
	first, second := session(60), session(60)
	e := &elections{stand: stand}
	return commands{
		"campaign": func(string) []int64 {
			lone := stand(first, "_peer/lone")
			time.Sleep(10 * time.Millisecond)
			start := time.Now()
			check(lone.Campaign(ctx, "value"))
			elected := time.Since(start)
			time.Sleep(10 * time.Millisecond)
			start = time.Now()
			check(lone.Resign(ctx))
			return []int64{elected.Nanoseconds(), time.Since(start).Nanoseconds()}
		},
		"handover": func(argument string) []int64 {
			leader, follower := stand(first, "_peer/pair"), stand(second, "_peer/pair")
			check(leader.Campaign(ctx, "value"))
			elected := make(chan error)
			go func() { elected <- follower.Campaign(ctx, "value") }()
			time.Sleep(time.Duration(number(argument)) * time.Millisecond)
			start := time.Now()
			check(leader.Resign(ctx))
			check(<-elected)
			took := time.Since(start).Nanoseconds()
			check(follower.Resign(ctx))
			return []int64{took}
		},
		"chain": func(argument string) []int64 { return []int64{chain(stand, number(argument))} },
		"join": func(argument string) []int64 {
			count, from, _ := strings.Cut(argument, " ")
			if from == "" {
				from = "0"
			}
			return []int64{e.join(number(count), number(from))}
		},
		"follow": func(argument string) []int64 { e.follow(number(argument)); return nil },
		"elected": func(argument string) []int64 {
			for e.elected.Load() < int64(number(argument)) {
				time.Sleep(time.Millisecond)
			}
			return []int64{e.last.Load()}
		},
		"resign": func(string) []int64 {
			return []int64{atOnce(len(e.many), inFlight, func(i int) { check(e.many[i].Resign(ctx)) })}
		},
		"lead": func(argument string) []int64 {
			check(stand(session(number(argument)), "_peer/killed").Campaign(ctx, "value"))
			return nil
		},
		"stand": func(string) []int64 {
			killed := stand(first, "_peer/killed")
			check(killed.Campaign(ctx, "value"))
			at := boottime()
			check(killed.Resign(ctx))
			return []int64{at}
		},
		"status": status,
	}
}

// chain is the mean of so many hand-overs from one session to the next, in the order in which they joined.
func chain(stand func(*concurrency.Session, string) candidate, length int) int64 {
	candidates := make([]candidate, length)
	elected := make([]chan error, length)
	watcher := connect()
	for i := range length {
		own := session(60)
		candidates[i], elected[i] = stand(own, "_peer/chain"), make(chan error, 1)
		go func() { elected[i] <- candidates[i].Campaign(ctx, "value") }()
		for count(watcher, "_peer/chain/") < int64(i+1) {
			time.Sleep(time.Millisecond)
		}
		defer func() { check(own.Close()); check(own.Client().Close()) }()
	}
	check(<-elected[0])
	// Past the watchers' first 100 ms, in which etcd catches up with them.
	time.Sleep(250 * time.Millisecond)
	start := time.Now()
	for i := range length - 1 {
		check(candidates[i].Resign(ctx))
		check(<-elected[i+1])
	}
	took := time.Since(start)
	check(candidates[length-1].Resign(ctx))
	check(watcher.Close())
	return took.Nanoseconds() / int64(length-1)
}

func (e *elections) open(count, from int) {
	if e.session == nil {
		e.session = session(60)
	}
	e.many = make([]candidate, count)
	e.elected.Store(0)
	for i := range count {
		e.many[i] = e.stand(e.session, fmt.Sprintf("_peer/shard-%05d", from+i))
	}
}

func (e *elections) join(count, from int) int64 {
	e.open(count, from)
	return atOnce(count, inFlight, func(i int) { check(e.many[i].Campaign(ctx, "value")) })
}

// follow stands behind others in so many elections.
func (e *elections) follow(count int) {
	e.open(count, 0)
	for _, c := range e.many {
		go func() {
			check(c.Campaign(ctx, "value"))
			e.last.Store(boottime())
			e.elected.Add(1)
		}()
	}
}
