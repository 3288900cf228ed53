package shuffle_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stormjib/stormjib/shuffle"
)

func TestCombinations(t *testing.T) {
	for _, test := range []struct {
		d    shuffle.Design
		want string
	}{
		{shuffle.Design{Nodes: 8, Size: 2}, "28"},
		{shuffle.Design{Nodes: 8, Size: 4}, "70"},
		{shuffle.Design{Nodes: 16, Size: 4}, "1820"},
		{shuffle.Design{Nodes: 20}, "1140"},
		{shuffle.Design{Nodes: 50, Size: 5}, "2118760"},
		{shuffle.Design{Nodes: 100, Size: 5}, "75287520"},
		{shuffle.Design{Nodes: 100, Size: 10}, "17310309456440"},
		{shuffle.Design{Nodes: 2048, Size: 4}, "730862190080"},
		{shuffle.Design{Nodes: 90, Size: 3, Zones: 3}, "27000"},
		{shuffle.Design{Nodes: 6, Size: 2, Zones: 3}, "12"},
		{shuffle.Design{Nodes: 6, Size: 4, Zones: 3}, "12"},
		{shuffle.Design{Nodes: 5, Size: -1}, "1"},
		{shuffle.Design{Nodes: 5, Size: 9}, "1"},
		{shuffle.Design{Nodes: 1, Size: 1}, "1"},
	} {
		if got := test.d.Combinations().String(); got != test.want {
			t.Errorf("%+v: got %s, want %s", test.d, got, test.want)
		}
	}
}

// near reports whether a number is another to the digits that were published.
func near(got, want, within float64) bool { return math.Abs(got-want) <= within*want }

// These have been published: by the tables of others, or by the formula.
func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		d    shuffle.Design
		want []float64
	}{
		{shuffle.Design{Nodes: 8, Size: 2}, []float64{.5357, .4286, .03571}},
		{shuffle.Design{Nodes: 8, Size: 4}, []float64{.01429, .2286, .5143, .2286, .01429}},
		{shuffle.Design{Nodes: 16, Size: 4}, []float64{.2720, .4835, .2176, .02637, 5.495e-4}},
		{shuffle.Design{Nodes: 20, Size: 3}, []float64{.5965, .3579, .04474, 8.772e-4}},
		{shuffle.Design{Nodes: 100, Size: 3}, []float64{.9118, .08638, .00180, 6.184e-6}},
		{
			shuffle.Design{Nodes: 100, Size: 5},
			[]float64{.7696, .2114, .01838, 5.931e-4, 6.309e-6, 1.328e-8},
		},
		{
			shuffle.Design{Nodes: 2048, Size: 4},
			[]float64{.9922, .00778, 1.714e-5, 1.119e-8, 1.368e-12},
		},
		{
			shuffle.Design{Nodes: 90, Size: 3, Zones: 3},
			[]float64{.903296, .0934444, .00322222, 1. / 27000},
		},
	} {
		got := test.d.Overlap()
		if len(got) != len(test.want) {
			t.Fatalf("%+v: got %v", test.d, got)
		}
		for j, want := range test.want {
			if !near(got[j], want, 2e-3) {
				t.Errorf("%+v, %d: got %v, want %v", test.d, j, got[j], want)
			}
		}
	}
}

// How likely a mouse is squished by elephants is known from the fair queues of Kubernetes.
func TestCoverageOfElephants(t *testing.T) {
	for _, test := range []struct {
		nodes, size int
		want        [3]float64 // by 1, 4, 16
	}{
		{32, 12, [3]float64{4.42884e-9, .114313, .993509}},
		{64, 8, [3]float64{2.25929e-10, 4.88670e-4, .359351}},
		{128, 8, [3]float64{6.99446e-13, 3.40558e-6, .0274617}},
		{512, 5, [3]float64{3.47807e-12, 5.01015e-8, 5.80991e-5}},
		{8, 2, [3]float64{.0357143, .4496, .980}},
		{100, 5, [3]float64{1.328e-8, 1.405e-4, .0521}},
	} {
		d := shuffle.Design{Nodes: test.nodes, Size: test.size}
		for i, noisy := range []int{1, 4, 16} {
			if got := d.Coverage(noisy)[test.size]; !near(got, test.want[i], 1e-3) {
				t.Errorf("%+v, %d noisy: got %v, want %v", d, noisy, got, test.want[i])
			}
		}
	}
}

