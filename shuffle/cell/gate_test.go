package cell_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// enter tries a request, and lets it leave at once. Slots 0 and 2 are those of cell a.
func enter(g *cell.Gate, tenant string, epoch uint64, write bool) string {
	p, err := g.Enter(cell.Request{Tenant: tenant, Epoch: epoch, Write: write})
	p.Leave()
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestGateConfigValidate(t *testing.T) {
	want := `cell: GateConfig "in": Cell is "", but must be set; Router is nil, but must be set`
	if err := (cell.GateConfig{Name: "in"}).Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	defer func() {
		if got := recover(); got != want {
			t.Errorf("NewGate panics with %v", got)
		}
	}()
	cell.NewGate(cell.GateConfig{Name: "in"})
}

// Each phase at each cell, by an epoch that is early, right, and late.
func TestGate(t *testing.T) {
	const (
		moved    = `cell "in": tenant "acme" is in cell "a" as of epoch 5`
		movedB   = `cell "in": tenant "acme" is in cell "b" as of epoch 5`
		flipping = `cell "in": paused for tenant "acme": flipping`
		behind   = `cell "in": paused for tenant "acme": behind`
	)
	for _, test := range []struct {
		active           string
		phase            cell.Phase
		read, write      string // with the right epoch
		early, late      string
		leased, notAtAll bool
	}{
		{"a", cell.Stable, "", "", moved, behind, false, false},
		{"a", cell.Replicating, "", "", moved, behind, true, false},
		{"a", cell.Verifying, "", "", moved, behind, true, false},
		{"a", cell.Flipping, "", flipping, moved, behind, false, true},
		{"a", cell.Draining, "", "", moved, behind, true, false},
		{"a", cell.Cleaning, "", "", moved, behind, false, false},
		{"b", cell.Stable, movedB, movedB, movedB, behind, false, true},
		{"b", cell.Replicating, movedB, movedB, movedB, behind, false, true},
		{"b", cell.Flipping, movedB, movedB, movedB, behind, false, true},
		{"b", cell.Draining, movedB, movedB, movedB, behind, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := cell.Assignment{Cell: test.active, Epoch: 5, Phase: test.phase}
			if a.Phase != cell.Stable {
				a.Peer = map[string]string{"a": "b", "b": "a"}[a.Cell]
			}
			r, p, stop := started(t, "a-1", with(7, "acme", a))
			defer stop()
			g := cell.NewGate(cell.GateConfig{Name: "in", Cell: "a", Router: r})
			for _, write := range []bool{false, true} {
				want := test.read
				if write {
					want = test.write
				}
				if got := enter(g, "acme", 5, write); got != want {
					t.Errorf("%s in phase %v: %q, want %q", test.active, test.phase, got, want)
				}
				if got := enter(g, "acme", 4, write); got != test.early {
					t.Errorf("%s in phase %v, too early: %q", test.active, test.phase, got)
				}
				if got := enter(g, "acme", 6, write); got != test.late {
					t.Errorf("%s in phase %v, too late: %q", test.active, test.phase, got)
				}
			}
			if got := enter(g, "acme", 0, false); got != test.early {
				t.Errorf("without an epoch: %q", got)
			}
			permit, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 5, Write: true})
			if until, ok := permit.Deadline(); ok != test.leased || ok &&
				time.Until(until) != 15*time.Second {
				t.Errorf("%s in phase %v: deadline %v, %t, %v", test.active, test.phase, until,
					ok, err)
			}
			permit.Leave()
			// An outage of a day is nothing to a tenant at rest.
			p.set(nil, errDown)
			time.Sleep(24 * time.Hour)
			want := test.write
			if test.leased {
				want = `cell "in": paused for tenant "acme": no lease`
			}
			if got := enter(g, "acme", 5, true); got != want {
				t.Errorf("%s in phase %v, cut off: %q, want %q", test.active, test.phase, got, want)
			}
			if got := enter(g, "acme", 5, false); got != test.read {
				t.Errorf("%s in phase %v, cut off, to read: %q", test.active, test.phase, got)
			}
		})
	}
}

