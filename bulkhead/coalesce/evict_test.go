package coalesce_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// Who goes when there is room for three. All entries are in the sample, so there is no
// chance in it.
func TestEvict(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		fill   func(*coalesce.Table)
		at     time.Duration
		joined uint32
		gone   string // "d" if the new one is not kept
	}{
		"the oldest of equals": {func(c *coalesce.Table) {
			c.Keep("a", 2*s, 0)
			c.Keep("b", 1*s, 0)
			c.Keep("c", 3*s, 0)
		}, 4 * s, 0, "b"},
		"the least used": {func(c *coalesce.Table) {
			c.Keep("a", 1*s, 0)
			c.Keep("b", 2*s, 0)
			c.Keep("c", 3*s, 0)
			c.Use("a", 1)
			c.Use("b", 1)
		}, 4 * s, 0, "c"},
		"none, for all are more used": {func(c *coalesce.Table) {
			c.Keep("a", 1*s, 0)
			c.Keep("b", 2*s, 0)
			c.Keep("c", 3*s, 3)
			c.Use("a", 1)
			c.Use("b", 2)
		}, 4 * s, 0, "d"},
		"the least used, for the new one has been joined": {func(c *coalesce.Table) {
			c.Keep("a", 1*s, 3)
			c.Keep("b", 2*s, 2)
			c.Keep("c", 3*s, 3)
		}, 4 * s, 2, "b"},
		"none, for the new one has not been joined as often": {func(c *coalesce.Table) {
			c.Keep("a", 1*s, 3)
			c.Keep("b", 2*s, 2)
			c.Keep("c", 3*s, 3)
		}, 4 * s, 1, "d"},
		"not one that is waited for": {func(c *coalesce.Table) {
			c.Keep("a", 1*s, 0)
			c.Keep("b", 2*s, 0)
			c.Keep("c", 3*s, 0)
			c.Begin("a")
			c.Begin("b")
		}, 50 * s, 0, "c"},
		"none, for all are waited for": {func(c *coalesce.Table) {
			for _, key := range []string{"a", "b", "c"} {
				c.Keep(key, 1*s, 0)
				c.Begin(key)
			}
		}, time.Hour, 100, "d"},
		"an expired one, however much it was used": {func(c *coalesce.Table) {
			c.Keep("a", 91*s, 0)
			c.Keep("b", 0, 0)
			c.Keep("c", 92*s, 0)
			c.Use("b", 100)
		}, 100 * s, 0, "b"},
		"an expired one rather than one for errors only": {func(c *coalesce.Table) {
			c.Keep("a", 40*s, 0) // stale
			c.Keep("b", 20*s, 9) // expired
			c.Keep("c", 50*s, 0)
		}, 100 * s, 0, "b"},
		"one for errors only rather than one that is served": {func(c *coalesce.Table) {
			c.Keep("a", 91*s, 0)
			c.Keep("b", 45*s, 9) // stale
			c.Keep("c", 92*s, 0)
			c.Use("a", 1)
			c.Use("c", 1)
		}, 100 * s, 0, "b"},
		"a panic that nobody has seen": {func(c *coalesce.Table) {
			c.Keep("a", 91*s, 0)
			c.KeepPanic("b", 99*s)
			c.Keep("c", 92*s, 0)
		}, 100 * s, 0, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			c := coalesce.NewTable(coalesce.Config{
				TTL: 40 * s, Stale: 10 * s, StaleOnError: 30 * s, MaxEntries: 3,
			})
			test.fill(c)
			c.Keep("d", test.at, test.joined)
			for _, key := range []string{"a", "b", "c", "d"} {
				if got, want := c.Has(key), key != test.gone; got != want {
					t.Errorf("%s is there: %v, want %v", key, got, want)
				}
			}
			kept, evicted, unkept := c.Counts()
			if kept != 3 || evicted+unkept != 1 || (unkept == 1) != (test.gone == "d") {
				t.Errorf("%d kept, %d evicted, %d unkept", kept, evicted, unkept)
			}
		})
	}
}

// What is spared ages: nothing that is no longer used keeps out what is new for long.
func TestSparedAge(t *testing.T) {
	c := coalesce.NewTable(coalesce.Config{TTL: time.Hour, MaxEntries: 1})
	c.Keep("old", 0, 1000)
	c.Use("old", 1000)
	for i := range 4 {
		if c.Keep("new", 1, 0); c.Has("new") {
			t.Errorf("kept at try %d", i+1)
		}
	}
	if c.Keep("new", 1, 0); !c.Has("new") || c.Has("old") {
		t.Error("not kept")
	}
}

// A panic that finds no room must not take the entry from the call that is under way.
func TestNoRoomForPanic(t *testing.T) {
	c := coalesce.NewTable(coalesce.Config{TTL: time.Hour, MaxEntries: 1})
	c.Keep("used", 0, 1)
	c.Begin("key")
	c.KeepPanic("key", 1)
	if kept, _, unkept := c.Counts(); kept != 1 || unkept != 1 || !c.Has("key") {
		t.Errorf("%d kept, %d unkept, has the call: %v", kept, unkept, c.Has("key"))
	}
}

