package hashring_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

func TestDiffStep(t *testing.T) {
	const quarter = 1 << 62
	a, b, c := hashring.Node{ID: "a", Weight: 1}, hashring.Node{ID: "b", Weight: 1},
		hashring.Node{ID: "c", Weight: 1}
	heavy := hashring.Node{ID: "b", Weight: 3}
	from := hashring.RingOf([]hashring.Node{a, b},
		[2]uint64{quarter, 0}, [2]uint64{2 * quarter, 1}, [2]uint64{3 * quarter, 0})
	// The place of a point belongs to it, so each arc begins a unit behind the one before.
	const q1, q2, q3, unit = quarter + 0xffff, 2*quarter + 0xffff, 3*quarter + 0xffff, 0x1p-48
	for _, test := range []struct {
		name                    string
		to                      hashring.Placement
		moved, necessary, least float64
		moves                   []hashring.Move
		in, out                 []float64
	}{
		{
			"the same", from, 0, 0, 0, nil,
			[]float64{0, 0},
			[]float64{0, 0},
		},
		{
			"gone", hashring.RingOf([]hashring.Node{a}, [2]uint64{quarter, 0}),
			.25, .25, .5,
			[]hashring.Move{{q1 + 1, q2, b, a}},
			[]float64{.25, 0},
			[]float64{0, .25},
		},
		{
			"new",
			hashring.RingOf([]hashring.Node{a, b, c},
				[2]uint64{quarter, 0}, [2]uint64{2 * quarter, 1}, [2]uint64{3 * quarter, 2}),
			.25, .25, 1 / 3.0,
			[]hashring.Move{{q2 + 1, q3, a, c}},
			[]float64{0, 0, .25},
			[]float64{.25, 0, 0},
		},
		{
			"nobody has changed",
			hashring.RingOf([]hashring.Node{a, b},
				[2]uint64{quarter, 1}, [2]uint64{2 * quarter, 1}, [2]uint64{3 * quarter, 0}),
			.5, 0, 0,
			[]hashring.Move{{0, q1, a, b}, {q3 + 1, math.MaxUint64, a, b}},
			[]float64{0, .5},
			[]float64{.5, 0},
		},
		{
			"heavier, and others swap",
			hashring.RingOf([]hashring.Node{a, heavy},
				[2]uint64{quarter, 1}, [2]uint64{2 * quarter, 0}, [2]uint64{3 * quarter, 1}),
			1, .75, .25,
			[]hashring.Move{
				{0, q1, a, heavy}, {q1 + 1, q2, b, a}, {q2 + 1, math.MaxUint64, a, heavy},
			},
			[]float64{.25, .75},
			[]float64{.75, .25},
		},
	} {
		d := hashring.Diff(from, test.to)
		near := func(x, y float64) bool { return math.Abs(x-y) <= 2*unit }
		if !near(d.Moved, test.moved) || !near(d.Necessary, test.necessary) ||
			!near(d.Rebalancing, test.moved-test.necessary) || !near(d.Least, test.least) {
			t.Errorf("%s: got %+v", test.name, d)
		}
		moves := slices.Collect(d.Moves())
		if !slices.Equal(moves, test.moves) {
			t.Errorf("%s: moves\n%v, want\n%v", test.name, moves, test.moves)
		}
		for i, n := range d.Nodes {
			if !near(n.In, test.in[i]) || !near(n.Out, test.out[i]) {
				t.Errorf("%s: got %+v", test.name, n)
			}
		}
	}
}

// With no nodes before or after, all keys move from nobody, or to nobody.
func TestDiffWithNothing(t *testing.T) {
	none, some := new(hashring.Ring), newRing(t, fleet(3, 1), hashring.RingConfig{})
	for _, test := range []struct {
		from, to hashring.Placement
		moved    float64
		moves    int
	}{
		{none, new(hashring.Table), 0, 0},
		{none, some, 1, 481},
		{some, none, 1, 481},
	} {
		d := hashring.Diff(test.from, test.to)
		moves := slices.Collect(d.Moves())
		if d.Moved != test.moved || d.Necessary != test.moved || d.Rehashed ||
			len(moves) > test.moves {
			t.Errorf("got %+v, %d moves", d, len(moves))
		}
		for _, m := range moves {
			if (m.From.ID == "") == (m.To.ID == "") {
				t.Fatalf("move %+v", m)
			}
		}
	}
}

// TestDiffIsExact asks for the owner at both ends of each range, and of many keys.
func TestDiffIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	nodes := fleet(40, 3, 1, 2)
	placements := []placement{
		newRing(t, nodes[:30], hashring.RingConfig{}),
		newRing(t, nodes[5:], hashring.RingConfig{VNodes: 7}),
		newTable(t, nodes[:20], hashring.TableConfig{Slots: 1024}),
		newTable(t, nodes[:21], hashring.TableConfig{Slots: 1024, Excess: 1}),
		newTable(t, nodes, hashring.TableConfig{Slots: 4096}),
	}
	for _, from := range placements {
		for _, to := range placements {
			exact(t, rnd, from, to)
		}
	}
}

