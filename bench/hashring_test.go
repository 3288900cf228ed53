package bench

import (
	"fmt"
	"math"
	"slices"
	"testing"

	authzed "github.com/authzed/consistent/hashring"
	"github.com/cespare/xxhash/v2"
	jump "github.com/dgryski/go-jump"
	"github.com/dgryski/go-rendezvous"
	"github.com/golang/groupcache/consistenthash"
	serialx "github.com/serialx/hashring"

	"github.com/stormjib/stormjib/hashring"
)

// Who has a key, of 100 nodes, with 160 points for each where there are any. Keys have 17
// bytes. Whoever lets one choose hashes them with xxhash.

func BenchmarkOwner(b *testing.B)         { serial(b, owners()) }
func BenchmarkOwnerParallel(b *testing.B) { parallel(b, owners()) }

// BenchmarkOwners asks for three nodes.
func BenchmarkOwners(b *testing.B) { serial(b, threeOwners()) }

// BenchmarkOneNodeMore adds a node, and makes 100 of them.
func BenchmarkOneNodeMore(b *testing.B) { serial(b, oneMore()) }

const (
	ringNodes  = 100
	ringPoints = 160
	ringKeys   = 1 << 12
)

func nodeNames() []string {
	names := make([]string, ringNodes)
	for i := range names {
		names[i] = fmt.Sprintf("node-%03d", i)
	}
	return names
}

func ourNodes() []hashring.Node {
	var nodes []hashring.Node
	for _, name := range nodeNames() {
		nodes = append(nodes, hashring.Node{ID: name})
	}
	return nodes
}

func keyNames() []string {
	keys := make([]string, ringKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%012d", i)
	}
	return keys
}

// must is for constructors, which have a fixed list here.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newOurTable() *hashring.Table {
	return must(hashring.NewTable(ourNodes(), hashring.TableConfig{}))
}

func newOurRing() *hashring.Ring {
	return must(hashring.NewRing(ourNodes(), hashring.RingConfig{}))
}

func newGroupcache() *consistenthash.Map {
	m := consistenthash.New(ringPoints, func(b []byte) uint32 { return uint32(xxhash.Sum64(b)) })
	m.Add(nodeNames()...)
	return m
}

func newSerialx() *serialx.HashRing {
	weights := map[string]int{}
	for _, name := range nodeNames() {
		weights[name] = ringPoints
	}
	return serialx.NewWithWeights(weights)
}

type authzedNode string

func (n authzedNode) Key() string { return string(n) }

func newAuthzed() *authzed.Ring {
	r := authzed.MustNew(xxhash.Sum64, ringPoints)
	for _, name := range nodeNames() {
		if err := r.Add(authzedNode(name)); err != nil {
			panic(err)
		}
	}
	return r
}

func newRendezvous() *rendezvous.Rendezvous {
	return rendezvous.New(nodeNames(), xxhash.Sum64String)
}

const (
	ownership = "The owner of a key, of 100 nodes"
	ownersOf3 = "Three nodes of a key"
	balanced  = "A node of a key within bounds, taken and given back"
)

func addPlacements(tb testing.TB, rs *rows) {
	tb.Helper()
	rs.add(ownership, 0, owners())
	eighth := partOf(8, "1/8", ownership, "groupcache")
	find(*rs, ownership, "stormjib").goals = []goal{atMost(8), eighth}
	find(*rs, ownership, "stormjib-ring").goals = []goal{atMost(14), eighth}
	rs.add(ownersOf3, 0, threeOwners(), atMost(20))
	rs.add(balanced, 0, balancers(tb))
	find(*rs, balanced, "stormjib").goals = []goal{atMost(45)}
}

// asked is a loop that asks for the owner of one key after another.
func asked(keys []string, ask func(key string) string) func(int) error {
	return func(n int) error {
		length := 0
		for i := range n {
			length += len(ask(keys[i%ringKeys]))
		}
		sink.Store(int64(length))
		return nil
	}
}

