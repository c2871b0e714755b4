package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Transactions nested in one: with their two operations each, few enough for etcd's default limit of 128.
const nested = 100

func bareCommands() commands {
	client, watcher := connect(), connect()
	granted, err := client.Grant(ctx, 600)
	check(err)
	b := &bare{client: client, lease: granted.ID}
	return commands{
		"txn":      func(string) []int64 { return b.lone() },
		"handover": func(argument string) []int64 { return []int64{b.watched(watcher, number(argument))} },
		"join":     func(argument string) []int64 { return []int64{b.join(number(argument))} },
		"resign":   func(string) []int64 { return []int64{b.resign()} },
		"busy":     func(argument string) []int64 { return []int64{b.busy(number(argument))} },
		"keys":     func(argument string) []int64 { return []int64{count(client, argument)} },
		"revoke":   func(argument string) []int64 { return []int64{b.revoke(argument)} },
		"status":   status,
	}
}

type bare struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	keys   int
	stop   chan struct{}
	puts   atomic.Int64
}

// put is what a candidate needs: its key made, and who is first.
func (b *bare) put(key string) (clientv3.Cmp, []clientv3.Op) {
	// Each in an election of its own: etcd counts what else is below the prefix, whatever the limit.
	election := key[:strings.LastIndexByte(key, '/')+1]
	look := clientv3.OpGet(election, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
		[]clientv3.Op{clientv3.OpPut(key, "value", clientv3.WithLease(b.lease)), look}
}

func (b *bare) lone() []int64 {
	absent, ops := b.put("_bare/key")
	time.Sleep(10 * time.Millisecond)
	start := time.Now()
	_, err := b.client.Txn(ctx).If(absent).Then(ops...).Commit()
	check(err)
	made := time.Since(start)
	time.Sleep(10 * time.Millisecond)
	start = time.Now()
	_, err = b.client.Delete(ctx, "_bare/key")
	check(err)
	return []int64{made.Nanoseconds(), time.Since(start).Nanoseconds()}
}

func (b *bare) watched(watcher *clientv3.Client, waitMS int) int64 {
	made, err := b.client.Put(ctx, "_bare/watched", "value", clientv3.WithLease(b.lease))
	check(err)
	// From the next revision on: a watch from the present one waits up to 100 ms for its first event.
	watching, stop := context.WithCancel(ctx)
	defer stop()
	events := watcher.Watch(watching, "_bare/watched", clientv3.WithRev(made.Header.Revision+1), clientv3.WithFilterPut())
	time.Sleep(time.Duration(waitMS) * time.Millisecond)
	seen := make(chan time.Time)
	go func() {
		<-events
		seen <- time.Now()
	}()
	start := time.Now()
	_, err = b.client.Delete(ctx, "_bare/watched")
	check(err)
	return (<-seen).Sub(start).Nanoseconds()
}

func (b *bare) groups() int { return (b.keys + nested - 1) / nested }

func (b *bare) grouped(op func(key string) clientv3.Op) int64 {
	return atOnce(b.groups(), 4, func(group int) {
		var ops []clientv3.Op
		for i := group * nested; i < min(b.keys, (group+1)*nested); i++ {
			ops = append(ops, op(fmt.Sprintf("_bare/shard-%05d/key", i)))
		}
		_, err := b.client.Txn(ctx).Then(ops...).Commit()
		check(err)
	})
}

func (b *bare) join(count int) int64 {
	b.keys = count
	return b.grouped(func(key string) clientv3.Op {
		absent, ops := b.put(key)
		return clientv3.OpTxn([]clientv3.Cmp{absent}, ops, nil)
	})
}

func (b *bare) resign() int64 {
	return b.grouped(func(key string) clientv3.Op { return clientv3.OpDelete(key) })
}

// busy ends what puts there are, tells how many they were, and begins as many a second as asked for.
func (b *bare) busy(rate int) int64 {
	if b.stop != nil {
		close(b.stop)
	}
	done := b.puts.Swap(0)
	if rate == 0 {
		b.stop = nil
		return done
	}
	b.stop = make(chan struct{})
	go func(stop chan struct{}) {
		// In small bursts, since a timer is no finer.
		const burst = 5 * time.Millisecond
		work := make(chan int, rate)
		for range 32 {
			go func() {
				for i := range work {
					prefix := "_other/"
					if i%2 == 0 {
						prefix = "_ld/bench/busy/"
					}
					_, err := b.client.Put(ctx, fmt.Sprintf("%s%04d", prefix, i%1000), "value")
					check(err)
					b.puts.Add(1)
				}
			}()
		}
		defer close(work)
		ticker := time.NewTicker(burst)
		defer ticker.Stop()
		for i := 0; ; {
			select {
			case <-stop:
				return
			case <-ticker.C:
				for range rate * int(burst/time.Millisecond) / 1000 {
					work <- i
					i++
				}
			}
		}
	}(b.stop)
	return done
}

func count(client *clientv3.Client, prefix string) int64 {
	found, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	check(err)
	return found.Count
}

// revoke ends the lease of every key below the prefix, the oldest key's first.
func (b *bare) revoke(prefix string) int64 {
	found, err := b.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	check(err)
	// Each lease once; only those of the first key of an election lead.
	led, leases := map[string]bool{}, map[clientv3.LeaseID]bool{}
	for _, kv := range found.Kvs {
		election := string(kv.Key[:len(prefix)+len("00000")])
		if !led[election] {
			led[election], leases[clientv3.LeaseID(kv.Lease)] = true, true
		}
	}
	start := boottime()
	for lease := range leases {
		_, err := b.client.Revoke(ctx, lease)
		check(err)
	}
	return start
}
