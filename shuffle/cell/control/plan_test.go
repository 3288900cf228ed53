package control_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// large returns a map of so many cells that share slots, and a tenant with an entry.
func large(cells, slots, capacity int) *cell.Snapshot {
	s := &cell.Snapshot{Version: 1, Lease: 15 * time.Second}
	for i := range cells {
		s.Cells = append(s.Cells, cell.Cell{ID: fmt.Sprintf("cell-%d", i), Capacity: capacity})
	}
	for i := range slots {
		s.Slots = append(s.Slots, cell.Assignment{Cell: s.Cells[i%cells].ID, Epoch: 1})
	}
	s.Tenants = map[string]cell.Assignment{"acme": {Cell: "cell-0", Epoch: 1}}
	return s
}

func planned(t *testing.T, s *cell.Snapshot, g control.Goal) control.Plan {
	t.Helper()
	p, err := control.New(control.Config{Store: stored(t, s)}).Plan(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanAddTakesAnEvenPart(t *testing.T) {
	p := planned(t, large(9, 1024, 300), control.Goal{
		Add: []cell.Cell{{ID: "new", Capacity: 300}},
	})
	if n := len(p.Moves); n < 95 || n > 102 {
		t.Errorf("%d moves, of 1024 slots to one of ten cells", n)
	}
	for _, l := range p.After {
		if l.Load < 98 || l.Load > 106 {
			t.Errorf("%s has %d of 1025 in ten cells", l.Cell, l.Load)
		}
	}
	for _, m := range p.Moves {
		if m.To != "new" || m.Unit.Tenant != "" {
			t.Errorf("%+v need not be moved", m)
		}
	}
}

func TestPlanDrain(t *testing.T) {
	s := large(4, 256, 100)
	s.Cells[1].Cordoned = true
	p := planned(t, s, control.Goal{Drain: []string{"cell-0"}})
	if len(p.Moves) != 65 || len(p.Unplaced) != 0 || p.After[0].Load != 0 {
		t.Errorf("%d moves, %d without a place, %d stay", len(p.Moves), len(p.Unplaced),
			p.After[0].Load)
	}
	if p.After[1] != p.Before[1] {
		t.Errorf("a cordoned cell has %+v", p.After[1])
	}
	if a, b := p.After[2].Load, p.After[3].Load; a-b > 1 || b-a > 1 || !p.After[2].Alarm {
		t.Errorf("the others have %+v, %+v", p.After[2], p.After[3])
	}
	p = planned(t, large(4, 256, 80), control.Goal{Drain: []string{"cell-0"}})
	if len(p.Unplaced) != 65-3*16 {
		t.Errorf("%d have no place, but there are 48", len(p.Unplaced))
	}
}

// A canary moves the same few first, and always to where it is to.
func TestPlanCanaryIsNested(t *testing.T) {
	s := large(2, 4096, 10000)
	s.Cells = append(s.Cells, cell.Cell{ID: "canary", Capacity: 5000})
	before := map[control.Unit]bool{}
	for _, percent := range []float64{1, 5, 25, 100} {
		p := planned(t, s, control.Goal{
			Drain: []string{"cell-0"}, Percent: percent, To: []string{"canary"},
		})
		now := map[control.Unit]bool{}
		for _, m := range p.Moves {
			now[m.Unit] = true
			if m.From != "cell-0" || m.To != "canary" {
				t.Errorf("%+v", m)
			}
		}
		for u := range before {
			if !now[u] {
				t.Errorf("%v is not of %v percent", u, percent)
			}
		}
		n, want := float64(len(now)), 2049*percent/100
		if n < want*0.6 || n > want*1.4 {
			t.Errorf("%d units are %v percent of 2049", len(now), percent)
		}
		before = now
	}
}

func TestSimulate(t *testing.T) {
	store := stored(t, large(4, 256, 100))
	c := control.New(control.Config{Store: store})
	p, err := c.Simulate(t.Context(), "cell-1", "cell-2")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 71 || len(p.Unplaced) != 57 {
		t.Errorf("%d find a place and %d none", len(p.Moves), len(p.Unplaced))
	}
	if text := p.String(); !strings.Contains(text, "cell-0: load 65 to 100 of 100") ||
		!strings.Contains(text, "headroom") {
		t.Error(text)
	}
	if snapshot(t, store).Version != 1 {
		t.Error("the map has changed")
	}
	if _, err := c.Simulate(t.Context(), "cell-9"); err == nil {
		t.Error("a cell that does not exist can die")
	}
}

func TestGoalsThatMakeNoSense(t *testing.T) {
	c := control.New(control.Config{Store: stored(t, small())})
	for _, g := range []control.Goal{
		{Drain: []string{"x"}},
		{To: []string{"x"}},
		{Percent: 101},
		{Percent: -1},
		{Drain: []string{"a"}, Percent: 5, Remove: true},
		{Add: []cell.Cell{{ID: "a"}}},
		{Add: []cell.Cell{{ID: "d"}, {ID: "d"}}},
	} {
		if _, err := c.Plan(t.Context(), g); err == nil {
			t.Errorf("%+v is a goal", g)
		}
	}
}

// Whatever the map and the loads, what a plan promises holds.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := large(2+r.IntN(6), 64, 0)
		bounded := r.IntN(3) > 0
		for i := range s.Cells {
			s.Cells[i].Cordoned = r.IntN(6) == 0
			if bounded {
				s.Cells[i].Capacity = r.IntN(400)
			}
		}
		for i := range s.Slots {
			if r.IntN(8) == 0 {
				s.Slots[i].Cell = "cell-0"
			}
		}
		tenants := r.IntN(300)
		cfg := control.Config{Store: stored(t, s)}
		if r.IntN(2) == 0 {
			cfg.Tenants = func(_ context.Context, yield func(string, int)) error {
				yield("acme", 7)
				for i := range tenants {
					yield(fmt.Sprint("tenant-", i), 1+i%5)
				}
				return nil
			}
		}
		g := control.Goal{Even: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			g.Add = []cell.Cell{{ID: "new", Capacity: r.IntN(400)}}
		}
		if r.IntN(2) == 0 {
			g.Drain = []string{"cell-1"}
		}
		c := control.New(cfg)
		p, err := c.Plan(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, g, p)
		again, _ := c.Plan(t.Context(), g)
		if fmt.Sprint(again) != fmt.Sprint(p) {
			t.Error("the same plan is another one")
		}
	})
}

