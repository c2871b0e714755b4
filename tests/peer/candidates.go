package main

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	rpc "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
)

var errNoLeader = errors.New("no leader")

// inGo is a candidate by the package concurrency.
type inGo struct{ election *concurrency.Election }

func newGo(session *concurrency.Session, election string) candidate {
	return inGo{concurrency.NewElection(session, election)}
}

func (c inGo) campaign(ctx context.Context, value string) (leader, error) {
	if err := c.election.Campaign(ctx, value); err != nil {
		return leader{}, err
	}
	return leader{c.election.Key(), c.election.Rev(), value}, nil
}

func (c inGo) resign(ctx context.Context) error { return c.election.Resign(ctx) }

func (c inGo) leader(ctx context.Context) (leader, error) {
	response, err := c.election.Leader(ctx)
	if err != nil {
		return leader{}, err
	}
	return first(response.Kvs)
}

func (c inGo) observe(ctx context.Context, show func(leader)) error {
	for response := range c.election.Observe(ctx) {
		if l, err := first(response.Kvs); err == nil {
			show(l)
		}
	}
	return ctx.Err()
}

func first(kvs []*pb.KeyValue) (leader, error) {
	if len(kvs) == 0 {
		return leader{}, errNoLeader
	}
	return leader{string(kvs[0].Key), kvs[0].CreateRevision, string(kvs[0].Value)}, nil
}

// inServer is a candidate by the server's election RPC.
type inServer struct {
	rpc      rpc.ElectionClient
	election []byte
	lease    int64
	won      *rpc.LeaderKey
}

func newServer(client *clientv3.Client, election string, lease clientv3.LeaseID) candidate {
	return &inServer{rpc: rpc.NewElectionClient(client.ActiveConnection()), election: []byte(election), lease: int64(lease)}
}

func (c *inServer) campaign(ctx context.Context, value string) (leader, error) {
	request := &rpc.CampaignRequest{Name: c.election, Lease: c.lease, Value: []byte(value)}
	response, err := c.rpc.Campaign(ctx, request)
	if err != nil {
		return leader{}, err
	}
	c.won = response.Leader
	return leader{string(c.won.Key), c.won.Rev, value}, nil
}

func (c *inServer) resign(ctx context.Context) error {
	if c.won == nil {
		return errors.New("not elected")
	}
	_, err := c.rpc.Resign(ctx, &rpc.ResignRequest{Leader: c.won})
	return err
}

func (c *inServer) leader(ctx context.Context) (leader, error) {
	response, err := c.rpc.Leader(ctx, &rpc.LeaderRequest{Name: c.election})
	if err != nil {
		return leader{}, err
	}
	return first([]*pb.KeyValue{response.Kv})
}

func (c *inServer) observe(ctx context.Context, show func(leader)) error {
	stream, err := c.rpc.Observe(ctx, &rpc.LeaderRequest{Name: c.election})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if l, err := first([]*pb.KeyValue{response.Kv}); err == nil {
			show(l)
		}
	}
}
