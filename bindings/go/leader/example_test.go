package leader_test

import (
	"fmt"
	"log"

	"github.com/tenure-election/tenure/bindings/go/leader"
	campaign "github.com/tenure-election/tenure/bindings/go/leader"
	services "github.com/tenure-election/tenure/bindings/go/leader"
	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// A program written for M3's package. What is different is the imports, which were
//
//	"github.com/m3db/m3/src/cluster/services"
//	"github.com/m3db/m3/src/cluster/services/leader"
//	"github.com/m3db/m3/src/cluster/services/leader/campaign"
//	clientv3 "go.etcd.io/etcd/client/v3"
//
// and how the service is made, which was
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
//	…
//	service, err := leader.NewService(client, options)
func Example_movingFromM3() {
	id := services.NewServiceID().SetEnvironment("production").SetName("aggregator").SetZone("zone-a")
	options := leader.NewOptions().
		SetServiceID(id).
		SetElectionOpts(services.NewElectionOptions().SetTTLSecs(5))

	connection := tenure.Options{Endpoints: []string{"memory://m3"}} // or http://127.0.0.1:2379
	service, err := leader.NewService(options.SetConnection(connection))
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()

	value, err := services.NewCampaignOptions()
	if err != nil {
		log.Fatal(err)
	}
	statuses, err := service.Campaign("shard-7", value.SetLeaderValue("host-a"))
	if err != nil {
		log.Fatal(err)
	}
	for status := range statuses {
		switch status.State {
		case campaign.Follower:
			fmt.Println("follows")
		case campaign.Leader:
			who, err := service.Leader("shard-7")
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(who, "leads")
			if err := service.Resign("shard-7"); err != nil {
				log.Fatal(err)
			}
		case campaign.Error:
			fmt.Println("lost:", status.Err)
		}
	}
	_, err = service.Leader("shard-7")
	fmt.Println(err == leader.ErrNoLeader)
	// Output:
	// follows
	// host-a leads
	// follows
	// true
}
