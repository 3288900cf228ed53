package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// moving runs a test in a bubble with replicas of two cells.
func moving(
	t *testing.T, cfg control.Config, names []string,
	test func(t *testing.T, c *control.Controller, f *fleet),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Store == nil {
			cfg.Store = stored(t, small())
		}
		c := control.New(cfg)
		f := newFleet(t, c, names...)
		defer f.stop()
		time.Sleep(6 * time.Second)
		test(t, c, f)
	})
}

var trio = []string{"a-1", "a-2", "b-1"}

func at(t *testing.T, c *control.Controller) string {
	t.Helper()
	s, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %v", s.Tenants["acme"].Cell, s.Tenants["acme"].Phase)
}

// Where nobody says who they are, each write is leased, and the flip waits for a lease.
func TestMoveBetweenCellsThatListNobody(t *testing.T) {
	cfg := control.Config{Hooks: idle()}
	moving(t, cfg, []string{"a", "b"}, func(t *testing.T, c *control.Controller, f *fleet) {
		if err := c.Move(t.Context(), acme, "b"); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if f.writes("b") == 0 {
			t.Error("nobody writes in b")
		}
	})
}

// A replica that says who it is in the midst of a move is not the first to be listed.
func TestFirstReplicaIsNotListedDuringAMove(t *testing.T) {
	hooks := idle()
	var c *control.Controller
	hooks.Copy = func(ctx context.Context, _ control.Move) error {
		_, err := c.Pull(ctx, control.Report{Cell: "a", Replica: "a-9"})
		return err
	}
	cfg := control.Config{Hooks: hooks, Store: stored(t, small())}
	moving(t, cfg, []string{"a", "b"}, func(t *testing.T, own *control.Controller, _ *fleet) {
		c = own
		if err := c.Move(t.Context(), acme, "b"); err != nil {
			t.Error(err)
		}
		if s := snapshot(t, cfg.Store); len(s.Cells[0].Replicas) > 0 {
			t.Errorf("a lists %v", s.Cells[0].Replicas)
		}
		if _, err := c.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-9"}); err != nil {
			t.Error(err)
		}
		if s := snapshot(t, cfg.Store); len(s.Cells[0].Replicas) != 1 {
			t.Errorf("after the move a lists %v", s.Cells[0].Replicas)
		}
	})
}

// One that is cut off before the move stops it, until it is known to have ended.
func TestCutOffBeforeTheMove(t *testing.T) {
	cfg := control.Config{Hooks: idle(), SettleTimeout: time.Minute}
	moving(t, cfg, trio, func(t *testing.T, c *control.Controller, f *fleet) {
		f.cut["a-2"].Store(true)
		err := c.Move(t.Context(), acme, "b")
		if !errors.Is(err, control.ErrAborted) || !strings.Contains(err.Error(), "a-2") {
			t.Errorf("Move returns %v", err)
		}
		if got := at(t, c); got != "a stable" {
			t.Errorf("it is in %s", got)
		}
	})
}

// One that is cut off during the flip has its lease end.
func TestCutOffDuringTheFlip(t *testing.T) {
	hooks := idle()
	var f *fleet
	hooks.Verify = func(context.Context, control.Move) error {
		f.cut["a-2"].Store(true)
		return nil
	}
	cfg := control.Config{Hooks: hooks, SettleTimeout: time.Minute}
	moving(t, cfg, trio, func(t *testing.T, c *control.Controller, own *fleet) {
		f = own
		err := c.Move(t.Context(), acme, "b")
		if err == nil || !strings.Contains(err.Error(), "a-2") {
			t.Errorf("Move returns %v, though a-2 may read what would be cleaned", err)
		}
		if got := at(t, c); got != "b cleaning" {
			t.Errorf("it is in %s", got)
		}
		if err := c.Retire(t.Context(), "a", "a-2"); err != nil {
			t.Error(err)
		}
		if err := c.Resume(t.Context()); err != nil {
			t.Error(err)
		}
		if got := at(t, c); got != "b stable" {
			t.Errorf("it is in %s", got)
		}
	})
}

// Two who drive the same move, with another pace, get it to one end.
func TestTwoMovers(t *testing.T) {
	store := stored(t, small())
	cfg := control.Config{Hooks: idle(), Store: store}
	moving(t, cfg, trio, func(t *testing.T, c *control.Controller, f *fleet) {
		other := control.New(control.Config{
			Hooks: idle(), Store: store, Poll: 70 * time.Millisecond,
		})
		begun := make(chan error, 1)
		go func() { begun <- other.Move(t.Context(), acme, "c") }()
		err := c.Move(t.Context(), acme, "b")
		errOther := <-begun
		if (err == nil) == (errOther == nil) {
			t.Errorf("both return %v and %v", err, errOther)
		}
		go func() { begun <- other.Resume(t.Context()) }()
		_ = c.Move(t.Context(), acme, "b")
		if err := errors.Join(<-begun, c.Resume(t.Context())); err != nil {
			t.Error(err)
		}
		if got := at(t, c); got != "b stable" && got != "c stable" {
			t.Errorf("it is in %s", got)
		}
		_ = f
	})
}