// everyShard calls fn with each shard of a small design, as a set of bits.
func everyShard(d shuffle.Design, fn func(set uint)) {
	zones := max(1, d.Zones)
	each := d.Nodes / zones
	for set := range uint(1) << d.Nodes {
		least, most, all := d.Nodes, 0, 0
		for z := range zones {
			n := 0
			for i := range each {
				n += int(set >> (z*each + i) & 1)
			}
			least, most, all = min(least, n), max(most, n), all+n
		}
		if all == d.Size && most-least <= 1 {
			fn(set)
		}
	}
}

func ones(set uint) (n int) {
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

// Counted out, one shard after the other.
func TestCoverageByCounting(t *testing.T) {
	for _, d := range []shuffle.Design{
		{Nodes: 6, Size: 2},
		{Nodes: 6, Size: 3},
		{Nodes: 6, Size: 6},
		{Nodes: 6, Size: 2, Zones: 3},
		{Nodes: 6, Size: 4, Zones: 3},
		{Nodes: 8, Size: 3, Zones: 2},
		{Nodes: 6, Size: 5, Zones: 3},
		{Nodes: 8, Size: 3, Zones: 4},
		{Nodes: 6, Size: 6, Zones: 2},
		{Nodes: 4, Size: 1, Zones: 4},
	} {
		var shards []uint
		everyShard(d, func(set uint) { shards = append(shards, set) })
		if got := d.Combinations(); got.Cmp(big.NewInt(int64(len(shards)))) != 0 {
			t.Errorf("%+v: %v combinations, counted %d", d, got, len(shards))
		}
		covered := map[uint]*big.Int{0: big.NewInt(1)} // ways, by what the noisy ones have
		for noisy := range 4 {
			counts, all := make([]big.Int, d.Size+1), new(big.Int)
			for set, ways := range covered {
				for _, shard := range shards {
					c := &counts[ones(set&shard)]
					c.Add(c, ways)
					all.Add(all, ways)
				}
			}
			for j, got := range d.Coverage(noisy) {
				want, _ := new(big.Rat).SetFrac(&counts[j], all).Float64()
				if math.Abs(got-want) > 1e-15 {
					t.Errorf("%+v, %d noisy, %d nodes: got %v, want %v", d, noisy, j, got, want)
				}
			}
			next := map[uint]*big.Int{}
			for set, ways := range covered {
				for _, shard := range shards {
					if next[set|shard] == nil {
						next[set|shard] = new(big.Int)
					}
					next[set|shard].Add(next[set|shard], ways)
				}
			}
			covered = next
		}
	}
}

// All cases together are one, whatever the numbers, and it does not take long.
func TestDistributions(t *testing.T) {
	sum := func(parts []float64) (sum float64) {
		for _, p := range parts {
			if p < 0 || p > 1 || math.IsNaN(p) {
				t.Errorf("%v", p)
			}
			sum += p
		}
		return sum
	}
	for _, d := range []shuffle.Design{
		{Nodes: 1},
		{Nodes: 2, Size: 1},
		{Nodes: 9, Size: -1},
		{Nodes: 999, Size: 40, Zones: 3},
		{Nodes: 300, Size: 150},
		{Nodes: 65535, Size: 5},
		{Nodes: 64, Size: 7, Zones: 32},
	} {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		for _, noisy := range []int{-1, 0, 1, 1000, math.MaxInt} {
			c := d.Coverage(noisy)
			if got := sum(c); math.Abs(got-1) > 1e-12 || noisy <= 0 && c[0] != 1 ||
				noisy == math.MaxInt && c[len(c)-1] != 1 {
				t.Errorf("%+v, %d noisy: sum %v", d, noisy, got)
			}
		}
		for _, failed := range []int{-1, 0, 1, 5, d.Nodes / 2, d.Nodes, math.MaxInt} {
			b := d.BlastRadius(failed)
			if got := sum(b); math.Abs(got-1) > 1e-12 || failed <= 0 && b[0] != 1 ||
				failed >= d.Nodes && b[len(b)-1] != 1 {
				t.Errorf("%+v, %d failed: %v", d, failed, b)
			}
		}
	}
}

func TestBlastRadius(t *testing.T) {
	d := shuffle.Design{Nodes: 8, Size: 2}
	for failed, want := range [][]float64{
		{1, 0, 0}, {.75, .25, 0}, {15. / 28, 12. / 28, 1. / 28}, {10. / 28, 15. / 28, 3. / 28},
	} {
		for j, got := range d.BlastRadius(failed) {
			if math.Abs(got-want[j]) > 1e-15 {
				t.Errorf("%d failed: %d lost by %v, want %v", failed, j, got, want[j])
			}
		}
	}
}

func TestMaxTenants(t *testing.T) {
	for _, test := range []struct {
		d       shuffle.Design
		overlap int
		want    string
	}{
		{shuffle.Design{Nodes: 8, Size: 2}, 1, "28"},
		{shuffle.Design{Nodes: 8, Size: 2}, 0, "4"},
		{shuffle.Design{Nodes: 8, Size: 2}, -1, "4"},
		{shuffle.Design{Nodes: 8, Size: 2}, 5, "28"},
		{shuffle.Design{Nodes: 8, Size: 4}, 2, "14"},
		{shuffle.Design{Nodes: 8, Size: 4}, 1, "4"},
		{shuffle.Design{Nodes: 16, Size: 4}, 1, "20"},
		{shuffle.Design{Nodes: 16, Size: 4}, 2, "140"},
		{shuffle.Design{Nodes: 20, Size: 5}, 2, "112"},
		{shuffle.Design{Nodes: 100, Size: 5}, 1, "480"},
		{shuffle.Design{Nodes: 100, Size: 5}, 4, "75287520"},
		{shuffle.Design{Nodes: 6, Size: 3, Zones: 3}, 2, "8"},
	} {
		if got := test.d.MaxTenants(test.overlap).String(); got != test.want {
			t.Errorf("%+v, %d: got %s, want %s", test.d, test.overlap, got, test.want)
		}
	}
}

func TestBadDesign(t *testing.T) {
	for _, test := range []struct {
		d    shuffle.Design
		want string
	}{
		{shuffle.Design{}, "Nodes is 0, but must be from 1 to 65535"},
		{shuffle.Design{Nodes: -1, Zones: -2}, "Nodes is -1, but must be from 1 to 65535; " +
			"Zones is -2, but must divide Nodes, -1"},
		{shuffle.Design{Nodes: 10, Zones: 3}, "Zones is 3, but must divide Nodes, 10"},
		{shuffle.Design{Nodes: 5000, Size: -1}, "Size comes to 5000, but must be at most 512"},
		{
			shuffle.Design{Nodes: 400, Size: 190, Zones: 20},
			"Size comes to 190, which is too large for 20 zones",
		},
	} {
		err := test.d.Validate()
		if err == nil || err.Error() != "shuffle: Design: "+test.want {
			t.Errorf("%+v: got %v", test.d, err)
			continue
		}
		plan := test.d.Plan(10)
		if test.d.Combinations().Sign() != 0 || test.d.MaxTenants(1).Sign() != 0 ||
			test.d.Coverage(1) != nil || test.d.BlastRadius(1) != nil || test.d.Overlap() != nil ||
			plan.String() != err.Error() || plan.Plain.Nodes != 0 {
			t.Errorf("%+v: it has numbers", test.d)
		}
	}
}

func TestPlan(t *testing.T) {
	p := shuffle.Design{Nodes: 100, Size: 5}.Plan(10_000)
	if p.Tenants != 10_000 || p.Spare != .25 || p.Dedicated.Nodes != 50_000 ||
		p.Plain.Nodes != 100 || p.Plain.Shards.Int64() != 20 || p.Plain.PerNode != 500 ||
		!near(p.Plain.Down[1], .185494, 1e-5) || p.Plain.Hit != p.Plain.Down ||
		p.Shuffled.PerNode != 500 || !near(p.Shuffled.Twins, 1.3281e-4, 1e-3) ||
		!near(p.Shuffled.Down[2], .0521, 1e-2) || !near(p.Shuffled.Hit[0], .2304, 1e-3) ||
		p.Shuffled.NodeLoss != .05 ||
		p.Dedicated.Down != [3]float64{} || p.Dedicated.NodeLoss != 1e-4 {
		t.Errorf("%+v", p)
	}
	for _, test := range []struct {
		d       shuffle.Design
		tenants int
		want    string
	}{
		{shuffle.Design{Nodes: 3, Size: 1}, -1, "3 nodes, 1 to a tenant, 0 tenants\n"},
		{shuffle.Design{Nodes: 3, Size: 1}, 5, "room for any amount of its load more"},
		{shuffle.Design{Nodes: 3}, 5, "3 nodes, 3 to a tenant"},
		{shuffle.Design{Nodes: 90, Size: 4, Zones: 3}, 5, "leaves each tenant 2 of its 4 nodes"},
		{shuffle.Design{Nodes: 65535, Size: 200}, 1 << 30, "e+"},
	} {
		if got := test.d.Plan(test.tenants).String(); !strings.Contains(got, test.want) {
			t.Errorf("%+v: got\n%s", test.d, got)
		}
	}
}
