package hashring_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/stormjib/stormjib/hashring"
)

// Keys go to their owners while those have room, and then to the next in each key's order.
func ExampleBalancer() {
	nodes := []hashring.Node{{ID: "cache-1"}, {ID: "cache-2"}, {ID: "cache-3"}}
	ring, err := hashring.NewRing(nodes, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	balancer := hashring.NewBalancer(ring, hashring.BalancerConfig{MinCap: 2})

	fmt.Print("order:")
	for n := range ring.Candidates("user:42") {
		fmt.Print(" ", n.ID)
	}
	fmt.Print("\ntaken:")
	leases := make([]hashring.Lease, 5)
	for i := range leases {
		leases[i], err = balancer.Acquire("user:42")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer leases[i].Release()
		fmt.Print(" ", leases[i].Node().ID)
	}
	// Output:
	// order: cache-3 cache-2 cache-1
	// taken: cache-3 cache-3 cache-2 cache-2 cache-3
}

// A request, from the node it goes to until how it went.
func ExampleLease() {
	ring, err := hashring.NewRing([]hashring.Node{{ID: "cache-1"}}, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	balancer := hashring.NewBalancer(ring, hashring.BalancerConfig{})
	fetch := func(ctx context.Context, key string) error {
		lease, err := balancer.Acquire(key)
		if err != nil {
			return err
		}
		defer lease.Release() // if what follows panics
		err = errors.New(lease.Node().ID + " has no disk")
		lease.Done(ctx, err)
		return err
	}
	fmt.Println(fetch(context.Background(), "user:42"))
	for _, n := range balancer.Stats().Nodes {
		fmt.Println(n.Node.ID, "in flight:", n.InFlight, "failures:", n.Failures)
	}
	// Output:
	// cache-1 has no disk
	// cache-1 in flight: 0 failures: 1
}

// A list of nodes that is empty, or could not be had, leaves the nodes that there are.
func ExampleBalancer_Set() {
	ring, err := hashring.NewRing([]hashring.Node{{ID: "cache-1"}}, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	balancer := hashring.NewBalancer(ring, hashring.BalancerConfig{Name: "caches"})

	var discovered []hashring.Node // by a discovery that is just starting
	next, err := hashring.NewRing(discovered, hashring.RingConfig{})
	fmt.Println(err)
	fmt.Println(balancer.Set(next))
	lease, err := balancer.Acquire("user:42")
	fmt.Println(lease.Node().ID, err)
	// Output:
	// hashring: no nodes
	// hashring "caches": Set: no nodes, so the old ones stay
	// cache-1 <nil>
}

// What comes from a file is checked before it is used.
func ExampleBalancerConfig_Validate() {
	cfg := hashring.BalancerConfig{Name: "caches", MinCap: -1}
	fmt.Println(cfg.Validate())
	// Output:
	// hashring: BalancerConfig "caches": MinCap is -1, but must be from 1 to 2147483647
}

// A key that many ask for gets several owners, and they take turns.
func ExampleHotKeys() {
	nodes := []hashring.Node{{ID: "cache-1"}, {ID: "cache-2"}, {ID: "cache-3"}, {ID: "cache-4"}}
	table, err := hashring.NewTable(nodes, hashring.TableConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	balancer := hashring.NewBalancer(table, hashring.BalancerConfig{})
	hot := hashring.NewHotKeys(hashring.HotKeysConfig{Share: 0.1, Window: 1000})

	asked := map[string]int{}
	for i := range 4000 {
		key := fmt.Sprint("user:", i)
		if i%4 == 0 {
			key = "front page"
		}
		n := hot.Observe(key)
		lease, err := balancer.AcquireSpread(key, n, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		if key == "front page" {
			asked[lease.Node().ID]++
		}
		lease.Release()
	}
	for _, k := range hot.Hot() {
		fmt.Printf("%s: %.0f %% of all, %d owners, %d nodes asked\n",
			k.Key, 100*k.Least, k.Owners, len(asked))
	}
	// Output: front page: 25 % of all, 3 owners, 3 nodes asked
}

// A counter that is written too often for one node: each write goes to one of its parts, and
// who reads sums up.
func ExampleSpread() {
	const parts = 4
	store := map[string]int{"likes": 7} // from before it was divided
	for i := range 100 {
		store[hashring.SubKey("likes", i%parts)]++
	}
	sum := 0
	for part := range hashring.Spread("likes", parts) {
		fmt.Println(part, store[part])
		sum += store[part]
	}
	fmt.Println(sum)
	// Output:
	// likes 32
	// likes#1 25
	// likes#2 25
	// likes#3 25
	// 107
}