// A lease counts from when the pull was sent, to the nanosecond.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := with(7, "acme", cell.Assignment{Cell: "a", Epoch: 5, Phase: cell.Verifying, Peer: "b"})
		body := encode(t, s)
		n := 0
		r := cell.New(cell.Config{Replica: "a-1", Source: func(context.Context) ([]byte, error) {
			if n++; n > 1 {
				return nil, errDown
			}
			time.Sleep(2 * time.Second)
			return body, nil
		}})
		defer run(t, r)()
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		if got := enter(g, "acme", 5, true); got != cell.ErrNoSnapshot.Error() {
			t.Errorf("without a map: %q", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		permit, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 5, Write: true})
		if until, _ := permit.Deadline(); err != nil || time.Until(until) != 13*time.Second {
			t.Errorf("a write has until %v, %v", until, err)
		}
		permit.Leave()
		time.Sleep(13*time.Second - 1)
		if got := enter(g, "acme", 5, true); got != "" {
			t.Errorf("before its end: %q", got)
		}
		time.Sleep(1 * time.Nanosecond)
		if got := enter(g, "acme", 5, true); got == "" {
			t.Error("at its end it holds")
		}
	})
}

// Who is listed, and who not.
func TestReplicas(t *testing.T) {
	const (
		notListed = `cell: paused for tenant "tenant-4": not listed`
		noLease   = `cell: paused for tenant "tenant-4": no lease`
	)
	for _, test := range []struct {
		name, replica string
		list          []string
		write, cutOff string
	}{
		{"listed", "a-1", []string{"a-1", "a-2"}, "", ""},
		{"others are", "a-9", []string{"a-1"}, notListed, notListed},
		{"it has no name", "", []string{"a-1"}, notListed, notListed},
		{"nobody is", "a-1", nil, "", noLease},
		{"nobody is, and it has no name", "", nil, "", noLease},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := small(1)
			s.Cells[0].Replicas = test.list
			r, p, stop := started(t, test.replica, s)
			defer stop()
			g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
			write := enter(g, "tenant-4", 1, true)
			p.set(nil, errDown)
			time.Sleep(time.Hour)
			if cutOff := enter(g, "tenant-4", 1, true); write != test.write ||
				cutOff != test.cutOff {
				t.Errorf("%s: %q, and cut off %q", test.name, write, cutOff)
			}
			if got := enter(g, "tenant-4", 1, false); got != "" {
				t.Errorf("%s: to read: %q", test.name, got)
			}
		})
	}
}

// After a restart in an outage, a replica writes by what it wrote itself, and by nothing
// that may be older than what it has agreed to.
func TestRestartInAnOutage(t *testing.T) {
	const noLease = `cell: paused for tenant "tenant-4": no lease`
	dir := t.TempDir()
	path := filepath.Join(dir, "cells")
	pullInto(t, path, "a-1", small(1), small(2))
	for _, test := range []struct {
		name, replica string
		change        func()
		want          string
	}{
		{"by its own", "a-1", func() {}, ""},
		{"by that of another", "a-2", func() {}, noLease},
		{"by one put there by hand", "a-1", func() {
			write(t, path, string(encode(t,
				small(2))))
		}, noLease},
		{"by the one before", "a-1", func() { write(t, path, "") }, noLease},
	} {
		test.change()
		cfg := diskConfig(path)
		cfg.Replica = test.replica
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: cell.New(cfg)})
		if got := enter(g, "tenant-4", 1, true); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if got := enter(g, "tenant-4", 1, false); got != "" {
			t.Errorf("%s: to read: %q", test.name, got)
		}
		if g.Settled() != 0 {
			t.Errorf("%s: settled without a pull", test.name)
		}
	}
	cfg := diskConfig("")
	cfg.Seed = encode(t, small(2))
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: cell.New(cfg)})
	if got := enter(g, "tenant-4", 1, true); got != noLease {
		t.Errorf("by the seed: %q", got)
	}
}

func TestGateErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := cell.Assignment{Cell: "a", Epoch: 5, Phase: cell.Flipping, Peer: "b"}
		r, _, stop := started(t, "a-1", with(7, "acme", a))
		defer stop()
		g := cell.NewGate(cell.GateConfig{Name: "in", Cell: "a", Router: r})
		_, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 1})
		var moved *cell.MovedError
		if !errors.As(err, &moved) || !errors.Is(err, cell.ErrMoved) || errors.Is(err,
			cell.ErrPaused) ||
			moved.Cell != "a" || moved.Epoch != 5 || moved.Tenant != "acme" || moved.Name != "in" {
			t.Errorf("%+v", err)
		}
		if !moved.NotAttempted() || moved.Retryable() {
			t.Error("a late request was made, or would do now")
		}
		for epoch, want := range map[uint64]struct {
			reason string
			after  time.Duration
		}{5: {"flipping", 5 * time.Second}, 6: {"behind", 500 * time.Millisecond}} {
			_, err := g.Enter(cell.Request{Tenant: "acme", Epoch: epoch, Write: true})
			var paused *cell.PausedError
			if !errors.As(err, &paused) || !errors.Is(err, cell.ErrPaused) || errors.Is(err,
				cell.ErrMoved) ||
				paused.Reason != want.reason || paused.RetryAfter() != want.after ||
				!paused.NotAttempted() || paused.Name != "in" || paused.Tenant != "acme" {
				t.Errorf("%+v", err)
			}
		}
		if s := g.Stats(); s.Moved != 1 || s.Paused != 2 || s.Entered != 0 || s.Name != "in" ||
			s.Cell != "a" {
			t.Errorf("%+v", s)
		}
	})
}

// Who is behind asks for the map, so that a tenant that has come is not refused for long.
func TestBehindAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := with(7, "acme", cell.Assignment{Cell: "b", Epoch: 5, Phase: cell.Flipping, Peer: "a"})
		r, p, stop := started(t, "a-1", s)
		defer stop()
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		time.Sleep(6 * time.Second)
		p.publish(t, with(8, "acme", cell.Assignment{
			Cell: "a", Epoch: 8, Phase: cell.Draining,
			Peer: "b",
		}))
		if got := enter(g, "acme", 8, true); got == "" {
			t.Fatal("it believes the request")
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := enter(g, "acme", 8, true); got != "" {
			t.Errorf("half a second later: %s", got)
		}
	})
}

// What a replica acknowledges, as a tenant moves away and something is under way.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(version uint64, phase cell.Phase) *cell.Snapshot {
			a := cell.Assignment{Cell: "a", Epoch: 1, Phase: phase, Peer: "b"}
			if phase >= cell.Draining {
				a = cell.Assignment{Cell: "b", Epoch: version, Phase: phase, Peer: "a"}
			}
			return with(version, "acme", a)
		}
		r, p, stop := started(t, "a-1", small(1))
		defer stop()
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		next := func(s *cell.Snapshot) {
			p.publish(t, s)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if v := r.Stats().Version; v != s.Version {
				t.Fatalf("version %d: %v", v, r.Stats().LastError)
			}
		}
		begin := func(write bool) cell.Permit {
			permit, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 1, Write: write})
			if err != nil {
				t.Fatal(err)
			}
			return permit
		}
		want := func(step string, settled uint64, late int) {
			t.Helper()
			if s := g.Stats(); s.Settled != settled || g.Settled() != settled || s.Late != late {
				t.Errorf("%s: %+v, want %d and %d late", step, s, settled, late)
			}
		}
		want("at rest", 1, 0)
		free, reading := begin(true), begin(false)
		want("a write at rest", 1, 0)
		next(at(2, cell.Replicating))
		want("that goes on without a lease", 1, 1)
		leased := begin(true)
		want("and one with", 1, 1)
		free.Leave()
		want("without", 2, 0)
		next(at(3, cell.Verifying))
		want("verifying", 3, 0)
		next(at(4, cell.Flipping))
		want("a write that goes on", 3, 1)
		if err := g.Drain(timeout(t, time.Second), neighbour("acme")); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		if err := g.Drain(timeout(t, time.Second), "acme"); !errors.Is(err,
			context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		done := make(chan error)
		go func() { done <- g.Drain(t.Context(), "acme") }()
		synctest.Wait()
		leased.Leave()
		leased.Leave() // does nothing
		if err := <-done; err != nil {
			t.Error(err)
		}
		want("no writes", 4, 0)
		next(at(5, cell.Draining))
		want("a read that goes on", 4, 1)
		reading.Leave()
		want("nothing", 5, 0)
		next(at(6, cell.Cleaning))
		want("cleaning", 6, 0)
		if err := g.Drain(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
	})
}

