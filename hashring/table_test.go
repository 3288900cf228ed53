package hashring_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

func newTable(
	t *testing.T, nodes []hashring.Node, cfg hashring.TableConfig,
) *hashring.Table {
	t.Helper()
	table, err := hashring.NewTable(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestLimits is about how many of 64 slots nodes may have.
func TestLimits(t *testing.T) {
	const most = math.MaxUint32
	for _, test := range []struct {
		weights []uint32
		excess  int
		want    []int
	}{
		{[]uint32{1}, 0, []int{67}},
		{[]uint32{1, 1}, 0, []int{33, 33}},
		{[]uint32{1, 1}, 1, []int{32, 32}},
		{[]uint32{1, 1}, 100, []int{64, 64}},
		{[]uint32{1, 1}, -1, []int{64, 64}},
		{[]uint32{1, 3}, 10, []int{17, 52}},
		{[]uint32{1, 2}, 1, []int{22, 43}}, // rounded up, or slots would be left over
		{[]uint32{1, most}, 0, []int{1, 67}},
		{[]uint32{most, most}, 1000, []int{352, 352}},
		{[]uint32{0, 1}, 50, []int{48, 48}},
	} {
		nodes := fleet(len(test.weights), 1, test.weights...)
		table := newTable(t, nodes, hashring.TableConfig{Slots: 64, Excess: test.excess})
		if got := table.Limits(); !slices.Equal(got, test.want) {
			t.Errorf("%v, %d %%: got %v, want %v", test.weights, test.excess, got, test.want)
		}
	}
}

// propose is the matching by the book: in any order, one slot after the other proposes, and
// a node that has too many refuses the one that it likes least.
func propose(rnd *rand.Rand, table *hashring.Table) []uint16 {
	limits, owners := table.Limits(), make([]uint16, len(table.Slots()))
	held := make([][]int, len(limits))
	preferences, next := make([][]uint16, len(owners)), make([]int, len(owners))
	free := rnd.Perm(len(owners))
	for len(free) > 0 {
		slot := free[len(free)-1]
		free = free[:len(free)-1]
		if preferences[slot] == nil {
			preferences[slot] = table.Preference(slot)
		}
		node := preferences[slot][next[slot]]
		next[slot]++
		owners[slot] = node
		held[node] = append(held[node], slot)
		if len(held[node]) <= limits[node] {
			continue
		}
		worst := 0
		for i, other := range held[node] {
			if table.Score(other, int(node)) < table.Score(held[node][worst], int(node)) {
				worst = i
			}
		}
		free = append(free, held[node][worst])
		held[node] = slices.Delete(held[node], worst, worst+1)
	}
	return owners
}

// TestTableModel compares with a matching that takes slots in random order.
func TestTableModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	moved := 0
	for range 60 {
		slots := 64 << rnd.IntN(5)
		weights := [][]uint32{{1}, {1, 2, 9}}[rnd.IntN(2)]
		nodes := fleet(1+rnd.IntN(slots/32), 1+rnd.IntN(4), weights...)
		table := newTable(t, nodes, hashring.TableConfig{
			Slots: slots, Replicas: 1 + rnd.IntN(8), Excess: []int{-1, 1, 1, 2, 5}[rnd.IntN(5)],
			Seed: rnd.Uint64(),
		})
		if got, want := table.Slots(), propose(rnd, table); !slices.Equal(got, want) {
			t.Fatalf("%d nodes, %d slots:\ngot  %v\nwant %v", len(nodes), slots, got, want)
		}
		moved += table.Moved()
	}
	if moved < 400 {
		t.Errorf("only %d slots had to move: this shows little", moved)
	}
}

// Where the limit has given a slot to another node, that node is the first in its order,
// and the others come behind it as ever.
func TestTableOrderOfMovedSlots(t *testing.T) {
	for _, zones := range []int{1, 2, 5} {
		nodes := fleet(32, zones)
		table := newTable(t, nodes, hashring.TableConfig{Slots: 1024, Excess: 1})
		sizes := map[string]int{}
		for _, n := range nodes {
			sizes[n.Zone]++
		}
		behind := 0 // slots whose owner is behind the row that they would have
		for slot, owner := range table.Slots() {
			order := table.AppendHash(nil, uint64(slot)<<54, 32)
			spreads(t, order, sizes)
			if order[0] != table.Nodes()[owner] {
				t.Fatalf("slot %d: %v is not with node %d", slot, order[0], owner)
			}
			if slices.Index(table.Preference(slot), owner) >= 3 {
				behind++
			}
		}
		if table.Moved() < 50 || behind == 0 {
			t.Errorf("%d slots moved, %d far: this shows little", table.Moved(), behind)
		}
	}
}

// Two tables that come about in different ways are the same to the last bit.
func TestTableWithIsTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 20 {
		zones := 1 + rnd.IntN(6)
		all := fleet(60, zones, [][]uint32{{1}, {1, 2, 9}, {1, 1, 1, 1, 1, 1, 2}}[rnd.IntN(3)]...)
		cfg := hashring.TableConfig{
			Slots: 2048, Replicas: 1 + rnd.IntN(8), Excess: []int{-1, 1, 5}[rnd.IntN(3)],
		}
		there := map[string]hashring.Node{}
		for _, n := range all[:1+rnd.IntN(12)] {
			there[n.ID] = n
		}
		list := func() (nodes []hashring.Node) {
			for _, n := range there {
				nodes = append(nodes, n)
			}
			return nodes
		}
		table := newTable(t, list(), cfg)
		for range 5 {
			add, remove := change(rnd, all, there)
			next, err := table.With(add, remove...)
			if err != nil {
				t.Fatal(err)
			}
			table = next
			if !table.Equal(newTable(t, list(), cfg)) {
				t.Fatalf("%+v, %d zones: adding %v and removing %v is not the same",
					cfg, zones, add, remove)
			}
		}
	}
}