func holds(t *testing.T, s *cell.Snapshot, g control.Goal, p control.Plan) {
	t.Helper()
	drained := len(g.Drain) > 0
	seen := map[control.Unit]bool{}
	for _, m := range p.Moves {
		if seen[m.Unit] {
			t.Errorf("%v is moved twice", m.Unit)
		}
		seen[m.Unit] = true
		need := drained && m.From == "cell-1" || g.Even || len(g.Add) > 0 && m.To == "new"
		if !need || m.From == m.To || m.To == "cell-1" && drained {
			t.Errorf("%+v need not be moved", m)
		}
		if m.Unit.Tenant != "" && m.From != "cell-1" {
			t.Errorf("%+v has an entry of its own", m)
		}
		for _, at := range s.Cells {
			if at.ID == m.To && at.Cordoned {
				t.Errorf("%+v, which is cordoned", m)
			}
		}
	}
	var before, after int64
	bounded := false
	for _, l := range p.After {
		bounded = bounded || l.Capacity > 0
	}
	for i, l := range p.After {
		after += l.Load
		var was control.Load
		if i < len(p.Before) {
			was = p.Before[i]
			before += was.Load
		}
		if bounded && l.Load > was.Load && l.Load > int64(l.Capacity) {
			t.Errorf("%s has %d of %d, and had %d", l.Cell, l.Load, l.Capacity, was.Load)
		}
	}
	if before != after {
		t.Errorf("a load of %d becomes %d", before, after)
	}
}

// Run adds, cordons, moves and removes, and no faster than it may.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := stored(t, small())
		c := control.New(control.Config{Store: store, Hooks: idle(), MaxSlots: 0.25, Parallel: 3})
		p, err := c.Plan(t.Context(), control.Goal{Drain: []string{"a"}, Remove: true})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := c.Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < time.Hour || d > 2*time.Hour {
			t.Errorf("two slots, one an hour, took %v", d)
		}
		s := snapshot(t, store)
		if len(s.Cells) != 2 || s.Cells[0].ID != "b" {
			t.Errorf("the cells are %+v", s.Cells)
		}
		for _, m := range p.Moves {
			a := s.Tenants[m.Unit.Tenant]
			if m.Unit.Tenant == "" {
				a = s.Slots[m.Unit.Index]
			}
			if a.Cell != m.To || a.Phase != cell.Stable {
				t.Errorf("%+v is in %+v", m, a)
			}
		}
		// The same plan once more: there is nothing of it to do.
		version := s.Version
		if err := c.Run(t.Context(), control.Plan{Moves: p.Moves}); err != nil {
			t.Error(err)
		}
		if got := snapshot(t, store).Version; got != version {
			t.Errorf("version %d becomes %d", version, got)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := control.New(control.Config{Store: stored(t, small()), Hooks: idle(), MaxSlots: 0.25})
		p, err := c.Plan(t.Context(), control.Goal{Drain: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := c.Run(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run returns %v", err)
		}
	})
}
