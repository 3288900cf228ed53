package control_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// small returns a map of three cells, of which the first two share four slots.
func small() *cell.Snapshot {
	return &cell.Snapshot{
		Version: 1, Issued: time.Unix(1_000_000, 0).UTC(), Lease: 15 * time.Second,
		Cells: []cell.Cell{
			{ID: "a", Capacity: 10}, {ID: "b", Capacity: 10}, {ID: "c", Capacity: 10},
		},
		Slots: []cell.Assignment{
			{Cell: "a", Epoch: 1},
			{Cell: "b", Epoch: 1},
			{Cell: "a", Epoch: 1},
			{Cell: "b", Epoch: 1},
		},
		Tenants: map[string]cell.Assignment{"acme": {Cell: "a", Epoch: 1}},
	}
}

var acme = control.Unit{Tenant: "acme"}

func nothing(context.Context, control.Move) error { return nil }

func idle() control.Hooks {
	return control.Hooks{Copy: nothing, Verify: nothing, CatchUp: nothing, Clean: nothing}
}

// stored returns a store with a map.
func stored(t *testing.T, s *cell.Snapshot) *control.Memory {
	t.Helper()
	m := &control.Memory{}
	if err := control.New(control.Config{Store: m}).Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return m
}

func snapshot(t *testing.T, store control.Store) *cell.Snapshot {
	t.Helper()
	s, err := control.New(control.Config{Store: store}).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func where(t *testing.T, store control.Store, u control.Unit) string {
	t.Helper()
	s := snapshot(t, store)
	a := s.Tenants[u.Tenant]
	if u.Tenant == "" {
		a = s.Slots[u.Index]
	}
	return fmt.Sprintf("%s %d %v %s", a.Cell, a.Epoch, a.Phase, a.Peer)
}

// fleet is replicas of cells that all write for one tenant as often as they are let.
type fleet struct {
	t       *testing.T
	plane   atomic.Pointer[control.Controller]
	records records
	gates   map[string]*cell.Gate
	cut     map[string]*atomic.Bool // cut off from the control plane
	cancel  context.CancelFunc
	wait    sync.WaitGroup
}

type write struct {
	cell  string
	epoch uint64
}

// records holds that an epoch has one cell, and that two cells do not write at a time.
type records struct {
	mu     sync.Mutex
	epochs map[uint64]string
	now    map[string]int
	writes map[string]int
	last   uint64
	bad    []string
}

func (r *records) enter(w write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.epochs[w.epoch]; was != "" && was != w.cell {
		r.bad = append(r.bad, fmt.Sprintf("epoch %d has %s and %s", w.epoch, was, w.cell))
	}
	r.epochs[w.epoch] = w.cell
	if w.epoch < r.last && r.epochs[r.last] != w.cell {
		r.bad = append(r.bad, fmt.Sprintf("epoch %d after %d", w.epoch, r.last))
	}
	r.last = max(r.last, w.epoch)
	r.writes[w.cell]++
	r.now[w.cell]++
	for other, n := range r.now {
		if other != w.cell && n > 0 {
			r.bad = append(r.bad, fmt.Sprintf("%s writes while %s does", w.cell, other))
		}
	}
}

func (r *records) leave(w write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now[w.cell]--
}

func newFleet(t *testing.T, c *control.Controller, names ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, gates: map[string]*cell.Gate{}, cut: map[string]*atomic.Bool{}}
	f.records = records{
		epochs: map[uint64]string{}, now: map[string]int{}, writes: map[string]int{},
	}
	f.plane.Store(c)
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	for _, name := range names {
		f.start(ctx, name)
	}
	synctest.Wait()
	return f
}

// start starts the replica "a-1" of cell "a"; or "a" of it, which does not say who it is.
func (f *fleet) start(ctx context.Context, name string) {
	var gate *cell.Gate
	id, cut, report := name[:1], &atomic.Bool{}, name
	if name == id {
		report = ""
	}
	pull := func(ctx context.Context) ([]byte, error) {
		if cut.Load() {
			return nil, errors.New("cut off")
		}
		r := control.Report{Cell: id, Replica: report, Settled: gate.Settled()}
		return f.plane.Load().Pull(ctx, r)
	}
	router := cell.New(cell.Config{Replica: name, Source: pull})
	gate = cell.NewGate(cell.GateConfig{Cell: id, Router: router})
	f.gates[name], f.cut[name] = gate, cut
	f.wait.Go(func() { _ = router.Run(ctx) })
	f.wait.Go(func() { f.write(ctx, id, router, gate) })
}

// write writes for some time, and soon again, by what its own map says.
func (f *fleet) write(ctx context.Context, id string, router *cell.Router, gate *cell.Gate) {
	for ctx.Err() == nil {
		route, err := router.Route("acme")
		if err == nil && route.Cell == id {
			req := cell.Request{Tenant: "acme", Epoch: route.Epoch, Write: true}
			_ = gate.Do(ctx, req, func(ctx context.Context) error {
				w := write{id, route.Epoch}
				f.records.enter(w)
				defer f.records.leave(w)
				pause(ctx, 700*time.Millisecond)
				return nil
			})
		}
		pause(ctx, 300*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop ends all, and complains of what was wrong.
func (f *fleet) stop() {
	f.t.Helper()
	f.cancel()
	f.wait.Wait()
	for _, bad := range f.records.bad {
		f.t.Error(bad)
	}
}

func (f *fleet) writes(id string) int {
	f.records.mu.Lock()
	defer f.records.mu.Unlock()
	return f.records.writes[id]
}
