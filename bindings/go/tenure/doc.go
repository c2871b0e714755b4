// Package tenure is leader election on etcd: of several processes it decides which one may act, tells it when it may no
// longer, and hands over in the time that the network takes. The work is done by libtenure, an engine with a C ABI that
// programs in every language share; they stand in the same elections as Go programs that use etcd's package concurrency,
// M3's package leader or etcdctl elect.
//
//	service, err := tenure.Open(ctx, tenure.Options{Endpoints: []string{"http://127.0.0.1:2379"}, Service: "billing"})
//	…
//	campaign, err := service.Campaign(ctx, "shard-7", tenure.CampaignOptions{Rejoin: true})
//	…
//	for status := range campaign.Statuses() {
//		…
//	}
//
// # Leadership
//
// A status tells what was, [Campaign.IsLeader] what is. Ask it before acting as the leader, and pass [Campaign.Token] along
// with what must not happen twice, so that the receiver can refuse a leader of the past: between the question and the act a
// process may be stopped for any time, and no election can prevent that.
//
// At any instant at most one process has IsLeader() == true for an election, given that clocks run at rates within 1 % of each
// other and that keys and leases are removed only by their owner or by etcd's expiry.
//
// # States
//
//	start ──> FOLLOWER ──elected──> LEADER ──resign──> FOLLOWER ──> CLOSED
//	             │                    │
//	             │ resign             │ session lost, key deleted, cluster changed
//	             ├──> FOLLOWER ──> CLOSED
//	             └──> ERROR <─────────┘  ──> CLOSED, or with Rejoin ──> FOLLOWER …
//
// # Contexts
//
// A context that ends wakes the call that it was given to, at once. Its deadline is the call's; a call whose context has none
// waits for Options.CallTimeout, and [Campaign.WaitForLeadership] for ever. A context given to [Service.Campaign] doesn't end
// the campaign, since leaving an election is to be waited for: [Campaign.Resign] and [Service.Close] do, and they begin even if
// their context is done already. A context given to [Service.Observe] ends the observation.
//
// # Channels
//
// Nothing waits for a reader: neither renewals, nor other campaigns, nor the end of a service. What isn't read makes room for
// what is newer. Every channel is closed after its last element, and what nobody reads is collected.
//
// # Building
//
// The package finds libtenure by pkg-config and links it dynamically; with -tags tenure_static it becomes a part of the
// program. See docs/go.md.
package tenure
