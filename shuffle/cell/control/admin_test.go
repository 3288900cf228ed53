package control_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

func TestConfigValidate(t *testing.T) {
	err := control.Config{
		Name: "x", Poll: 1, FlipTimeout: -1, StepTimeout: -1, SettleTimeout: -1, Attempts: -1,
		Keep: -1, Parallel: -1, MaxSlots: math.NaN(), MaxReplicas: -1, Headroom: 2,
		Hooks: control.Hooks{Copy: nothing},
	}.Validate()
	for _, field := range []string{
		`Config "x"`, "Store", "Hooks", "Poll", "FlipTimeout", "StepTimeout", "SettleTimeout",
		"Attempts", "Keep", "Parallel", "MaxSlots", "MaxReplicas", "Headroom",
	} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	defer func() {
		want := control.Config{}.Validate().Error()
		if got := recover(); got != want {
			t.Errorf("New panics with %v, want %s", got, want)
		}
	}()
	control.New(control.Config{})
}

func TestPin(t *testing.T) {
	store := stored(t, small())
	c := control.New(control.Config{Store: store, Hooks: idle()})
	slot := snapshot(t, store).Slot("globex")
	home := snapshot(t, store).Slots[slot].Cell
	if err := c.Pin(t.Context(), "globex"); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		moved := control.New(control.Config{Store: store, Hooks: idle()})
		if err := moved.Move(t.Context(), control.Unit{Index: slot}, "c"); err != nil {
			t.Fatal(err)
		}
		if got := where(t, store, control.Unit{Tenant: "globex"}); got != home+" 1 stable " {
			t.Errorf("the pinned tenant is %s", got)
		}
		if err := moved.Unpin(t.Context(), "globex"); err == nil {
			t.Error("unpinned, into another cell")
		}
		if err := moved.Move(t.Context(), control.Unit{Tenant: "globex"}, "c"); err != nil {
			t.Fatal(err)
		}
		if err := moved.Unpin(t.Context(), "globex"); err != nil {
			t.Error(err)
		}
	})
	s := snapshot(t, store)
	if _, ok := s.Tenants["globex"]; ok || s.Slots[slot].Epoch != s.Version {
		t.Errorf("unpinned, the slot is %+v", s.Slots[slot])
	}
	if err := c.Unpin(t.Context(), "globex"); err == nil {
		t.Error("unpinned twice")
	}
}

// What has its own entry from a prefix goes back to it.
func TestUnpinToAPrefix(t *testing.T) {
	s := small()
	s.Prefixes = map[string]cell.Assignment{"trial-": {Cell: "b", Epoch: 1}}
	store := stored(t, s)
	c := control.New(control.Config{Store: store, Hooks: idle()})
	u := control.Unit{Tenant: "trial-1"}
	synctest.Test(t, func(t *testing.T) {
		moved := control.New(control.Config{Store: store, Hooks: idle()})
		for _, to := range []string{"c", "b"} {
			if err := moved.Move(t.Context(), u, to); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := c.Unpin(t.Context(), "trial-1"); err != nil {
		t.Fatal(err)
	}
	got := snapshot(t, store)
	if p := got.Prefixes["trial-"]; p.Cell != "b" || p.Epoch != got.Version {
		t.Errorf("the prefix is %+v", p)
	}
}

func TestExplain(t *testing.T) {
	s := small()
	s.Splits = map[string][]cell.Assignment{
		"globex": {{Cell: "a", Epoch: 1}, {Cell: "b", Epoch: 1}},
	}
	c := control.New(control.Config{Store: stored(t, s)})
	for _, test := range []struct{ tenant, key, source, unit string }{
		{"acme", "", "tenant", "tenant/acme"},
		{"globex", "user-1", "split", "part/1/globex"},
		{"globex", "user-2", "split", "tenant/globex"},
		{"initech", "", "slot", control.Unit{Index: s.Slot("initech")}.String()},
	} {
		e, err := c.Explain(t.Context(), test.tenant, test.key)
		if err != nil || e.Source != test.source || e.Unit.String() != test.unit ||
			e.Cell.ID != e.Assignment.Cell {
			t.Errorf("%s: %+v, %v", test.tenant, e, err)
		}
	}
}

func TestOverviewAlarm(t *testing.T) {
	c := control.New(control.Config{
		Store: stored(t, small()),
		Tenants: func(_ context.Context, yield func(string, int)) error {
			yield("acme", 7)
			yield("nothing", -5)
			return nil
		},
	})
	o, err := c.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, b := o.Cells[0], o.Cells[1]
	if a.Load != 7 || a.Utilisation != 0.7 || !a.Alarm || a.Slots != 2 || a.Tenants != 1 {
		t.Errorf("%+v", a)
	}
	if b.Load != 0 || b.Alarm {
		t.Errorf("%+v", b)
	}
	errTenants := errors.New("no")
	c = control.New(control.Config{
		Store:   stored(t, small()),
		Tenants: func(context.Context, func(string, int)) error { return errTenants },
	})
	if _, err := c.Overview(t.Context()); err != errTenants {
		t.Errorf("Overview returns %v", err)
	}
}

func TestPullBounds(t *testing.T) {
	store := stored(t, small())
	c := control.New(control.Config{Store: store, MaxReplicas: 2})
	if _, err := c.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-1"}); err != nil {
		t.Error(err)
	}
	for _, r := range []control.Report{
		{Cell: "nowhere", Replica: "x"},
		{Cell: "a", Replica: "a-1", Settled: 99},
	} {
		if _, err := c.Pull(t.Context(), r); err == nil {
			t.Errorf("%+v was answered", r)
		}
	}
	_, _ = c.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-2"})
	if _, err := c.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-3"}); err == nil {
		t.Error("a third replica was listed")
	}
	if err := c.Retire(t.Context(), "a", "a-1"); err != nil {
		t.Error(err)
	}
	if err := c.Retire(t.Context(), "a", "a-1"); err == nil {
		t.Error("retired twice")
	}
	if _, err := c.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-3"}); err != nil {
		t.Error(err)
	}
}

// Many who update at a time lose nothing.
func TestUpdateRace(t *testing.T) {
	store := stored(t, small())
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			c := control.New(control.Config{Store: store})
			for range 10 {
				_, err := c.Update(t.Context(), func(s *cell.Snapshot) error {
					s.Cells[2].Capacity++
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if s := snapshot(t, store); s.Cells[2].Capacity != 90 || s.Version != 81 {
		t.Errorf("capacity %d at version %d", s.Cells[2].Capacity, s.Version)
	}
}

// What cannot follow is not stored, and neither is what is not valid.
func TestUpdateHoldsToTheRules(t *testing.T) {
	store := stored(t, small())
	c := control.New(control.Config{Store: store})
	for _, change := range []func(*cell.Snapshot){
		func(s *cell.Snapshot) { s.Slots[0].Cell = "c" },
		func(s *cell.Snapshot) { s.Cells = s.Cells[1:] },
		func(s *cell.Snapshot) { s.Slots = nil },
		func(s *cell.Snapshot) { s.Lease /= 2 },
	} {
		_, err := c.Update(t.Context(), func(s *cell.Snapshot) error {
			change(s)
			return nil
		})
		if !errors.Is(err, cell.ErrInvalid) {
			t.Errorf("Update returns %v", err)
		}
	}
	if got := snapshot(t, store).Version; got != 1 {
		t.Errorf("version %d", got)
	}
}
