package shuffle_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/shuffle"
)

// fleet returns n nodes in some zones, with weights in turn.
func fleet(n, zones int, weights ...uint32) []shuffle.Node {
	nodes := make([]shuffle.Node, n)
	for i := range nodes {
		nodes[i].ID, nodes[i].Zone = fmt.Sprintf("node-%d", i), fmt.Sprintf("zone-%d", i%zones)
		if len(weights) > 0 {
			nodes[i].Weight = weights[i%len(weights)]
		}
	}
	return nodes
}

func tenant(i int) string { return fmt.Sprintf("tenant-%d", i) }

func newSharder(t *testing.T, nodes []shuffle.Node, cfg shuffle.Config) *shuffle.Sharder {
	t.Helper()
	s, err := shuffle.New(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(t *testing.T, s *shuffle.Sharder, add []shuffle.Node, remove ...string) *shuffle.Sharder {
	t.Helper()
	next, err := s.With(add, remove...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func ids(nodes []shuffle.Node) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.ID
	}
	return names
}

// common returns how many of b are in a.
func common(a, b []string) int {
	n := 0
	for _, id := range b {
		if slices.Contains(a, id) {
			n++
		}
	}
	return n
}

func TestSize(t *testing.T) {
	of := func(n int) func(string) int { return func(string) int { return n } }
	for _, test := range []struct {
		nodes, size int
		of          func(string) int
		want        int
	}{
		{10, 0, nil, 3},
		{2, 0, nil, 2},
		{10, 1, nil, 1},
		{10, 4, nil, 4},
		{10, 10, nil, 10},
		{10, 11, nil, 10},
		{10, math.MaxInt, nil, 10},
		{10, -1, nil, 10},
		{10, math.MinInt, nil, 10},
		{10, 4, of(0), 4},
		{10, 0, of(0), 3},
		{10, 4, of(6), 6},
		{10, 4, of(-1), 10},
		{10, -1, of(2), 2},
		{200, 100, nil, 100},
		{1, 1, nil, 1},
	} {
		s := newSharder(t, fleet(test.nodes, 3), shuffle.Config{Size: test.size, SizeOf: test.of})
		for i := range 50 {
			got := ids(s.Shard(tenant(i)))
			if slices.Sort(got); len(got) != test.want || len(slices.Compact(got)) != test.want {
				t.Fatalf("%+v: got %v", test, got)
			}
		}
	}
}

// A shard of one node more has the same ones, in the same order, and one more.
func TestNested(t *testing.T) {
	for _, nodes := range [][]shuffle.Node{fleet(40, 1), fleet(40, 3), fleet(40, 7, 1, 3, 9)} {
		size := 0
		s := newSharder(t, nodes, shuffle.Config{SizeOf: func(string) int { return size }})
		for i := range 100 {
			var before []shuffle.Node
			for size = 1; size <= 40; size++ {
				shard := s.Shard(tenant(i))
				if !slices.Equal(shard[:size-1], before) {
					t.Fatalf("%v, and with one more %v", before, shard)
				}
				before = shard
			}
		}
	}
}

// A shard has as many nodes of each zone as of the others, as long as there are.
func TestZones(t *testing.T) {
	for _, test := range []struct {
		zones []int // nodes in each
		size  int
		want  []int // of a shard, in descending order
	}{
		{[]int{10, 10, 10}, 1, []int{1, 0, 0}},
		{[]int{10, 10, 10}, 2, []int{1, 1, 0}},
		{[]int{10, 10, 10}, 4, []int{2, 1, 1}},
		{[]int{1, 3}, 4, []int{3, 1}},
		{[]int{1, 1, 8}, 5, []int{3, 1, 1}},
		{[]int{2, 9, 9}, 12, []int{5, 5, 2}},
	} {
		var nodes []shuffle.Node
		for z, n := range test.zones {
			for i := range n {
				nodes = append(nodes, shuffle.Node{ID: fmt.Sprint(z, "/", i), Zone: fmt.Sprint(z)})
			}
		}
		s := newSharder(t, nodes, shuffle.Config{Size: test.size})
		for i := range 100 {
			counts := make([]int, len(test.zones))
			for _, n := range s.Shard(tenant(i)) {
				counts[n.Zone[0]-'0']++
			}
			slices.Sort(counts)
			slices.Reverse(counts)
			if !slices.Equal(counts, test.want) {
				t.Fatalf("%v, %d: got %v, want %v", test.zones, test.size, counts, test.want)
			}
		}
	}
}

// When a node comes or goes, one member of a shard changes at most, and to or from it; and the
// shards that change are as many as have to.
func TestChurn(t *testing.T) {
	const tenants = 8000
	for _, test := range []struct{ nodes, size, zones int }{
		{20, 3, 1}, {50, 5, 1}, {100, 5, 1}, {100, 20, 1}, {90, 6, 3},
	} {
		before := newSharder(t, fleet(test.nodes, test.zones), shuffle.Config{Size: test.size})
		changed := [2]int{}
		after := []*shuffle.Sharder{
			with(t, before, []shuffle.Node{{ID: "new", Zone: "zone-0"}}),
			with(t, before, nil, "node-3"),
		}
		for i := range tenants {
			was := ids(before.Shard(tenant(i)))
			for j, after := range after {
				is := ids(after.Shard(tenant(i)))
				stay := common(was, is)
				if stay == test.size {
					continue
				}
				changed[j]++
				if stay != test.size-1 || j == 0 && !slices.Contains(is, "new") ||
					j == 1 && !slices.Contains(was, "node-3") {
					t.Fatalf("%v became %v", was, is)
				}
			}
		}
		if test.zones > 1 {
			continue // the zone that grows has a larger part in some shards
		}
		for j, of := range []int{test.nodes + 1, test.nodes} {
			p := float64(test.size) / float64(of)
			sigma := math.Sqrt(tenants * p * (1 - p))
			if d := math.Abs(float64(changed[j]) - tenants*p); d > 3*sigma {
				t.Errorf("%+v: %d shards changed, want %v", test, changed[j], tenants*p)
			}
		}
	}
}

// Whatever list a sharder came by, it is the one that the list makes, and it comes back to
// where it was.
func TestWithIsNew(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	cfg := shuffle.Config{
		Size: 4, Seed: 3, Overrides: map[string][]string{"tenant-1": {"node-2", "node-9"}},
		Dedicated: map[string][]string{"tenant-2": {"node-5", "node-7"}},
	}
	all := fleet(20, 3, 1, 2)
	for range 100 {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		n := 5 + rnd.IntN(10)
		s := newSharder(t, all[:n], cfg)
		gone := rnd.IntN(n - 3)
		next := with(t, s, all[n:], ids(all[:gone])...)
		same(t, next, newSharder(t, all[gone:], cfg))
		back := with(t, next, all[:gone], ids(all[n:])...)
		same(t, back, s)
	}
}

func same(t *testing.T, a, b *shuffle.Sharder) {
	t.Helper()
	if a.Fingerprint() != b.Fingerprint() || !slices.Equal(a.Nodes(), b.Nodes()) ||
		!slices.Equal(a.Missing(), b.Missing()) {
		t.Fatalf("%v and %v: %#x, %#x", a.Nodes(), b.Nodes(), a.Fingerprint(), b.Fingerprint())
	}
	for i := range 30 {
		if x, y := a.Shard(tenant(i)), b.Shard(tenant(i)); !slices.Equal(x, y) {
			t.Fatalf("%v and %v", x, y)
		}
		x, _ := a.Pick(tenant(i), "key")
		if y, _ := b.Pick(tenant(i), "key"); x != y {
			t.Fatalf("%v and %v", x, y)
		}
	}
}

// In how many shards a node is follows its weight, exactly where they are of one node and
// nearly where they are small; and a weight that changes takes from others, or gives to them.
func TestWeights(t *testing.T) {
	const tenants = 60000
	for _, test := range []struct {
		nodes, size int
		within      float64
	}{{10, 1, .03}, {100, 3, .07}} {
		nodes := fleet(test.nodes, 1, 1, 2, 4, 1, 2)
		s := newSharder(t, nodes, shuffle.Config{Size: test.size})
		counts, sum := map[uint32]float64{}, 0.
		for i := range tenants {
			for _, n := range s.Shard(tenant(i)) {
				counts[n.Weight]++
			}
		}
		for _, n := range nodes {
			sum += float64(n.Weight)
		}
		for weight, parts := range map[uint32]float64{1: 2, 2: 4, 4: 4} { // of five nodes
			want := tenants * float64(test.size) * parts * float64(test.nodes) / 5 / sum
			if got := counts[weight]; math.Abs(got/want-1) > test.within {
				t.Errorf("%d nodes, shards of %d: weight %d is in %v, want %v",
					test.nodes, test.size, weight, got, want)
			}
		}
	}
	before := newSharder(t, fleet(10, 1), shuffle.Config{})
	after := with(t, before, []shuffle.Node{{ID: "node-4", Zone: "zone-0", Weight: 2}}, "node-4")
	for i := range 5000 {
		was, is := ids(before.Shard(tenant(i))), ids(after.Shard(tenant(i)))
		if stay := common(was, is); stay < 2 || stay == 2 && !slices.Contains(is, "node-4") {
			t.Fatalf("%v became %v", was, is)
		}
	}
}

// All shards are as likely.
func TestUniform(t *testing.T) {
	const tenants = 28000
	s := newSharder(t, fleet(8, 1), shuffle.Config{Size: 2})
	counts := map[string]float64{}
	for i := range tenants {
		shard := ids(s.Shard(tenant(i)))
		slices.Sort(shard)
		counts[strings.Join(shard, " ")]++
	}
	chi := 0.
	for _, got := range counts {
		chi += (got - 1000) * (got - 1000) / 1000
	}
	if len(counts) != 28 || chi > 55.5 { // 27 degrees of freedom: once in a thousand
		t.Errorf("%d shards, chi-squared %v", len(counts), chi)
	}
}

// How much shards have in common is as the theory says.
func TestOverlapFits(t *testing.T) {
	for _, d := range []shuffle.Design{
		{Nodes: 8, Size: 2},
		{Nodes: 8, Size: 4},
		{Nodes: 20, Size: 3},
		{Nodes: 40, Size: 8},
		{Nodes: 30, Size: 6, Zones: 3},
		{Nodes: 30, Size: 4, Zones: 3},
		{Nodes: 30, Size: 5, Zones: 3},
	} {
		const pairs = 20000
		s := newSharder(t, fleet(d.Nodes, max(1, d.Zones)), shuffle.Config{Size: d.Size})
		counts := make([]float64, d.Size+1)
		for i := range pairs {
			counts[common(ids(s.Shard(tenant(2*i))), ids(s.Shard(tenant(2*i+1))))]++
		}
		chi, got, want, degrees := 0., 0., 0., -1
		for j, p := range d.Overlap() {
			got, want = got+counts[j], want+pairs*p
			if want < 10 && j < d.Size { // too few to tell
				continue
			}
			chi += (got - want) * (got - want) / max(want, 10)
			got, want = 0, 0
			degrees++
		}
		if limit := float64(degrees) + 5*math.Sqrt(2*float64(degrees)); chi > limit {
			t.Errorf("%+v: chi-squared %v for %d degrees: %v", d, chi, degrees, counts)
		}
	}
}

// Routing does not change when the caller writes to what it gave or got.
func TestImmutable(t *testing.T) {
	nodes := fleet(10, 2)
	overrides := map[string][]string{"a": {"node-1", "node-2", "away"}}
	dedicated := map[string][]string{"b": {"node-3"}}
	s := newSharder(t, nodes, shuffle.Config{Overrides: overrides, Dedicated: dedicated})
	other := newSharder(t, fleet(10, 2), shuffle.Config{
		Overrides: map[string][]string{"a": {"node-1", "node-2", "away"}},
		Dedicated: map[string][]string{"b": {"node-3"}},
	})
	clear(nodes)
	overrides["a"][0], overrides["c"] = "node-9", []string{"node-9"}
	dedicated["b"][0] = "node-8"
	clear(s.Nodes())
	clear(s.Missing())
	clear(s.Shard("a"))
	clear(s.Shard("x"))
	same(t, s, other)
	same(t, with(t, s, nil), other)
	if got := ids(s.Shard("a")); !slices.Equal(got, []string{"node-1", "node-2"}) {
		t.Errorf("got %v", got)
	}
	if nodes := s.Nodes(); nodes[0].ID != "node-0" || nodes[0].Weight != 1 {
		t.Errorf("nodes %v", nodes)
	}
}

func TestOverrides(t *testing.T) {
	cfg := shuffle.Config{
		Name:      "workers",
		Overrides: map[string][]string{"pinned": {"node-1", "gone", "node-0"}, "lost": {"gone"}},
		Dedicated: map[string][]string{"whale": {"node-8", "node-9", "away"}, "twin": {"node-8"}},
	}
	s := newSharder(t, fleet(10, 1), cfg)
	for name, want := range map[string][]string{
		"pinned": {"node-1", "node-0"}, "whale": {"node-8", "node-9"}, "twin": {"node-8"},
	} {
		if got := ids(s.Shard(name)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
		if n, ok := s.Pick(name, "key"); !ok || !slices.Contains(want, n.ID) {
			t.Errorf("%s: %v", name, n)
		}
		for range 20 {
			for n := range s.Route(name, nil) {
				if got := ids(s.Shard(name)); !slices.Equal(got, want) {
					t.Fatalf("%s has %v, want %v, while routed to %v", name, got, want, n)
				}
			}
		}
	}
	if got := s.Missing(); !slices.Equal(got, []string{"away", "gone"}) {
		t.Errorf("missing %v", got)
	}
	unlike := newSharder(t, fleet(8, 1), shuffle.Config{}) // those that are shared
	for i := range 1000 {
		if got := s.Shard(tenant(i)); !slices.Equal(got, unlike.Shard(tenant(i))) {
			t.Fatalf("got %v", got)
		}
	}
	if got := s.Shard("lost"); !slices.Equal(got, unlike.Shard("lost")) {
		t.Errorf("one without any of its nodes has %v", got)
	}

	back := with(t, s, []shuffle.Node{{ID: "away"}})
	if got := ids(back.Shard("whale")); !slices.Equal(got, []string{"node-8", "node-9", "away"}) {
		t.Errorf("whale has %v", got)
	}
	alone := with(t, s, nil, "node-8", "node-9")
	if got := alone.Shard("whale"); !slices.Equal(got, unlike.Shard("whale")) {
		t.Errorf("whale has %v", got)
	}
	shared := ids(fleet(8, 1))
	if _, err := s.With(nil, shared...); !errors.Is(err, shuffle.ErrNoNodes) ||
		err.Error() != `shuffle: no nodes: all 2 are dedicated (in "workers")` {
		t.Errorf("got %v", err)
	}
	all := cfg
	all.SizeOf = func(string) int { return -1 }
	if got := newSharder(t, fleet(10, 1), all).Shard("x"); len(got) != 8 {
		t.Errorf("all that are shared: %v", got)
	}
}

func TestValidate(t *testing.T) {
	err := shuffle.Config{
		Name:      "workers",
		Overrides: map[string][]string{"b": {"x", "x"}, "a": {}, "d": {"y"}, "whale": {"z"}},
		Dedicated: map[string][]string{"whale": {"y"}, "none": nil},
	}.Validate()
	const want = `shuffle: Config "workers": Overrides["a"] names no node; ` +
		`Overrides["b"] names "x" twice; Overrides["d"] names "y", which is dedicated; ` +
		`Overrides["whale"] is in Dedicated too; Dedicated["none"] names no node`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if _, err := shuffle.New(fleet(3, 1), shuffle.Config{
		Overrides: map[string][]string{"a": nil},
	}); err == nil {
		t.Error("no error of New")
	}
	if err := (shuffle.Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestBadNodes(t *testing.T) {
	s := newSharder(t, fleet(3, 1), shuffle.Config{Name: "workers"})
	for _, test := range []struct {
		nodes  []shuffle.Node
		remove []string
		err    error
		want   string
	}{
		{nil, ids(fleet(3, 1)), shuffle.ErrNoNodes, `shuffle: no nodes (in "workers")`},
		{[]shuffle.Node{{}}, nil, shuffle.ErrNoID, `shuffle: node without an ID (in "workers")`},
		{
			fleet(1, 1), nil, shuffle.ErrDuplicateNode,
			`shuffle: duplicate node: "node-0" (in "workers")`,
		},
		{nil, []string{"x"}, shuffle.ErrUnknownNode, `shuffle: unknown node: "x" (in "workers")`},
		{
			many(1 << 16), nil, shuffle.ErrTooMany,
			`shuffle: too many nodes: 65539, but there may be at most 65535 (in "workers")`,
		},
	} {
		next, err := s.With(test.nodes, test.remove...)
		if next != nil || !errors.Is(err, test.err) || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	if _, err := shuffle.New(nil, shuffle.Config{}); !errors.Is(err, shuffle.ErrNoNodes) {
		t.Errorf("got %v", err)
	}
}

// xxhash makes it easy to find two texts of one hash. One of two such nodes would never have a
// tenant; and two such tenants have one shard, unless Hash is another one.
func TestOneHash(t *testing.T) {
	a, b := "0123456789abcdef", collides("0123456789abcdef", "another ")
	if xxhash.Sum64String(a) != xxhash.Sum64String(b) || a == b {
		t.Fatalf("%q and %q do not have the same hash", a, b)
	}
	_, err := shuffle.New([]shuffle.Node{{ID: a}, {ID: "c"}, {ID: b}}, shuffle.Config{})
	if !errors.Is(err, shuffle.ErrDuplicateNode) {
		t.Errorf("got %v", err)
	}
	s := newSharder(t, fleet(100, 1), shuffle.Config{Seed: 42})
	if !slices.Equal(s.Shard(a), s.Shard(b)) {
		t.Error("two shards: then the doc of Hash is wrong")
	}
	secret := hashring.SipHash([16]byte{15: 1})
	s = newSharder(t, fleet(100, 1), shuffle.Config{Hash: secret})
	if slices.Equal(s.Shard(a), s.Shard(b)) {
		t.Error("one shard")
	}
}

// collides returns a text of 16 bytes that begins with first and has the hash of text.
func collides(text, first string) string {
	const p1, p2, p4 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f, 0x85ebca77c2b2ae63
	round := func(b uint64) uint64 { return bits.RotateLeft64(b*p2, 31) * p1 }
	inverse := func(odd uint64) uint64 {
		x := odd
		for range 6 {
			x *= 2 - odd*x
		}
		return x
	}
	word := func(s string) uint64 { return binary.LittleEndian.Uint64([]byte(s)) }
	const begin = 0x27d4eb2f165667c5 + 16
	step := func(h, b uint64) uint64 {
		h ^= round(b)
		return bits.RotateLeft64(h, 27)*p1 + p4
	}
	// Whatever the first words make different, the second takes back.
	want := step(begin, word(text[:8])) ^ round(word(text[8:]))
	second := want ^ step(begin, word(first))
	second = bits.RotateLeft64(second*inverse(p1), -31) * inverse(p2)
	return first + string(binary.LittleEndian.AppendUint64(nil, second))
}

func many(n int) []shuffle.Node {
	nodes := make([]shuffle.Node, n)
	for i := range nodes {
		nodes[i].ID = fmt.Sprintf("n%d", i)
	}
	return nodes
}

// The zero Sharder has nothing, and no method of it fails.
func TestZero(t *testing.T) {
	s := new(shuffle.Sharder)
	_, ok := s.Pick("a", "b")
	for n := range s.Route("a", nil) {
		t.Errorf("route to %v", n)
	}
	if ok || s.Shard("a") != nil || len(s.Nodes()) != 0 || len(s.Missing()) != 0 ||
		s.Fingerprint() != 0 {
		t.Error("it has something")
	}
	same(t, with(t, s, fleet(3, 1)), newSharder(t, fleet(3, 1), shuffle.Config{}))
}

// A bad hash of tenants is as good as any, as long as they have different ones; and one that
// is the same for all gives all the same shard, and nothing worse.
func TestWeakHash(t *testing.T) {
	s := newSharder(t, fleet(10, 1), shuffle.Config{
		Hash: func(name string) uint64 { return uint64(len(name)) },
	})
	counts := map[string]int{}
	for i := range 10000 {
		for _, n := range s.Shard(strings.Repeat("x", i)) {
			counts[n.ID]++
		}
	}
	for id, n := range counts {
		if n < 2800 || n > 3200 {
			t.Errorf("%s is in %d of 10000 shards", id, n)
		}
	}
	s = newSharder(t, fleet(10, 1), shuffle.Config{Hash: func(string) uint64 { return 0 }})
	if !slices.Equal(s.Shard("a"), s.Shard("b")) || len(s.Shard("a")) != 3 {
		t.Errorf("%v and %v", s.Shard("a"), s.Shard("b"))
	}
}

// Whatever decides about shards is in the fingerprint, and nothing else.
func TestFingerprint(t *testing.T) {
	a := map[string][]string{"a": {"node-1", "node-2"}}
	b := map[string][]string{"a": {"node-2", "node-1"}}
	seen := map[uint64]string{}
	for name, s := range map[string]*shuffle.Sharder{
		"plain":       newSharder(t, fleet(9, 1), shuffle.Config{}),
		"size":        newSharder(t, fleet(9, 1), shuffle.Config{Size: 4}),
		"all":         newSharder(t, fleet(9, 1), shuffle.Config{Size: -1}),
		"seed":        newSharder(t, fleet(9, 1), shuffle.Config{Seed: 1}),
		"zones":       newSharder(t, fleet(9, 2), shuffle.Config{}),
		"weights":     newSharder(t, fleet(9, 1, 1, 2), shuffle.Config{}),
		"more":        newSharder(t, fleet(10, 1), shuffle.Config{}),
		"override":    newSharder(t, fleet(9, 1), shuffle.Config{Overrides: a}),
		"other order": newSharder(t, fleet(9, 1), shuffle.Config{Overrides: b}),
		"dedicated":   newSharder(t, fleet(9, 1), shuffle.Config{Dedicated: a}),
		"hash": newSharder(t, fleet(9, 1), shuffle.Config{
			Hash: func(name string) uint64 { return uint64(len(name)) },
		}),
	} {
		if other, ok := seen[s.Fingerprint()]; ok {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		seen[s.Fingerprint()] = name
	}
	nodes := fleet(9, 1)
	slices.Reverse(nodes)
	plain := newSharder(t, nodes, shuffle.Config{Name: "x", Size: 3}).Fingerprint()
	if seen[plain] != "plain" {
		t.Errorf("%#x is %q", plain, seen[plain])
	}
	all := newSharder(t, fleet(9, 1), shuffle.Config{Size: -7}).Fingerprint()
	if seen[all] != "all" {
		t.Errorf("%#x is %q", all, seen[all])
	}
}

// A seed makes shards that have nothing to do with those of another.
func TestSeed(t *testing.T) {
	a := newSharder(t, fleet(20, 1), shuffle.Config{Size: 5})
	b := newSharder(t, fleet(20, 1), shuffle.Config{Size: 5, Seed: 1})
	sum := 0
	for i := range 4000 {
		sum += common(ids(a.Shard(tenant(i))), ids(b.Shard(tenant(i))))
	}
	if mean := float64(sum) / 4000; math.Abs(mean-25./20) > .06 {
		t.Errorf("%v nodes in common, want 1.25", mean)
	}
}

func TestAllocations(t *testing.T) {
	whales := map[string][]string{"whale": {"node-1", "node-2"}}
	for _, test := range []struct {
		nodes []shuffle.Node
		cfg   shuffle.Config
		who   string
	}{
		{fleet(100, 1), shuffle.Config{Size: 5}, "acme"},
		{fleet(100, 3, 1, 2), shuffle.Config{Size: 5}, "acme"},
		{fleet(100, 3), shuffle.Config{Size: 60}, "acme"},
		{fleet(100, 1), shuffle.Config{Overrides: whales}, "whale"},
		{fleet(100, 1), shuffle.Config{Dedicated: whales}, "acme"},
	} {
		s := newSharder(t, test.nodes, test.cfg)
		dst := make([]shuffle.Node, 0, 60)
		healthy := func(n shuffle.Node) bool { return n.ID != "node-1" }
		routed := 0
		got := testing.AllocsPerRun(100, func() {
			s.Append(dst, test.who)
			s.Pick(test.who, "key")
			for range s.Route(test.who, healthy) {
				routed++
			}
		})
		if got != 0 || routed == 0 {
			t.Errorf("%+v: %v allocations", test.cfg, got)
		}
	}
}
