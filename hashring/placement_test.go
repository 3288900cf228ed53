package hashring_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/hashring"
)

// fleet returns n nodes in so many zones, with weights in turn.
func fleet(n, zones int, weights ...uint32) []hashring.Node {
	nodes := make([]hashring.Node, n)
	for i := range nodes {
		nodes[i].ID = fmt.Sprintf("node-%d", i)
		if zones > 1 {
			nodes[i].Zone = fmt.Sprintf("zone-%d", i%zones)
		}
		if len(weights) > 0 {
			nodes[i].Weight = weights[i%len(weights)]
		}
	}
	return nodes
}

// placement is what a Ring and a Table have in common.
type placement interface { //nolint:interfacebloat // What tests ask of both.
	hashring.Placement
	Owner(key string) (hashring.Node, bool)
	Append(dst []hashring.Node, key string, n int) []hashring.Node
	First(key string, eligible func(hashring.Node) bool) (hashring.Node, bool)
	Candidates(key string) iter.Seq[hashring.Node]
	Report() hashring.Report
}

// config is what both configs have.
type config struct {
	name string
	seed uint64
	hash func(string) uint64
}

// kind is a ring, or a table.
type kind struct {
	name string
	make func([]hashring.Node, config) (placement, error)
	with func(p placement, add []hashring.Node, remove ...string) (placement, error)
}

func kinds() []kind {
	return []kind{
		{
			"ring", func(nodes []hashring.Node, c config) (placement, error) {
				return hashring.NewRing(nodes, hashring.RingConfig{
					Name: c.name, VNodes: 20, Seed: c.seed, Hash: c.hash,
				})
			}, func(p placement, add []hashring.Node, remove ...string) (placement, error) {
				return p.(*hashring.Ring).With(add, remove...)
			},
		},
		{
			"table", func(nodes []hashring.Node, c config) (placement, error) {
				return hashring.NewTable(nodes, hashring.TableConfig{
					Name: c.name, Slots: 4096, Seed: c.seed, Hash: c.hash,
				})
			}, func(p placement, add []hashring.Node, remove ...string) (placement, error) {
				return p.(*hashring.Table).With(add, remove...)
			},
		},
	}
}

// each runs a test for rings and for tables.
func each(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func (k kind) of(t *testing.T, nodes []hashring.Node) placement {
	t.Helper()
	p, err := k.make(nodes, config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keys(n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("user:%09d", i)) {
				return
			}
		}
	}
}

// agree fails the test unless two placements have the same nodes for all keys.
func agree(t *testing.T, a, b placement) {
	t.Helper()
	if a.Fingerprint() != b.Fingerprint() {
		t.Errorf("fingerprints %#x and %#x", a.Fingerprint(), b.Fingerprint())
	}
	for key := range keys(300) {
		if x, y := a.Append(nil, key, 99), b.Append(nil, key, 99); !slices.Equal(x, y) {
			t.Fatalf("%s: %v and %v", key, x, y)
		}
	}
}

// TestErrors is about lists that mean nothing.
func TestErrors(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, test := range []struct {
		name  string
		nodes []hashring.Node
		want  error
		text  string
	}{
		{"nil", nil, hashring.ErrNoNodes, "hashring: no nodes"},
		{"empty", []hashring.Node{}, hashring.ErrNoNodes, "hashring: no nodes"},
		{
			"no ID",
			[]hashring.Node{{ID: "a"}, {Zone: "z"}},
			hashring.ErrNoID, "hashring: node without an ID",
		},
		{
			"twice",
			[]hashring.Node{{ID: "a"}, {ID: "b"}, {ID: "a", Zone: "z"}},
			hashring.ErrDuplicateNode, `hashring: duplicate node: "a"`,
		},
		{
			"a long ID twice",
			[]hashring.Node{{ID: long}, {ID: long}},
			hashring.ErrDuplicateNode, `hashring: duplicate node: "` + long[:100] + `"`,
		},
		{
			"too many", make([]hashring.Node, 1<<16), hashring.ErrTooLarge,
			"hashring: too large: 65536 nodes, but there may be at most 65535",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, k kind) {
				_, err := k.make(test.nodes, config{})
				if !errors.Is(err, test.want) || err.Error() != test.text {
					t.Errorf("got %v, want %s", err, test.text)
				}
				_, err = k.make(test.nodes, config{name: "users"})
				if want := test.text + ` (in "users")`; !errors.Is(err, test.want) ||
					err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			})
		})
	}
}

