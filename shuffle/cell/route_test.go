package cell_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// seeded returns a router that has a map without a pull.
func seeded(t *testing.T, s *cell.Snapshot) *cell.Router {
	t.Helper()
	down := func(context.Context) ([]byte, error) { return nil, errDown }
	r := cell.New(cell.Config{Source: down, Seed: encode(t, s)})
	if r.Snapshot() == nil {
		t.Fatal(r.Stats().LastError)
	}
	return r
}

func TestRoute(t *testing.T) {
	r := seeded(t, full())
	for tenant, want := range map[string]string{
		"acme":       "b 9 draining tenant a",
		"x\u2028\"<": "a 2 stable tenant ",
		"eu-":        "a 5 stable prefix ",
		"eu-x":       "a 5 stable prefix ",
		"eu-de-x":    "b 5 stable prefix ",
		"eu-de":      "a 5 stable prefix ",
		"eu":         "a 1 stable slot ",
		"tenant-4":   "a 3 replicating slot b",
		"acm":        "a 3 replicating slot b",
		"":           "b 1 stable slot ",
		"big":        "b 7 stable split ",
	} {
		if got := route(t, r, tenant); got != want {
			t.Errorf("%q: %s, want %s", tenant, got, want)
		}
	}
	got, err := r.RouteKey("big", "user-2")
	if err != nil || got.Cell != "a" || got.Epoch != 6 || got.Address != "a:80" ||
		got.Version() != 9 {
		t.Errorf("a part of big: %+v, %v", got, err)
	}
	var zero cell.Route
	if zero.Version() != 0 || zero.Age() != 0 {
		t.Error("the zero Route has a map")
	}
}

func TestRouteWithoutSnapshot(t *testing.T) {
	down := func(context.Context) ([]byte, error) { return nil, errDown }
	r := cell.New(cell.Config{Source: down})
	_, err := r.Route("acme")
	_, err2 := r.RouteKey("acme", "x")
	if err != cell.ErrNoSnapshot || err2 != cell.ErrNoSnapshot || r.Ready() != cell.ErrNoSnapshot {
		t.Errorf("%v, %v, %v", err, err2, r.Ready())
	}
	refused, ok := err.(interface{ NotAttempted() bool })
	if !ok || !refused.NotAttempted() || r.Snapshot() != nil {
		t.Error("it is not said to be a refusal")
	}
	if got := r.Stats(); got.Version != 0 || got.Origin != "" {
		t.Errorf("%+v", got)
	}
}

// A random map, and names that are in it, nearly in it, and not at all.
func FuzzRoute(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, "ab", "k")
	}
	f.Fuzz(func(t *testing.T, seed uint64, tenant, key string) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		name := func() string {
			b := make([]byte, 1+rnd.IntN(5))
			for i := range b {
				b[i] = "ab\xc3\xa9"[rnd.IntN(2)]
			}
			return string(b)
		}
		a := func() cell.Assignment {
			c := "ab"[rnd.IntN(2):][:1]
			return cell.Assignment{Cell: c, Epoch: 1 + rnd.Uint64N(9)}
		}
		s := small(9)
		s.Slots = s.Slots[:1<<rnd.IntN(3)]
		s.Tenants, s.Prefixes = map[string]cell.Assignment{}, map[string]cell.Assignment{}
		s.Splits = map[string][]cell.Assignment{}
		for range rnd.IntN(20) {
			s.Tenants[name()], s.Prefixes[name()] = a(), a()
			if n := name(); s.Tenants[n].Cell == "" {
				s.Splits[n] = []cell.Assignment{a(), a(), a(), a()}[:1<<rnd.IntN(3)]
			}
		}
		for n := range s.Splits {
			delete(s.Tenants, n)
		}
		r := seeded(t, s)
		for range 50 {
			got, err := r.RouteKey(tenant, key)
			want, source := s.Lookup(tenant, key)
			if err != nil || got.Cell != want.Cell || got.Epoch != want.Epoch ||
				got.Phase != want.Phase || got.Source != source {
				t.Fatalf("%q, %q: %+v, %v; want %+v by %s", tenant, key, got, err, want, source)
			}
			tenant, key = name(), strconv.Itoa(rnd.IntN(9))
		}
	})
}

// Names that nobody has heard of have a route, and leave nothing behind.
func TestUnknownTenantsTakeNoMemory(t *testing.T) {
	r := seeded(t, small(1))
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	for i := range n {
		tenant := "unknown-" + strconv.Itoa(i)
		if _, err := r.Route(tenant); err != nil {
			t.Fatal(err)
		}
		p, err := g.Enter(cell.Request{Tenant: tenant, Epoch: 1})
		if err != nil && !errors.Is(err, cell.ErrMoved) {
			t.Fatal(err)
		}
		p.Leave()
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d bytes more after %d names", after-before, n)
	}
	if s := g.Stats(); s.InFlight != 0 || s.Entered+s.Moved != uint64(n) {
		t.Errorf("%+v", s)
	}
	runtime.KeepAlive(r)
}

func TestRouteAllocatesNothing(t *testing.T) {
	r := seeded(t, full())
	for _, tenant := range []string{"acme", "eu-de-1", "other", "big"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = r.RouteKey(tenant, "user-7") }); n != 0 {
			t.Errorf("%s: %v allocations", tenant, n)
		}
	}
	none := cell.New(cell.Config{Source: (&plane{}).pull})
	if n := testing.AllocsPerRun(100, func() { _, _ = none.Route("x") }); n != 0 {
		t.Errorf("without a map: %v allocations", n)
	}
}

// Adding a cell moves nobody.
func TestANewCellHasNobody(t *testing.T) {
	old := small(1)
	s := small(2)
	s.Cells = append(s.Cells, cell.Cell{ID: "c"})
	if err := s.Follows(old); err != nil {
		t.Fatal(err)
	}
	r, r2 := seeded(t, old), seeded(t, s)
	for i := range 1000 {
		tenant := fmt.Sprint(i)
		if a, b := route(t, r, tenant), route(t, r2, tenant); a != b {
			t.Errorf("%s goes from %s to %s", tenant, a, b)
		}
	}
}
