package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"k8s.io/apiserver/pkg/util/shufflesharding"

	"github.com/stormjib/stormjib/shuffle"
)

// The shard of a tenant, five of 100 nodes. Names have 17 bytes, and all hash them with
// xxhash. Kubernetes deals its queues like cards, by the digits of a hash. A shuffle with a
// seed for each tenant is what AWS published, here by the cheapest generator there is and for
// no more than five steps.

func BenchmarkShard(b *testing.B)         { serial(b, shards()) }
func BenchmarkShardParallel(b *testing.B) { parallel(b, shards()) }

const (
	shardNodes = 100
	shardSize  = 5
)

func newSharder(nodes int) *shuffle.Sharder {
	var list []shuffle.Node
	for i := range nodes {
		list = append(list, shuffle.Node{ID: nodeName(i), Weight: 1})
	}
	return must(shuffle.New(list, shuffle.Config{Size: shardSize}))
}

func nodeName(i int) string { return fmt.Sprintf("node-%03d", i) }

// fisherYates appends the first few of a deck that is shuffled by the hash of a name.
func fisherYates(hand, deck []int, name string) []int {
	source := rand.New(rand.NewPCG(xxhash.Sum64String(name), 0))
	for i := range deck {
		deck[i] = i
	}
	for i := range shardSize {
		j := i + source.IntN(len(deck)-i)
		deck[i], deck[j] = deck[j], deck[i]
	}
	return append(hand, deck[:shardSize]...)
}

func shards() []contender {
	plain := newSharder(shardNodes)
	dealer := must(shufflesharding.NewDealer(shardNodes, shardSize))
	names := keyNames()
	each := func(shard func(name string) int) func(int) error {
		return func(n int) error {
			sum := 0
			for i := range n {
				sum += shard(names[i%len(names)])
			}
			sink.Store(int64(sum))
			return nil
		}
	}
	return []contender{
		{"stormjib", each(func(name string) int {
			var dst [shardSize]shuffle.Node
			return len(plain.Append(dst[:0], name)[0].ID)
		})},
		{"stormjib-pick", each(func(name string) int {
			n, _ := plain.Pick(name, "key")
			return len(n.ID)
		})},
		{"k8s-dealer", each(func(name string) int {
			var hand [shardSize]int
			return dealer.DealIntoHand(xxhash.Sum64String(name), hand[:])[0]
		})},
		{"fisher-yates", each(func(name string) int {
			var hand [shardSize]int
			var deck [shardNodes]int
			return fisherYates(hand[:0], deck[:], name)[0]
		})},
	}
}

// TestShardMoves says what the nanoseconds buy: how many shards change, and how many of their
// nodes, when there is a node more.
func TestShardMoves(t *testing.T) {
	before, after := newSharder(shardNodes), newSharder(shardNodes+1)
	small := must(shufflesharding.NewDealer(shardNodes, shardSize))
	large := must(shufflesharding.NewDealer(shardNodes+1, shardSize))
	for _, c := range []struct {
		name string
		hand func(name string, more bool) []string
		most float64 // of the shards
	}{
		{"stormjib", func(name string, more bool) []string {
			s := before
			if more {
				s = after
			}
			var ids []string
			for _, n := range s.Shard(name) {
				ids = append(ids, n.ID)
			}
			return ids
		}, .06},
		{"k8s-dealer", func(name string, more bool) []string {
			d := small
			if more {
				d = large
			}
			return named(d.DealIntoHand(xxhash.Sum64String(name), make([]int, shardSize)))
		}, 1},
		{"fisher-yates", func(name string, more bool) []string {
			deck := make([]int, shardNodes)
			if more {
				deck = make([]int, shardNodes+1)
			}
			return named(fisherYates(nil, deck, name))
		}, 1},
	} {
		changed, moved := 0., 0.
		for _, name := range keyNames() {
			was, is := c.hand(name, false), c.hand(name, true)
			stay := 0
			for _, id := range is {
				if slices.Contains(was, id) {
					stay++
				}
			}
			if stay < shardSize {
				changed++
			}
			moved += float64(shardSize-stay) / shardSize
		}
		all := float64(len(keyNames()))
		t.Logf("%-14s %6.2f %% of the shards change, %6.2f %% of their nodes",
			c.name, 100*changed/all, 100*moved/all)
		if changed/all > c.most {
			t.Errorf("%s: too many change", c.name)
		}
	}
}

func named(hand []int) []string {
	ids := make([]string, len(hand))
	for i, n := range hand {
		ids[i] = nodeName(n)
	}
	return ids
}