func TestWithErrors(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p := k.of(t, fleet(2, 1))
		for _, test := range []struct {
			name   string
			add    []hashring.Node
			remove []string
			want   error
		}{
			{"unknown", nil, []string{"node-2"}, hashring.ErrUnknownNode},
			{"before the first", nil, []string{""}, hashring.ErrUnknownNode},
			{
				"added and removed",
				[]hashring.Node{{ID: "x"}},
				[]string{"x"},
				hashring.ErrUnknownNode,
			},
			{"there already", fleet(1, 1), nil, hashring.ErrDuplicateNode},
			{"all", nil, []string{"node-0", "node-1"}, hashring.ErrNoNodes},
			{"without ID", make([]hashring.Node, 1), nil, hashring.ErrNoID},
			{"too many", make([]hashring.Node, 1<<16), nil, hashring.ErrTooLarge},
		} {
			if _, err := k.with(p, test.add, test.remove...); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", test.name, err, test.want)
			}
		}
		agree(t, p, k.of(t, fleet(2, 1)))
	})
}

// xxhash makes it easy to find two texts of one hash: of 16 bytes, the second half makes up
// for any first half. One of two such nodes would never get a key.
func TestNodesOfOneHash(t *testing.T) {
	a, b := "0123456789abcdef", collides("0123456789abcdef", "another ")
	if xxhash.Sum64String(a) != xxhash.Sum64String(b) || a == b {
		t.Fatalf("%q and %q do not have the same hash", a, b)
	}
	each(t, func(t *testing.T, k kind) {
		_, err := k.make([]hashring.Node{{ID: a}, {ID: "c"}, {ID: b}}, config{})
		if !errors.Is(err, hashring.ErrDuplicateNode) {
			t.Errorf("got %v", err)
		}
	})
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

// The zero values have no nodes. Nothing that is asked of them fails.
func TestZeroPlacements(t *testing.T) {
	for _, p := range []placement{new(hashring.Ring), new(hashring.Table)} {
		_, owner := p.Owner("key")
		_, hash := p.OwnerHash(math.MaxUint64)
		_, first := p.First("key", func(hashring.Node) bool { return true })
		if owner || hash || first {
			t.Errorf("%T has owners", p)
		}
		got := p.Append(nil, "key", 3)
		if len(got)+len(p.Nodes()) > 0 || hashring.First(p, 1) != -1 {
			t.Errorf("%T has nodes: %v", p, got)
		}
		for n := range p.Candidates("key") {
			t.Errorf("%T has a candidate: %v", p, n)
		}
		if got := p.Report(); got.Nodes != nil || got.MaxRatio+got.CV+got.ExpectedCV != 0 {
			t.Errorf("%T reports %+v", p, got)
		}
	}
	ring, err := new(hashring.Ring).With(fleet(3, 1))
	if err != nil || ring.Fingerprint() != ringOf(t, fleet(3, 1)).Fingerprint() {
		t.Errorf("with nodes: %v", err)
	}
	full, err := new(hashring.Table).With(fleet(3, 1))
	if err != nil || full.Fingerprint() != tableOf(t, fleet(3, 1)).Fingerprint() {
		t.Errorf("with nodes: %v", err)
	}
}

func TestOneNode(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for _, node := range []hashring.Node{
			{ID: "a"}, {ID: "a", Zone: "z", Weight: 7}, {ID: strings.Repeat("\x00", 1<<20)},
		} {
			p := k.of(t, []hashring.Node{node})
			node.Weight = max(1, node.Weight)
			for _, key := range []string{"", "a", strings.Repeat("key", 1<<18)} {
				if got, ok := p.Owner(key); !ok || got != node {
					t.Errorf("got %.100v, %v", got, ok)
				}
				if got := p.Append(nil, key, math.MaxInt); len(got) != 1 {
					t.Errorf("%d nodes", len(got))
				}
			}
			if r := p.Report(); r.Nodes[0].Share != 1 || r.MaxRatio != 1 || r.MinRatio != 1 ||
				r.CV != 0 || r.ExpectedCV != 0 {
				t.Errorf("report %+v", r)
			}
		}
	})
}

