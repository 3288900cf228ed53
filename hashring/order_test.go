package hashring_test

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// The first n nodes of a key are the first n of its order, whoever is asked, all different,
// and spread over zones.
func TestOrderOfNodes(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for _, nodes := range [][]hashring.Node{
			fleet(2, 1), fleet(3, 3), fleet(4, 2), fleet(16, 1), fleet(17, 3), fleet(50, 7),
			fleet(30, 30), fleet(60, 5, 1, 9),
		} {
			p := k.of(t, nodes)
			sizes := map[string]int{}
			for _, n := range nodes {
				sizes[n.Zone]++
			}
			for key := range keys(50) {
				order := slices.Collect(p.Candidates(key))
				spreads(t, order, sizes)
				sameOrder(t, p, key, order)
			}
		}
	})
}

// sameOrder asks for parts of an order in every way there is.
func sameOrder(t *testing.T, p placement, key string, order []hashring.Node) {
	t.Helper()
	h, nodes := p.Hash(key), p.Nodes()
	if got, ok := p.Owner(key); !ok || got != order[0] {
		t.Fatalf("owner %v, want %v", got, order[0])
	}
	if got, ok := p.OwnerHash(h); !ok || got != order[0] || nodes[hashring.First(p, h)] != got {
		t.Fatalf("owner by hash %v, want %v", got, order[0])
	}
	before := hashring.Node{ID: "before"}
	for _, n := range []int{-1, 0, 1, 2, 3, 4, 15, 16, 17, 18, len(order), math.MaxInt} {
		want := order[:max(0, min(n, len(order)))]
		got := p.Append([]hashring.Node{before}, key, n)
		if got[0] != before || !slices.Equal(got[1:], want) {
			t.Fatalf("%d nodes: got %v, want %v", n, got[1:], want)
		}
		if got := p.AppendHash(nil, h, n); !slices.Equal(got, want) {
			t.Fatalf("%d nodes by hash: got %v, want %v", n, got, want)
		}
		if n > 0 {
			walked := hashring.Walk(p, h, n)
			for i := range want {
				if len(walked) != len(want) || nodes[walked[i]] != want[i] {
					t.Fatalf("walk to %d: got %v, want %v", n, walked, want)
				}
			}
		}
		taken := 0
		for range p.Candidates(key) {
			if taken++; taken >= n {
				break
			}
		}
	}
}

// spreads fails the test unless the nodes are all that there are, each once, and at each
// point no zone has had two more than another that has one left.
func spreads(t *testing.T, order []hashring.Node, sizes map[string]int) {
	t.Helper()
	seen, had, all := map[string]bool{}, map[string]int{}, 0
	for _, n := range order {
		if seen[n.ID] {
			t.Fatalf("%s twice in %v", n.ID, order)
		}
		seen[n.ID] = true
		for zone, size := range sizes {
			if had[zone] < had[n.Zone] && had[zone] < size {
				t.Fatalf("%s comes before its zone's turn in %v", n.ID, order)
			}
		}
		had[n.Zone]++
	}
	for _, size := range sizes {
		all += size
	}
	if len(order) != all {
		t.Fatalf("%d nodes of %d", len(order), all)
	}
}

// Zones of 1 and 3 nodes, and 4 to choose: others never came back from that.
func TestUnequalZones(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p := k.of(t, []hashring.Node{
			{ID: "a", Zone: "1"}, {ID: "b", Zone: "2"}, {ID: "c", Zone: "2"}, {ID: "d", Zone: "2"},
		})
		for key := range keys(1000) {
			got := p.Append(nil, key, 4)
			spreads(t, got, map[string]int{"1": 1, "2": 3})
			if got[0].Zone == got[1].Zone {
				t.Fatalf("%v: both in zone %s", got[:2], got[0].Zone)
			}
		}
	})
}

// When a zone is lost, of k nodes in z zones at least k - ceil(k/z) are left.
func TestZoneLoss(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for _, zones := range []int{2, 3, 5} {
			p := k.of(t, fleet(30, zones))
			for key := range keys(200) {
				for n := 1; n < 8; n++ {
					lost := map[string]int{}
					for _, node := range p.Append(nil, key, n) {
						lost[node.Zone]++
					}
					most := slices.Max(slices.Collect(maps.Values(lost)))
					if most > (n+zones-1)/zones {
						t.Fatalf("%d of %d nodes in one of %d zones", most, n, zones)
					}
				}
			}
		}
	})
}

// The nodes of a key change by one when a node comes or goes: nobody else has to be told.
func TestSetsChangeByOne(t *testing.T) {
	for _, zones := range []int{1, 2, 3} {
		nodes := fleet(31, zones, 1)
		ring, err := hashring.NewRing(nodes[:30], hashring.RingConfig{VNodes: 20})
		if err != nil {
			t.Fatal(err)
		}
		more, err := ring.With(nodes[30:])
		if err != nil {
			t.Fatal(err)
		}
		for key := range keys(3000) {
			for n := 2; n <= 5; n++ {
				was, is := ring.Append(nil, key, n), more.Append(nil, key, n)
				gone := 0
				for _, node := range was {
					if !slices.Contains(is, node) {
						gone++
					}
				}
				if gone > 1 || gone == 1 && !slices.Contains(is, nodes[30]) {
					t.Fatalf("%v became %v", was, is)
				}
			}
		}
	}
}

// The second node of a key is not a function of the first: what a node leaves behind when it
// goes is spread over the others. A ring of 20 points has 20 neighbours at most, a table all.
func TestHeirs(t *testing.T) {
	const nodes = 30
	for _, k := range kinds() {
		least, most := map[string]int{"ring": 12, "table": nodes - 1}, map[string]float64{
			"ring": .3, "table": 4.0 / (nodes - 1),
		}
		p := k.of(t, fleet(nodes, 1))
		heirs, all := map[string]int{}, 0
		for key := range keys(100000) {
			if two := p.Append(nil, key, 2); two[0].ID == "node-7" {
				heirs[two[1].ID]++
				all++
			}
		}
		share := float64(slices.Max(slices.Collect(maps.Values(heirs)))) / float64(all)
		if len(heirs) < least[k.name] || share > most[k.name] {
			t.Errorf("%s: %d heirs of %d, one has %v", k.name, len(heirs), nodes-1, share)
		}
	}
}

func TestFirst(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p := k.of(t, fleet(20, 3))
		down := map[string]bool{}
		up := func(n hashring.Node) bool { return !down[n.ID] }
		for key := range keys(100) {
			clear(down)
			for _, want := range p.Append(nil, key, 20) {
				if got, ok := p.First(key, up); !ok || got != want {
					t.Fatalf("with %d down: got %v, %v, want %v", len(down), got, ok, want)
				}
				down[want.ID] = true
			}
			if got, ok := p.First(key, up); ok || got != (hashring.Node{}) {
				t.Fatalf("with all down: got %v", got)
			}
		}
	})
}
