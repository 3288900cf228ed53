package hashring_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/hashring"
)

// cluster returns n nodes of weight 1.
func cluster(n int) []hashring.Node {
	nodes := make([]hashring.Node, n)
	for i := range nodes {
		nodes[i] = hashring.Node{ID: fmt.Sprintf("node-%03d", i)}
	}
	return nodes
}

func ringOf(t *testing.T, nodes []hashring.Node) *hashring.Ring {
	t.Helper()
	r, err := hashring.NewRing(nodes, hashring.RingConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tableOf(t *testing.T, nodes []hashring.Node) *hashring.Table {
	t.Helper()
	table, err := hashring.NewTable(nodes, hashring.TableConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// orderOf returns the IDs of all nodes in a key's own order.
func orderOf(p hashring.Placement, key string) []string {
	var ids []string
	for _, n := range p.AppendHash(nil, p.Hash(key), len(p.Nodes())) {
		ids = append(ids, n.ID)
	}
	return ids
}

// acquire returns a lease, which is a pointer so that it can be kept.
func acquire(t *testing.T, b *hashring.Balancer, key string) *hashring.Lease {
	t.Helper()
	l, err := b.Acquire(key)
	if err != nil {
		t.Fatal(err)
	}
	return &l
}

// loads returns the load of each node, by ID, and fails if it is not the sum.
func loads(t *testing.T, b *hashring.Balancer) map[string]int {
	t.Helper()
	s := b.Stats()
	m, sum := map[string]int{}, 0
	for _, n := range s.Nodes {
		m[n.Node.ID] = n.InFlight
		sum += n.InFlight
	}
	if sum != s.InFlight {
		t.Errorf("the nodes have %d in flight, and all together %d", sum, s.InFlight)
	}
	return m
}

func TestBound(t *testing.T) {
	for _, test := range []struct {
		factor      float64
		minCap      int
		weight      uint32
		all         uint64
		total       int64
		want        uint64
		description string
	}{
		{0, 0, 1, 100, 1, 8, "the defaults"},
		{0, 0, 1, 100, 1000, 13, "12.5, rounded up"},
		{0, 1, 1, 5, 4, 1, "exactly 1"},
		{0, 1, 1, 5, 5, 2, "1.25"},
		{0, 1, 1, 3, 12, 5, "exactly 5, which no fraction of 2 is"},
		{1.05, 1, 1, 100, 10_000, 105, "exactly 105"},
		{1.05, 1, 1, 100, 10_001, 106, "105.01"},
		{0, 1, 4, 8, 80, 50, "half of the weight"},
		{0, 1, 1, 8, 80, 13, "an eighth of the weight"},
		{0, 1, 1, 1, 7, 9, "one node"},
		{100, 1, math.MaxUint32, math.MaxUint32, 1 << 20, 100 << 20, "the largest factor"},
		{0, 1, math.MaxUint32, 65_535 * math.MaxUint32, 1 << 20, 21, "the largest weights"},
		{0, 3, 1, 65_535 * math.MaxUint32, 1 << 30, 3, "next to no weight"},
		{-1, 1, 1, 100, 1, math.MaxInt32, "no bound"},
		{100, 1, 1, 1, math.MaxInt32, math.MaxInt32, "what a count holds"},
	} {
		cfg := hashring.BalancerConfig{Factor: test.factor, MinCap: test.minCap}
		got := hashring.Limit(cfg, test.weight, test.all, test.total)
		if got != test.want {
			t.Errorf("%s: got %d, want %d", test.description, got, test.want)
		}
	}
}

// What a key's owner has no room for walks along the key's own order.
func TestBalancerSpillsAlongTheOrder(t *testing.T) {
	for name, p := range map[string]hashring.Placement{
		"ring": ringOf(t, cluster(10)), "table": tableOf(t, cluster(10)),
	} {
		b := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: 2})
		order := orderOf(p, "key")
		var leases []*hashring.Lease
		for i := range 20 { // a cap of 2, until there are 16, and of 3 then
			l := acquire(t, b, "key")
			if want := order[min(i, 15)/2]; i < 16 && l.Node().ID != want {
				t.Errorf("%s: lease %d is of %s, want %s", name, i, l.Node().ID, want)
			}
			if want := order[0]; i == 16 && l.Node().ID != want {
				t.Errorf("%s: with a cap of 3 lease %d is of %s, want %s",
					name, i, l.Node().ID, want)
			}
			leases = append(leases, l)
		}
		if s := b.Stats(); s.Spilled != 17 || s.InFlight != 20 {
			t.Errorf("%s: %+v", name, s)
		}
		leases[2].Release() // of the second node
		if l := acquire(t, b, "key"); l.Node().ID != order[1] {
			t.Errorf("%s: got %s, want %s, which has room again", name, l.Node().ID, order[1])
		}
		for _, l := range leases {
			l.Release()
		}
		if l := acquire(t, b, "key"); l.Node().ID != order[0] {
			t.Errorf("%s: got %s, want the owner again", name, l.Node().ID)
		}
	}
}

func TestBalancerWithoutBound(t *testing.T) {
	p := tableOf(t, cluster(10))
	b := hashring.NewBalancer(p, hashring.BalancerConfig{Factor: -1})
	for range 1000 {
		acquire(t, b, "key")
	}
	if got := loads(t, b)[orderOf(p, "key")[0]]; got != 1000 {
		t.Errorf("the owner has %d, want all", got)
	}
}

// Load that is bounded by weight: heavy nodes get more.
func TestBalancerWeights(t *testing.T) {
	nodes := cluster(4)
	for i, w := range []uint32{1, 1, 2, 4} {
		nodes[i].Weight = w
	}
	b := hashring.NewBalancer(tableOf(t, nodes), hashring.BalancerConfig{MinCap: 1})
	for range 800 {
		acquire(t, b, "key")
	}
	for id, want := range map[string]int{nodes[0].ID: 125, nodes[2].ID: 250, nodes[3].ID: 500} {
		if got := loads(t, b)[id]; got > want {
			t.Errorf("%s has %d, want at most %d", id, got, want)
		}
	}
}

// A few requests at a time stay together: a bound of 1.25 times next to nothing would part
// them.
func TestBalancerAffinityAtLowLoad(t *testing.T) {
	p := tableOf(t, cluster(100))
	b := hashring.NewBalancer(p, hashring.BalancerConfig{})
	for i := range 8 {
		if l := acquire(t, b, "key"); l.Node().ID != orderOf(p, "key")[0] {
			t.Errorf("request %d of the key goes to %s", i, l.Node().ID)
		}
	}
	tight := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: 1})
	acquire(t, tight, "key")
	if l := acquire(t, tight, "key"); l.Node().ID == orderOf(p, "key")[0] {
		t.Error("MinCap 1 lets two of them together: the test shows nothing")
	}
}

