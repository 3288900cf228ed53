package hashring_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/stormjib/stormjib/hashring"
)

// Caches that share the keys, and one more of them that takes some from each.
func ExampleTable() {
	caches, err := hashring.NewTable([]hashring.Node{
		{ID: "cache-0"}, {ID: "cache-1"}, {ID: "cache-2"},
	}, hashring.TableConfig{Name: "caches"})
	if err != nil {
		fmt.Println(err)
		return
	}
	more, err := caches.With([]hashring.Node{{ID: "cache-3"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range []string{"ann", "bob", "eve", "joe"} {
		before, _ := caches.Owner(key)
		after, _ := more.Owner(key)
		fmt.Println(key, before.ID, after.ID)
	}
	// Output:
	// ann cache-0 cache-3
	// bob cache-1 cache-1
	// eve cache-1 cache-1
	// joe cache-1 cache-1
}

func ExampleRing() {
	shards, err := hashring.NewRing([]hashring.Node{
		{ID: "shard-a", Weight: 2}, {ID: "shard-b"},
	}, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	owner, _ := shards.Owner("user:42")
	fmt.Println(owner.ID)
	for _, n := range shards.Report().Nodes {
		fmt.Printf("%s has %.0f %% of the keys\n", n.Node.ID, 100*n.Share)
	}
	// Output:
	// shard-b
	// shard-a has 66 % of the keys
	// shard-b has 34 % of the keys
}

// Three copies, no two in one zone.
func ExampleTable_Append() {
	stores, err := hashring.NewTable([]hashring.Node{
		{ID: "a1", Zone: "a"},
		{ID: "a2", Zone: "a"},
		{ID: "b1", Zone: "b"},
		{ID: "b2", Zone: "b"},
		{ID: "c1", Zone: "c"},
	}, hashring.TableConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	buf := make([]hashring.Node, 0, 3) // kept, it saves an allocation for each key
	for _, key := range []string{"ann", "bob", "eve"} {
		fmt.Print(key)
		for _, n := range stores.Append(buf, key, 3) {
			fmt.Print(" ", n.ID)
		}
		fmt.Println()
	}
	// Output:
	// ann a2 b2 c1
	// bob a1 b2 c1
	// eve a1 b2 c1
}

// A node that is down keeps its place. Its keys are with the next in their order until it is
// back, and no others move.
func ExampleTable_First() {
	caches, err := hashring.NewTable([]hashring.Node{
		{ID: "cache-0"}, {ID: "cache-1"}, {ID: "cache-2"},
	}, hashring.TableConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	down := map[string]bool{"cache-1": true}
	up := func(n hashring.Node) bool { return !down[n.ID] }
	for _, key := range []string{"ann", "bob", "eve", "joe"} {
		owner, _ := caches.Owner(key)
		node, _ := caches.First(key, up)
		fmt.Println(key, owner.ID, node.ID)
	}
	// Output:
	// ann cache-0 cache-0
	// bob cache-1 cache-2
	// eve cache-1 cache-2
	// joe cache-1 cache-0
}

// Two attempts, at different nodes.
func ExampleRing_Candidates() {
	ring, err := hashring.NewRing([]hashring.Node{
		{ID: "a"}, {ID: "b"}, {ID: "c"},
	}, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ask := func(n hashring.Node) error { return fmt.Errorf("%s: connection refused", n.ID) }
	attempts := 0
	for n := range ring.Candidates("user:42") {
		err := ask(n)
		if err == nil {
			break
		}
		fmt.Println(err)
		if attempts++; attempts == 2 {
			break
		}
	}
	// Output:
	// b: connection refused
	// c: connection refused
}

// A placement never changes. Readers load the one that is there, and whoever watches the
// nodes stores the next. A list that could not be had is no reason to have none.
func ExamplePlacement() {
	var current atomic.Pointer[hashring.Table]
	watch := func(nodes []hashring.Node) {
		table, err := hashring.NewTable(nodes, hashring.TableConfig{Name: "caches"})
		if err != nil {
			fmt.Println("nodes stay as they are:", err)
			return
		}
		current.Store(table)
	}
	watch([]hashring.Node{{ID: "cache-0"}})
	watch(nil)
	owner, ok := current.Load().Owner("user:42")
	fmt.Println(owner.ID, ok)
	// Output:
	// nodes stay as they are: hashring: no nodes (in "caches")
	// cache-0 true
}

// What would move if a node went, before it does.
func ExampleDiff() {
	nodes := []hashring.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	before, err := hashring.NewTable(nodes, hashring.TableConfig{Slots: 256})
	if err != nil {
		fmt.Println(err)
		return
	}
	after, err := before.With(nil, "d")
	if err != nil {
		fmt.Println(err)
		return
	}
	d := hashring.Diff(before, after)
	fmt.Printf("%.1f %% of the keys move, %.1f %% between others\n", 100*d.Moved, 100*d.Rebalancing)
	for _, n := range d.Nodes {
		fmt.Printf("%s gets %4.1f %% and gives %4.1f %%\n", n.Node.ID, 100*n.In, 100*n.Out)
	}
	for m := range d.Moves() {
		fmt.Printf("hashes from %016x to %016x go from %s to %s\n", m.Lo, m.Hi, m.From.ID, m.To.ID)
		break // there are more
	}
	// Output:
	// 25.8 % of the keys move, 0.0 % between others
	// a gets  9.8 % and gives  0.0 %
	// b gets  7.8 % and gives  0.0 %
	// c gets  8.2 % and gives  0.0 %
	// d gets  0.0 % and gives 25.8 %
	// hashes from 0100000000000000 to 01ffffffffffffff go from d to b
}

func ExampleRing_Report() {
	ring, err := hashring.NewRing([]hashring.Node{
		{ID: "a"}, {ID: "b"}, {ID: "c", Weight: 2},
	}, hashring.RingConfig{VNodes: 16})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := ring.Report()
	for _, n := range r.Nodes {
		fmt.Printf("%s %.3f %.2f\n", n.Node.ID, n.Share, n.Ratio)
	}
	fmt.Printf("from %.2f to %.2f, CV %.2f, on average %.2f\n",
		r.MinRatio, r.MaxRatio, r.CV, r.ExpectedCV)
	// Output:
	// a 0.168 0.67
	// b 0.292 1.17
	// c 0.540 1.08
	// from 0.67 to 1.17, CV 0.22, on average 0.19
}

// Where strangers choose the keys, they must not be able to tell where a key goes.
func ExampleSipHash() {
	secret := [16]byte([]byte("a secret, 16 lg.")) // from where your secrets are
	ring, err := hashring.NewRing([]hashring.Node{{ID: "a"}, {ID: "b"}}, hashring.RingConfig{
		Hash: hashring.SipHash(secret),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	owner, _ := ring.Owner("user:42")
	fmt.Println(owner.ID)
	// Output:
	// b
}

// A configuration from a file.
func ExampleTableConfig_Validate() {
	cfg := hashring.TableConfig{Name: "caches", Replicas: 12, Excess: 5000}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// hashring: TableConfig "caches": Replicas is 12, but must be from 1 to 8
	// Excess is 5000, but must be at most 1000
}

// Processes that must agree on owners can compare a number. Their lists may be in any order.
func ExampleTable_Fingerprint() {
	here, _ := hashring.NewTable([]hashring.Node{{ID: "a"}, {ID: "b"}}, hashring.TableConfig{})
	there, _ := hashring.NewTable([]hashring.Node{{ID: "b"}, {ID: "a"}}, hashring.TableConfig{})
	fmt.Println(here.Fingerprint() == there.Fingerprint())

	later, err := there.With([]hashring.Node{{ID: "b"}})
	fmt.Println(later, errors.Is(err, hashring.ErrDuplicateNode))
	// Output:
	// true
	// <nil> true
}
