package shuffle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/shuffle"
)

func newRegistry(
	t *testing.T, nodes []shuffle.Node, cfg shuffle.RegistryConfig,
) *shuffle.Registry {
	t.Helper()
	r, err := shuffle.NewRegistry(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// promise fails if two tenants have more than most nodes in common.
func promise(t *testing.T, r *shuffle.Registry, most int) {
	t.Helper()
	lists := r.Assignments()
	for a, x := range lists {
		if sorted := slices.Sorted(slices.Values(x)); len(slices.Compact(sorted)) != len(x) {
			t.Fatalf("%s has %v", a, x)
		}
		for b, y := range lists {
			if a < b && common(x, y) > most {
				t.Fatalf("%s has %v, and %s has %v", a, x, b, y)
			}
		}
	}
}

// It finds a good part of what there can be, and all of it where that is easy.
func TestRegistryFills(t *testing.T) {
	for _, test := range []struct{ nodes, size, overlap, least int }{
		{8, 2, 1, 28},
		{8, 2, -1, 4},
		{9, 3, -1, 3},
		{8, 4, 2, 8},
		{8, 4, 0, 2}, // 0 is 1
		{16, 4, 1, 13},
		{16, 4, 2, 98},
		{20, 5, 2, 53},
		{5, 1, 0, 5},
	} {
		r := newRegistry(t, fleet(test.nodes, 1), shuffle.RegistryConfig{
			Size: test.size, MaxOverlap: test.overlap,
		})
		most := max(0, test.overlap)
		if test.overlap == 0 && test.size > 1 {
			most = 1
		}
		n := 0
		for ; ; n++ {
			shard, err := r.Assign(tenant(n))
			if err == nil {
				if len(shard) != test.size {
					t.Fatalf("%+v: %v", test, shard)
				}
				continue
			}
			refused(t, r, err, tenant(n), test.size, most)
			break
		}
		bound := shuffle.Design{Nodes: test.nodes, Size: test.size}.MaxTenants(most)
		if n < test.least || n > int(bound.Int64()) {
			t.Errorf("%+v: %d tenants, of at most %v", test, n, bound)
		}
		promise(t, r, most)
		if !r.Release(tenant(0)) || r.Release(tenant(0)) || r.Release("nobody") {
			t.Error("released")
		}
		if _, err := r.Assign("next"); err != nil && test.size < 3 {
			t.Errorf("%+v: there is room again, but: %v", test, err)
		}
	}
}

// refused looks at an error, and at what it proposes.
func refused(t *testing.T, r *shuffle.Registry, err error, who string, size, most int) {
	t.Helper()
	var none *shuffle.NoShardError
	if !errors.As(err, &none) || !errors.Is(err, shuffle.ErrNoShard) || none.Tenant != who ||
		none.Size != size || none.MaxOverlap != most || len(none.Best) != size {
		t.Fatalf("got %+v", err)
	}
	lists, overlap := r.Assignments(), 0
	if lists[who] != nil {
		t.Errorf("%s has %v", who, lists[who])
	}
	for _, list := range lists {
		overlap = max(overlap, common(list, ids(none.Best)))
	}
	if overlap != none.Overlap || overlap <= most {
		t.Errorf("the best has %d in common, but says %d", overlap, none.Overlap)
	}
}

// An answer that there is none is true, and one that there was none in time says so.
func TestNoShardError(t *testing.T) {
	r := newRegistry(t, fleet(4, 1), shuffle.RegistryConfig{Name: "gold", Size: 2, MaxOverlap: -1})
	for i := range 2 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Assign("acme")
	var none *shuffle.NoShardError
	if !errors.As(err, &none) || !none.None || none.Name != "gold" || err.Error() !=
		`shuffle: Registry "gold": no shard of 2 nodes for "acme" with at most 0 `+
			`that another tenant has; the best has 1` {
		t.Errorf("got %v", err)
	}
	r = newRegistry(t, fleet(4, 1), shuffle.RegistryConfig{Size: 2, Effort: 1})
	_, err = r.Assign("acme")
	if !errors.As(err, &none) || none.None || err.Error() !=
		`shuffle: Registry: no shard of 2 nodes for "acme" with at most 1 `+
			`that another tenant has was found in time; the best has 2` {
		t.Errorf("got %v", err)
	}
}

// A tenant that wants more than there is keeps what it had, and is not in its own way.
func TestNoShardForMore(t *testing.T) {
	size := 2
	r := newRegistry(t, fleet(4, 1), shuffle.RegistryConfig{
		MaxOverlap: -1, SizeOf: func(string) int { return size },
	})
	for i := range 2 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := r.Assignments()[tenant(0)]
	size = 3
	_, err := r.Assign(tenant(0))
	var none *shuffle.NoShardError
	if !errors.As(err, &none) || none.Overlap != 1 || common(before, ids(none.Best)) != 2 {
		t.Errorf("%v has %+v", before, err)
	}
	if got := r.Assignments()[tenant(0)]; !slices.Equal(got, before) {
		t.Errorf("%v became %v", before, got)
	}
}

// What the caller does with its list, or with what it got, is no business of a registry's.
func TestRegistryKeepsNothing(t *testing.T) {
	nodes := fleet(6, 1)
	slices.Reverse(nodes)
	first := nodes[0]
	r := newRegistry(t, nodes, shuffle.RegistryConfig{})
	shard, err := r.Assign("acme")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(shard)
	if nodes[0] != first {
		t.Error("the list was sorted in place")
	}
	clear(nodes)
	clear(shard)
	if got, err := r.Assign("acme"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// The first choice for a tenant is the shard that a Sharder has for it.
func TestRegistryBeginsAsSharder(t *testing.T) {
	s := newSharder(t, fleet(60, 3), shuffle.Config{Seed: 4})
	for i := range 100 {
		r := newRegistry(t, fleet(60, 3), shuffle.RegistryConfig{Seed: 4})
		shard, err := r.Assign(tenant(i))
		if err != nil || !slices.Equal(shard, s.Shard(tenant(i))) {
			t.Fatalf("got %v, %v, and of a Sharder %v", shard, err, s.Shard(tenant(i)))
		}
	}
}

// Shards are spread over zones as any, also those that are not the first choice.
func TestRegistryZones(t *testing.T) {
	for _, size := range []int{2, 3, 4, 5} {
		r := newRegistry(t, fleet(18, 3), shuffle.RegistryConfig{Size: size})
		n := 0
		for ; ; n++ {
			shard, err := r.Assign(tenant(n))
			if err != nil {
				break
			}
			counts := map[string]int{"zone-0": 0, "zone-1": 0, "zone-2": 0}
			for _, node := range shard {
				counts[node.Zone]++
			}
			for zone, n := range counts {
				if n < size/3 || n > (size+2)/3 {
					t.Fatalf("%d of %d in %s", n, size, zone)
				}
			}
		}
		if n < 6 {
			t.Errorf("only %d tenants with shards of %d", n, size)
		}
		promise(t, r, 1)
	}
}

// A tenant that has all it should have keeps it, and one that lacks some gets others for them.
func TestRegistrySet(t *testing.T) {
	size := 3
	r := newRegistry(t, fleet(30, 3), shuffle.RegistryConfig{
		Name: "gold", SizeOf: func(string) int { return size },
	})
	for i := range 30 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := r.Assignments()
	if err := r.Set(nil); !errors.Is(err, shuffle.ErrNoNodes) ||
		err.Error() != `shuffle: no nodes (in "gold")` {
		t.Errorf("got %v", err)
	}
	if err := r.Set(fleet(30, 3)[:28]); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range 30 {
		was := before[tenant(i)]
		kept := r.Assignments()[tenant(i)]
		shard, err := r.Assign(tenant(i))
		if err != nil {
			t.Fatal(err)
		}
		is := ids(shard)
		if common(is, was) != len(kept) || len(is) != 3 {
			t.Errorf("%v became %v", was, is)
		}
		if len(kept) < 3 {
			changed++
		}
	}
	if changed == 0 {
		t.Error("no shard had one of the nodes that are gone")
	}
	promise(t, r, 1)

	before = r.Assignments()
	size = 4
	grown, err := r.Assign(tenant(1))
	if err != nil || !slices.Equal(ids(grown)[:3], before[tenant(1)]) {
		t.Errorf("%v became %v: %v", before[tenant(1)], grown, err)
	}
	size = 2
	less, err := r.Assign(tenant(1))
	if err != nil || !slices.Equal(less, grown[:2]) {
		t.Errorf("%v became %v: %v", grown, less, err)
	}
	promise(t, r, 1)

	// All of a tenant's nodes go.
	if err := r.Set([]shuffle.Node{{ID: "x"}, {ID: "y"}}); err != nil {
		t.Fatal(err)
	}
	if got := r.Assignments(); len(got) != 0 {
		t.Errorf("assignments %v", got)
	}
	if shard, err := r.Assign(tenant(1)); err != nil || len(shard) != 2 {
		t.Errorf("got %v, %v", shard, err)
	}
}

// What it has is what Overrides takes.
func TestRegistryToSharder(t *testing.T) {
	r := newRegistry(t, fleet(30, 1), shuffle.RegistryConfig{Size: 4})
	for i := range 20 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	lists := r.Assignments()
	s := newSharder(t, fleet(30, 1), shuffle.Config{Size: 4, Overrides: lists})
	for i := range 20 {
		again, err := r.Assign(tenant(i))
		if err != nil || !slices.Equal(s.Shard(tenant(i)), again) {
			t.Errorf("%v and %v, %v", s.Shard(tenant(i)), again, err)
		}
	}
	clear(r.Assignments()[tenant(0)])
	if got := r.Assignments()[tenant(0)]; slices.Contains(got, "") {
		t.Errorf("it has changed: %v", got)
	}
}

func TestRegistryValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  shuffle.RegistryConfig
		want string
	}{
		{shuffle.RegistryConfig{}, ""},
		{shuffle.RegistryConfig{Size: 1}, ""},
		{shuffle.RegistryConfig{Size: 1, MaxOverlap: -1}, ""},
		{shuffle.RegistryConfig{Size: -1, MaxOverlap: 9}, ""},
		{
			shuffle.RegistryConfig{Name: "gold", MaxOverlap: 3, Effort: -1},
			`shuffle: RegistryConfig "gold": MaxOverlap is 3, but must be less than Size, 3; ` +
				`Effort is -1, but must be at least 1`,
		},
	} {
		err := test.cfg.Validate()
		_, newErr := shuffle.NewRegistry(fleet(3, 1), test.cfg)
		_, restoreErr := shuffle.RestoreRegistry(nil, test.cfg)
		if test.want == "" {
			if err != nil || newErr != nil {
				t.Errorf("%+v: %v, %v", test.cfg, err, newErr)
			}
			continue
		}
		for _, err := range []error{err, newErr, restoreErr} {
			if err == nil || err.Error() != test.want {
				t.Errorf("%+v: got %v", test.cfg, err)
			}
		}
	}
}

func TestRestore(t *testing.T) {
	cfg := shuffle.RegistryConfig{Name: "gold", Size: 4, MaxOverlap: 2}
	r := newRegistry(t, fleet(30, 3, 1, 5), cfg)
	for i := range 50 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Set(fleet(28, 3, 1, 5)); err != nil { // some lack a node now
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := shuffle.RestoreRegistry(data, cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(back)
	if string(again) != string(data) {
		t.Errorf("got %s, want %s", again, data)
	}
	for i := range 60 {
		a, errA := r.Assign(tenant(i))
		b, errB := back.Assign(tenant(i))
		if !slices.Equal(a, b) || errA != nil || errB != nil {
			t.Fatalf("%v and %v; %v, %v", a, b, errA, errB)
		}
	}
	promise(t, back, 2)
	if err := back.Set(nil); err == nil || !strings.Contains(err.Error(), `"gold"`) {
		t.Errorf("got %v", err)
	}
}

func TestRestoreGolden(t *testing.T) {
	r := newRegistry(t, []shuffle.Node{{ID: "b", Zone: "z"}, {ID: "a", Weight: 2}},
		shuffle.RegistryConfig{Size: 1})
	for _, name := range []string{"<x>", "x\xff"} { // which is no UTF-8
		if _, err := r.Assign(name); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(r)
	const want = `{"version":1,"nodes":[{"id":"a","zone":"","weight":2},` +
		`{"id":"b","zone":"z","weight":1}],"tenants":[` +
		`{"tenant":"\u003cx\u003e","nodes":["b"]},{"tenant":{"base64":"eP8="},"nodes":["a"]}]}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v", data, err)
	}
	back, err := shuffle.RestoreRegistry(data, shuffle.RegistryConfig{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := back.Assignments()["x\xff"]; !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %v", got)
	}
}

func TestRestoreBadData(t *testing.T) {
	const nodes = `"nodes":[{"id":"a","weight":1},{"id":"b","weight":1},{"id":"c","weight":1}]`
	tenants := func(list string) string {
		return `{"version":1,` + nodes + `,"tenants":[` + list + `]}`
	}
	for _, test := range []struct{ data, want string }{
		{``, "unexpected end of JSON input"},
		{`{"version":1,"nodes":[`, "unexpected end of JSON input"},
		{`[]`, "cannot unmarshal array"},
		{`{}`, "version 0, but only 1 is known"},
		{`{"version":2}`, "version 2, but only 1 is known"},
		{`{"version":1}`, "shuffle: no nodes"},
		{`{"version":1} {`, "invalid character"},
		{`{"version":1,` + nodes + `,"x":1}`, `unknown field "x"`},
		{`{"version":1,"nodes":[{"id":"a"},{"id":"a"}]}`, `duplicate node: "a"`},
		{`{"version":1,"nodes":[{"id":7,"weight":1}]}`, "cannot unmarshal number"},
		{`{"version":1,"nodes":[{"id":{"base64":"?"}}]}`, "illegal base64 data"},
		{`{"version":1,"nodes":[{"id":"","weight":1}]}`, "node without an ID"},
		{`{"version":1,"nodes":[{"id":"a","weight":-1}]}`, "cannot unmarshal number -1"},
		{tenants(`{"tenant":"t","nodes":["x"]}`), `tenant "t": no node "x"`},
		{tenants(`{"tenant":"t","nodes":["a","a"]}`), `tenant "t": no node "a"`},
		{tenants(`{"tenant":"t"},{"tenant":"t"}`), `tenant "t" is there twice`},
		{
			tenants(`{"tenant":"t","nodes":["a","b"]},{"tenant":"u","nodes":["c","b","a"]}`),
			`"t" and "u" have more than 1 nodes in common`,
		},
	} {
		r, err := shuffle.RestoreRegistry([]byte(test.data), shuffle.RegistryConfig{Name: "gold"})
		if r != nil || !errors.Is(err, shuffle.ErrRestore) ||
			!strings.Contains(err.Error(), test.want) ||
			!strings.HasPrefix(err.Error(), `shuffle: registry cannot be restored "gold": `) {
			t.Errorf("%s: got %v", test.data, err)
		}
	}
}

// It does not matter who comes at the same time.
func TestRegistryConcurrent(t *testing.T) {
	r := newRegistry(t, fleet(60, 3), shuffle.RegistryConfig{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 40 {
				name := tenant(g%2*40 + i)
				if _, err := r.Assign(name); err != nil {
					t.Error(err)
				}
				if i%10 == g {
					r.Release(name)
					if err := r.Set(fleet(55+i%5, 3)); err != nil {
						t.Error(err)
					}
					if _, err := r.MarshalJSON(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	promise(t, r, 1)
}

// Whatever comes and goes, the promise holds, and what is restored is the same.
func FuzzRegistry(f *testing.F) {
	f.Add(byte(12), byte(3), byte(1), byte(3), []byte("assign them all"))
	f.Add(byte(8), byte(4), byte(0), byte(1), []byte{0, 1, 2, 128, 200, 3, 255, 64})
	f.Fuzz(func(t *testing.T, nodes, size, overlap, zones byte, script []byte) {
		cfg := shuffle.RegistryConfig{
			Size: 2 + int(size%5), Effort: 2000,
			SizeOf: func(name string) int { return len(name) % 4 },
		}
		cfg.MaxOverlap = int(overlap)%cfg.Size - 1
		most := max(cfg.MaxOverlap, 0)
		if cfg.MaxOverlap == 0 {
			most = 1
		}
		n, z := 3+int(nodes%30), 1+int(zones%5)
		r := newRegistry(t, fleet(n, z), cfg)
		for _, b := range script[:min(40, len(script))] {
			name := strings.Repeat("x", int(b%4)) + fmt.Sprint(b%16)
			switch {
			case b < 160:
				if _, err := r.Assign(name); err != nil && !errors.Is(err, shuffle.ErrNoShard) {
					t.Fatal(err)
				}
			case b < 200:
				r.Release(name)
			default:
				less := max(1, n-int(b%5))
				if err := r.Set(fleet(less, z)); err != nil {
					t.Fatal(err)
				}
			}
			promise(t, r, most)
		}
		data, _ := r.MarshalJSON()
		back, err := shuffle.RestoreRegistry(data, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := back.MarshalJSON(); string(again) != string(data) {
			t.Fatalf("got %s, want %s", again, data)
		}
	})
}

// The same assignments lead to the same shard, whoever came first.
func TestRegistryDeterministic(t *testing.T) {
	cfg := shuffle.RegistryConfig{Size: 5, MaxOverlap: 2}
	r := newRegistry(t, fleet(20, 1), cfg)
	for i := range 40 {
		if _, err := r.Assign(tenant(i)); err != nil {
			t.Fatal(err)
		}
	}
	data, _ := r.MarshalJSON()
	want, err := r.Assign("acme")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		back, _ := shuffle.RestoreRegistry(data, cfg)
		name := tenant(100 + rand.IntN(100))
		if _, err := back.Assign(name); err == nil {
			back.Release(name)
		}
		if got, err := back.Assign("acme"); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}
