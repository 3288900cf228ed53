package rendezvous_test

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// field is a list of nodes, and how the model sees them.
type field struct {
	hashes  []uint64
	weights []uint32
	zones   []uint16
}

func (f *field) nodes() *rendezvous.Nodes {
	return rendezvous.New(slices.Clone(f.hashes), slices.Clone(f.weights), slices.Clone(f.zones))
}

// add adds a node in front of which there are at others.
func (f *field) add(at int, hash uint64, weight uint32, zone uint16) {
	f.hashes = slices.Insert(f.hashes, at, hash)
	f.weights = slices.Insert(f.weights, at, weight)
	f.zones = slices.Insert(f.zones, at, zone)
}

// random returns n nodes of weights up to most, in zones.
func random(rnd *rand.Rand, n, zones int, most uint32) *field {
	f := new(field)
	for i := range n {
		f.add(i, rnd.Uint64(), 1+rnd.Uint32N(most), uint16(rnd.IntN(zones)))
	}
	return f
}

// plain is the plain order, with cost divided by weight as a fraction.
func (f *field) plain(key uint64) []uint16 {
	offers, order := make([]*big.Rat, len(f.hashes)), make([]uint16, len(f.hashes))
	for i, h := range f.hashes {
		cost := rendezvous.Cost(rendezvous.Score(key, h))
		offers[i] = big.NewRat(int64(cost), int64(f.weights[i]))
		order[i] = uint16(i)
	}
	slices.SortStableFunc(order, func(a, b uint16) int { return offers[a].Cmp(offers[b]) })
	return order
}

// spread is the order that spreads over zones: round after round, the next of each zone.
func (f *field) spread(key uint64, first int) []uint16 {
	left := f.plain(key)
	if first != rendezvous.None {
		i := slices.Index(left, uint16(first))
		left = slices.Insert(slices.Delete(left, i, i+1), 0, uint16(first))
	}
	var order []uint16
	for len(left) > 0 {
		seen := map[uint16]bool{}
		left = slices.DeleteFunc(left, func(i uint16) bool {
			if zone := f.zones[i]; !seen[zone] {
				seen[zone] = true
				order = append(order, i)
				return true
			}
			return false
		})
	}
	return order
}

func TestNodesModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		most := []uint32{1, 1, 5, 1 << 31}[rnd.IntN(4)]
		f := random(rnd, 1+rnd.IntN(120), 1+rnd.IntN(5), most)
		n := f.nodes()
		if want := slices.Max(f.weights) != slices.Min(f.weights); n.Mixed() != want {
			t.Fatalf("mixed: %v", n.Mixed())
		}
		for range 10 {
			compareWithModel(t, f, n, rnd)
		}
	}
}

func compareWithModel(t *testing.T, f *field, n *rendezvous.Nodes, rnd *rand.Rand) {
	t.Helper()
	key, k := rnd.Uint64(), rnd.IntN(rendezvous.MaxTop+3)
	first := rnd.IntN(len(f.hashes)+1) - 1 // None too
	plain, spread := f.plain(key), f.spread(key, first)

	top := spread[:min(k, rendezvous.MaxTop, len(spread))]
	if got := n.Top([]uint16{7}, key, k, first); !slices.Equal(got[1:], top) || got[0] != 7 {
		t.Fatalf("top %d of %d, first %d: got %v, want %v", k, len(plain), first, got, top)
	}
	few := rnd.IntN(len(plain) + 3)
	best := f.spread(key, rendezvous.None)[:min(few, len(plain))]
	if got := n.Best([]uint16{7}, key, few); !slices.Equal(got[1:], best) || got[0] != 7 {
		t.Fatalf("best %d of %d: got %v, want %v", few, len(plain), got, best)
	}
	if got := n.Order(key, first); !slices.Equal(got, spread) {
		t.Fatalf("order, first %d:\ngot  %v\nwant %v", first, got, spread)
	}

	nine := slices.Clone(plain[:min(len(plain), 9)])
	rnd.Shuffle(len(nine), func(i, j int) { nine[i], nine[j] = nine[j], nine[i] })
	among := f.among(key, nine)
	among = among[:min(k, rendezvous.MaxTop, len(nine))]
	if got := n.Among(nil, key, k, nine); !slices.Equal(got, among) {
		t.Fatalf("the first %d among %v: got %v, want %v", k, nine, got, among)
	}

	i, j := rnd.IntN(len(plain)), rnd.IntN(len(plain))
	if got := n.Beats(key, int(plain[i]), plain[j:]); got != (i < len(plain)-1) {
		t.Fatalf("%d of %d beats one of those from %d on: %v", i, len(plain), j, got)
	}
	walkNext(t, n, key, plain, plain[:rnd.IntN(len(plain))/2])
}

