package throttle_test

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

func group(most int) *throttle.Group[int] {
	return throttle.NewGroup[int](throttle.GroupConfig{
		Throttle: throttle.Config{Name: "hosts"},
		MaxKeys:  most,
	})
}

func TestGroupKeepsKeysApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(0)
		reject(t, g.Get(1), 1000)
		if e := refused(t.Context(), t, g.Get(1)); e.Name != "hosts/1" {
			t.Errorf("name %q", e.Name)
		}
		if s := g.Get(2).Stats(); s.Classes[3].Probability != 0 || s.Name != "hosts/2" {
			t.Errorf("%+v", s)
		}
		if first := g.Get(1); first != g.Get(1) || first == g.Get(2) {
			t.Error("not one throttle for each key")
		}
		keys := map[int]bool{}
		for key, x := range g.All() {
			keys[key] = x == g.Get(key) // the body may use the group
			g.Get(key + 10)
		}
		if len(keys) != 2 || !keys[1] || !keys[2] {
			t.Errorf("%v", keys)
		}
		for range g.All() {
			break
		}
		unnamed := throttle.NewGroup[string](throttle.GroupConfig{})
		if got := unnamed.Get("a").Stats().Name; got != "a" {
			t.Errorf("name %q", got)
		}
	})
}

// A flood of keys does not make the group forget who is overloaded, and the keys that
// have no place pay for nobody.
func TestGroupFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(10)
		for key := range 10 {
			reject(t, g.Get(key), 1000)
		}
		const flood = 100_000
		for key := range flood {
			g.Get(1000 + key)
		}
		if s := g.Stats(); s != (throttle.GroupStats{Keys: 10, Unthrottled: flood}) {
			t.Errorf("%+v", s)
		}
		for key := range 10 {
			refused(t.Context(), t, g.Get(key))
		}
		reject(t, g.Get(1000), 1000)
		for range 1000 {
			if _, err := g.Get(1001).Allow(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := g.Get(1000).Stats().Total; got != (throttle.Counts{}) {
			t.Errorf("calls that are not throttled are counted: %+v", got)
		}
	})
}

func TestGroupEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(2)
		idle, used := g.Get(1), g.Get(2)
		time.Sleep(window)
		reject(t, g.Get(2), 1000)
		g.Get(3) // 1 may have been asked for up to a bucket later than is noted
		if s := g.Stats(); s.Evicted != 0 || s.Unthrottled != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(window / 10)
		third := g.Get(3)
		if g.Get(3) != third || g.Get(2) != used || g.Stats().Evicted != 1 {
			t.Errorf("%+v", g.Stats())
		}
		if g.Get(1) == idle || g.Stats().Unthrottled != 2 {
			t.Errorf("%+v", g.Stats())
		}
		refused(t.Context(), t, g.Get(2))

		// A permit of one that was dropped is still good.
		p, err := idle.Allow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Record(throttle.Rejected)

		// One that is asked for again and again stays.
		for range 100 {
			time.Sleep(window / 20)
			if g.Get(2) != used {
				t.Fatal("dropped while in use")
			}
			g.Get(4)
		}
		if g.Get(3) == third {
			t.Error("never dropped")
		}
	})
}

// That a key was asked for is noted at least once in a bucket.
func TestGroupNotesUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(1)
		first := g.Get(1)
		time.Sleep(window * 2 / 10)
		g.Get(1)
		time.Sleep(window * 9 / 10)
		g.Get(2)
		if g.Get(1) != first {
			t.Error("dropped within a window of its use")
		}
	})
}

// As the key of a map NaN is lost, and would take a place each time.
func TestGroupNaN(t *testing.T) {
	g := throttle.NewGroup[float64](throttle.GroupConfig{MaxKeys: 3})
	for range 10 {
		g.Get(math.NaN())
	}
	if s := g.Stats(); s != (throttle.GroupStats{Unthrottled: 10}) {
		t.Errorf("%+v", s)
	}
}

// A key that calls the group when it is printed, and one that cannot be a key.
func TestGroupHostileKeys(t *testing.T) {
	g := throttle.NewGroup[any](throttle.GroupConfig{MaxKeys: 3})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a slice is no key")
			}
		}()
		g.Get([]int{})
	}()
	if got := g.Get(reentrant{g}).Stats().Name; got != "0 keys" {
		t.Errorf("name %q", got)
	}
}

type reentrant struct{ g *throttle.Group[any] }

func (r reentrant) String() string { return string(rune('0'+r.g.Stats().Keys)) + " keys" }

func TestGroupConcurrently(t *testing.T) {
	g := group(4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for key := range 1000 {
				g.Get(key%8).Do(t.Context(), ends(nil))
			}
		})
	}
	wg.Wait()
	if s := g.Stats(); s.Keys != 4 {
		t.Errorf("%+v", s)
	}
}

func TestGroupValidate(t *testing.T) {
	cfg := throttle.GroupConfig{Throttle: throttle.Config{K: 1}, MaxKeys: -1}
	want := "throttle: Config: K is 1, but must be above 1 and finite\n" +
		"throttle: GroupConfig: MaxKeys is -1, but must be at least 1"
	if err := cfg.Validate(); err == nil || err.Error() != want {
		t.Errorf("%v, want %v", err, want)
	}
	defer func() {
		if got := recover(); got != want {
			t.Errorf("NewGroup panics with %v, want %v", got, want)
		}
	}()
	throttle.NewGroup[int](cfg)
}

func TestGroupAllocs(t *testing.T) {
	g := group(0)
	g.Get(1)
	if n := testing.AllocsPerRun(1000, func() { g.Get(1) }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}