// What is under way on a node when it goes, goes with it.
func TestBalancerRemovedNodeLeaksNothing(t *testing.T) {
	nodes := cluster(3)
	all, two := ringOf(t, nodes), ringOf(t, nodes[1:])
	b := hashring.NewBalancer(all, hashring.BalancerConfig{Factor: -1})
	var leases []*hashring.Lease
	for i := 0; len(leases) < 48; i++ {
		leases = append(leases, acquire(t, b, fmt.Sprint("key-", i)))
	}
	before := loads(t, b)
	if before[nodes[0].ID] == 0 {
		t.Fatal("the node has no load")
	}
	if err := b.Set(two); err != nil {
		t.Fatal(err)
	}
	if got := b.Stats().InFlight; got != 48-before[nodes[0].ID] {
		t.Errorf("%d in flight after the removal of %d of 48", got, before[nodes[0].ID])
	}
	if err := b.Set(all); err != nil {
		t.Fatal(err)
	}
	if got := loads(t, b)[nodes[0].ID]; got != 0 {
		t.Errorf("added again, the node has %d", got)
	}
	var again []*hashring.Lease // on the node that was added again
	for i := 0; len(again) < 5; i++ {
		l := acquire(t, b, fmt.Sprint("key-", i))
		if l.Node().ID != nodes[0].ID {
			l.Release()
			continue
		}
		again = append(again, l)
	}
	var wg sync.WaitGroup
	for _, l := range leases { // by others, and twice
		wg.Go(func() { l.Release(); l.Release(); l.Done(t.Context(), nil) })
	}
	wg.Wait()
	for id, n := range loads(t, b) {
		want := 0
		if id == nodes[0].ID {
			want = 5
		}
		if n != want {
			t.Errorf("when all old leases are released %s has %d, want %d", id, n, want)
		}
	}
	for _, l := range again {
		l.Release()
	}
	if got := b.Stats().InFlight; got != 0 {
		t.Errorf("%d in flight at the end", got)
	}
}

