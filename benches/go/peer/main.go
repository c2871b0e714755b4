// Command peer is what Tenure is measured beside: etcd's package concurrency, the server's election RPC, and the bare
// requests that no election can be faster than. It obeys the commands of benches/tenure.c, as far as they mean something
// for it, and answers in the same form.
//
//	peer concurrency|v3election|bare ENDPOINTS
//
// Commands of bare:
//
//	txn               a key under a lease that must not exist yet, with a look at the first of its prefix; its deletion
//	handover MS       a deletion, to the event on another connection's watch, open for so long
//	join COUNT        as many such keys, 100 in a transaction, 4 transactions under way
//	resign            their deletion, likewise
//	busy RATE         so many puts a second from now on, every other below the elections' prefix; how many there were
//	keys PREFIX       how many keys there are
//	revoke PREFIX     ends the leases of all keys there; when (CLOCK_BOOTTIME) that was asked for
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	rpc "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"golang.org/x/sys/unix"
)

// Requests under way at once where many are to be done: more did not make it faster.
const inFlight = 128

var (
	ctx       = context.Background()
	endpoints []string
)

type commands map[string]func(argument string) []int64

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: peer concurrency|v3election|bare ENDPOINTS")
		os.Exit(2)
	}
	endpoints = strings.Split(os.Args[2], ",")
	var known commands
	switch os.Args[1] {
	case "concurrency":
		known = electionCommands(func(session *concurrency.Session, election string) candidate {
			return concurrency.NewElection(session, election)
		})
	case "v3election":
		known = electionCommands(func(session *concurrency.Session, election string) candidate {
			client := rpc.NewElectionClient(session.Client().ActiveConnection())
			return &served{client: client, name: []byte(election), lease: int64(session.Lease())}
		})
	case "bare":
		known = bareCommands()
	default:
		check(fmt.Errorf("unknown mode %s", os.Args[1]))
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		name, argument, _ := strings.Cut(lines.Text(), " ")
		run := known[name]
		if run == nil {
			check(fmt.Errorf("no such command: %s", name))
		}
		answer := "ok"
		for _, number := range run(argument) {
			answer += " " + strconv.FormatInt(number, 10)
		}
		fmt.Println(answer)
	}
}

// check ends the program, as every failure makes a measurement worthless.
func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func number(argument string) int {
	n, err := strconv.Atoi(argument)
	check(err)
	return n
}

func connect() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	check(err)
	return client
}

func boottime() int64 {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	return now.Nano()
}

// atOnce runs do for 0 to count-1, so many at the same time, and tells how long it took.
func atOnce(count, limit int, do func(i int)) int64 {
	start := time.Now()
	var workers sync.WaitGroup
	next := make(chan int)
	for range limit {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	return time.Since(start).Nanoseconds()
}

// status tells the resident bytes, the threads, and the processor time in ns.
func status(string) []int64 {
	text, err := os.ReadFile("/proc/self/status")
	check(err)
	field := func(name string) int64 {
		_, rest, _ := strings.Cut(string(text), name)
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		check(err)
		return n
	}
	var used unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used))
	return []int64{field("VmRSS:") * 1024, field("Threads:"), used.Nano()}
}