// In a large table chance decides who is looked at, but everybody has one.
func TestExpiredGoFirst(t *testing.T) {
	const room, s = 1000, time.Second
	c := coalesce.NewTable(coalesce.Config{TTL: time.Hour, MaxEntries: room})
	for i := range room {
		c.Keep(fmt.Sprint(i), time.Duration(i%2)*s, 0)
	}
	now := time.Hour + s/2 // every other one has expired
	for i := range room / 4 {
		c.Keep(fmt.Sprint("new ", i), now, 0)
	}
	expired := 0
	for i := 0; i < room; i += 2 {
		if c.Has(fmt.Sprint(i)) {
			expired++
		}
	}
	if expired < room/4 || expired > room/4+10 {
		t.Errorf("%d expired ones are left, want %d", expired, room/4)
	}
}

// A caller may read the clock, and come for a result only after another has put it there.
func TestClockReadBefore(t *testing.T) {
	c := coalesce.NewTable(coalesce.Config{TTL: time.Hour})
	c.KeepPanic("key", time.Second)
	if c.Serves("key", time.Second-1) || c.Serves("key", 0) {
		t.Error("there is no result, and it is served")
	}
}

func TestRenewalNeedsNoRoom(t *testing.T) {
	c := coalesce.NewTable(coalesce.Config{TTL: time.Second, MaxEntries: 2})
	for now := time.Duration(0); now < 10*time.Second; now += time.Second {
		c.Keep("a", now, 0)
		c.Keep("b", now, 0)
	}
	if kept, evicted, unkept := c.Counts(); kept != 2 || evicted != 0 || unkept != 0 {
		t.Errorf("%d kept, %d evicted, %d unkept", kept, evicted, unkept)
	}
}

// flood asks for used keys in rounds: in the first two for nothing else, then between each
// two for others that are asked for once. It returns the share of hits among the former.
func flood(t *testing.T, room, used, others int) float64 {
	t.Helper()
	c := coalesce.NewTable(coalesce.Config{TTL: time.Hour, MaxEntries: room})
	hits, once := 0, 0
	const rounds = 50
	for round := range rounds + 2 {
		for i := range used {
			if key := fmt.Sprint(i); c.Has(key) {
				c.Use(key, 1)
				hits++
			} else {
				c.Keep(key, 0, 0)
			}
		}
		for i := 0; i < others && round > 0; i++ {
			once++
			c.Keep(fmt.Sprint("once ", once), 0, 0)
		}
	}
	if kept, _, _ := c.Counts(); kept != room {
		t.Errorf("%d entries, want %d", kept, room)
	}
	return float64(hits) / float64((rounds+1)*used)
}

// If the least recently used one went, as is usual, there would be no hits in any of these
// but before the flood.
func TestFlood(t *testing.T) {
	for _, test := range []struct {
		room, used, others int
		want               float64 // share of hits
	}{
		{200, 100, 1000, 0.99},
		{200, 150, 1000, 0.85},
		{200, 180, 100, 0.85},
		{200, 200, 200, 0.7}, // there is no room for even one more
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			if got := flood(t, test.room, test.used, test.others); got < test.want {
				t.Errorf("%.4f hits, want %v", got, test.want)
			}
		})
	}
}

// Calls under way are not bounded by MaxEntries: each one is coalesced.
func TestMoreCallsThanEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[int, int](coalesce.Config{TTL: time.Hour, MaxEntries: 10})
		s := &source{takes: ms}
		for i := range 300 {
			go func() { _, _ = g.Do(t.Context(), i%100, s.get) }()
		}
		synctest.Wait()
		if got := g.Stats(); got.Calls != 100 || got.Shared != 200 || got.Entries != 0 {
			t.Errorf("Stats() = %+v", got)
		}
		time.Sleep(ms)
		synctest.Wait()
		got := g.Stats()
		if got.Entries != 10 || got.Evicted+got.Unkept != 90 || coalesce.Len(g) != 10 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

// What counts as a use: to be served, fresh or stale, and to be waited for by another.
func TestUses(t *testing.T) {
	for name, uses := range map[string]func(*testing.T, *coalesce.Group[string, int], *source){
		"not at all": func(*testing.T, *coalesce.Group[string, int], *source) {},
		"fresh": func(t *testing.T, g *coalesce.Group[string, int], s *source) {
			do(t.Context(), g, s).want(t, 1, nil, 0)
		},
		"stale": func(t *testing.T, g *coalesce.Group[string, int], s *source) {
			time.Sleep(time.Second)
			do(t.Context(), g, s).want(t, 1, nil, 0)
			time.Sleep(ms) // for the refresh
		},
		"joined": func(t *testing.T, g *coalesce.Group[string, int], s *source) {
			g.Forget("key")
			a, b := do(t.Context(), g, s), do(t.Context(), g, s)
			a.want(t, 2, nil, ms)
			b.want(t, 2, nil, ms)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := coalesce.New[string, int](coalesce.Config{
					TTL: time.Second, Stale: time.Second, Jitter: -1, MaxEntries: 1,
				})
				s := &source{takes: ms}
				do(t.Context(), g, s).want(t, 1, nil, ms)
				uses(t, g, s)
				synctest.Wait()
				_, _ = g.Do(t.Context(), "other", s.get)
				got := g.Stats()
				want := uint64(1) // "other" finds no room, unless there was no use
				if name == "not at all" {
					want = 0
				}
				if got.Unkept != want || got.Evicted != 1-want {
					t.Errorf("Stats() = %+v", got)
				}
			})
		})
	}
}