// Nodes that stay keep their load, whatever else about them changes.
func TestBalancerSetKeepsLoad(t *testing.T) {
	nodes := cluster(4)
	b := hashring.NewBalancer(ringOf(t, nodes[1:3]), hashring.BalancerConfig{})
	l := acquire(t, b, "key")
	changed := []hashring.Node{nodes[0], nodes[1], nodes[2], nodes[3]}
	for i := range changed {
		changed[i].Weight, changed[i].Zone = 7, "b"
	}
	if err := b.Set(tableOf(t, changed)); err != nil {
		t.Fatal(err)
	}
	if got := loads(t, b)[l.Node().ID]; got != 1 {
		t.Errorf("the node has %d, want 1", got)
	}
	if l.Node().Weight != 1 {
		t.Error("the lease's node has changed under it")
	}
	l.Release()
	if got := b.Stats(); got.InFlight != 0 || len(got.Nodes) != 4 || got.Nodes[0].Node.Zone != "b" {
		t.Errorf("%+v", got)
	}
}

// An empty list, or none, replaces nothing.
func TestBalancerSetNothing(t *testing.T) {
	p := ringOf(t, cluster(3))
	b := hashring.NewBalancer(p, hashring.BalancerConfig{Name: "cache"})
	l := acquire(t, b, "key")
	failed, err := hashring.NewTable(nil, hashring.TableConfig{})
	if err == nil {
		t.Fatal("a table of no nodes")
	}
	for name, nothing := range map[string]hashring.Placement{
		"nil": nil, "a ring that is nil": (*hashring.Ring)(nil), "a failed table": failed,
		"a zero ring": &hashring.Ring{}, "a zero table": &hashring.Table{},
	} {
		err := b.Set(nothing)
		if !errors.Is(err, hashring.ErrNoNodes) || !strings.Contains(err.Error(), `"cache"`) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := acquire(t, b, "key"); got.Node() != l.Node() {
			t.Errorf("%s: the key has moved", name)
		}
		fresh := hashring.NewBalancer(nothing, hashring.BalancerConfig{})
		wantUnavailable(t, fresh, "hashring: no nodes")
		if err := fresh.Set(p); err != nil {
			t.Error(err)
		}
		acquire(t, fresh, "key")
	}
}

func wantUnavailable(t *testing.T, b *hashring.Balancer, text string) {
	t.Helper()
	before := b.Stats().Refused
	l, err := b.Acquire("key")
	if !errors.Is(err, hashring.ErrUnavailable) || err.Error() != text ||
		!stormjib.NotAttempted(err) {
		t.Errorf("got %v, want %s", err, text)
	}
	if l.Node() != (hashring.Node{}) {
		t.Errorf("a lease of %v", l.Node())
	}
	l.Release()
	l.Done(t.Context(), nil)
	if got := b.Stats(); got.Refused != before+1 || got.InFlight != 0 {
		t.Errorf("%+v", got)
	}
}

// The keys of a node that is not eligible go to the next in their order, and come back.
func TestBalancerEligible(t *testing.T) {
	p := tableOf(t, cluster(10))
	down := map[string]bool{}
	b := hashring.NewBalancer(p, hashring.BalancerConfig{
		Name:     "cache",
		Eligible: func(n hashring.Node) bool { return !down[n.ID] },
	})
	order := orderOf(p, "key")
	for _, test := range []struct {
		down []string
		want string
	}{
		{nil, order[0]},
		{order[:1], order[1]},
		{order[:3], order[3]},
		{order[:9], order[9]},
		{order[1:], order[0]},
		{nil, order[0]},
	} {
		clear(down)
		for _, id := range test.down {
			down[id] = true
		}
		l := acquire(t, b, "key")
		if l.Node().ID != test.want {
			t.Errorf("without %v got %s, want %s", test.down, l.Node().ID, test.want)
		}
		l.Release()
	}
	for _, id := range order {
		down[id] = true
	}
	wantUnavailable(t, b, `hashring "cache": no eligible node`)
}

// Where few nodes are eligible the bound is theirs: nine of ten down, and the last has it all.
func TestBalancerBoundOfTheEligible(t *testing.T) {
	p := tableOf(t, cluster(10))
	order := orderOf(p, "key")
	up := map[string]bool{order[4]: true, order[7]: true}
	b := hashring.NewBalancer(p, hashring.BalancerConfig{
		MinCap: 1, Eligible: func(n hashring.Node) bool { return up[n.ID] },
	})
	for range 100 {
		acquire(t, b, "key")
	}
	if got := loads(t, b); got[order[4]] > 63 || got[order[4]]+got[order[7]] != 100 {
		t.Errorf("of 100 the first has %d and the second %d", got[order[4]], got[order[7]])
	}
}