func owners() []contender {
	keys, names := keyNames(), nodeNames()
	table, ring := newOurTable(), newOurRing()
	keyed := hashring.TableConfig{Hash: hashring.SipHash([16]byte{1})}
	sip := must(hashring.NewTable(ourNodes(), keyed))
	group, serial := newGroupcache(), newSerialx()
	byVnode, highest := newAuthzed(), newRendezvous()
	return []contender{
		{"xxhash", asked(keys, func(key string) string {
			return names[xxhash.Sum64String(key)>>63]
		})},
		{"modulo", asked(keys, func(key string) string {
			return names[xxhash.Sum64String(key)%ringNodes]
		})},
		{"stormjib", asked(keys, func(key string) string {
			n, _ := table.Owner(key)
			return n.ID
		})},
		{"stormjib-ring", asked(keys, func(key string) string {
			n, _ := ring.Owner(key)
			return n.ID
		})},
		{"stormjib-siphash", asked(keys, func(key string) string {
			n, _ := sip.Owner(key)
			return n.ID
		})},
		{"go-jump", asked(keys, func(key string) string {
			return names[jump.Hash(xxhash.Sum64String(key), ringNodes)]
		})},
		{"groupcache", asked(keys, group.Get)},
		{"go-rendezvous", asked(keys, highest.Lookup)},
		{"authzed", asked(keys, func(key string) string {
			return must(byVnode.FindN([]byte(key), 1))[0].Key()
		})},
		{"serialx", asked(keys, func(key string) string {
			n, _ := serial.GetNode(key)
			return n
		})},
	}
}

func threeOwners() []contender {
	keys := keyNames()
	table, ring := newOurTable(), newOurRing()
	serial, byVnode := newSerialx(), newAuthzed()
	buf := make([]hashring.Node, 0, 3)
	return []contender{
		{"stormjib", asked(keys, func(key string) string {
			return table.Append(buf, key, 3)[2].ID
		})},
		{"stormjib-ring", asked(keys, func(key string) string {
			return ring.Append(buf, key, 3)[2].ID
		})},
		{"authzed", asked(keys, func(key string) string {
			return must(byVnode.FindN([]byte(key), 3))[2].Key()
		})},
		{"serialx", asked(keys, func(key string) string {
			n, _ := serial.GetNodes(key, 3)
			return n[2]
		})},
	}
}

// oneMore has what takes a node and returns another placement, which is what ours do, and
// what changes in place: there the node is taken away again.
func oneMore() []contender {
	table, ring, serial := newOurTable(), newOurRing(), newSerialx()
	byVnode := newAuthzed()
	more := []hashring.Node{{ID: "more"}}
	return []contender{
		{"stormjib-table", repeated(func() { must(table.With(more)) })},
		{"stormjib-ring", repeated(func() { must(ring.With(more)) })},
		{"serialx", repeated(func() { serial.AddWeightedNode("more", ringPoints) })},
		{"authzed-and-back", repeated(func() {
			must(0, byVnode.Add(authzedNode("more")))
			must(0, byVnode.Remove(authzedNode("more")))
		})},
		{"stormjib-table-new", repeated(func() { newOurTable() })},
		{"stormjib-ring-new", repeated(func() { newOurRing() })},
		{"groupcache-new", repeated(func() { newGroupcache() })},
		{"serialx-new", repeated(func() { newSerialx() })},
	}
}

func repeated(f func()) func(int) error {
	return func(n int) error {
		for range n {
			f()
		}
		return nil
	}
}

// TestOwners says how even the contenders are, for what is fast is worth little if it is not.
// Modulo and go-jump are even by their nature; what they cost is moves.
func TestOwners(t *testing.T) {
	ring, table, group := newOurRing(), newOurTable(), newGroupcache()
	serial, byVnode, highest := newSerialx(), newAuthzed(), newRendezvous()
	for _, test := range []struct {
		name string
		ask  func(key string) string
		most float64
	}{
		{"stormjib-table", func(key string) string { n, _ := table.Owner(key); return n.ID }, 1.10},
		{"stormjib-ring", func(key string) string { n, _ := ring.Owner(key); return n.ID }, 1.35},
		{"groupcache", group.Get, math.Inf(1)},
		{"serialx", func(key string) string { n, _ := serial.GetNode(key); return n }, math.Inf(1)},
		{"authzed", func(key string) string {
			return must(byVnode.FindN([]byte(key), 1))[0].Key()
		}, math.Inf(1)},
		{"go-rendezvous", highest.Lookup, math.Inf(1)},
	} {
		const keys = 500_000
		counts := map[string]int{}
		for i := range keys {
			counts[test.ask(fmt.Sprintf("user:%012d", i))]++
		}
		var all []int
		for _, n := range counts {
			all = append(all, n)
		}
		ratio := float64(slices.Max(all)) * ringNodes / keys
		t.Logf("%-16s max/avg %.3f", test.name, ratio)
		if ratio > test.most {
			t.Errorf("%s: max/avg %.3f", test.name, ratio)
		}
	}
}
