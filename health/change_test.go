package health_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// A logbook keeps changes as text.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (d *logbook) add(c health.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, strings.TrimSpace(fmt.Sprintf("%s %v>%v %s %v %s",
		c.Check, c.From, c.To, c.Phase, c.Live, c.Output)))
}

func (d *logbook) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("got changes\n\t%s\nwant\n\t%s",
			strings.Join(d.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
	d.lines = nil
}

func TestOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d logbook
		var db, disk, dog dependency
		h := started(t, health.Config{
			Name:  "shop",
			Gates: []string{"cache"},
			Checks: []health.Check{
				{Name: "db", Func: db.check},
				{Name: "disk", Func: disk.check, Class: health.Local},
				{Name: "dog", Func: dog.check, Class: health.Liveness},
			},
			OnChange: func(c health.Change) {
				if c.Name != "shop" || !c.At.Equal(time.Now()) {
					t.Errorf("change %+v", c)
				}
				d.add(c)
			},
		})
		h.Gate("cache")()
		synctest.Wait()
		slices.Sort(d.lines[:2]) // the first runs come in any order
		d.want(t, "db fail>pass starting true", "disk fail>pass starting true",
			"cache fail>pass ready true", "fail>pass ready true")
		db.down.Store(true)
		time.Sleep(time.Minute)
		d.want(t, "db pass>warn ready true connection refused", "pass>warn ready true")
		disk.down.Store(true)
		time.Sleep(time.Minute)
		d.want(t, "disk pass>fail unready true connection refused", "warn>fail unready true")
		dog.down.Store(true)
		time.Sleep(time.Minute)
		d.want(t, "dog pass>fail unready false connection refused", "fail>fail unready false")
		h.SetDraining()
		h.SetDraining()
		d.want(t, "fail>fail draining false")
		h.Stop()
		d.want(t, "fail>fail stopped false")
	})
}

// A hook may call whatever there is, and what that changes comes after.
func TestOnChangeCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d logbook
		var h *health.Health
		h = health.New(health.Config{
			Gates: []string{"cache"},
			OnChange: func(c health.Change) {
				d.add(c)
				h.Report()
				h.Gate("cache")()
				h.SetDraining()
				h.Stop()
			},
		})
		h.Gate("cache")()
		d.want(t, "cache fail>pass starting true", "fail>fail draining true",
			"fail>fail stopped true")
	})
}

// A hook that panics or ends its goroutine misses that one change.
func TestOnChangePanics(t *testing.T) {
	for name, out := range map[string]func(){
		"panic": func() { panic("oops") }, "goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d logbook
				h := health.New(health.Config{
					Gates: []string{"a", "b"},
					OnChange: func(c health.Change) {
						if c.Check == "a" {
							out()
						}
						d.add(c)
					},
				})
				h.Gate("a")()
				h.Gate("b")()
				synctest.Wait()
				h.Start(t.Context())
				d.want(t, "b fail>pass starting true", "fail>pass ready true")
				if got := h.Report().Notes; !slices.Equal(got, []string{"panics of OnChange: 1"}) {
					t.Errorf("notes %q", got)
				}
				h.Stop()
				wantGoroutines(t, 0)
			})
		})
	}
}

// A hook that hangs costs one goroutine and bounded memory, and stops nothing.
func TestOnChangeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		var db dependency
		var last health.Change
		calls := 0
		h := started(t, health.Config{
			Checks: []health.Check{{Name: "db", Func: db.check, Failures: 1, Successes: 1}},
			OnChange: func(c health.Change) {
				if calls++; calls == 1 {
					<-back
				}
				last = c
			},
		})
		for i := range 300 { // two changes each
			db.down.Store(i%2 == 0)
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		wantPhase(t, h, "ready")
		wantGoroutines(t, 2)
		close(back)
		synctest.Wait()
		if calls != 1+256 || last.To != pass || last.Check != "" {
			t.Errorf("%d calls, the last with %+v", calls, last)
		}
		db.down.Store(true)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := h.Report().Notes; len(got) != 1 ||
			!strings.HasPrefix(got[0], "changes that OnChange was too slow for: 3") {
			t.Errorf("notes %q", got)
		}
		h.Stop()
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk dependency
		h := health.New(health.Config{
			Checks: []health.Check{{Name: "disk", Func: disk.check, Class: health.Local}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var phases, short []string
		watch := func(ctx context.Context, phases *[]string) (done chan struct{}) {
			done = make(chan struct{})
			go func() {
				defer close(done)
				for r := range h.Watch(ctx) {
					*phases = append(*phases, r.Phase)
				}
			}()
			return done
		}
		all, some := watch(t.Context(), &phases), watch(ctx, &short)
		synctest.Wait()
		h.Start(t.Context())
		time.Sleep(time.Hour) // in which nothing changes, but for times
		disk.down.Store(true)
		time.Sleep(time.Hour)
		cancel()
		<-some
		h.SetDraining()
		synctest.Wait()
		h.Stop()
		<-all
		// An update that changes a status of a check only is seen, or not, as it falls.
		if want := []string{"starting", "ready", "unready", "draining", "stopped"}; !slices.Equal(
			slices.Compact(phases), want) {
			t.Errorf("watched %q, want %q", phases, want)
		}
		if want := []string{"starting", "ready", "unready"}; !slices.Equal(
			slices.Compact(short), want) {
			t.Errorf("watched %q, want %q", short, want)
		}
		for r := range h.Watch(ctx) {
			phases = append(phases, r.Phase)
		}
		if phases[len(phases)-2] != "stopped" {
			t.Error("a stopped Health has no report")
		}
	})
}

// Who is slow gets the latest.
func TestWatchSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Gates: []string{"a", "b", "c"}})
		h.Start(t.Context())
		n := 0
		for r := range h.Watch(t.Context()) {
			switch n++; n {
			case 1:
				h.Gate("a")()
				h.Gate("b")()
			case 2:
				if r.Checks[1].Status != pass || r.Ready {
					t.Errorf("report %+v", r)
				}
				h.Gate("c")()
			case 3:
				if !r.Ready {
					t.Errorf("report %+v", r)
				}
			}
			if r.Ready {
				break
			}
		}
		if n != 3 {
			t.Errorf("%d reports", n)
		}
		h.Stop()
	})
}