func TestHooksThatFail(t *testing.T) {
	errHook := errors.New("no")
	fails := func(times int) func(context.Context, control.Move) error {
		return func(context.Context, control.Move) error {
			if times--; times >= 0 {
				return errHook
			}
			return nil
		}
	}
	for _, test := range []struct {
		name                         string
		copy, verify, catchUp, clean int // how often each fails
		want                         string
		err                          error
	}{
		{"copy twice", 2, 0, 0, 0, "b stable", nil},
		{"copy", 3, 0, 0, 0, "a stable", errHook},
		{"verify twice", 0, 2, 0, 0, "b stable", nil},
		{"verify", 0, 3, 0, 0, "a stable", errHook},
		{"both", 1, 2, 0, 0, "a stable", errHook},
		{"catch up", 0, 0, 1, 0, "a stable", errHook},
		{"clean twice", 2, 0, 0, 2, "b stable", nil},
		{"clean", 0, 0, 0, 3, "b cleaning", errHook},
	} {
		t.Run(test.name, func(t *testing.T) {
			hooks := control.Hooks{
				Copy: fails(test.copy), Verify: fails(test.verify),
				CatchUp: fails(test.catchUp), Clean: fails(test.clean),
			}
			moving(t, control.Config{Hooks: hooks}, trio,
				func(t *testing.T, c *control.Controller, _ *fleet) {
					err := c.Move(t.Context(), acme, "b")
					if !errors.Is(err, test.err) || test.err != nil && err == nil {
						t.Errorf("Move returns %v", err)
					}
					if got := at(t, c); got != test.want {
						t.Errorf("it is in %s, want %s", got, test.want)
					}
					if errors.Is(err, control.ErrAborted) != (test.want == "a stable") {
						t.Errorf("Move returns %v", err)
					}
				})
		})
	}
}

// CatchUp that hangs, and does not look at its context, does not hold up writes.
func TestCatchUpThatHangs(t *testing.T) {
	hooks := idle()
	release := make(chan struct{})
	hooks.CatchUp = func(context.Context, control.Move) error {
		<-release
		return nil
	}
	cfg := control.Config{Hooks: hooks}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		cfg.Store = stored(t, small())
		c := control.New(cfg)
		f := newFleet(t, c, trio...)
		defer f.stop()
		done := make(chan error, 1)
		go func() { done <- c.Move(t.Context(), acme, "b") }()
		time.Sleep(2 * time.Minute)
		if got := at(t, c); got != "a cleaning" {
			t.Errorf("it is in %s", got)
		}
		before := f.writes("a")
		time.Sleep(10 * time.Second)
		if f.writes("a") == before {
			t.Error("nobody writes")
		}
		close(release)
		if err := <-done; !errors.Is(err, control.ErrAborted) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Move returns %v", err)
		}
	})
}

// A hook that panics ends the call, and leaves a move that can be resumed.
func TestHookThatPanics(t *testing.T) {
	hooks := idle()
	var once atomic.Bool
	hooks.CatchUp = func(context.Context, control.Move) error {
		if !once.Swap(true) {
			panic("catch up")
		}
		return nil
	}
	moving(t, control.Config{Hooks: hooks}, trio,
		func(t *testing.T, c *control.Controller, _ *fleet) {
			func() {
				defer func() {
					if recover() != "catch up" {
						t.Error("the panic was not passed on")
					}
				}()
				_ = c.Move(t.Context(), acme, "b")
			}()
			if got := at(t, c); got != "a flipping" {
				t.Errorf("it is in %s", got)
			}
			if err := c.Resume(t.Context()); err != nil {
				t.Error(err)
			}
			if got := at(t, c); got != "b stable" {
				t.Errorf("it is in %s", got)
			}
		})
}

// An abort ends the context of the hook that is running.
func TestAbortInterrupts(t *testing.T) {
	hooks := idle()
	hooks.Copy = func(ctx context.Context, _ control.Move) error {
		<-ctx.Done()
		return ctx.Err()
	}
	var cleaned atomic.Value
	hooks.Clean = func(_ context.Context, m control.Move) error {
		cleaned.Store(m.From)
		return nil
	}
	moving(t, control.Config{Hooks: hooks}, trio,
		func(t *testing.T, c *control.Controller, _ *fleet) {
			done := make(chan error, 1)
			go func() { done <- c.Move(t.Context(), acme, "b") }()
			synctest.Wait()
			if err := c.Move(t.Context(), acme, "c"); !errors.Is(err, control.ErrBusy) {
				t.Errorf("a second Move returns %v", err)
			}
			if err := c.Resume(t.Context()); err != nil {
				t.Errorf("Resume of what is driven returns %v", err)
			}
			if err := c.Rollback(t.Context(), acme); !errors.Is(err, control.ErrBusy) {
				t.Errorf("Rollback before the flip returns %v", err)
			}
			if err := c.Abort(t.Context(), acme); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, control.ErrAborted) {
				t.Errorf("Move returns %v", err)
			}
			if cleaned.Load() != "b" {
				t.Errorf("what was cleaned is %v", cleaned.Load())
			}
			if err := c.Abort(t.Context(), acme); !errors.Is(err, control.ErrBusy) {
				t.Errorf("a second Abort returns %v", err)
			}
		})
}

