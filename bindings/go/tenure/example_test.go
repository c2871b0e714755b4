package tenure_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// Of all processes that run this, one at a time works.
func Example() {
	ctx := context.Background()
	service, err := tenure.Open(ctx, tenure.Options{
		Endpoints: []string{"memory://example"}, // or http://127.0.0.1:2379
		Service:   "billing",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close(ctx)

	campaign, err := service.Campaign(ctx, "shard-7", tenure.CampaignOptions{Rejoin: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := campaign.WaitForLeadership(ctx); err != nil {
		log.Fatal(err)
	}
	for step := 0; step < 3 && campaign.IsLeader(); step++ {
		fmt.Println("step", step, "as the leader, with a token:", campaign.Token() > 0)
	}
	// Output:
	// step 0 as the leader, with a token: true
	// step 1 as the leader, with a token: true
	// step 2 as the leader, with a token: true
}

func ExampleCampaign_Statuses() {
	ctx := context.Background()
	service, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{"memory://statuses"}, Service: "billing"})
	if err != nil {
		log.Fatal(err)
	}
	campaign, err := service.Campaign(ctx, "shard-7", tenure.CampaignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for status := range campaign.Statuses() {
		fmt.Println(status.State)
		if status.State == tenure.StateLeader {
			fmt.Println("leads for", status.Deadline.Until().Round(time.Second), "unless renewed")
			if err := service.Close(ctx); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// FOLLOWER
	// LEADER
	// leads for 10s unless renewed
	// CLOSED
}

func ExampleService_Observe() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	service, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{"memory://observe"}, Service: "billing"})
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close(context.Background())

	observations, err := service.Observe(ctx, "shard-7")
	if err != nil {
		log.Fatal(err)
	}
	for observation := range observations {
		switch {
		case observation.Closed:
			fmt.Println("the end")
		case observation.HasLeader:
			fmt.Printf("%s leads\n", observation.Leader.Value)
			stop()
		default:
			fmt.Println("nobody leads")
			if _, err := service.Campaign(ctx, "shard-7", tenure.CampaignOptions{Value: []byte("host-a")}); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// nobody leads
	// host-a leads
	// the end
}

func ExampleService_Leader() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	service, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{"memory://leader"}, Service: "billing"})
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close(context.Background())

	leader, err := service.Leader(ctx, "shard-7")
	switch {
	case errors.Is(err, tenure.ErrNoLeader):
		fmt.Println("nobody leads")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Printf("%s leads with token %d\n", leader.Value, leader.Token)
	}
	// Output: nobody leads
}

func ExampleError() {
	_, err := tenure.Open(context.Background(), tenure.Options{Service: "billing", TTL: time.Second})
	var failure *tenure.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Code.Name(), failure.Retriable())
		fmt.Println(errors.Is(err, tenure.ErrInvalidValue))
	}
	// Output:
	// INVALID_VALUE false
	// true
}
