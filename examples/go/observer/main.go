// An observer: prints who leads an election, whenever that changes, without taking part.
//
//	observer http://127.0.0.1:2379 shop billing
//
// It needs no lease and holds up nobody. Ends with SIGINT or SIGTERM.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

func watch(ctx context.Context, endpoints, service, election string) error {
	// Offline as well: what can't be seen now can be later.
	opened, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{endpoints}, Service: service, OpenOffline: true})
	if err != nil {
		return err
	}
	defer opened.Close(context.Background())
	observations, err := opened.Observe(ctx, election)
	if err != nil {
		return err
	}
	for seen := range observations {
		switch {
		case seen.Closed:
			return seen.Err // nil: the context is done.
		case !seen.Connected:
			fmt.Println("etcd is out of reach; the last known is what was said before")
		case seen.HasLeader:
			fmt.Printf("%s leads with token %d\n", seen.Leader.Value, seen.Leader.Token)
		default:
			fmt.Println("nobody leads")
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: observer ENDPOINTS SERVICE ELECTION")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := watch(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "observer:", err)
		os.Exit(1)
	}
}