// A rollback from Cleaning is a move back, with an epoch of its own.
func TestRollback(t *testing.T) {
	store := stored(t, small())
	cfg := control.Config{Hooks: idle(), Keep: time.Hour, Store: store}
	moving(t, cfg, trio, func(t *testing.T, c *control.Controller, f *fleet) {
		done := make(chan error, 1)
		go func() { done <- c.Move(t.Context(), acme, "b") }()
		time.Sleep(2 * time.Minute)
		there := snapshot(t, store).Tenants["acme"]
		if there.Cell != "b" || there.Phase != cell.Cleaning {
			t.Fatalf("it is in %+v", there)
		}
		if err := c.Rollback(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, control.ErrAborted) {
			t.Errorf("Move returns %v", err)
		}
		back := snapshot(t, store).Tenants["acme"]
		if back.Cell != "a" || back.Phase != cell.Stable || back.Epoch <= there.Epoch {
			t.Errorf("it is back as %+v from %+v", back, there)
		}
		_ = f
	})
}

// What ends with its context says so, and leaves the move where it is.
func TestDriveEndsWithItsContext(t *testing.T) {
	hooks := idle()
	hooks.Verify = func(ctx context.Context, _ control.Move) error {
		<-ctx.Done()
		return ctx.Err()
	}
	moving(t, control.Config{Hooks: hooks}, trio,
		func(t *testing.T, c *control.Controller, _ *fleet) {
			why := errors.New("that is all for today")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
			defer cancel()
			err := c.Move(ctx, acme, "b")
			if !errors.Is(err, why) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Move returns %v", err)
			}
			if got := at(t, c); got != "a verifying" {
				t.Errorf("it is in %s", got)
			}
		})
}

func TestMoveRefuses(t *testing.T) {
	store := stored(t, small())
	bare := control.New(control.Config{Store: store})
	if err := bare.Move(t.Context(), acme, "b"); err == nil {
		t.Error("moved without hooks")
	}
	c := control.New(control.Config{Store: store, Hooks: idle()})
	if err := c.Cordon(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		u  control.Unit
		to string
	}{
		{acme, "b"},
		{acme, "nowhere"},
		{control.Unit{Index: 4}, "c"},
		{control.Unit{Index: -1}, "c"},
		{control.Unit{Tenant: "acme", Index: 1}, "c"},
	} {
		if err := c.Move(t.Context(), test.u, test.to); err == nil {
			t.Errorf("%v was moved to %s", test.u, test.to)
		}
	}
	if err := c.Move(t.Context(), acme, "a"); err != nil {
		t.Errorf("it is there, but %v", err)
	}
	if s := snapshot(t, store); s.Version != 2 {
		t.Errorf("version %d, though nothing but the cordon was done", s.Version)
	}
	empty := control.New(control.Config{Store: &control.Memory{}, Hooks: idle()})
	if err := empty.Drive(t.Context(), acme); !errors.Is(err, control.ErrEmpty) {
		t.Errorf("Drive without a map returns %v", err)
	}
}

// What somebody else does to a move while a hook is running counts, and not the step that
// was decided before.
func TestStepThatComesTooLate(t *testing.T) {
	store := stored(t, small())
	other := control.New(control.Config{Store: store, Hooks: idle()})
	hooks := idle()
	cleaned := 0
	hooks.Copy = func(ctx context.Context, _ control.Move) error {
		if err := other.Move(ctx, acme, "c"); !errors.Is(err, control.ErrBusy) {
			t.Errorf("another one begins with %v", err)
		}
		return other.Abort(ctx, acme)
	}
	hooks.Clean = func(_ context.Context, m control.Move) error {
		cleaned++
		if m.From != "b" || m.To != "a" || m.Epoch == 1 {
			t.Errorf("what is cleaned is %+v", m)
		}
		return nil
	}
	moving(t, control.Config{Hooks: hooks, Store: store}, trio,
		func(t *testing.T, c *control.Controller, _ *fleet) {
			if err := c.Move(t.Context(), acme, "b"); !errors.Is(err, control.ErrAborted) {
				t.Errorf("Move returns %v", err)
			}
			if got := at(t, c); got != "a stable" || cleaned != 1 {
				t.Errorf("it is in %s, and was cleaned %d times", got, cleaned)
			}
		})
}