// movedShare is what Diff says of the first n nodes when there is one more.
func movedShare(t *testing.T, n int, cfg hashring.TableConfig) (added, removed *hashring.Delta) {
	t.Helper()
	nodes := fleet(n+1, 1)
	table := newTable(t, nodes[:n], cfg)
	more, err := table.With(nodes[n:])
	if err != nil {
		t.Fatal(err)
	}
	return hashring.Diff(table, more), hashring.Diff(more, table)
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }

// With the defaults, no node of 100 has more than 5 % above its share, and next to nothing
// moves that need not.
func TestTableBalance(t *testing.T) {
	rows := [][]string{
		{"nodes", "Excess", "max/avg", "CV", "expected", "1 more moves", "1 less", "rebalancing"},
	}
	for _, test := range []struct {
		nodes, excess int
		most          float64 // max/avg
		moved         float64 // when one is added, or taken away again
		rebalancing   float64
	}{
		{10, 5, 1.05, .093, .0005},
		{100, -1, 1.20, .0105, 0},
		{100, 10, 1.10, .0105, .0002},
		{100, 5, 1.05, .0105, .0005},
		{100, 2, 1.02, .0120, .0025},
		{100, 1, 1.01, .0130, .0030},
	} {
		cfg := hashring.TableConfig{Excess: test.excess}
		report := newTable(t, fleet(test.nodes, 1), cfg).Report()
		added, removed := movedShare(t, test.nodes, cfg)
		rows = append(rows, []string{
			fmt.Sprint(test.nodes), fmt.Sprint(test.excess), fmt.Sprintf("%.4f", report.MaxRatio),
			fmt.Sprintf("%.4f", report.CV), fmt.Sprintf("%.4f", report.ExpectedCV),
			percent(added.Moved), percent(removed.Moved), percent(removed.Rebalancing),
		})
		if report.MaxRatio > test.most {
			t.Errorf("%d nodes, %d %%: max/avg %v", test.nodes, test.excess, report.MaxRatio)
		}
		if added.Moved > test.moved || removed.Moved > test.moved ||
			max(added.Rebalancing, removed.Rebalancing) > test.rebalancing {
			t.Errorf("%d nodes, %d %%: one more moves %v, %v of it rebalancing; one less %v, %v",
				test.nodes, test.excess, added.Moved, added.Rebalancing, removed.Moved,
				removed.Rebalancing)
		}
		if report.ExpectedCV > math.Sqrt(float64(test.nodes)/65536) ||
			report.CV > report.ExpectedCV*1.2 {
			t.Errorf("%d nodes, %d %%: CV %v of %v", test.nodes, test.excess, report.CV,
				report.ExpectedCV)
		}
	}
	printTable(t, "Table, 65,536 slots", rows)
}