// among is spread with a few nodes, as if there were no others.
func (f *field) among(key uint64, few []uint16) []uint16 {
	few = slices.Sorted(slices.Values(few))
	small := new(field)
	for j, i := range few {
		small.add(j, f.hashes[i], f.weights[i], f.zones[i])
	}
	order := small.spread(key, rendezvous.None)
	for j := range order {
		order[j] = few[order[j]]
	}
	return order
}

// walkNext goes through the plain order with Next.
func walkNext(t *testing.T, n *rendezvous.Nodes, key uint64, plain, skip []uint16) {
	t.Helper()
	at := rendezvous.None
	for _, want := range plain {
		if slices.Contains(skip, want) {
			continue
		}
		if at = n.Next(key, at, skip); at != int(want) {
			t.Fatalf("next: got %d, want %d", at, want)
		}
	}
	if at = n.Next(key, at, skip); at != rendezvous.None {
		t.Fatalf("next after the last: %d", at)
	}
}

// Nodes of one hash have the same scores. The lower index is ahead then, in whichever zone.
func TestNodesTies(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1, 1, 1}, {2, 2, 2, 1}} {
		for _, test := range []struct{ zones, want []uint16 }{
			{[]uint16{0, 0, 0, 0}, []uint16{0, 1, 2, 3}},
			{[]uint16{1, 0, 1, 0}, []uint16{0, 1, 2, 3}},
			{[]uint16{1, 1, 0, 0}, []uint16{0, 2, 1, 3}},
		} {
			n := rendezvous.New([]uint64{9, 9, 9, 9}, weights, test.zones)
			for key := range uint64(100) {
				if got := n.Order(key, rendezvous.None); !slices.Equal(got, test.want) {
					t.Fatalf("order %v, want %v", got, test.want)
				}
				got := n.Top(nil, key, 4, rendezvous.None)
				if !slices.Equal(got, test.want) {
					t.Fatalf("top %v, want %v", got, test.want)
				}
			}
		}
	}
}

// Also where they are too many for a podium, and those with a hopeful score for a sieve.
func TestManyTies(t *testing.T) {
	f := new(field)
	for i := range 100 {
		f.add(i, 9, 1, 0)
	}
	n := f.nodes()
	for key := range uint64(100) {
		for _, k := range []int{3, 8, 9, 40, 100} {
			best := n.Best(nil, key, k)
			for i, node := range best {
				if len(best) != k || int(node) != i {
					t.Fatalf("best %d: %v", k, best)
				}
			}
		}
	}
}

// Depth is how many of the first k are in one zone.
func TestDepth(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		f := random(rnd, 1+rnd.IntN(30), 1+rnd.IntN(6), 1)
		n := f.nodes()
		order := f.spread(1, rendezvous.None)
		counts, deepest := map[uint16]int{}, 0
		for k, i := range order {
			if got := n.Depth(k); got != deepest {
				t.Fatalf("depth of %d of %d: %d, want %d", k, len(order), got, deepest)
			}
			counts[f.zones[i]]++
			deepest = max(deepest, counts[f.zones[i]])
		}
	}
}