// neighbour returns a tenant under the same lock.
func neighbour(tenant string) string {
	s := &cell.Snapshot{Slots: make([]cell.Assignment, cell.GateShards)}
	for i := 0; ; i++ {
		if other := fmt.Sprint("other-", i); s.Slot(other) == s.Slot(tenant) {
			return other
		}
	}
}

// A move that is given up while somebody drains: there is nothing to wait for any more.
func TestDrainOfAMoveGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := cell.Assignment{Cell: "a", Epoch: 1}
		r, p, stop := started(t, "a-1", with(1, "acme", a))
		defer stop()
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		hung, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 1, Write: true})
		if err != nil {
			t.Fatal(err)
		}
		defer hung.Leave()
		p.publish(t, with(2, "acme", cell.Assignment{
			Cell: "a", Epoch: 1, Phase: cell.Flipping, Peer: "b",
		}))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		done := make(chan error)
		go func() { done <- g.Drain(timeout(t, time.Minute), "acme") }()
		synctest.Wait()
		p.publish(t, with(3, "acme", a))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A part of a split tenant that moves does not wait for the others, unless nobody knows
// which part something was for.
func TestSettledOfAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := cell.Assignment{Cell: "a", Epoch: 1}
		split := func(version uint64, phase cell.Phase) *cell.Snapshot {
			s := small(version)
			moving := a
			if moving.Phase = phase; phase != cell.Stable {
				moving.Peer = "b"
			}
			s.Splits = map[string][]cell.Assignment{"acme": {a, moving}}
			return s
		}
		keys := [2]string{"user-2", "user-1"} // of part 0 and 1
		for i, key := range keys {
			if got, _ := split(1, cell.Verifying).Lookup("acme",
				key); (got.Phase == cell.Verifying) != (i == 1) {
				t.Fatalf("%s is of another part", key)
			}
		}
		r, p, stop := started(t, "a-1", with(1, "acme", a))
		defer stop()
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		next := func(s *cell.Snapshot) {
			p.publish(t, s)
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		begin := func(key string) cell.Permit {
			permit, err := g.Enter(cell.Request{Tenant: "acme", Key: key, Epoch: 1, Write: true})
			if err != nil {
				t.Fatal(err)
			}
			return permit
		}
		unknown := begin(keys[0]) // when it was not split
		next(split(2, cell.Stable))
		other := begin(keys[0])
		if got := g.Settled(); got != 2 {
			t.Errorf("split: settled %d", got)
		}
		next(split(3, cell.Replicating))
		if got := g.Settled(); got != 2 {
			t.Errorf("it may be of that part: settled %d", got)
		}
		unknown.Leave()
		if got := g.Settled(); got != 3 {
			t.Errorf("the other part goes on: settled %d", got)
		}
		mine := begin(keys[1])
		next(split(4, cell.Flipping))
		if got := g.Settled(); got != 3 {
			t.Errorf("settled %d", got)
		}
		mine.Leave()
		if got := g.Settled(); got != 4 {
			t.Errorf("settled %d", got)
		}
		other.Leave()
	})
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A drain ends with its context whatever else happens at that moment, ten thousand times.
func TestDrainEndsWithItsContext(t *testing.T) {
	s := with(7, "acme", cell.Assignment{Cell: "b", Epoch: 5})
	stay := with(6, "acme", cell.Assignment{Cell: "a", Epoch: 4})
	p := &plane{}
	p.publish(t, stay)
	r := cell.New(cell.Config{Source: p.pull, Replica: "a-1", Period: time.Hour})
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
	r.Pull(t.Context())
	hung, err := g.Enter(cell.Request{Tenant: "acme", Epoch: 4})
	if err != nil {
		t.Fatal(err)
	}
	permits := make([]cell.Permit, 10_000)
	for i := range permits {
		permits[i], _ = g.Enter(cell.Request{Tenant: "acme", Epoch: 4, Write: i%2 == 0})
	}
	s.Tenants["acme"] = cell.Assignment{Cell: "b", Epoch: 7}
	p.publish(t, s)
	r.Pull(t.Context())
	cause := errors.New("enough")
	for i := range permits {
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { cancel(cause) })
		wg.Go(permits[i].Leave)
		if err := g.Drain(ctx, "acme"); !errors.Is(err, context.Canceled) || !errors.Is(err,
			cause) {
			t.Fatalf("drain %d: %v", i, err)
		}
		wg.Wait()
	}
	if got := g.Stats(); got.InFlight != 1 || got.Late != 1 {
		t.Errorf("%+v", got)
	}
	hung.Leave()
	if err := g.Drain(t.Context(), "acme"); err != nil {
		t.Error(err)
	}
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := small(7)
		s.Slots[0].Phase, s.Slots[0].Peer = cell.Verifying, "b"
		s.Slots[2] = s.Slots[0]
		r, p, stop := started(t, "a-1", s)
		defer stop()
		p.set(nil, errDown)
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		req := cell.Request{Tenant: "tenant-4", Epoch: 1}
		own := errors.New("own")
		n, err := cell.Do(t.Context(), g, req, func(ctx context.Context) (int, error) {
			if ctx != t.Context() {
				t.Error("a read has a context of its own")
			}
			return 42, own
		})
		if n != 42 || err != own {
			t.Errorf("%d, %v", n, err)
		}
		req.Write = true
		begin := time.Now()
		err = g.Do(t.Context(), req, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if err != context.DeadlineExceeded || time.Since(begin) != 15*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := g.Do(t.Context(), req, nil); !errors.Is(err, cell.ErrPaused) {
			t.Errorf("without a lease: %v", err)
		}
		req.Write = false
		for _, end := range []func(){func() { panic("own") }, runtime.Goexit} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = g.Do(t.Context(), req, func(context.Context) error { end(); return nil })
			}()
			<-done
		}
		if s := g.Stats(); s.InFlight != 0 || s.Entered != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGateAllocatesNothing(t *testing.T) {
	s := with(7, "acme", cell.Assignment{Cell: "a", Epoch: 5, Phase: cell.Verifying, Peer: "b"})
	p := &plane{}
	p.publish(t, s)
	r := cell.New(cell.Config{Source: p.pull, Replica: "a-1"})
	r.Pull(t.Context())
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
	tenants := []string{"acme", "tenant-4", "eu", "tenant-0"}
	if !slices.ContainsFunc(tenants, func(s string) bool { return enter(g, s, 1, true) == "" }) {
		t.Fatal("none of them is here")
	}
	for _, tenant := range tenants {
		for _, write := range []bool{false, true} {
			rt, _ := r.Route(tenant)
			if rt.Cell != "a" {
				continue
			}
			req := cell.Request{Tenant: tenant, Epoch: rt.Epoch, Write: write}
			if n := testing.AllocsPerRun(100, func() {
				p, err := g.Enter(req)
				if err != nil {
					t.Fatal(err)
				}
				p.Leave()
			}); n != 0 {
				t.Errorf("%s, write %t: %v allocations", tenant, write, n)
			}
		}
	}
	late := cell.Request{Tenant: "acme", Epoch: 1}
	if n := testing.AllocsPerRun(100, func() { _, _ = g.Enter(late) }); n > 1 {
		t.Errorf("a refusal: %v allocations, and its error is one", n)
	}
}
