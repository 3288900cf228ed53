package hashring_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// However many ask at the same time, and for the same key, no node gets above the bound that
// all of them together allow.
func TestBalancerRacingCallers(t *testing.T) {
	const callers, each = 8, 40
	for _, exact := range []bool{true, false} {
		p := ringOf(t, cluster(5))
		b := hashring.NewBalancer(p, hashring.BalancerConfig{
			Factor: 1.05, MinCap: 1, Exact: exact,
		})
		var under, most [5]atomic.Int64
		index := map[string]int{}
		for i, n := range p.Nodes() {
			index[n.ID] = i
		}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				held := make([]hashring.Lease, each)
				for range 20 {
					for i := range held {
						l, err := b.Acquire("key")
						if err != nil {
							t.Error(err)
							return
						}
						held[i] = l
						at := index[l.Node().ID]
						n := under[at].Add(1)
						for m := most[at].Load(); n > m && !most[at].CompareAndSwap(m, n); {
							m = most[at].Load()
						}
					}
					runtime.Gosched()
					for i := range held {
						under[index[held[i].Node().ID]].Add(-1)
						held[i].Release()
					}
				}
			})
		}
		wg.Wait()
		limit := int64(hashring.Limit(hashring.BalancerConfig{Factor: 1.05}, 1, 5, callers*each))
		for i := range most {
			if n := most[i].Load(); n > limit {
				t.Errorf("exact %t: a node had %d, of %d at most", exact, n, limit)
			}
		}
		if s := b.Stats(); s.InFlight != 0 || s.Refused != 0 {
			t.Errorf("exact %t: %+v", exact, s)
		}
		loads(t, b)
	}
}

// Nodes come and go while others have leases on them: at the end nothing is left, and nothing
// is missing.
func TestBalancerSetWhileInUse(t *testing.T) {
	nodes := cluster(6)
	placements := []hashring.Placement{
		ringOf(t, nodes), ringOf(t, nodes[:3]), tableOf(t, nodes[2:]), ringOf(t, nodes[5:]),
	}
	b := hashring.NewBalancer(placements[0], hashring.BalancerConfig{MinCap: 1})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for c := range 4 {
		wg.Go(func() {
			var held []*hashring.Lease
			for i := 0; ; i++ {
				select {
				case <-stop:
					for _, l := range held {
						l.Release()
					}
					return
				default:
				}
				l, err := b.AcquireSpread(fmt.Sprint(i%7), 1+c%2, nil)
				if err != nil {
					t.Error(err)
					return
				}
				held = append(held, &l)
				if len(held) > 10 {
					held[0].Release()
					held = held[1:]
				}
			}
		})
	}
	for i := range 100 {
		if err := b.Set(placements[i%len(placements)]); err != nil {
			t.Error(err)
		}
		b.Stats()
		runtime.Gosched()
	}
	close(stop)
	wg.Wait()
	for id, n := range loads(t, b) {
		if n != 0 {
			t.Errorf("%s has %d at the end", id, n)
		}
	}
}

// Set is not to be half seen: a key whose owner goes is never refused, also when no node
// stays.
func TestBalancerSetReplacesAll(t *testing.T) {
	a, z := ringOf(t, cluster(4)[:2]), ringOf(t, cluster(4)[2:])
	b := hashring.NewBalancer(a, hashring.BalancerConfig{})
	var wg sync.WaitGroup
	var done atomic.Bool
	for range 2 {
		wg.Go(func() {
			for !done.Load() {
				l, err := b.Acquire("key")
				if err != nil {
					t.Error(err)
					return
				}
				l.Release()
			}
		})
	}
	for range 500 {
		_ = b.Set(z)
		_ = b.Set(a)
		runtime.Gosched()
	}
	done.Store(true)
	wg.Wait()
}
