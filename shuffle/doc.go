// Package shuffle keeps tenants out of each other's harm: each has a few of the nodes, and
// nearly no two have the same.
//
// Where all tenants share all nodes, one whose requests crash or hang whatever takes them
// brings down the service for everybody. Where nodes are cut into shards, it brings down
// its shard, with all who are in it. With shuffle shards it has as many nodes to ruin, but
// the others have at most some of those, and each of them goes on with the rest: of 8
// nodes and shards of two there are 28, and of 100 nodes and shards of five, 75 million.
//
//	shards, err := shuffle.New([]shuffle.Node{
//		{ID: "worker-1:80", Zone: "a"}, {ID: "worker-2:80", Zone: "b"}, // and so on
//	}, shuffle.Config{})
//
//	for node := range shards.Route("acme", healthy) {
//		if err = call(node); err == nil {
//			break
//		}
//	}
//
// That loop is half of it. A tenant who shares one node of three with a noisy one is
// served only if its client tries the others, and only if it stops there: what falls back
// on nodes outside of its shard carries the harm along.
//
// A [Sharder] is a value that never changes, and finds shards without a list of tenants.
// [Union] is for readers, while shards change. A [Registry] keeps such a list, and
// promises how much shards overlap at most. [Design] has the numbers for a fleet before
// there is one:
//
//	fmt.Println(shuffle.Design{Nodes: 100, Size: 5}.Plan(10_000))
//
// Use it where the work of tenants is done by many nodes that are alike, and one tenant
// can ruin a node. Do not use it where a bound on what a tenant may ask for is all that is
// needed, which is a limiter; nor for nodes that share what can be ruined, such as a
// database: tenants who must not have even that in common need cells. Nor where each
// node must do for all: a shard of three in place of all nodes bears three nodes' load.
//
// # Algorithm
//
// Shuffle sharding is MacCárthaigh's, of AWS, who published it in 2014 for Route 53. His
// library shuffles all nodes by a seed for each tenant, and when one comes or goes nearly
// all shards change. Here a shard is the first few nodes in a tenant's order by rendezvous
// hashing, of Thaler and Ravishankar (1998): all shards are as likely, and of those in
// which a node that comes or goes has a place, one node each changes. No list of shards
// can change less. A shard of one node more has the same ones and one more.
//
// Weights are exact where a tenant has one node, and nearly so where it has few of many:
// a node of weight 2 is in twice as many shards. Zones: the best node of each comes first,
// then the second of each, and a zone that has no more is passed over. So a shard has as
// many nodes as it should have, and not that number rounded up by zone. All of it is done
// in whole numbers, so that shards are the same on every machine. That they are is held by
// vectors in the tests. A change of them would be another layout, which is a part of
// every Fingerprint.
//
// A Registry searches shards in the same order and goes back where two tenants would have
// too much in common, within bounds on its effort.
//
// # Defaults
//
// A tenant has 3 nodes, which weigh 1 each, with xxhash for its name. In a Registry two
// tenants have 1 node in common at most, and Assign looks at a million nodes of others.
// Each field says why.
//
// # Failure modes
//
//   - A tenant whose nodes are all down is down. Route yields nothing then, and asks nobody
//     else: that is what keeps it from the others.
//   - A tenant can bring down as many nodes as it has, as often as it likes. When it comes
//     to several such tenants, [Design.Coverage] says who goes down with them.
//   - There is no list of nodes that is empty: it is an error, so that nobody can put
//     nothing in the place of something by mistake. The zero Sharder has no shards.
//   - A Size of 0 is 3 nodes, a negative one is all of them, and so is one that is larger
//     than there are.
//   - A zone that is lost takes no more than its part of a shard: of three nodes in three
//     zones, one. A zone with too few nodes leaves more to the others.
//   - A dedicated node that is not on the list any more makes its tenant's shard smaller,
//     and when the last has gone the tenant has a shard as all others do.
//   - Processes with different lists have different shards for some tenants, by one node.
//     Compare the Fingerprint.
//   - What a node keeps of a tenant, such as a cache, is of no use to it when a shard
//     changes. Keep it by tenant, and let it go by age.
//   - A million tenants take no memory in a Sharder. In a Registry all of them are kept.
//   - A Hash or a SizeOf that panics does so out of the method that called it, and leaves
//     nothing behind: neither is called under a lock.
//
// Stable: the API changes only with a major version.
package shuffle
