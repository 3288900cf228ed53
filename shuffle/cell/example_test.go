package cell_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// newMap returns a map of two cells that share 1024 slots.
func newMap() *cell.Snapshot {
	s := &cell.Snapshot{
		Version: 1, Issued: time.Now(), Lease: 15 * time.Second,
		Cells: []cell.Cell{
			{ID: "cell-1", Address: "10.0.1.1:80", Replicas: []string{"cell-1-a"}},
			{ID: "cell-2", Address: "10.0.2.1:80", Replicas: []string{"cell-2-a"}},
		},
	}
	for i := range 1024 {
		s.Slots = append(s.Slots, cell.Assignment{Cell: s.Cells[i%2].ID, Epoch: 1})
	}
	return s
}

// loaded returns a router that has pulled a map.
func loaded(s *cell.Snapshot, replica string) (*cell.Router, func()) {
	applied := make(chan struct{}, 1)
	r := cell.New(cell.Config{
		Replica: replica,
		Source:  func(context.Context) ([]byte, error) { return s.Encode() },
		OnEvent: func(cell.Event) { applied <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	go r.Run(ctx)
	<-applied
	return r, cancel
}

func ExampleRouter() {
	router, stop := loaded(newMap(), "")
	defer stop()
	for _, tenant := range []string{"acme", "globex"} {
		route, err := router.Route(tenant)
		if err != nil {
			fmt.Println(err) // there is no map, and so no cell
			return
		}
		fmt.Println(tenant, "is in", route.Cell, "at", route.Address, "by its", route.Source)
	}
	// Output:
	// acme is in cell-1 at 10.0.1.1:80 by its slot
	// globex is in cell-2 at 10.0.2.1:80 by its slot
}

// A tenant that is too big for one cell is a table of its own.
func ExampleRouter_RouteKey() {
	s := newMap()
	s.Splits = map[string][]cell.Assignment{
		"acme": {{Cell: "cell-1", Epoch: 1}, {Cell: "cell-2", Epoch: 1}},
	}
	router, stop := loaded(s, "")
	defer stop()
	for _, user := range []string{"user-1", "user-2"} {
		route, _ := router.RouteKey("acme", user)
		fmt.Println(user, "is in", route.Cell)
	}
	// Output:
	// user-1 is in cell-2
	// user-2 is in cell-1
}

// A program that has a map in it can begin without a control plane.
func ExampleConfig() {
	seed, err := newMap().Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	router := cell.New(cell.Config{
		Source: func(context.Context) ([]byte, error) { return nil, errors.New("down") },
		Seed:   seed,
	})
	route, err := router.Route("acme")
	fmt.Println(route.Cell, "stale:", route.Stale, "error:", err)
	fmt.Println(router.Ready())
	// Output:
	// cell-1 stale: true error: <nil>
	// cell: the map is from the seed, and was not confirmed yet
}

func ExampleGate() {
	router, stop := loaded(newMap(), "cell-1-a")
	defer stop()
	gate := cell.NewGate(cell.GateConfig{Cell: "cell-1", Router: router})

	write := cell.Request{Tenant: "acme", Epoch: 1, Write: true}
	err := gate.Do(context.Background(), write, func(context.Context) error {
		fmt.Println("written")
		return nil
	})
	fmt.Println(err)

	_, err = gate.Enter(cell.Request{Tenant: "globex", Epoch: 1})
	if moved, ok := errors.AsType[*cell.MovedError](err); ok {
		fmt.Println(moved.Tenant, "is in", moved.Cell)
	}
	// Output:
	// written
	// <nil>
	// globex is in cell-2
}

func ExamplePermit() {
	router, stop := loaded(newMap(), "cell-1-a")
	defer stop()
	gate := cell.NewGate(cell.GateConfig{Cell: "cell-1", Router: router})
	permit, err := gate.Enter(cell.Request{Tenant: "acme", Epoch: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("under way:", gate.Stats().InFlight)
	permit.Leave()
	fmt.Println("under way:", gate.Stats().InFlight)
	// Output:
	// under way: 1
	// under way: 0
}

// The map after a move: the tenant has its own entry, with the version as its epoch.
func ExampleSnapshot() {
	old := newMap()
	s := old.Clone()
	s.Version = 2
	s.Tenants = map[string]cell.Assignment{
		"acme": {Cell: "cell-2", Epoch: 2, Phase: cell.Draining, Peer: "cell-1"},
	}
	fmt.Println(s.Follows(old))
	fmt.Println(old.Follows(s))
	a, source := s.Lookup("acme", "")
	fmt.Println(a.Cell, a.Phase, "by its", source)
	// Output:
	// <nil>
	// cell: invalid snapshot: version 1 is not after 2
	// cell-2 draining by its tenant
}

func ExampleDecode() {
	encoded, _ := newMap().Encode()
	s, err := cell.Decode(encoded)
	fmt.Println(s.Version, len(s.Slots), err)
	_, err = cell.Decode(encoded[:len(encoded)/2])
	fmt.Println(errors.Is(err, cell.ErrInvalid))
	// Output:
	// 1 1024 <nil>
	// true
}
