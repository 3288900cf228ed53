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

func newRing(t *testing.T, nodes []hashring.Node, cfg hashring.RingConfig) *hashring.Ring {
	t.Helper()
	r, err := hashring.NewRing(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRingStep is about a ring of four points and hashes on them, beside them and at both
// ends of the circle.
func TestRingStep(t *testing.T) {
	nodes := []hashring.Node{{ID: "a", Zone: "x"}, {ID: "b", Zone: "x"}, {ID: "c", Zone: "y"}}
	r := hashring.RingOf(nodes,
		[2]uint64{0x10 << 56, 0}, [2]uint64{0x80 << 56, 1}, [2]uint64{0x80 << 56, 2},
		[2]uint64{0xf0 << 56, 0})
	for _, test := range []struct {
		h    uint64
		want []int
	}{
		{0, []int{0, 2, 1}},
		{0x10<<56 - 1, []int{0, 2, 1}},
		{0x10 << 56, []int{0, 2, 1}},
		{0x10<<56 | 0xffff, []int{0, 2, 1}}, // a place has 48 bits
		{0x10<<56 | 0x10000, []int{1, 2, 0}},
		{0x7f << 56, []int{1, 2, 0}},
		{0x80 << 56, []int{1, 2, 0}}, // in one place, the lower ID is first
		{0x80<<56 | 0x10000, []int{0, 2, 1}},
		{0xf0 << 56, []int{0, 2, 1}},
		{0xf0<<56 | 0x10000, []int{0, 2, 1}}, // round the end
		{math.MaxUint64, []int{0, 2, 1}},
	} {
		if got := hashring.Walk(r, test.h, 9); !slices.Equal(got, test.want) {
			t.Errorf("%#x: got %v, want %v", test.h, got, test.want)
		}
	}
	report := r.Report()
	for i, want := range []float64{
		0x10/256.0 + (0x70+0x0f)/256.0 + 1/256.0, 0x70 / 256.0, 0,
	} {
		// The units of places on the way are off by some of 2^48.
		if got := report.Nodes[i].Share; math.Abs(got-want) > 1e-12 {
			t.Errorf("share of %s: got %v, want %v", report.Nodes[i].Node.ID, got, want)
		}
	}
}

// The last place of the circle is also where the first point is there again.
func TestRingEnds(t *testing.T) {
	const last = math.MaxUint64 &^ 0xffff
	nodes := []hashring.Node{{ID: "a"}, {ID: "b"}}
	for _, test := range []struct {
		points  [][2]uint64
		h       uint64
		owner   int
		share   float64 // of a
		comment string
	}{
		{[][2]uint64{{0, 0}, {last, 1}}, math.MaxUint64, 1, 0x1p-48, "a point in the last place"},
		{[][2]uint64{{0, 0}, {last, 1}}, 0, 0, 0x1p-48, "and one in the first"},
		{[][2]uint64{{0, 1}, {last, 0}}, 1 << 63, 0, 1 - 0x1p-48, "the other way round"},
		{[][2]uint64{{last, 0}, {last, 1}}, 7, 0, 1, "both in the last"},
		{[][2]uint64{{0, 0}, {0, 1}}, math.MaxUint64, 0, 1, "both in the first"},
		{[][2]uint64{{1 << 63, 0}, {1<<63 + 1<<16, 1}}, 1<<63 + 1, 0, 1 - 0x1p-48, "neighbours"},
	} {
		r := hashring.RingOf(nodes, test.points...)
		if got := hashring.First(r, test.h); got != test.owner {
			t.Errorf("%s: owner %d, want %d", test.comment, got, test.owner)
		}
		if got := r.Report().Nodes[0].Share; got != test.share {
			t.Errorf("%s: share %v, want %v", test.comment, got, test.share)
		}
		if got := hashring.Diff(r, r).Moved; got != 0 {
			t.Errorf("%s: %v moved to itself", test.comment, got)
		}
		for i, share := range []float64{1 - test.share, test.share} { // of all but one node
			one := hashring.RingOf(nodes[i:i+1], [2]uint64{5 << 40, 0})
			movesAll(t, r, one, share)
			movesAll(t, one, r, share)
		}
	}
}

// movesAll fails the test unless so much moves, in ranges that are none of them empty.
func movesAll(t *testing.T, from, to hashring.Placement, share float64) {
	t.Helper()
	d, sum := hashring.Diff(from, to), 0.0
	for m := range d.Moves() {
		sum += m.Share()
		if m.Lo > m.Hi {
			t.Errorf("an empty range: %+v", m)
		}
	}
	if d.Moved != share || sum != share {
		t.Errorf("%v moved, %v in ranges, want %v", d.Moved, sum, share)
	}
}

// TestRingModel compares with a list of points that is gone through.
func TestRingModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		n := 1 + rnd.IntN(30)
		r := newRing(t, fleet(n, 1, 1, 3), hashring.RingConfig{VNodes: 1 + rnd.IntN(30)})
		places, nodes := r.Points()
		for range 100 {
			h := rnd.Uint64() >> rnd.IntN(40)
			if rnd.IntN(4) == 0 {
				h = places[rnd.IntN(len(places))] + rnd.Uint64N(1<<17)
			}
			at := 0
			for at < len(places) && places[at] < h&^0xffff {
				at++
			}
			var want []int
			for i := range places {
				if node := nodes[(at+i)%len(places)]; !slices.Contains(want, node) {
					want = append(want, node)
				}
			}
			if got := hashring.Walk(r, h, n); !slices.Equal(got, want) {
				t.Fatalf("%#x: got %v, want %v", h, got, want)
			}
		}
	}
}

