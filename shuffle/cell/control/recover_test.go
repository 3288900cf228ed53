package control_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// failing is a store that is down from one of its calls on, for so many of them. Of those,
// each that could have changed something has done so where after says it.
type failing struct {
	control.Store

	mu    sync.Mutex
	calls int
	from  int
	times int
	after bool
}

var errDown = errors.New("the store is down")

func (f *failing) down() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return f.calls >= f.from && f.calls < f.from+f.times
}

// made returns how many calls there were.
func (f *failing) made() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *failing) Load(ctx context.Context) (control.Record, error) {
	if f.down() {
		return control.Record{}, errDown
	}
	return f.Store.Load(ctx)
}

func (f *failing) CompareAndSwap(ctx context.Context, old uint64, next control.Record) error {
	if !f.down() {
		return f.Store.CompareAndSwap(ctx, old, next)
	}
	if f.after {
		_ = f.Store.CompareAndSwap(ctx, old, next)
	}
	return errDown
}

// A store that fails at whichever call, and is back some calls later, delays a move that has
// begun, and nothing else: the same controller takes it to its end.
func TestStoreRecovers(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; recovered(t, n, after); n++ {
			if n > 200 {
				t.Fatal("a move takes more than 200 calls")
			}
		}
	}
}

// recovered reports whether there was a call n.
func recovered(t *testing.T, n int, after bool) bool {
	t.Helper()
	hit := false
	synctest.Test(t, func(t *testing.T) {
		memory := stored(t, small())
		store := &failing{Store: memory, from: n, times: 7, after: after}
		c := control.New(control.Config{Store: store, Hooks: idle()})
		// The replicas pull from elsewhere, and then from c: all calls before are the move's.
		f := newFleet(t, control.New(control.Config{Store: memory}), "a-1", "a-2", "b-1")
		defer f.stop()
		time.Sleep(6 * time.Second)
		f.plane.Store(c)
		err := c.Move(t.Context(), acme, "b")
		if errors.Is(err, errDown) { // It has not begun, or nobody knows: then it is resumed.
			err = c.Drive(t.Context(), acme)
		}
		if err != nil {
			t.Errorf("call %d, after %t: %v", n, after, err)
		}
		made := store.made()
		got := snapshot(t, memory).Tenants["acme"]
		began := got.Cell == "b"
		if got.Phase != cell.Stable || !began && n > 2 {
			t.Errorf("call %d, after %t: %s", n, after, where(t, memory, acme))
		}
		before := f.writes(got.Cell)
		time.Sleep(20 * time.Second)
		if f.writes(got.Cell) == before {
			t.Errorf("call %d, after %t: nobody writes in %s", n, after, got.Cell)
		}
		hit = made >= n
	})
	return hit
}

// listing is a store in which a replica is listed just before the flip is stored.
type listing struct {
	control.Store
	once sync.Once
	list func()
}

func (l *listing) CompareAndSwap(ctx context.Context, old uint64, next control.Record) error {
	s, err := cell.Decode(next.Map)
	if err != nil {
		return err
	}
	if s.Tenants["acme"].Phase == cell.Flipping {
		l.once.Do(l.list)
	}
	return l.Store.CompareAndSwap(ctx, old, next)
}

// A replica that is listed between the decision to flip and the flip has to settle the move
// as well: it may be writing.
func TestReplicaListedJustBeforeTheFlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := stored(t, small())
		other := control.New(control.Config{Store: memory})
		store := &listing{Store: memory, list: func() {
			_, err := other.Pull(t.Context(), control.Report{Cell: "a", Replica: "a-9"})
			if err != nil {
				t.Error(err)
			}
		}}
		c := control.New(control.Config{Store: store, Hooks: idle()})
		f := newFleet(t, c, "a-1", "b-1")
		defer f.stop()
		time.Sleep(6 * time.Second)
		err := c.Move(t.Context(), acme, "b")
		if !errors.Is(err, control.ErrAborted) || c.Stats().Flipped != 0 {
			t.Errorf("%v, with %+v", err, c.Stats())
		}
		replicas := snapshot(t, memory).Cells[0].Replicas
		if len(replicas) != 2 {
			t.Errorf("listed are %v: nothing was shown", replicas)
		}
	})
}

// What is being moved keeps its entry.
func TestUnpinDuringAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := stored(t, small())
		var c *control.Controller
		var err error
		hooks := idle()
		hooks.Copy = func(ctx context.Context, _ control.Move) error {
			err = c.Unpin(ctx, "acme")
			return nil
		}
		c = control.New(control.Config{Store: memory, Hooks: hooks})
		if moved := c.Move(t.Context(), acme, "b"); moved != nil {
			t.Fatal(moved)
		}
		if !errors.Is(err, control.ErrBusy) {
			t.Errorf("Unpin in the midst of a move: %v", err)
		}
		if got := snapshot(t, memory).Tenants["acme"].Cell; got != "b" {
			t.Errorf("acme is in %q", got)
		}
	})
}