// To remove one node of 100 moves 1.05 % at most, on average. What it had is never much more,
// and little moves but that.
func TestTableRemovals(t *testing.T) {
	table := newTable(t, fleet(100, 1), hashring.TableConfig{})
	sum := 0.0
	for i := range 10 {
		less, err := table.With(nil, fmt.Sprintf("node-%d", 10*i))
		if err != nil {
			t.Fatal(err)
		}
		d := hashring.Diff(table, less)
		sum += d.Moved / 10
		if d.Moved > .0112 || d.Rebalancing > .0006 {
			t.Errorf("without node %d: %v moved, %v rebalancing", 10*i, d.Moved, d.Rebalancing)
		}
	}
	if sum > .0105 {
		t.Errorf("%v moved on average", sum)
	}
}

// Shares follow weights, to within the Excess above and not much more below.
func TestTableWeights(t *testing.T) {
	for _, nodes := range [][]hashring.Node{
		fleet(4, 1, 1, 1, 2, 4), fleet(100, 3, 1, 1, 2, 4), fleet(20, 1, 100, 300),
	} {
		report := newTable(t, nodes, hashring.TableConfig{}).Report()
		if report.MaxRatio > 1.05 || len(nodes) < 50 && report.MinRatio < .95 {
			t.Errorf("%d nodes: ratios from %v to %v", len(nodes), report.MinRatio, report.MaxRatio)
		}
		scaled := slices.Clone(nodes)
		for i := range scaled {
			scaled[i].Weight *= 1 << 20
		}
		a := newTable(t, nodes, hashring.TableConfig{Slots: 1 << 13})
		b := newTable(t, scaled, hashring.TableConfig{Slots: 1 << 13})
		if d := hashring.Diff(a, b); d.Moved != 0 {
			t.Errorf("%v of the keys moved when all weights became 2^20 times as much", d.Moved)
		}
	}
}

// A node that becomes twice as heavy gets keys, and nobody else does. What the limit adds
// to that is little.
func TestTableWeightGrows(t *testing.T) {
	for _, test := range []struct {
		excess      int
		rebalancing float64
	}{{-1, 0}, {5, .002}} {
		table := newTable(t, fleet(10, 1), hashring.TableConfig{Excess: test.excess})
		heavier, err := table.With([]hashring.Node{{ID: "node-3", Weight: 2}}, "node-3")
		if err != nil {
			t.Fatal(err)
		}
		d := hashring.Diff(table, heavier)
		if d.Moved < .07 || d.Moved > .09 || d.Rebalancing > test.rebalancing {
			t.Errorf("%v moved, %v of it rebalancing, %v at least", d.Moved, d.Rebalancing, d.Least)
		}
	}
}

// Weights may be as far apart as they can be. The lighter ones get a slot, or none.
func TestTableExtremeWeights(t *testing.T) {
	table := newTable(t, fleet(40, 2, math.MaxUint32, 1), hashring.TableConfig{})
	for _, s := range table.Report().Nodes {
		if s.Node.Weight == 1 && s.Share > 1.0/65536 {
			t.Errorf("%s has %v", s.Node.ID, s.Share)
		}
		if s.Node.Weight > 1 && (s.Ratio < .9 || s.Ratio > 1.05) {
			t.Errorf("%s has a ratio of %v", s.Node.ID, s.Ratio)
		}
	}
}