// For one call, beside that of the balancer: a second attempt goes elsewhere.
func TestAcquireSpreadEligible(t *testing.T) {
	p := tableOf(t, cluster(5))
	order := orderOf(p, "key")
	b := hashring.NewBalancer(p, hashring.BalancerConfig{
		Eligible: func(n hashring.Node) bool { return n.ID != order[1] },
	})
	l, err := b.AcquireSpread("key", 1, func(n hashring.Node) bool { return n.ID != order[0] })
	if err != nil || l.Node().ID != order[2] {
		t.Errorf("got %s, %v, want %s", l.Node().ID, err, order[2])
	}
}

// Owners are taken in turn, and others only when all of them have no room.
func TestAcquireSpread(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 2, 3, 7, 10, 11, math.MaxInt} {
		p := tableOf(t, cluster(10))
		b := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: 6})
		owners := orderOf(p, "key")[:max(1, min(n, 10))]
		take := func() {
			if _, err := b.AcquireSpread("key", n, nil); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 * len(owners) {
			take()
		}
		got := loads(t, b)
		for _, id := range owners {
			if got[id] != 5 {
				t.Errorf("of %d owners one has %d in 5 rounds", len(owners), got[id])
			}
		}
		if s := b.Stats().Spilled; s != 0 {
			t.Errorf("%d spilled to owners", s)
		}
		if len(owners) > 6 {
			continue // the cap rises before all are full
		}
		for range len(owners) + 1 {
			take()
		}
		next := orderOf(p, "key")[len(owners)]
		if got, s := loads(t, b), b.Stats().Spilled; s != 1 || got[next] != 1 {
			t.Errorf("with all %d owners full %d spilled: %v", len(owners), s, got)
		}
	}
}

// An owner that has room comes before all that are no owners, whoever's turn it is.
func TestAcquireSpreadFullOwner(t *testing.T) {
	p := tableOf(t, cluster(10))
	order := orderOf(p, "key")
	b := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: 6})
	only := func(n hashring.Node) bool { return n.ID == order[2] }
	for range 6 {
		if _, err := b.AcquireSpread("key", 1, only); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 {
		if _, err := b.AcquireSpread("key", 3, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := loads(t, b); got[order[0]] != 6 || got[order[1]] != 6 || got[order[2]] != 6 {
		t.Errorf("owners %v have %v", order[:3], got)
	}
}

// Exact has one count, and otherwise there are several that do not get in each other's way.
func TestBalancerCounts(t *testing.T) {
	for exact, want := range map[bool]int{true: 1, false: 8} {
		b := hashring.NewBalancer(nil, hashring.BalancerConfig{Exact: exact})
		if got := b.Counts(); got != want {
			t.Errorf("exact %t: %d counts, want %d", exact, got, want)
		}
	}
	if a, b := hashring.Sizes(); a <= 48 || a > 64 || b != 64 { // sizes are 48, 64 and so on
		t.Errorf("a seat has %d bytes and a stripe %d: not a cache line each", a, b)
	}
}

func TestBalancerConfigValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  hashring.BalancerConfig
		want string
	}{
		{hashring.BalancerConfig{}, ""},
		{hashring.BalancerConfig{Factor: 1.001, MinCap: 1, FailureHold: -1}, ""},
		{hashring.BalancerConfig{Factor: -1, MinCap: math.MaxInt32, FailureHold: 1}, ""},
		{hashring.BalancerConfig{Factor: 1}, "hashring: BalancerConfig: Factor is 1, but must be " +
			"at least 1.001 and at most 100, or negative"},
		{
			hashring.BalancerConfig{Name: "a", Factor: math.NaN(), MinCap: -3},
			`hashring: BalancerConfig "a": Factor is NaN, but must be at least 1.001 and at most ` +
				"100, or negative; MinCap is -3, but must be from 1 to 2147483647",
		},
		{hashring.BalancerConfig{Factor: math.Inf(1)}, "hashring: BalancerConfig: " +
			"Factor is +Inf, but must be at least 1.001 and at most 100, or negative"},
	} {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		func() {
			defer func() {
				if v := recover(); (v != nil) != (test.want != "") || v != nil && v != test.want {
					t.Errorf("New panics with %v, want %q", v, test.want)
				}
			}()
			hashring.NewBalancer(nil, test.cfg)
		}()
	}
}

// A copy that is finished too would take off the load of somebody else; that there is none
// it finds out.
func TestLeaseCopied(t *testing.T) {
	b := hashring.NewBalancer(ringOf(t, cluster(2)), hashring.BalancerConfig{})
	l, err := b.Acquire("key")
	if err != nil {
		t.Fatal(err)
	}
	other := l
	l.Release()
	func() {
		defer func() {
			if got, want := recover(), "hashring: a copy of a Lease was released too"; got != want {
				t.Errorf("the panic is %v, want %v", got, want)
			}
		}()
		other.Release()
	}()
	if got := b.Stats().InFlight; got != 0 {
		t.Errorf("%d in flight", got)
	}
	acquire(t, b, "key").Release()
	if got := b.Stats().InFlight; got != 0 {
		t.Errorf("%d in flight", got)
	}
}

