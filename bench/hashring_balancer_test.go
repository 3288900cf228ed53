package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// A lease on a node for a key, taken and finished: 100 nodes, keys of 16 bytes.

func BenchmarkBalancer(b *testing.B)        { serial(b, balancers(b)) }
func BenchmarkBalancerCrowded(b *testing.B) { crowded(b, balancers(b)) }

const balancedKeys = 1 << 12

func balancedOn(tb testing.TB) (*hashring.Table, []string) {
	tb.Helper()
	var nodes []hashring.Node
	for i := range 100 {
		nodes = append(nodes, hashring.Node{ID: fmt.Sprintf("node-%03d", i)})
	}
	table, err := hashring.NewTable(nodes, hashring.TableConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	var keys []string
	for i := range balancedKeys {
		keys = append(keys, fmt.Sprintf("key-%012d", i))
	}
	return table, keys
}

func balancers(tb testing.TB) []contender {
	tb.Helper()
	table, keys := balancedOn(tb)
	quiet := hashring.NewBalancer(table, hashring.BalancerConfig{})
	exact := hashring.NewBalancer(table, hashring.BalancerConfig{Exact: true})
	busy := hashring.NewBalancer(table, hashring.BalancerConfig{})
	for i := range 1600 { // above MinCap, so that bounds have to be looked at
		if _, err := busy.Acquire(keys[i]); err != nil {
			tb.Fatal(err)
		}
	}
	hot := hashring.NewHotKeys(hashring.HotKeysConfig{})
	return []contender{
		{"stormjib", leases(quiet, keys)},
		{"stormjib-exact", leases(exact, keys)},
		{"stormjib-busy", leases(busy, keys)},
		{"stormjib-done", outcomes(quiet, keys)},
		{"stormjib-hotkeys", observations(hot, keys)},
		{"mutex-map", mutexLeases(table, keys)},
	}
}

func leases(b *hashring.Balancer, keys []string) func(int) error {
	return func(n int) (err error) {
		for i := range n {
			var l hashring.Lease
			l, err = b.Acquire(keys[i%balancedKeys])
			l.Release()
		}
		return err
	}
}

func outcomes(b *hashring.Balancer, keys []string) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for i := range n {
			var l hashring.Lease
			l, err = b.Acquire(keys[i%balancedKeys])
			l.Done(ctx, err)
		}
		return err
	}
}

func observations(h *hashring.HotKeys, keys []string) func(int) error {
	return func(n int) error {
		owners := 0
		for i := range n {
			owners += h.Observe(keys[i%balancedKeys])
		}
		sink.Store(int64(owners))
		return nil
	}
}

// mutexLeases is what one writes without a library, for the same bound: loads by name, and a
// lock around them.
func mutexLeases(table *hashring.Table, keys []string) func(int) error {
	var mu sync.Mutex
	loads, total := map[string]int{}, 0
	return func(n int) error {
		var order []hashring.Node
		for i := range n {
			order = table.Append(order[:0], keys[i%balancedKeys], 3)
			mu.Lock()
			node := order[0].ID
			for _, o := range order {
				if loads[o.ID] < max(8, (total+1)*5/4/100+1) {
					node = o.ID
					break
				}
			}
			loads[node]++
			total++
			mu.Unlock()

			mu.Lock()
			loads[node]--
			total--
			mu.Unlock()
		}
		return nil
	}
}
