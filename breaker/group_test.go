package breaker_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

func group(most int) *breaker.Group[int] {
	return breaker.NewGroup[int](breaker.GroupConfig{
		Breaker: breaker.Config{Name: "shards", Consecutive: 2, Probes: 1, RampUp: -1},
		MaxKeys: most,
	})
}

// refuses reports whether b refuses a call, without making one count.
func refuses(b *breaker.Breaker) bool {
	p, err := b.Allow()
	p.Record(breaker.Ignored)
	return err != nil
}

const window = 30 * time.Second // of the group's breakers

func TestGroupKeepsKeysApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(0)
		fail(t, g.Get(1), 2)
		open := refused(t, g.Get(1))
		if open.Name != "shards/1" {
			t.Errorf("name %q", open.Name)
		}
		succeed(t, g.Get(2), 1)
		if first := g.Get(1); first != g.Get(1) || first == g.Get(2) {
			t.Error("not one breaker for each key")
		}
		keys := map[int]breaker.State{}
		for key, b := range g.All() {
			keys[key] = b.State()
			g.Get(key + 10) // the body may use the group
		}
		if len(keys) != 2 || keys[1] != breaker.Open || keys[2] != breaker.Closed {
			t.Errorf("%v", keys)
		}
		for range g.All() {
			break
		}
	})
}

// A flood of keys is what an attacker has. It must not open what is broken: in one
// peer an hour's cooling is gone in a second.
func TestGroupFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(100)
		for key := range 100 {
			fail(t, g.Get(key), 2)
		}
		const flood = 100_000
		for key := range flood {
			succeed(t, g.Get(1000+key), 1)
		}
		for key := range 100 {
			refused(t, g.Get(key))
		}
		s := g.Stats()
		if s.Keys != 100 || s.Evicted != 0 || s.Unprotected != flood {
			t.Errorf("%+v", s)
		}
		// The keys without a place do not pay for each other.
		fail(t, g.Get(2000), 100)
		succeed(t, g.Get(2001), 1)
		g.Get(2000).ForceOpen()
		succeed(t, g.Get(2001), 1)
	})
}

func TestGroupEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(4)
		g.Get(0).ForceOpen()
		fail(t, g.Get(1), 2) // opens, and its time will be over
		fail(t, g.Get(2), 1) // one failure from opening
		succeed(t, g.Get(3), 1)
		clean := g.Get(3)

		// Nothing is idle yet.
		g.Get(4)
		if s := g.Stats(); s.Unprotected != 1 || s.Evicted != 0 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(window)
		g.Get(5) // takes the place of the clean one
		if g.Get(5) == g.Get(6) || g.Stats().Evicted == 0 {
			t.Fatalf("%+v", g.Stats())
		}
		present := map[int]bool{}
		for key := range g.All() {
			present[key] = true
		}
		if present[3] || !present[0] {
			t.Errorf("left are %v", present)
		}

		// A permit of a dropped breaker is still good.
		p := allow(t, clean)
		p.Record(breaker.Success)

		// Then the places of those whose time is over, but never the forced one.
		for key := range 20 {
			g.Get(100 + key)
		}
		refused(t, g.Get(0))
		if s := g.Stats(); s.Keys != 4 || s.Evicted != 3 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGroupKeepsWhatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(2)
		busy, idle := g.Get(1), g.Get(2)
		for range 20 {
			time.Sleep(window / 10)
			g.Get(1)
		}
		g.Get(3)
		if g.Get(1) != busy {
			t.Error("one in use was dropped")
		}
		if g.Get(2) == idle {
			t.Error("an idle one was kept")
		}
	})
}

// One failure short of opening is something to lose, but only if the key is still
// asked for.
func TestGroupPrefersCleanOnes(t *testing.T) {
	for range 50 { // the map's order is random
		synctest.Test(t, func(t *testing.T) {
			g := group(3)
			fail(t, g.Get(1), 1)
			g.Get(2)
			fail(t, g.Get(3), 1)
			time.Sleep(window)
			g.Get(4)
			present := map[int]bool{}
			for key := range g.All() {
				present[key] = true
			}
			if !present[1] || present[2] || !present[3] {
				t.Fatalf("left are %v", present)
			}
		})
	}
}

// What somebody has set by hand is not for a flood to undo.
func TestGroupKeepsManualControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(1)
		g.Get(1).Disable()
		time.Sleep(10 * window)
		g.Get(2)
		if got := g.Get(1).Stats().Mode; got != "disabled" {
			t.Errorf("mode %q", got)
		}
	})
}

func TestGroupKeepsRamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := breaker.NewGroup[int](breaker.GroupConfig{
			Breaker: breaker.Config{Consecutive: 1, Probes: 1, RampUp: time.Hour},
			MaxKeys: 1,
		})
		b := g.Get(1)
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 1)
		time.Sleep(window)
		g.Get(2)
		if g.Get(1) != b {
			t.Error("a breaker in its ramp was dropped")
		}
		time.Sleep(time.Hour)
		g.Get(2)
		if g.Get(1) == b {
			t.Error("a breaker whose ramp is over was kept")
		}
	})
}

func TestGroupOfHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := breaker.NewGroup[string](breaker.GroupConfig{
			Breaker: breaker.Config{Consecutive: 1, Probes: 1, ProbeTimeout: time.Hour},
			MaxKeys: 1,
		})
		b := g.Get("a")
		fail(t, b, 1)
		untilProbe(t, b)
		allow(t, b) // a probe that stays
		time.Sleep(window)
		g.Get("b")
		if !refuses(g.Get("a")) {
			t.Error("a breaker that refuses was dropped")
		}
	})
}

func TestGroupGetsOneForAKey(t *testing.T) {
	for range 500 {
		g := group(0)
		got := make([]*breaker.Breaker, 16)
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
				t.Fatal("two breakers for one key")
			}
		}
	}
}

func TestGroupConcurrently(t *testing.T) {
	g := group(8)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				b := g.Get((i * (n + 1)) % 32)
				if i%5 == 0 {
					_ = b.Do(context.Background(), boom)
				} else {
					_ = b.Do(context.Background(), ok)
				}
				if i%100 == 0 {
					for range g.All() {
					}
				}
			}
		})
	}
	wg.Wait()
	if s := g.Stats(); s.Keys > 8 {
		t.Errorf("%+v", s)
	}
}

func TestGroupLookupDoesNotAllocate(t *testing.T) {
	g := breaker.NewGroup[string](breaker.GroupConfig{})
	host := fmt.Sprint("host-", 1)
	g.Get(host)
	if n := testing.AllocsPerRun(1000, func() { g.Get(host) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGroupValidate(t *testing.T) {
	for _, cfg := range []breaker.GroupConfig{
		{MaxKeys: -1},
		{Breaker: breaker.Config{Probes: -1}},
		{Breaker: breaker.Config{Probes: -1}, MaxKeys: -1},
	} {
		err := cfg.Validate()
		if err != nil && cfg.MaxKeys < 0 && !strings.Contains(err.Error(), "MaxKeys is -1") {
			t.Errorf("%+v: %v", cfg, err)
		}
		if err == nil {
			t.Errorf("%+v is valid", cfg)
			continue
		}
		func() {
			defer func() {
				if v := recover(); v != err.Error() {
					t.Errorf("panicked with %v, want %v", v, err)
				}
			}()
			breaker.NewGroup[int](cfg)
		}()
	}
}

// chatty is a key whose String uses the group, as one that logs may.
type chatty struct {
	*breaker.Group[chatty]
}

func (c chatty) String() string {
	c.Stats()
	return "chatty"
}

func TestGroupKeysMayUseTheGroup(t *testing.T) {
	g := breaker.NewGroup[chatty](breaker.GroupConfig{})
	succeed(t, g.Get(chatty{g}), 1)
}

// NaN is a key that no map finds again.
func TestGroupOfKeysThatEqualNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := breaker.NewGroup[float64](breaker.GroupConfig{MaxKeys: 4})
		for range 100 {
			succeed(t, g.Get(math.NaN()), 1)
			time.Sleep(window)
		}
		if s := g.Stats(); s.Keys > 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGroupWithAnEndlessWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := breaker.NewGroup[int](breaker.GroupConfig{
			Breaker: breaker.Config{Window: math.MaxInt64}, MaxKeys: 1,
		})
		time.Sleep(time.Hour) // now and the window are more than an int64 holds
		b := g.Get(1)
		time.Sleep(time.Hour)
		g.Get(2)
		if g.Get(1) != b {
			t.Error("dropped before its time")
		}
	})
}

// A key that no map takes panics, as it does in a map, and leaves the group usable.
func TestGroupUncomparableKey(t *testing.T) {
	g := breaker.NewGroup[any](breaker.GroupConfig{})
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a slice is a key")
				}
			}()
			g.Get([]int{1})
		}()
	}
	if g.Get("a") == nil {
		t.Error("the group is of no use any more")
	}
}
