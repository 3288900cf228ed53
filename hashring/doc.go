// Package hashring decides which node has a key.
//
// Where several nodes share the keys of a cache, of sessions or of shards, everybody who
// asks has to come to the same answer without asking around, and when a node comes or
// goes nearly all keys should stay where they are. With a hash modulo the number of nodes
// nearly all of them move: a cache is cold then. A placement moves the keys of that node
// alone.
//
// There are two, and both are values that never change:
//
//	caches, err := hashring.NewTable([]hashring.Node{
//		{ID: "cache-0", Zone: "a"}, {ID: "cache-1", Zone: "b"}, {ID: "cache-2", Zone: "c"},
//	}, hashring.TableConfig{})
//
//	owner, ok := caches.Owner("user:42")
//	three := caches.Append(nil, "user:42", 3) // the owner and who comes next, zone by zone
//
//	caches, err = caches.With([]hashring.Node{{ID: "cache-3", Zone: "a"}}, "cache-1")
//
// A [Table] is what most programs want: no node has more than 5 % above its share, and a
// lookup is one load from memory. A [Ring] takes more nodes and any number of them in
// small steps, moves nothing at all between nodes that stay, and shares are as even as
// chance has it: within about a tenth of each other.
//
// On top of them, a [Balancer] holds requests to a node to its share of those that are
// under way, [HotKeys] finds the keys that come too often for one node, and [Spread]
// divides one. [Diff] says what moves, before it does, and Report how even a placement
// is.
//
// Use it where it matters that a key meets the same node again. Do not use it to spread
// requests that any node can serve as well: the least loaded of two random ones is better
// for those. Nor to decide who may write, unless something else makes sure of it: two
// processes with two lists have two owners of a key for a while. Nor for keys that must
// not move when nodes are added, such as tenants with their data: that takes a table that
// is stored, and a Diff to plan by.
//
// Vocabulary: a placement gives each key an order of all nodes. The first is its owner. A
// point of a node on a ring is a vnode. A slot is what a table gives to nodes: all keys
// of one slot have the same order.
//
// # Algorithm
//
// Ring is consistent hashing, of Karger, Lehman, Leighton, Levine, Lewin and Panigrahy
// (1997), with points in one sorted array, and an index by the upper bits of a hash in
// place of a search. Table is rendezvous hashing, of Thaler and Ravishankar (1998), done
// once for each slot and not for each key; a limit to each node's slots is held by
// deferred acceptance, of Gale and Shapley (1962): slots propose to nodes by their
// scores, and a node keeps the best. The outcome is the one stable matching that is best
// for all slots, whatever the order in which they propose, and so it depends on the nodes
// and not on how they came.
//
// Weights are exact. A score becomes a cost, its negative logarithm, and the lowest cost
// divided by weight wins, which is weighted rendezvous hashing, of Schindelhauer and
// Schomaker (2005). All of it is done in whole numbers, with logarithms from a table: not
// every machine rounds a floating-point product in the same way, and owners must be the
// same on all. That they are is held by vectors in the tests. A change of them would be
// another layout, which is a part of every Fingerprint.
//
// Zones: the best of each zone come first in a key's order, then the second of each, and
// a zone that has no more is passed over. So the first n of a key change by one node at
// most when one comes or goes, where shares of n for each zone, rounded, would change
// more.
//
// # Defaults
//
// A Ring has 160 points for each unit of weight. A Table has 65,536 slots, rows of 3
// nodes, and lets a node have 5 % above its share. A node weighs 1, and keys are hashed
// by xxhash. Each field says why.
//
// # Failure modes
//
//   - A list without nodes is an error, so that nobody can put nothing in the place of
//     something by mistake. The zero Ring and the zero Table have no owners.
//   - Two nodes of one ID, or by bad luck of one hash, are an error.
//   - Processes with different lists have different owners for the keys of the nodes in
//     which the lists differ, and for next to no others. Compare the Fingerprint.
//   - A node that is down keeps its place until it is taken from the list: its keys are with
//     the next in their order while First, or the Eligible of a Balancer, passes it over.
//   - Keys are spread, and not requests: the owner of a key that everybody asks for has them
//     all. That is what Balancer and HotKeys are for.
//   - Who may choose keys, and knows or can guess the Seed, can make any number of them for
//     one node, unless Hash is a [SipHash].
//   - A Hash that returns one number for all keys gives all of them to one node.
//
// Stable: the API changes only with a major version.
package hashring