func exact(t *testing.T, rnd *rand.Rand, from, to placement) {
	t.Helper()
	d := hashring.Diff(from, to)
	var moves []hashring.Move
	sum, last := 0.0, hashring.Move{Hi: math.MaxUint64}
	for m := range d.Moves() {
		for _, h := range []uint64{m.Lo, m.Hi, m.Lo + rnd.Uint64N(m.Hi-m.Lo)} {
			was, _ := from.OwnerHash(h)
			is, _ := to.OwnerHash(h)
			if was != m.From || is != m.To || was.ID == is.ID {
				t.Fatalf("%#x moved from %v to %v, in %+v", h, was, is, m)
			}
		}
		if len(moves) > 0 && (m.Lo <= last.Hi ||
			m.Lo == last.Hi+1 && m.From == last.From && m.To == last.To) {
			t.Fatalf("%+v follows %+v", m, last)
		}
		sum += m.Share()
		last = m
		moves = append(moves, m)
	}
	in, out := 0.0, 0.0
	for _, n := range d.Nodes {
		in, out = in+n.In, out+n.Out
	}
	if sum != d.Moved || in != sum || out != sum || d.Necessary+d.Rebalancing != sum {
		t.Fatalf("%v in moves, %v in, %v out: %v", sum, in, out, d.Moved)
	}
	for key := range keys(300) {
		h := from.Hash(key)
		was, _ := from.Owner(key)
		is, _ := to.Owner(key)
		moved := slices.ContainsFunc(moves, func(m hashring.Move) bool {
			return m.Lo <= h && h <= m.Hi
		})
		if moved != (was.ID != is.ID) {
			t.Fatalf("%s from %s to %s: moved is %v", key, was.ID, is.ID, moved)
		}
	}
	for range d.Moves() {
		break
	}
}

// With another seed, or another hash, all is as chance has it: of n nodes one in n keys stays.
func TestDiffRehashed(t *testing.T) {
	nodes := fleet(20, 1)
	from := newTable(t, nodes, hashring.TableConfig{})
	for name, cfg := range map[string]hashring.TableConfig{
		"seed": {Seed: 1}, "hash": {Hash: hashring.SipHash([16]byte{})},
	} {
		to := newTable(t, nodes, cfg)
		d := hashring.Diff(from, to)
		if !d.Rehashed || math.Abs(d.Moved-.95) > .001 || d.Necessary > 1e-9 || d.Least != 0 {
			t.Errorf("%s: %+v", name, d)
		}
		for m := range d.Moves() {
			t.Fatalf("%s: a move %v", name, m)
		}
		moved := 0.0
		for key := range keys(20000) {
			was, _ := from.Owner(key)
			is, _ := to.Owner(key)
			if was != is {
				moved++
			}
		}
		if math.Abs(moved/20000-d.Moved) > .01 {
			t.Errorf("%s: %v of the keys moved, the diff says %v", name, moved/20000, d.Moved)
		}
	}
	// One comes with the new seed. What goes to it is necessary, and it alone.
	to := newTable(t, fleet(21, 1), hashring.TableConfig{Seed: 1})
	d := hashring.Diff(from, to)
	if math.Abs(d.Necessary-1/21.0) > .002 || math.Abs(d.Least-1/21.0) > 1e-9 {
		t.Errorf("one more: %+v", d)
	}
	in, out := 0.0, 0.0
	for _, n := range d.Nodes {
		in, out = in+n.In, out+n.Out
	}
	if math.Abs(in-d.Moved) > 1e-9 || math.Abs(out-d.Moved) > 1e-9 {
		t.Errorf("%v in, %v out, %v moved", in, out, d.Moved)
	}
}

// With another number of slots keys have the same hash, and nearly all have another owner.
func TestDiffOfSlots(t *testing.T) {
	a := newTable(t, fleet(20, 1), hashring.TableConfig{})
	b := newTable(t, fleet(20, 1), hashring.TableConfig{Slots: 1 << 15})
	d := hashring.Diff(a, b)
	if d.Rehashed || d.Moved < .93 || d.Moved > .97 || d.Rebalancing != d.Moved {
		t.Errorf("%+v", d)
	}
}

// A table of what is moved: what the doc of Delta is about.
func TestDiffTable(t *testing.T) {
	rows := [][]string{{"from 10 nodes to 11", "moved", "necessary", "rebalancing", "least"}}
	add := func(name string, d *hashring.Delta, most float64) {
		rows = append(rows, []string{
			name, percent(d.Moved), percent(d.Necessary), percent(d.Rebalancing), percent(d.Least),
		})
		if d.Moved > most {
			t.Errorf("%s: %v moved", name, d.Moved)
		}
	}
	nodes := fleet(11, 1)
	table := newTable(t, nodes[:10], hashring.TableConfig{})
	more, err := table.With(nodes[10:])
	if err != nil {
		t.Fatal(err)
	}
	add("Table", hashring.Diff(table, more), .093)
	ring := newRing(t, nodes[:10], hashring.RingConfig{})
	larger, err := ring.With(nodes[10:])
	if err != nil {
		t.Fatal(err)
	}
	add("Ring", hashring.Diff(ring, larger), .11)
	// A ring that is to have 1,024 points in all gives each node less when there are more.
	fixed := newRing(t, nodes[:10], hashring.RingConfig{VNodes: 103})
	fewer := newRing(t, nodes, hashring.RingConfig{VNodes: 94})
	d := hashring.Diff(fixed, fewer)
	add("Ring of 1024 points", d, .2)
	if d.Rebalancing < .02 {
		t.Errorf("a ring of fixed size rebalances %v", d.Rebalancing)
	}
	printTable(t, "What moves", rows)
}
