package hashring_test

import (
	"math"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

func TestReportStep(t *testing.T) {
	r := hashring.RingOf([]hashring.Node{{ID: "a", Weight: 1}, {ID: "b", Weight: 3}},
		[2]uint64{1<<63 - 1<<16, 0}, [2]uint64{math.MaxUint64 - 0xffff, 1})
	got := r.Report()
	if got.Nodes[0].Share != .5 || got.Nodes[0].Ratio != 2 || got.Nodes[1].Share != .5 ||
		math.Abs(got.Nodes[1].Ratio-2/3.0) > 1e-15 {
		t.Errorf("nodes %+v", got.Nodes)
	}
	if got.MaxRatio != 2 || got.MinRatio != got.Nodes[1].Ratio {
		t.Errorf("ratios %v, %v", got.MinRatio, got.MaxRatio)
	}
	if want := math.Sqrt((1 + 1/9.0) / 2); math.Abs(got.CV-want) > 1e-15 {
		t.Errorf("CV %v, want %v", got.CV, want)
	}
	// Two points: shares have the variance of a beta distribution with 3 in the divisor.
	if want := math.Sqrt((.75/.25 + .25/.75) / 3 / 2); math.Abs(got.ExpectedCV-want) > 1e-15 {
		t.Errorf("expected CV %v, want %v", got.ExpectedCV, want)
	}
}

// All keys are somebody's, and the shares are those that many keys find.
func TestReportIsExact(t *testing.T) {
	for _, p := range []placement{
		newRing(t, fleet(20, 3, 1, 2, 7), hashring.RingConfig{Name: "users"}),
		newTable(t, fleet(20, 3, 1, 2, 7), hashring.TableConfig{Name: "users"}),
	} {
		r := p.Report()
		counts, sum := map[string]float64{}, 0.0
		for key := range keys(100000) {
			n, _ := p.Owner(key)
			counts[n.ID]++
		}
		for _, s := range r.Nodes {
			sum += s.Share
			if got := counts[s.Node.ID] / 100000; math.Abs(got-s.Share) > .006 {
				t.Errorf("%s has %v of the keys, and a share of %v", s.Node.ID, got, s.Share)
			}
		}
		if sum != 1 || r.Name != "users" {
			t.Errorf("%s: shares add up to %v", r.Name, sum)
		}
	}
}

// The expected CV is what comes out on average, also with unlike weights.
func TestReportExpectedCV(t *testing.T) {
	for _, weights := range [][]uint32{{1}, {1, 4}} {
		var ring, full, ringWant, fullWant float64
		const seeds = 24
		for seed := range uint64(seeds) {
			nodes := fleet(30, 1, weights...)
			r := newRing(t, nodes, hashring.RingConfig{VNodes: 16, Seed: seed}).Report()
			ring, ringWant = ring+r.CV*r.CV/seeds, r.ExpectedCV*r.ExpectedCV
			cfg := hashring.TableConfig{Slots: 1024, Excess: -1, Replicas: 1, Seed: seed}
			r = newTable(t, nodes, cfg).Report()
			full, fullWant = full+r.CV*r.CV/seeds, r.ExpectedCV*r.ExpectedCV
		}
		if d := ring / ringWant; d < .85 || d > 1.15 {
			t.Errorf("ring of weights %v: squared CV %v, expected %v", weights, ring, ringWant)
		}
		if d := full / fullWant; d < .85 || d > 1.15 {
			t.Errorf("table of weights %v: squared CV %v, expected %v", weights, full, fullWant)
		}
	}
}