// However a caller ends, a deferred Release sees to its load.
func TestLeaseOfACallerThatEnds(t *testing.T) {
	b := hashring.NewBalancer(ringOf(t, cluster(2)), hashring.BalancerConfig{})
	for name, end := range map[string]func(){
		"return": func() {},
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			l := acquire(t, b, "key")
			defer l.Release()
			end()
		})
		wg.Wait()
		if got := b.Stats().InFlight; got != 0 {
			t.Errorf("%s: %d in flight", name, got)
		}
	}
}

// Eligible is the user's: it may call back, panic or end the goroutine, and nothing stays
// behind.
func TestBalancerEligibleIsUserCode(t *testing.T) {
	p := ringOf(t, cluster(3))
	var b *hashring.Balancer
	var do func()
	b = hashring.NewBalancer(p, hashring.BalancerConfig{
		Eligible: func(hashring.Node) bool { do(); return true },
	})
	for name, test := range map[string]func(){
		"calls back": func() {
			do = func() {}
			b.Stats()
			acquire(t, b, "other").Release()
			if err := b.Set(ringOf(t, cluster(3))); err != nil {
				t.Error(err)
			}
		},
		"panics": func() { panic("boom") },
		"exits":  runtime.Goexit,
	} {
		do = test
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			l, err := b.Acquire("key")
			if err == nil {
				l.Release()
			}
		})
		wg.Wait()
		if got := b.Stats().InFlight; got != 0 {
			t.Errorf("%s: %d in flight", name, got)
		}
	}
}

func TestBalancerAllocations(t *testing.T) {
	nodes := cluster(100)
	full := tableOf(t, nodes)
	down := hashring.BalancerConfig{Eligible: func(hashring.Node) bool { return false }}
	ctx, boom := t.Context(), errors.New("boom")
	busy := hashring.NewBalancer(full, hashring.BalancerConfig{})
	for range 8 {
		acquire(t, busy, "key")
	}
	ofTable := hashring.NewBalancer(full, hashring.BalancerConfig{})
	ofRing := hashring.NewBalancer(ringOf(t, nodes), hashring.BalancerConfig{})
	for _, test := range []struct {
		name string
		b    *hashring.Balancer
		n    int
		err  error
	}{
		{"an owner", ofTable, 1, nil},
		{"an owner on a ring", ofRing, 1, nil},
		{"one of three owners", ofTable, 3, nil},
		{"a failure", hashring.NewBalancer(full, hashring.BalancerConfig{FailureHold: 1}), 1, boom},
		{"a spill", busy, 1, nil},
		{"no eligible node", hashring.NewBalancer(tableOf(t, nodes[:3]), down), 1, nil},
		{"no node", hashring.NewBalancer(nil, hashring.BalancerConfig{}), 1, nil},
	} {
		got := testing.AllocsPerRun(200, func() {
			l, _ := test.b.AcquireSpread("key", test.n, nil)
			l.Done(ctx, test.err)
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", test.name, got)
		}
	}
}

// What has been cancelled was not the node's doing, and who gives up says nothing of it.
func TestLeaseDone(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithTimeout(t.Context(), -1)
	defer stop()
	boom := errors.New("boom")
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		hold time.Duration
		want int
	}{
		{"success", t.Context(), nil, time.Hour, 0},
		{"failure", t.Context(), boom, time.Hour, 1},
		{"deadline", late, context.DeadlineExceeded, time.Hour, 1},
		{"cancelled", cancelled, context.Canceled, time.Hour, 0},
		{"cancelled, another error", cancelled, boom, time.Hour, 0},
		{"success in spite of it", cancelled, nil, time.Hour, 0},
		{"off", t.Context(), boom, -1, 0},
	} {
		b := hashring.NewBalancer(ringOf(t, cluster(1)), hashring.BalancerConfig{
			FailureHold: test.hold, // 10s at most: longer than the test takes
		})
		l := acquire(t, b, "key")
		l.Done(test.ctx, test.err)
		l.Done(test.ctx, boom) // nothing
		s := b.Stats()
		if s.InFlight != 0 || s.Nodes[0].Failures != test.want {
			t.Errorf("%s: %+v", test.name, s.Nodes[0])
		}
	}
}