func TestTableTooLarge(t *testing.T) {
	table := newTable(t, fleet(2, 1), hashring.TableConfig{Slots: 64})
	_, err := table.With([]hashring.Node{{ID: "x"}})
	want := "hashring: too large: 3 nodes, but with 64 slots there may be at most 2"
	if !errors.Is(err, hashring.ErrTooLarge) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = hashring.NewTable(fleet(65535, 1), hashring.TableConfig{})
	if !errors.Is(err, hashring.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Few slots for each node cost moves, and never balance.
func TestTableOfFewSlots(t *testing.T) {
	table := newTable(t, fleet(128, 3), hashring.TableConfig{Slots: 4096})
	if r := table.Report(); r.MaxRatio > 33.0/32 {
		t.Errorf("max/avg %v", r.MaxRatio)
	}
}

// The nodes of a slot change by one when a node comes or goes, but where the limit has its
// say: that is where the owner is not among the first by score.
func TestTableSetsChangeByOne(t *testing.T) {
	for _, zones := range []int{1, 2, 3} {
		nodes := fleet(31, zones, 1)
		for _, excess := range []int{-1, 5} {
			table := newTable(t, nodes[:30], hashring.TableConfig{Slots: 1 << 14, Excess: excess})
			more, err := table.With(nodes[30:])
			if err != nil {
				t.Fatal(err)
			}
			changed := 0
			for key := range keys(5000) {
				was, is := table.Append(nil, key, 3), more.Append(nil, key, 3)
				gone := 0
				for _, n := range was {
					if !slices.Contains(is, n) {
						gone++
					}
				}
				if gone > 1 || gone == 1 && !slices.Contains(is, nodes[30]) {
					changed++
				}
			}
			if changed > 0 && excess < 0 || changed > 5 {
				t.Errorf("%d zones, %d %%: %d of 5000 sets changed by more", zones, excess, changed)
			}
		}
	}
}

// What both are better than: with keys modulo the number of nodes nearly all of them move,
// and with one point for each node one node has several times its share.
func TestBetterThan(t *testing.T) {
	const n = 100
	moved := 0
	ring := newRing(t, fleet(n, 1), hashring.RingConfig{})
	for key := range keys(100000) {
		if h := ring.Hash(key); h%n != h%(n+1) {
			moved++
		}
	}
	one := newRing(t, fleet(n, 1), hashring.RingConfig{VNodes: 1})
	full := newTable(t, fleet(n, 1), hashring.TableConfig{})
	rows := [][]string{{"100 nodes", "max/avg", "moved by the 101st"}}
	rows = append(rows, []string{"modulo", "1.00", percent(float64(moved) / 100000)})
	for _, p := range []struct {
		name string
		placement
		most float64
	}{{"a ring of one point", one, 9}, {"Ring", ring, 1.35}, {"Table", full, 1.05}} {
		ratio := p.Report().MaxRatio
		var next hashring.Placement
		var err error
		switch q := p.placement.(type) {
		case *hashring.Ring:
			next, err = q.With(fleet(n+1, 1)[n:])
		case *hashring.Table:
			next, err = q.With(fleet(n+1, 1)[n:])
		}
		if err != nil {
			t.Fatal(err)
		}
		d := hashring.Diff(p, next)
		rows = append(rows, []string{p.name, fmt.Sprintf("%.2f", ratio), percent(d.Moved)})
		if ratio > p.most || d.Rebalancing > .0005 {
			t.Errorf("%s: max/avg %v, %v rebalancing", p.name, ratio, d.Rebalancing)
		}
	}
	if moved < 98000 || one.Report().MaxRatio < 3 {
		t.Errorf("modulo moved %d, one point has %v", moved, one.Report().MaxRatio)
	}
	printTable(t, "What a placement is for", rows)
}