// The list is the caller's: it may do with it what it likes, and with what it gets.
func TestListsAreCopied(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		nodes := fleet(9, 3)
		p, want := k.of(t, nodes), k.of(t, fleet(9, 3))
		clear(nodes)
		clear(p.Nodes())
		clear(p.Append(nil, "key", 9))
		clear(p.Report().Nodes)
		agree(t, p, want)
		add := fleet(12, 3)[9:]
		q, err := k.with(p, add)
		if err != nil {
			t.Fatal(err)
		}
		clear(add)
		agree(t, q, k.of(t, fleet(12, 3)))
		agree(t, p, want)
	})
}

// The order of the list makes no difference, nor does whether a weight is 0 or 1.
func TestOrderOfListDoesNotMatter(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		nodes := fleet(25, 4, 0, 1, 2)
		want := k.of(t, nodes)
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 10 {
			rnd.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			for i := range nodes {
				nodes[i].Weight = max(1, nodes[i].Weight)
			}
			agree(t, k.of(t, nodes), want)
		}
		ids := slices.SortedFunc(slices.Values(nodes), func(a, b hashring.Node) int {
			return strings.Compare(a.ID, b.ID)
		})
		if got := want.Nodes(); !slices.Equal(got, ids) {
			t.Errorf("nodes %v", got)
		}
	})
}

// Readers need no lock, also while others are made of what they read.
func TestConcurrentUse(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p := k.of(t, fleet(20, 3))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for key := range keys(200) {
					p.Append(nil, key, 20)
					p.Owner(key)
				}
				p.Report()
			})
			wg.Go(func() {
				if _, err := k.with(p, []hashring.Node{{ID: "new"}}, "node-3"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestPlacementAllocations(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p := k.of(t, fleet(100, 3))
		h, dst := p.Hash("key"), make([]hashring.Node, 0, 100)
		third := p.Append(nil, "key", 3)[2]
		isThird := func(n hashring.Node) bool { return n == third } // called of an interface
		for name, f := range map[string]func(){
			"Owner":      func() { p.Owner("key") },
			"OwnerHash":  func() { p.OwnerHash(h) },
			"Append":     func() { p.Append(dst, "key", 3) },
			"AppendHash": func() { p.AppendHash(dst, h, 3) },
			"First":      func() { p.First("key", func(hashring.Node) bool { return true }) },
			"none":       func() { p.Append(dst, "key", 0) },
			"the third":  func() { p.First("key", isThird) },
		} {
			if got := testing.AllocsPerRun(100, f); got != 0 {
				t.Errorf("%s: %v allocations", name, got)
			}
		}
	})
}

// To range over candidates costs nothing either, of a type and not of an interface.
func TestCandidatesAllocations(t *testing.T) {
	ring := newRing(t, fleet(100, 3), hashring.RingConfig{})
	full := newTable(t, fleet(100, 3), hashring.TableConfig{})
	got := testing.AllocsPerRun(100, func() {
		n := 0
		for range ring.Candidates("key") {
			if n++; n == 3 {
				break
			}
		}
		for range full.Candidates("key") {
			if n++; n == 6 {
				break
			}
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}
