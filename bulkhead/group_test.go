package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stormjib/stormjib/bulkhead"
)

func group(maxConcurrent, maxKeys int) *bulkhead.Group[int] {
	return bulkhead.NewGroup[int](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{Name: "shards", MaxConcurrent: maxConcurrent},
		MaxKeys:  maxKeys,
	})
}

func TestGroupKeepsKeysApart(t *testing.T) {
	g := group(1, 0)
	acquire(t, g.Get(1), 1)
	if full := refused(t, g.Get(1), 1); full.Name != "shards/1" {
		t.Errorf("name %q", full.Name)
	}
	acquire(t, g.Get(2), 1)
	if first := g.Get(1); first != g.Get(1) || first == g.Get(2) {
		t.Error("not one bulkhead for each key")
	}
	g.Get(3)
	keys := map[int]int{}
	for key, b := range g.All() {
		keys[key] = b.Stats().InUse
		g.Get(key + 10) // the body may use the group
	}
	if len(keys) != 3 || keys[1] != 1 || keys[2] != 1 || keys[3] != 0 {
		t.Errorf("%v", keys)
	}
	for range g.All() {
		break
	}
	if s := g.Stats(); s.Keys != 6 || s.Evicted != 0 || s.Shared != 0 {
		t.Errorf("%+v", s)
	}
	unnamed := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: 1},
	})
	if got := unnamed.Get("a").Stats().Name; got != "a" {
		t.Errorf("name %q", got)
	}
}

func TestGroupDefaultSize(t *testing.T) {
	g := group(1, 0)
	for key := range 1025 {
		g.Get(key)
	}
	if s := g.Stats(); s.Keys != 1024 || s.Evicted != 1 {
		t.Errorf("%+v", s)
	}
}

// A flood of keys, among one that has a call under way and one that has none.
func TestGroupFlood(t *testing.T) {
	g := group(1, 100)
	busy, idle := g.Get(-1), g.Get(-2)
	p := acquire(t, busy, 1)
	const flood = 200_000
	for key := range flood {
		g.Get(key)
	}
	if g.Get(-1) != busy {
		t.Error("a bulkhead with a call under way was dropped")
	}
	refused(t, g.Get(-1), 1)
	if g.Get(-2) == idle {
		t.Error("an idle one was kept, of all")
	}
	if s := g.Stats(); s.Keys != 100 || s.Evicted != flood+3-100 || s.Shared != 0 {
		t.Errorf("%+v", s)
	}
	p.Release()
	wantUse(t, g.Get(-1), 0, 0)
}

// When all places are held by calls under way, new keys share one bulkhead: an attacker
// has so many slots and not more.
func TestGroupFullOfBusyOnes(t *testing.T) {
	g := group(2, 5)
	permits := make([]*bulkhead.Permit, 0, 5)
	for key := range 5 {
		permits = append(permits, acquire(t, g.Get(key), 1))
	}
	acquire(t, g.Get(100), 1)
	acquire(t, g.Get(101), 1)
	if full := refused(t, g.Get(102), 1); full.Name != "shards" {
		t.Errorf("name %q", full.Name)
	}
	if s := g.Stats(); s.Keys != 5 || s.Shared != 3 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
	for key := range 5 { // those with a place of their own are as they were
		acquire(t, g.Get(key), 1).Release()
	}
	permits[2].Release()
	acquire(t, g.Get(102), 1) // has the place of key 2 now
	if s := g.Stats(); s.Keys != 5 || s.Shared != 3 || s.Evicted != 1 {
		t.Errorf("%+v", s)
	}
}

// The bulkhead of the keys without a place is not that of one of them.
func TestGroupSharedIsNotResized(t *testing.T) {
	g := group(2, 1)
	acquire(t, g.Get(1), 1)
	b := g.Get(2)
	if err := b.Resize(1); err == nil || !strings.Contains(err.Error(), "share") {
		t.Errorf("got %v", err)
	}
	acquire(t, g.Get(3), 2)
	if s := b.Stats(); s.MaxConcurrent != 2 || s.InUse != 2 {
		t.Errorf("%+v", s)
	}
}

func TestGroupKeepsWhatIsNotAsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bulkhead.NewGroup[string](bulkhead.GroupConfig{
			Bulkhead: bulkhead.Config{MaxConcurrent: 2, MaxQueue: 1, MaxWait: -1},
			MaxKeys:  3,
		})
		resized := g.Get("resized")
		if err := resized.Resize(3); err != nil {
			t.Fatal(err)
		}
		inUse, waited := g.Get("in use"), g.Get("waited for")
		p := acquire(t, inUse, 1)
		q := acquire(t, waited, 1)
		l := stand(waited)
		l.join(t.Context(), "heavy", 2)
		for range 100 {
			g.Get("new")
		}
		for name, b := range map[string]*bulkhead.Bulkhead{
			"resized": resized, "in use": inUse, "waited for": waited,
		} {
			if g.Get(name) != b {
				t.Errorf("what is %s was dropped", name)
			}
		}
		p.Release()
		g.Get("new")
		if g.Get("in use") == inUse {
			t.Error("what is not in use any more was kept, and had to go")
		}
		// With the size that all have it is like all.
		if err := resized.Resize(2); err != nil {
			t.Fatal(err)
		}
		for key := range 100 {
			g.Get(fmt.Sprint("another ", key))
		}
		if g.Get("resized") == resized {
			t.Error("resized back, it was kept")
		}
		q.Release()
		synctest.Wait()
		l.want(t, "heavy")
		l.release("heavy")
	})
}

// Who has kept a bulkhead that was dropped is led to the one that its key has now, in
// whatever way it is used.
func TestGroupDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bulkhead.NewGroup[int](bulkhead.GroupConfig{
			Bulkhead: bulkhead.Config{MaxConcurrent: 2, MaxQueue: 1}, MaxKeys: 1,
		})
		old := g.Get(1)
		g.Get(2)
		g.Get(1)
		for name, get := range map[string]func() (bulkhead.Permit, error){
			"Acquire": func() (bulkhead.Permit, error) { return old.AcquireN(t.Context(), 2) },
			"TryAcquire": func() (bulkhead.Permit, error) {
				p, ok := old.TryAcquireN(2)
				if !ok {
					return p, bulkhead.ErrFull
				}
				return p, nil
			},
		} {
			p, err := get()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wantUse(t, g.Get(1), 2, 0)
			wantUse(t, old, 0, 0)
			if _, ok := old.TryAcquire(); ok {
				t.Errorf("%s: the key has its slots twice", name)
			}
			p.Release()
			wantUse(t, g.Get(1), 0, 0)
		}
		if err := old.Do(t.Context(), func(context.Context) error {
			wantUse(t, g.Get(1), 1, 0)
			return nil
		}); err != nil {
			t.Error(err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = old.Do(t.Context(), ok) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		// In line too.
		p := acquire(t, g.Get(1), 2)
		l := stand(old)
		l.join(t.Context(), "waits", 1)
		wantUse(t, g.Get(1), 2, 1)
		p.Release()
		synctest.Wait()
		l.want(t, "waits")
		l.release("waits")
		if err := old.Resize(9); err != nil {
			t.Error(err)
		}
		if got := g.Get(1).Stats().MaxConcurrent; got != 9 {
			t.Errorf("resized to %d, want 9", got)
		}
	})
}

// Hot keys are dropped and made again all the time, while their calls go through bulkheads
// kept from before and asked for anew. There are never more under way than one bulkhead
// lets through.
func TestGroupEvictionIsExact(t *testing.T) {
	const most, places, hot = 2, 6, 3
	g := bulkhead.NewGroup[int](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: most, MaxQueue: 4}, MaxKeys: places,
	})
	var underWay [hot]atomic.Int64
	var made atomic.Int64
	var kept [hot]*bulkhead.Bulkhead
	for key := range hot {
		kept[key] = g.Get(key)
	}
	stop := make(chan struct{})
	var flood, calls sync.WaitGroup
	flood.Go(func() {
		for key := hot; ; key++ {
			select {
			case <-stop:
				return
			default:
				g.Get(key)
			}
		}
	})
	for i := range 8 {
		calls.Go(func() {
			for n := range 5000 {
				key := (i + n) % hot
				b := kept[key]
				if n%2 == 0 {
					b = g.Get(key)
				}
				err := b.Do(context.Background(), func(context.Context) error {
					if now := underWay[key].Add(1); now > most {
						t.Errorf("%d calls of key %d under way, of %d", now, key, most)
					}
					made.Add(1)
					underWay[key].Add(-1)
					return nil
				})
				if err != nil && !errors.Is(err, bulkhead.ErrFull) {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	close(stop)
	flood.Wait()
	s := g.Stats()
	if s.Keys != places || s.Evicted == 0 || s.Shared != 0 || made.Load() == 0 {
		t.Errorf("%+v, %d calls", s, made.Load())
	}
}

func TestGroupGetsOneForAKey(t *testing.T) {
	for range 500 {
		g := group(1, 0)
		got := make([]*bulkhead.Bulkhead, 16)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				<-start
				got[i] = g.Get(7)
			})
		}
		close(start)
		wg.Wait()
		for _, b := range got {
			if b != got[0] {
				t.Fatal("two bulkheads for one key")
			}
		}
	}
}

func TestGroupConcurrently(t *testing.T) {
	g := group(1, 8)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				b := g.Get((i * (n + 1)) % 32)
				_ = b.Do(context.Background(), ok)
				if i%100 == 0 {
					_ = b.Resize(1 + i%3)
					for _, b := range g.All() {
						b.Stats()
					}
					_ = b.Resize(1)
				}
			}
		})
	}
	wg.Wait()
	if s := g.Stats(); s.Keys > 8 {
		t.Errorf("%+v", s)
	}
	for _, b := range g.All() {
		wantUse(t, b, 0, 0)
	}
}

