package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Which cell has a tenant, by a map of ten cells, 16,384 slots, ten thousand entries and
// three prefixes, and who lets a request of it in. The peer is what one would write: a map
// of all tenants. That has to know each of them, and grows with them.

func BenchmarkRoute(b *testing.B) {
	b.Run("1000", func(b *testing.B) { serial(b, routes(b, 1000)) })
	b.Run("1000000", func(b *testing.B) { serial(b, routes(b, million)) })
}

func BenchmarkRouteParallel(b *testing.B) { parallel(b, routes(b, million)) }

func BenchmarkGate(b *testing.B)        { serial(b, gates(b)) }
func BenchmarkGateCrowded(b *testing.B) { crowded(b, gates(b)) }

// BenchmarkDecode is what a map costs that has changed.
func BenchmarkDecode(b *testing.B) {
	encoded, err := cellMap().Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(encoded)))
	for b.Loop() {
		if _, err := cell.Decode(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func cellMap() *cell.Snapshot {
	s := &cell.Snapshot{
		Version: 1, Lease: 15 * time.Second,
		Tenants: map[string]cell.Assignment{}, Prefixes: map[string]cell.Assignment{},
	}
	for i := range 10 {
		s.Cells = append(s.Cells, cell.Cell{
			ID: fmt.Sprintf("cell-%d", i), Address: fmt.Sprintf("10.0.0.%d:80", i),
			Replicas: []string{"replica"},
		})
	}
	at := func(i int) cell.Assignment {
		return cell.Assignment{Cell: s.Cells[i%10].ID, Epoch: 1}
	}
	for i := range 1 << 14 {
		s.Slots = append(s.Slots, at(i))
	}
	for i := range 10_000 {
		s.Tenants[tenantName(100*i)] = at(i)
	}
	for i, prefix := range []string{"eu-", "eu-de-", "test-"} {
		s.Prefixes[prefix] = at(i)
	}
	return s
}

func tenantName(i int) string { return fmt.Sprintf("tenant-%07d", i) }

func cellRouter(tb testing.TB) *cell.Router {
	tb.Helper()
	applied := make(chan struct{}, 1)
	router := cell.New(cell.Config{
		Replica: "replica", Period: time.Hour,
		Source:  func(context.Context) ([]byte, error) { return cellMap().Encode() },
		OnEvent: func(cell.Event) { applied <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	go router.Run(ctx)
	<-applied
	return router
}

// tenantNames are asked for in an order in which each is cold by the time it comes again,
// if there are as many as that.
func tenantNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = tenantName(i * 7919 % n)
	}
	return names
}

const (
	sharding = "A tenant's shard, 5 of 100 nodes"
	routing  = "Where a tenant is, of a million"
	gating   = "A cell's gate, entered and left"
)

func addIsolation(tb testing.TB, rs *rows) {
	tb.Helper()
	tenants := 1000
	if *table {
		tenants = million
	}
	rs.add(sharding, 0, shards())
	find(*rs, sharding, "stormjib").goals = []goal{atMost(350)}
	rs.add(routing, 0, routes(tb, tenants))
	find(*rs, routing, "stormjib").goals = []goal{atMost(40)}
	rs.add(gating, 0, gates(tb))
}

// routes are lookups of where each of n tenants is, beside that in a map, which is what
// there would be without weights, overrides and moves.
func routes(tb testing.TB, n int) []contender {
	tb.Helper()
	router := cellRouter(tb)
	names := tenantNames(n)
	known := make(map[string]cell.Assignment, n)
	for _, name := range names {
		known[name], _ = router.Snapshot().Lookup(name, "")
	}
	return []contender{
		{"stormjib", routeLoop(names, router.Route)},
		{"stormjib-key", routeLoop(names, func(tenant string) (cell.Route, error) {
			return router.RouteKey(tenant, "user-1")
		})},
		{"map", mapLoop(names, known)},
	}
}

func routeLoop(names []string, route func(string) (cell.Route, error)) func(int) error {
	return func(n int) error {
		i := 0
		var last error
		for range n {
			r, err := route(names[i])
			if last = err; r.Cell == "" {
				return errFailed
			}
			if i++; i == len(names) {
				i = 0
			}
		}
		return last
	}
}

func mapLoop(names []string, known map[string]cell.Assignment) func(int) error {
	return func(n int) error {
		i := 0
		for range n {
			if a := known[names[i]]; a.Cell == "" {
				return errFailed
			}
			if i++; i == len(names) {
				i = 0
			}
		}
		return nil
	}
}

func gates(tb testing.TB) []contender {
	tb.Helper()
	router := cellRouter(tb)
	gate := cell.NewGate(cell.GateConfig{Cell: "cell-0", Router: router})
	var here []string
	for _, name := range tenantNames(10_000) {
		if r, err := router.Route(name); err == nil && r.Cell == "cell-0" {
			here = append(here, name)
		}
	}
	loop := func(write bool) func(int) error {
		return func(n int) error {
			i := 0
			for range n {
				p, err := gate.Enter(cell.Request{Tenant: here[i], Epoch: 1, Write: write})
				if err != nil {
					return err
				}
				p.Leave()
				if i++; i == len(here) {
					i = 0
				}
			}
			return nil
		}
	}
	return []contender{{"stormjib", loop(false)}, {"stormjib-write", loop(true)}}
}
