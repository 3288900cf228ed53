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

func BenchmarkRoute(b *testing.B)         { serial(b, routes(b)) }
func BenchmarkRouteParallel(b *testing.B) { parallel(b, routes(b)) }

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

func cellRouter(b *testing.B) *cell.Router {
	b.Helper()
	applied := make(chan struct{}, 1)
	router := cell.New(cell.Config{
		Replica: "replica", Period: time.Hour,
		Source:  func(context.Context) ([]byte, error) { return cellMap().Encode() },
		OnEvent: func(cell.Event) { applied <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
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

func routes(b *testing.B) []contender {
	b.Helper()
	router := cellRouter(b)
	var all []contender
	for _, n := range []int{1000, 1_000_000} {
		names := tenantNames(n)
		known := make(map[string]cell.Assignment, n)
		for _, name := range names {
			known[name], _ = router.Snapshot().Lookup(name, "")
		}
		all = append(all,
			contender{fmt.Sprintf("%d/stormjib-Route", n), routeLoop(names, router.Route)},
			contender{fmt.Sprintf("%d/stormjib-RouteKey", n), routeLoop(names,
				func(tenant string) (cell.Route, error) {
					return router.RouteKey(tenant, "user-1")
				})},
			contender{fmt.Sprintf("%d/map", n), mapLoop(names, known)},
		)
	}
	return all
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

func gates(b *testing.B) []contender {
	b.Helper()
	router := cellRouter(b)
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
	return []contender{{"read", loop(false)}, {"write", loop(true)}}
}