// When a node comes or goes, the first k change by one at most, however the zones are.
func TestNodesChangeByOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		f := random(rnd, 2+rnd.IntN(20), 1+rnd.IntN(4), []uint32{1, 4}[rnd.IntN(2)])
		before := f.nodes()
		at := rnd.IntN(len(f.hashes) + 1)
		f.add(at, rnd.Uint64(), 1+rnd.Uint32N(4), uint16(rnd.IntN(5)))
		after := f.nodes()
		for key := range uint64(500) {
			k := 1 + int(key)%rendezvous.MaxTop
			was := before.Top(nil, key, k, rendezvous.None)
			is := after.Top(nil, key, k, rendezvous.None)
			gone := 0
			for _, i := range was {
				if int(i) >= at {
					i++
				}
				if !slices.Contains(is, i) {
					gone++
				}
			}
			if gone > 1 || gone == 1 && !slices.Contains(is, uint16(at)) {
				t.Fatalf("%v became %v when %d was added", was, is, at)
			}
		}
	}
}

// Shares are as weights say, and what they have in common makes no difference.
func TestWeights(t *testing.T) {
	const keys = 200000
	hashes := []uint64{11e17, 3e17, 77e17, 5e17}
	zones := []uint16{0, 0, 0, 0}
	n := rendezvous.New(hashes, []uint32{1, 2, 3, 4}, zones)
	scaled := rendezvous.New(hashes, []uint32{1 << 28, 2 << 28, 3 << 28, 4 << 28}, zones)
	var counts [4]int
	for key := range uint64(keys) {
		best := n.Top(nil, key, 2, rendezvous.None)
		counts[best[0]]++
		if got := scaled.Top(nil, key, 2, rendezvous.None); !slices.Equal(got, best) {
			t.Fatalf("key %d: %v, and %v if all weights are 2^28 times as much", key, best, got)
		}
	}
	for i, got := range counts {
		if want := keys / 10 * (i + 1); got < want*98/100 || got > want*102/100 {
			t.Errorf("weight %d has %d keys, want about %d", i+1, got, want)
		}
	}
}

// An owner changes only to the node whose weight has grown.
func TestWeightGrows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	f := random(rnd, 10, 1, 1)
	before := f.nodes()
	f.weights[3] = 2
	after := f.nodes()
	moved := 0
	for key := range uint64(100000) {
		was := before.Top(nil, key, 1, rendezvous.None)[0]
		is := after.Top(nil, key, 1, rendezvous.None)[0]
		if was != is {
			moved++
			if is != 3 {
				t.Fatalf("key %d moved from %d to %d", key, was, is)
			}
		}
	}
	if moved < 7900 || moved > 8500 { // 2/11 - 1/10
		t.Errorf("%d of 100000 moved", moved)
	}
}

func TestNodesAllocations(t *testing.T) {
	f := random(rand.New(rand.NewPCG(1, 1)), 100, 3, 2)
	n := f.nodes()
	dst := make([]uint16, 0, 50)
	got := testing.AllocsPerRun(100, func() {
		n.Top(dst, 42, 3, 5)
		n.Best(dst, 42, 50)
		n.Among(dst, 42, 3, []uint16{1, 2, 3, 4})
		n.Next(42, rendezvous.None, nil)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// The same numbers on every machine. When one of them changes, so do owners everywhere: that
// is another layout.
func TestGolden(t *testing.T) {
	f := random(rand.New(rand.NewPCG(9, 9)), 12, 3, 1)
	for i := range f.weights {
		f.weights[i] = uint32(1 + i*i*i*1000003)
	}
	sum := uint64(0)
	for key := range uint64(20000) {
		for _, i := range f.nodes().Top(nil, key, 4, rendezvous.None) {
			sum = rendezvous.Mix(sum ^ uint64(i))
		}
	}
	if sum != 0x296ff17f5180922 {
		t.Errorf("owners are others than they were: %#x", sum)
	}
}
