package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell/control"
)

type operation = func(*control.Controller, context.Context)

var errCrashed = errors.New("crashed")

// crashing is a store whose process ends with the n-th call: before it, or after what it
// does is done. Then nothing gets through any more.
type crashing struct {
	control.Store

	mu     sync.Mutex
	calls  int
	at     int
	after  bool
	swaps  bool // only those count
	crash  context.CancelFunc
	downed bool
}

func (c *crashing) call(swap bool, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.downed {
		return errCrashed
	}
	if !c.swaps || swap {
		c.calls++
	}
	if c.calls != c.at || c.swaps && !swap {
		return do()
	}
	if c.after {
		_ = do()
	}
	c.downed = true
	c.crash()
	return errCrashed
}

func (c *crashing) Load(ctx context.Context) (r control.Record, err error) {
	err = c.call(false, func() error {
		r, err = c.Store.Load(ctx)
		return err
	})
	return r, err
}

func (c *crashing) CompareAndSwap(ctx context.Context, old uint64, next control.Record) error {
	return c.call(true, func() error { return c.Store.CompareAndSwap(ctx, old, next) })
}

// crashed runs a move whose controller crashes with the n-th call to the store, and resumes
// it with another one. It reports whether there was such a call.
func crashed(t *testing.T, n int, after, swaps bool, op operation) bool {
	t.Helper()
	hit := false
	synctest.Test(t, func(t *testing.T) {
		memory := stored(t, small())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store := &crashing{Store: memory, at: n, after: after, swaps: swaps, crash: cancel}
		first := control.New(control.Config{Store: store, Hooks: idle()})
		// Replicas are listed before, so that all calls that count are of the move.
		f := newFleet(t, control.New(control.Config{Store: memory}), "a-1", "a-2", "b-1")
		defer f.stop()
		time.Sleep(6 * time.Second)
		f.plane.Store(first)
		op(first, ctx)
		hit = store.downed
		second := control.New(control.Config{Store: memory, Hooks: idle()})
		f.plane.Store(second)
		if err := second.Resume(t.Context()); err != nil && !errors.Is(err, control.ErrAborted) {
			t.Errorf("call %d, after %v: Resume returns %v", n, after, err)
		}
		got := where(t, memory, acme)
		if !strings.Contains(got, "stable") {
			t.Errorf("call %d, after %v: %s", n, after, got)
		}
		before := f.writes(got[:1])
		time.Sleep(20 * time.Second)
		if f.writes(got[:1]) == before {
			t.Errorf("call %d, after %v: nobody writes in %s", n, after, got)
		}
	})
	return hit
}

func TestCrashPoints(t *testing.T) {
	ops := map[string]operation{
		"move": func(c *control.Controller, ctx context.Context) { _ = c.Move(ctx, acme, "b") },
		"rollback": func(c *control.Controller, ctx context.Context) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil && c.Rollback(ctx, acme) != nil {
					pause(ctx, time.Second)
				}
			}()
			_ = c.Move(ctx, acme, "b")
			<-done
		},
		"abort": func(c *control.Controller, ctx context.Context) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				pause(ctx, 3*time.Second)
				_ = c.Abort(ctx, acme)
			}()
			_ = c.Move(ctx, acme, "b")
			<-done
		},
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			swaps, all := 0, 0
			for _, after := range []bool{false, true} {
				n := 1
				for ; crashed(t, n, after, true, op); n++ {
				}
				swaps = n - 1
				n, stride := 1, 5
				if testing.Short() {
					stride = 29
				}
				for ; crashed(t, n, after, false, op); n += stride {
				}
				all = n
			}
			if t.Logf("%d writes of the map, %d calls", swaps, all); swaps < 3 {
				t.Errorf("only %d writes of the map", swaps)
			}
		})
	}
}

// A move without a crash goes through all phases, each in a version of its own.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := stored(t, small())
		var steps []string
		c := control.New(control.Config{
			Store: memory, Hooks: idle(), OnChange: func(ch control.Change) {
				steps = append(steps, fmt.Sprint(ch.To.Phase, ch.To.Cell))
			},
		})
		f := newFleet(t, c, "a-1", "a-2", "b-1")
		defer f.stop()
		begun := time.Now()
		if err := c.Move(t.Context(), acme, "b"); err != nil {
			t.Fatal(err)
		}
		const want = "replicatinga verifyinga flippinga drainingb cleaningb stableb"
		if got := strings.Join(steps, " "); got != want {
			t.Errorf("steps %s, want %s", got, want)
		}
		if d := time.Since(begun); d > 45*time.Second {
			t.Errorf("the move took %v", d)
		}
		time.Sleep(5 * time.Second)
		if f.writes("a") == 0 || f.writes("b") == 0 {
			t.Error("nobody writes")
		}
		if s := c.Stats(); s.Begun != 1 || s.Flipped != 1 || s.Aborted != 0 || s.Listed != 3 {
			t.Errorf("%+v", s)
		}
	})
}
