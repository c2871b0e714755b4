// Package leader has the interface, options, states and errors of M3's package of the same name
// (src/cluster/services/leader of m3db/m3), on the engine of package [tenure]. A program written for M3's moves by changing
// its imports and how it makes the service, and stands in the same elections as those that haven't moved: keys are the same.
//
// M3 spreads these names over three packages, so one import may be written three times:
//
//	import (
//		"github.com/tenure-election/tenure/bindings/go/leader"            // was github.com/m3db/m3/src/cluster/services/leader
//		campaign "github.com/tenure-election/tenure/bindings/go/leader"   // was …/cluster/services/leader/campaign
//		services "github.com/tenure-election/tenure/bindings/go/leader"   // was …/cluster/services
//	)
//
// # Where M3's documentation and its behaviour differ
//
//   - Resign while the campaign waits: the candidacy is withdrawn, [Follower], then the channel is closed. (M3 documents this
//     and sends an error.)
//   - Resign where nothing is campaigning: no error. (M3 documents one and returns none, or one of another kind for an election
//     it hasn't seen.)
//   - The session is lost, waiting or leading: [Error], then [Closed], then the channel is closed. errors.Is tells
//     [tenure.ErrSessionExpired] from others. (M3 sends "context canceled" to those that wait.)
//   - Close: [Closed], then the channel is closed. (M3 never sends it.)
//   - Options of nil for Campaign: the defaults. (M3 documents this and refuses it.)
//   - An empty leader value: the host name.
//   - No time to live set: 10 s, the default of package tenure. (M3 leaves it to etcd: 60 s.)
//
// Unlike M3's, a channel needs no reader: nothing leaks, and a status that is unread when its term ends is left out. A campaign
// may be started anew as soon as [Error] or the end of the former channel was read. [LeaderService] has no contexts; use package
// tenure where they, the fencing token, or IsLeader are wanted.
package leader
