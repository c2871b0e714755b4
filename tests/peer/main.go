// Command peer takes part in elections as other programs do: as a rival of Tenure in its tests.
//
//	peer concurrency|v3election ENDPOINT ELECTION VALUE TTL
//
// The first mode is etcd's Go package concurrency, the second the server's election RPC. ELECTION is the key prefix
// without its last slash. The program grants a lease of TTL seconds, keeps it alive, and obeys lines on standard
// input: campaign, resign, leader, observe. It answers with lines on standard output:
//
//	ready LEASE                    once, at the start
//	elected KEY REVISION           the campaign was won
//	resigned
//	leader KEY REVISION VALUE      the answer to leader
//	observed KEY REVISION VALUE    for each leader that observe shows
//	error COMMAND MESSAGE          KEY and VALUE are quoted as Go strings, LEASE is hexadecimal
//
// At the end of standard input it resigns, if elected, and revokes its lease.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// endLimit is how long the program tries to leave nothing behind.
const endLimit = 10 * time.Second

// A leader is what an election shows of its leader.
type leader struct {
	key      string
	revision int64
	value    string
}

// A candidate stands in one election.
type candidate interface {
	// campaign waits until it is elected.
	campaign(ctx context.Context, value string) (leader, error)
	resign(ctx context.Context) error
	leader(ctx context.Context) (leader, error)
	// observe calls show for every leader until ctx is done.
	observe(ctx context.Context, show func(leader)) error
}

func main() {
	if len(os.Args) != 6 {
		fail("usage: peer concurrency|v3election ENDPOINT ELECTION VALUE TTL")
	}
	mode, endpoint, election, value := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	ttl, err := strconv.Atoi(os.Args[5])
	check(err)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 30 * time.Second})
	check(err)
	session, err := concurrency.NewSession(client, concurrency.WithTTL(ttl))
	check(err)
	var c candidate
	switch mode {
	case "concurrency":
		c = newGo(session, election)
	case "v3election":
		c = newServer(client, election, session.Lease())
	default:
		fail("unknown mode " + mode)
	}
	serve(c, value, fmt.Sprintf("%x", session.Lease()))
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	// The lease's end takes the key with it, elected or not. It may be over already, also by a
	// first attempt whose answer was lost.
	if _, err = client.Revoke(ctx, session.Lease()); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		check(err)
	}
}

// serve obeys commands until the end of standard input. A campaign and an observer go on beside other commands.
func serve(c candidate, value, lease string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var output sync.Mutex
	say := func(format string, arguments ...any) {
		output.Lock()
		defer output.Unlock()
		fmt.Printf(format+"\n", arguments...)
	}
	show := func(what string, l leader) { say("%s %q %d %q", what, l.key, l.revision, l.value) }
	say("ready %s", lease)
	var elected sync.WaitGroup
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		command := commands.Text()
		complain := func(err error) { say("error %s %q", command, err) }
		switch command {
		case "campaign":
			elected.Go(func() {
				l, err := c.campaign(ctx, value)
				if err != nil {
					complain(err)
					return
				}
				say("elected %q %d", l.key, l.revision)
			})
		case "resign":
			elected.Wait()
			if err := c.resign(ctx); err != nil {
				complain(err)
				continue
			}
			say("resigned")
		case "leader":
			l, err := c.leader(ctx)
			if err != nil {
				complain(err)
				continue
			}
			show("leader", l)
		case "observe":
			go func() {
				if err := c.observe(ctx, func(l leader) { show("observed", l) }); err != nil {
					complain(err)
				}
			}()
		default:
			complain(fmt.Errorf("unknown command"))
		}
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "peer: "+message)
	os.Exit(1)
}