// Two rings that come about in different ways are the same to the last bit.
func TestRingWithIsTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	nodes := fleet(60, 4, 1, 2, 5)
	for range 30 {
		cfg := hashring.RingConfig{VNodes: 1 + rnd.IntN(50), Seed: rnd.Uint64()}
		half := newRing(t, nodes[:30], cfg)
		var ids []string
		for _, n := range nodes[10:30] {
			ids = append(ids, n.ID)
		}
		got, err := half.With(nodes[30:], ids...)
		want := newRing(t, append(slices.Clone(nodes[:10]), nodes[30:]...), cfg)
		if err != nil || !got.Equal(want) {
			t.Fatalf("%+v: rings differ (%v)", cfg, err)
		}
	}
}

// No key moves between nodes that stay, whatever their weights.
func TestRingMovesNothingElse(t *testing.T) {
	nodes := fleet(21, 1, 1, 2, 5)
	before := newRing(t, nodes[:20], hashring.RingConfig{})
	for name, change := range map[string]struct {
		add    []hashring.Node
		remove []string
		least  float64
	}{
		"add":     {nodes[20:], nil, .08},
		"remove":  {nil, []string{"node-5"}, .08},
		"both":    {nodes[20:], []string{"node-5"}, .15},
		"heavier": {[]hashring.Node{{ID: "node-3", Weight: 4}}, []string{"node-3"}, .04},
		"lighter": {[]hashring.Node{{ID: "node-5", Weight: 2}}, []string{"node-5"}, .04},
	} {
		after, err := before.With(change.add, change.remove...)
		if err != nil {
			t.Fatal(err)
		}
		d := hashring.Diff(before, after)
		if d.Rebalancing != 0 || d.Necessary != d.Moved || d.Moved < change.least {
			t.Errorf("%s: %v moved, %v of it rebalancing", name, d.Moved, d.Rebalancing)
		}
	}
}

// spreadOf returns the mean CV, and the mean of the highest ratios, of rings of n nodes.
func spreadOf(t *testing.T, n, vnodes, seeds int) (cv, most, expected float64) {
	t.Helper()
	for seed := range seeds {
		r := newRing(t, fleet(n, 1), hashring.RingConfig{VNodes: vnodes, Seed: uint64(seed)})
		report := r.Report()
		cv += report.CV / float64(seeds)
		most += report.MaxRatio / float64(seeds)
		expected = report.ExpectedCV
	}
	return cv, most, expected
}