func TestGroupLookupAllocatesNothing(t *testing.T) {
	g := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: 1},
	})
	host := fmt.Sprint("host-", 1)
	g.Get(host)
	if n := testing.AllocsPerRun(1000, func() { g.Get(host) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGroupValidate(t *testing.T) {
	valid := bulkhead.Config{MaxConcurrent: 1}
	for _, test := range []struct {
		cfg   bulkhead.GroupConfig
		names []string
	}{
		{bulkhead.GroupConfig{Bulkhead: valid, MaxKeys: -1}, []string{"MaxKeys is -1"}},
		{bulkhead.GroupConfig{}, []string{"MaxConcurrent is 0"}},
		{
			bulkhead.GroupConfig{Bulkhead: bulkhead.Config{MaxQueue: -2}, MaxKeys: -1},
			[]string{"MaxConcurrent is 0", "MaxQueue is -2", "MaxKeys is -1"},
		},
	} {
		err := test.cfg.Validate()
		if err == nil {
			t.Errorf("%+v is valid", test.cfg)
			continue
		}
		for _, name := range test.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%+v: %v does not say %q", test.cfg, err, name)
			}
		}
		if v := panicked(func() { bulkhead.NewGroup[int](test.cfg) }); v != err.Error() {
			t.Errorf("panicked with %v, want %v", v, err)
		}
	}
	if err := (bulkhead.GroupConfig{Bulkhead: valid}).Validate(); err != nil {
		t.Error(err)
	}
}

// chatty is a key whose String uses the group, as one that logs may.
type chatty struct {
	*bulkhead.Group[chatty]
}

func (c chatty) String() string {
	for range c.All() {
		continue
	}
	return fmt.Sprint("chatty of ", c.Stats().Keys)
}

func TestGroupKeysMayUseTheGroup(t *testing.T) {
	g := bulkhead.NewGroup[chatty](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: 1}, MaxKeys: 1,
	})
	if err := g.Get(chatty{g}).Do(t.Context(), ok); err != nil {
		t.Error(err)
	}
	g.Get(chatty{})
	g.Get(chatty{g})
}

// NaN is a key that no map finds again. If it had a place, nobody would get it back.
func TestGroupOfKeysThatEqualNothing(t *testing.T) {
	g := bulkhead.NewGroup[float64](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: 2}, MaxKeys: 4,
	})
	for range 100 {
		if err := g.Get(math.NaN()).Do(t.Context(), ok); err != nil {
			t.Error(err)
		}
	}
	if s := g.Stats(); s.Keys != 0 || s.Shared != 100 {
		t.Errorf("%+v", s)
	}
	acquire(t, g.Get(math.NaN()), 2)
	refused(t, g.Get(math.NaN()), 1)
	acquire(t, g.Get(1), 2)
}

// An interface may hold what cannot be a key. That is a mistake, and panics; who
// recovers, as net/http does, still has the group.
func TestGroupOfKeysThatCannotBe(t *testing.T) {
	g := bulkhead.NewGroup[any](bulkhead.GroupConfig{Bulkhead: bulkhead.Config{MaxConcurrent: 1}})
	if v := panicked(func() { g.Get([]int{1}) }); v == nil {
		t.Error("a slice is a key")
	}
	acquire(t, g.Get(1), 1) // hangs if the lock was not given back
}
