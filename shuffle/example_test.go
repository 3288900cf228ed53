package shuffle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/stormjib/stormjib/shuffle"
)

// One tenant ruins the nodes that it has. Of two shards of two, another tenant has one of
// them in common with it, and is served by its other one.
func Example() {
	workers := []shuffle.Node{
		{ID: "worker-1"},
		{ID: "worker-2"},
		{ID: "worker-3"},
		{ID: "worker-4"},
		{ID: "worker-5"},
		{ID: "worker-6"},
		{ID: "worker-7"},
		{ID: "worker-8"},
	}
	shards, err := shuffle.New(workers, shuffle.Config{Size: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	ruined := shards.Shard("noisy")
	call := func(n shuffle.Node) error {
		if slices.Contains(ruined, n) {
			return errors.New("down")
		}
		return nil
	}
	for _, tenant := range []string{"noisy", "acme", "globex", "initech"} {
		err := shuffle.ErrNoNodes
		for node := range shards.Route(tenant, nil) {
			if err = call(node); err == nil {
				break
			}
		}
		fmt.Println(tenant, err)
	}
	// Output:
	// noisy down
	// acme <nil>
	// globex <nil>
	// initech <nil>
}

// Nodes come and go while requests are routed.
func ExampleSharder_With() {
	shards, _ := shuffle.New([]shuffle.Node{
		{ID: "worker-1", Zone: "a"},
		{ID: "worker-2", Zone: "b"},
		{ID: "worker-3", Zone: "c"},
		{ID: "worker-4", Zone: "a"},
		{ID: "worker-5", Zone: "b"},
		{ID: "worker-6", Zone: "c"},
	}, shuffle.Config{})
	var current atomic.Pointer[shuffle.Sharder] // what those who route load
	current.Store(shards)

	next, err := current.Load().With([]shuffle.Node{{ID: "worker-7", Zone: "a"}}, "worker-2")
	if err != nil {
		fmt.Println(err) // and what was there goes on
		return
	}
	current.Store(next)
	for _, n := range shards.Shard("acme") {
		fmt.Println("before:", n.ID, n.Zone)
	}
	for _, n := range next.Shard("acme") {
		fmt.Println("after: ", n.ID, n.Zone)
	}
	// Output:
	// before: worker-2 b
	// before: worker-4 a
	// before: worker-6 c
	// after:  worker-4 a
	// after:  worker-6 c
	// after:  worker-5 b
}

// The load of a tenant's cache is spread over its nodes, each key on one of them.
func ExampleSharder_Pick() {
	shards, _ := shuffle.New([]shuffle.Node{
		{ID: "cache-1"}, {ID: "cache-2"}, {ID: "cache-3"}, {ID: "cache-4"}, {ID: "cache-5"},
	}, shuffle.Config{Size: 2})
	for _, key := range []string{"basket", "orders", "profile", "basket"} {
		node, _ := shards.Pick("acme", key)
		fmt.Println(key, node.ID)
	}
	// Output:
	// basket cache-5
	// orders cache-3
	// profile cache-3
	// basket cache-5
}

// A whale has nodes to itself, and who pays for it has more of the others.
func ExampleConfig() {
	shards, err := shuffle.New([]shuffle.Node{
		{ID: "node-1"},
		{ID: "node-2"},
		{ID: "node-3"},
		{ID: "node-4"},
		{ID: "node-5"},
		{ID: "node-6"},
		{ID: "node-7"},
		{ID: "node-8"},
	}, shuffle.Config{
		Size: 2,
		SizeOf: func(tenant string) int {
			if tenant == "gold" {
				return 4
			}
			return 0 // as all
		},
		Dedicated: map[string][]string{"whale": {"node-7", "node-8"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tenant := range []string{"acme", "gold", "whale"} {
		var ids []string
		for _, n := range shards.Shard(tenant) {
			ids = append(ids, n.ID)
		}
		fmt.Println(tenant, ids)
	}
	// Output:
	// acme [node-5 node-1]
	// gold [node-5 node-3 node-1 node-4]
	// whale [node-7 node-8]
}

// A Config from a file is looked at before it is used.
func ExampleConfig_Validate() {
	cfg := shuffle.Config{
		Overrides: map[string][]string{"acme": {"node-1", "node-1"}, "globex": {}},
	}
	fmt.Println(cfg.Validate())
	// Output:
	// shuffle: Config: Overrides["acme"] names "node-1" twice; Overrides["globex"] names no node
}

// For a while after a change, readers look where a tenant's data was as well.
func ExampleUnion() {
	nodes := []shuffle.Node{{ID: "db-1"}, {ID: "db-2"}, {ID: "db-3"}, {ID: "db-4"}, {ID: "db-5"}}
	before, _ := shuffle.New(nodes, shuffle.Config{Size: 3})
	after, _ := shuffle.New(nodes, shuffle.Config{Size: 2})
	for _, n := range shuffle.Union(before, after, "acme") {
		fmt.Println("read from", n.ID)
	}
	for _, n := range after.Shard("acme") {
		fmt.Println("write to ", n.ID)
	}
	// Output:
	// read from db-4
	// read from db-1
	// read from db-2
	// write to  db-4
	// write to  db-1
}

// Tenants who must not have more than one node in common, and a list that outlives the
// process.
func ExampleRegistry() {
	nodes := []shuffle.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	cfg := shuffle.RegistryConfig{Name: "gold", Size: 2}
	registry, err := shuffle.NewRegistry(nodes, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tenant := range []string{"acme", "globex", "initech"} {
		if _, err := registry.Assign(tenant); err != nil {
			fmt.Println(err)
			return
		}
	}
	file, _ := json.Marshal(registry)

	registry, err = shuffle.RestoreRegistry(file, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	shards, _ := shuffle.New(nodes, shuffle.Config{Size: 2, Overrides: registry.Assignments()})
	fmt.Println(shards.Shard("acme")[0].ID, shards.Shard("acme")[1].ID)
	// Output: a b
}

// When there is no room for the promise, the error says what there is room for.
func ExampleNoShardError() {
	registry, _ := shuffle.NewRegistry([]shuffle.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}},
		shuffle.RegistryConfig{Size: 2, MaxOverlap: -1})
	_, _ = registry.Assign("acme")
	_, err := registry.Assign("globex")
	fmt.Println(errors.Is(err, shuffle.ErrNoShard))
	if none, ok := errors.AsType[*shuffle.NoShardError](err); ok {
		fmt.Println(len(none.Best), "nodes,", none.Overlap, "of another tenant", none.None)
	}
	// Output:
	// true
	// 2 nodes, 1 of another tenant true
}

// How many nodes should a tenant have? Of 20 nodes, how many tenants go down with one, four
// and sixteen noisy ones.
func ExampleDesign() {
	for _, size := range []int{1, 2, 3, 4, 5} {
		d := shuffle.Design{Nodes: 20, Size: size}
		fmt.Printf("%d nodes: %5v shards, %.3g, %.3g, %.3g\n", size, d.Combinations(),
			d.Coverage(1)[size], d.Coverage(4)[size], d.Coverage(16)[size])
	}
	// Output:
	// 1 nodes:    20 shards, 0.05, 0.185, 0.56
	// 2 nodes:   190 shards, 0.00526, 0.108, 0.661
	// 3 nodes:  1140 shards, 0.000877, 0.0949, 0.791
	// 4 nodes:  4845 shards, 0.000206, 0.103, 0.891
	// 5 nodes: 15504 shards, 6.45e-05, 0.127, 0.951
}

// The designer's questions, answered for people.
func ExamplePlan() {
	fmt.Print(shuffle.Design{Nodes: 90, Size: 3, Zones: 3}.Plan(10_000))
	// Output:
	// 90 nodes in 3 zones, 3 to a tenant, 10000 tenants
	//
	//                                     plain shards       shuffled      dedicated
	// nodes                                         90             90          30000
	// different shards                              30          27000          10000
	// tenants to a node                          333.3          333.3              1
	// others with the same nodes                   333           0.37              0
	// one node fails: lose a node              3.333 %        3.333 %         0.01 %
	// noisy tenants: 1
	//   others with no node left               3.333 %   1 in 2.7e+04           none
	//   others that lose a node or more        3.333 %         9.67 %           none
	// noisy tenants: 4
	//   others with no node left               12.68 %       0.2039 %           none
	//   others that lose a node or more        12.68 %        33.42 %           none
	// noisy tenants: 16
	//   others with no node left               41.87 %        7.338 %           none
	//   others that lose a node or more        41.87 %        80.35 %           none
	//
	// A zone that fails leaves each tenant 2 of its 3 nodes or more.
	//
	// To lose a node without harm, each must have room for 50 % of its load more.
}

// What a scheme costs, and what it is good for, for programs.
func ExampleScheme() {
	p := shuffle.Design{Nodes: 100, Size: 5}.Plan(10_000)
	for _, s := range []shuffle.Scheme{p.Plain, p.Shuffled, p.Dedicated} {
		fmt.Printf("%6d nodes, %.2g of the others down\n", s.Nodes, s.Down[0])
	}
	// Output:
	//    100 nodes, 0.05 of the others down
	//    100 nodes, 1.3e-08 of the others down
	//  50000 nodes, 0 of the others down
}

// Testing your code: shards depend on names alone, so they are the same in each run, and a
// test can bring down whom it wants. Keep what calls nodes in a function of its own, and time,
// if it matters, in a bubble of testing/synctest: there is none in here.
func Example_testing() {
	shards, _ := shuffle.New([]shuffle.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}},
		shuffle.Config{Size: 2})
	acme := shards.Shard("acme")
	down := acme[0]
	for node := range shards.Route("acme", func(n shuffle.Node) bool { return n != down }) {
		fmt.Println(node == acme[1])
	}
	// Output: true
}