// Shares are as even as one over the square root of VNodes, and as the table in the doc of
// that field says. A ring with a point for each node is what it is better than.
func TestRingSpread(t *testing.T) {
	rows := [][]string{{"VNodes", "CV", "expected", "1/sqrt", "max/avg"}}
	doc := map[int]float64{
		1: 5.1, 16: 1.7, 40: 1.4, 100: 1.3, 160: 1.2, 256: 1.15, 512: 1.12, 1000: 1.08,
	}
	for _, vnodes := range []int{1, 16, 40, 100, 160, 256, 512, 1000} {
		cv, most, expected := spreadOf(t, 100, vnodes, 8)
		root := 1 / math.Sqrt(float64(vnodes))
		rows = append(rows, []string{
			fmt.Sprint(vnodes), fmt.Sprintf("%.3f", cv), fmt.Sprintf("%.3f", expected),
			fmt.Sprintf("%.3f", root), fmt.Sprintf("%.2f", most),
		})
		if cv < .88*expected || cv > 1.12*expected {
			t.Errorf("%d: CV %.3f, expected %.3f", vnodes, cv, expected)
		}
		if math.Abs(expected/root-1) > .02 {
			t.Errorf("%d: expected %.4f, and 1/sqrt is %.4f", vnodes, expected, root)
		}
		if math.Abs(most/doc[vnodes]-1) > .04 {
			t.Errorf("%d: max/avg %.2f, the doc says %v", vnodes, most, doc[vnodes])
		}
	}
	printTable(t, "Ring, 100 nodes of one weight, mean of 8 seeds", rows)
}

// More weight than there is room for points is an error, and not a day of work.
func TestRingTooLarge(t *testing.T) {
	for _, test := range []struct {
		vnodes int
		nodes  []hashring.Node
		ok     bool
	}{
		{1, fleet(3, 1, math.MaxUint32), false},
		{0, fleet(1, 1, math.MaxUint32), false},
		{1 << 20, fleet(1, 1), true},
		{1 << 24, fleet(2, 1), false},
		{1, fleet(2, 1, 1<<19), true},
		{1, fleet(2, 1, 1<<23, 1<<23+1), false},
		{1, fleet(65535, 1), true},
	} {
		_, err := hashring.NewRing(test.nodes, hashring.RingConfig{VNodes: test.vnodes})
		if test.ok != (err == nil) || !test.ok && !errors.Is(err, hashring.ErrTooLarge) {
			t.Errorf("%d nodes, %d points: %v", len(test.nodes), test.vnodes, err)
		}
	}
	small := newRing(t, fleet(1, 1), hashring.RingConfig{})
	_, err := small.With([]hashring.Node{{ID: "x", Weight: math.MaxUint32}})
	want := "hashring: too large: a weight of 4294967296 in all, but with 160 points each " +
		"there may be at most 104857"
	if !errors.Is(err, hashring.ErrTooLarge) || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// As many nodes as there can be, each in a zone of its own, or half of them in one.
func TestRingOfManyNodes(t *testing.T) {
	nodes := fleet(65535, 1)
	for i := range nodes {
		if i%2 == 0 {
			nodes[i].Zone = fmt.Sprint(i)
		}
	}
	r := newRing(t, nodes, hashring.RingConfig{VNodes: 4})
	for key := range keys(20) {
		got := r.Append(nil, key, 5)
		for i := range got[1:] {
			if got[i].Zone == got[i+1].Zone {
				t.Fatalf("%v", got)
			}
		}
	}
	if got := len(r.Append(nil, "key", math.MaxInt)); got != 65535 {
		t.Errorf("%d nodes", got)
	}
}
