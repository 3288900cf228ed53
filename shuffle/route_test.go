package shuffle_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/shuffle"
)

// Each member comes once and none from outside, those that are healthy alone, and whoever is
// passed over leaves its load to all others.
func TestRoute(t *testing.T) {
	s := newSharder(t, fleet(30, 3), shuffle.Config{Size: 4})
	shard := ids(s.Shard("acme"))
	for down := range 16 {
		var want []string
		for i, id := range shard {
			if down>>i&1 == 0 {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		healthy := func(n shuffle.Node) bool { return slices.Contains(want, n.ID) }
		first := map[string]float64{}
		for range 3000 {
			var got []string
			for n := range s.Route("acme", healthy) {
				got = append(got, n.ID)
			}
			if len(got) > 0 {
				first[got[0]]++
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		for id, n := range first {
			if even := 3000 / float64(len(want)); math.Abs(n-even) > 5*math.Sqrt(even) {
				t.Errorf("%s is first %v times of 3000, of %d", id, n, len(want))
			}
		}
	}
}

// A node is asked about when its turn has come, and not before.
func TestRouteLazy(t *testing.T) {
	s := newSharder(t, fleet(30, 3), shuffle.Config{Size: 4})
	asked := 0
	route := s.Route("acme", func(shuffle.Node) bool { asked++; return true })
	for range route {
		break
	}
	if asked != 1 {
		t.Errorf("asked about %d", asked)
	}
	n := 0
	for range route { // again
		n++
	}
	if n != 4 || asked != 5 {
		t.Errorf("%d nodes, asked about %d", n, asked)
	}
}

// What healthy panics with goes to the caller, and nothing is left behind.
func TestRoutePanics(t *testing.T) {
	s := newSharder(t, fleet(30, 3), shuffle.Config{})
	defer func() {
		if got := recover(); got != "boom" {
			t.Errorf("recovered %v", got)
		}
		if len(s.Shard("acme")) != 3 {
			t.Error("no shard any more")
		}
	}()
	for range s.Route("acme", func(shuffle.Node) bool { panic("boom") }) {
		t.Error("a node")
	}
}

// A key has its node in the shard; keys are spread evenly, over the members and over all nodes,
// also one that all tenants have, and one that is the tenant's own name; and when a shard loses
// a node only its keys move.
func TestPick(t *testing.T) {
	const keys = 20000
	s := newSharder(t, fleet(20, 1), shuffle.Config{Size: 4})
	shard := ids(s.Shard("acme"))
	less := with(t, s, nil, shard[1])
	counts := map[string]int{}
	for i := range keys {
		key := fmt.Sprint("key-", i)
		n, ok := s.Pick("acme", key)
		if !ok || !slices.Contains(shard, n.ID) {
			t.Fatalf("%v of %v", n, shard)
		}
		counts[n.ID]++
		now, _ := less.Pick("acme", key)
		if now != n && n.ID != shard[1] && slices.Contains(shard, now.ID) {
			t.Fatalf("%s moved from %v to %v, but %s has gone", key, n, now, shard[1])
		}
	}
	for id, n := range counts {
		if n < keys*23/100 || n > keys*27/100 {
			t.Errorf("%s has %d of %d", id, n, keys)
		}
	}
	for name, key := range map[string]func(tenant string) string{
		"own name": func(tenant string) string { return tenant },
		"index":    func(string) string { return "index" },
	} {
		clear(counts)
		for i := range keys {
			n, _ := s.Pick(tenant(i), key(tenant(i)))
			counts[n.ID]++
		}
		for id, n := range counts {
			if n < keys*42/1000 || n > keys*58/1000 {
				t.Errorf("%s: %s has %d of %d", name, id, n, keys)
			}
		}
	}
}

func TestUnion(t *testing.T) {
	before := newSharder(t, fleet(12, 1), shuffle.Config{Size: 4})
	after := newSharder(t, fleet(13, 1, 2), shuffle.Config{Size: 3})
	for i := range 200 {
		was, is := ids(before.Shard(tenant(i))), ids(after.Shard(tenant(i)))
		got := shuffle.Union(before, after, tenant(i))
		all := ids(got)
		if !slices.Equal(all[:3], is) || common(all, was) != 4 ||
			len(all) != 7-common(was, is) || got[0].Weight != 2 {
			t.Fatalf("%v and %v: %v", was, is, got)
		}
	}
	shard := ids(after.Shard("acme"))
	for _, none := range []*shuffle.Sharder{nil, {}} {
		if got := ids(shuffle.Union(none, after, "acme")); !slices.Equal(got, shard) {
			t.Errorf("got %v", got)
		}
		if got := ids(shuffle.Union(after, none, "acme")); !slices.Equal(got, shard) {
			t.Errorf("got %v", got)
		}
	}
	if got := shuffle.Union(nil, nil, "acme"); got != nil {
		t.Errorf("got %v", got)
	}
}

// The story of the package: one tenant ruins its nodes, and who goes round them in its own
// shard is served.
func TestNoisyTenant(t *testing.T) {
	const tenants = 4000
	d := shuffle.Design{Nodes: 8, Size: 2}
	s := newSharder(t, fleet(8, 1), shuffle.Config{Size: 2})
	ruined := ids(s.Shard("noisy"))
	healthy := func(n shuffle.Node) bool { return !slices.Contains(ruined, n.ID) }
	down := 0.
	for i := range tenants {
		served := false
		for range s.Route(tenant(i), healthy) {
			served = true
			break
		}
		if !served {
			down++
		}
	}
	p := d.Overlap()[2]
	if sigma := math.Sqrt(tenants * p * (1 - p)); math.Abs(down-tenants*p) > 3*sigma {
		t.Errorf("%v of %d are down, want %v", down, tenants, tenants*p)
	}
}

// A zone that is lost takes no more than its part.
func TestZoneLoss(t *testing.T) {
	for zones := 1; zones <= 5; zones++ {
		for size := 1; size <= 12; size++ {
			s := newSharder(t, fleet(30, zones), shuffle.Config{Size: size})
			for i := range 30 {
				left := map[string]int{}
				for _, n := range s.Shard(tenant(i)) {
					left[n.Zone]++
				}
				for zone, n := range left {
					if most := (size + zones - 1) / zones; n > most {
						t.Fatalf("%d of %d are in %s of %d zones", n, size, zone, zones)
					}
				}
			}
		}
	}
}

func FuzzSharder(f *testing.F) {
	f.Add("acme", "key", byte(9), byte(3), byte(3), []byte{1, 2})
	f.Add("", "", byte(1), byte(0), byte(1), []byte{})
	f.Add("\xff", "\xff", byte(200), byte(100), byte(5), []byte{0, 7, 255})
	f.Fuzz(func(t *testing.T, name, key string, n, size, zones byte, weights []byte) {
		nodes := fleet(1+int(n), 1+int(zones%9))
		for i := range nodes {
			if len(weights) > 0 {
				nodes[i].Weight = uint32(weights[i%len(weights)])
			}
		}
		s := newSharder(t, nodes, shuffle.Config{Size: int(size)})
		shard := ids(s.Shard(name))
		want := min(int(size), len(nodes))
		if size == 0 {
			want = min(3, len(nodes))
		}
		sorted := slices.Sorted(slices.Values(shard))
		if len(shard) != want || len(slices.Compact(sorted)) != want {
			t.Fatalf("%d of %d: %v", size, len(nodes), shard)
		}
		picked, ok := s.Pick(name, key)
		if !ok || !slices.Contains(shard, picked.ID) {
			t.Fatalf("picked %v of %v", picked, shard)
		}
		if len(nodes) == 1 {
			return
		}
		// Without another node, the others of the shard stay.
		gone := nodes[int(n)/2].ID
		is := ids(with(t, s, nil, gone).Shard(name))
		stay := common(is, shard)
		if slices.Contains(shard, gone) != (stay < len(shard)) || stay < len(shard)-1 {
			t.Fatalf("%v became %v without %s", shard, is, gone)
		}
	})
}
