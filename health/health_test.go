package health_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stormjib/stormjib/health"
)

var errDown = errors.New("connection refused")

// A dependency is one that tests can turn off.
type dependency struct {
	down atomic.Bool
	runs atomic.Int64
}

func (d *dependency) check(context.Context) error {
	d.runs.Add(1)
	if d.down.Load() {
		return errDown
	}
	return nil
}

// hang does not return before the test is over, whatever its context says.
func hang(t *testing.T) func(context.Context) error {
	t.Helper()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	return func(context.Context) error {
		<-over
		return nil
	}
}

// started returns a Health that the end of the test stops.
func started(t *testing.T, cfg health.Config) *health.Health {
	t.Helper()
	h := health.New(cfg)
	h.Start(t.Context())
	synctest.Wait()
	return h
}

// wantGoroutines looks at the stacks: the runtime's number counts those that have ended for
// some moments more.
func wantGoroutines(t *testing.T, want int) {
	t.Helper()
	synctest.Wait()
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	const ours = "created by github.com/stormjib/stormjib/health."
	n := bytes.Count(all, []byte(ours+"persist")) + bytes.Count(all, []byte(ours+"(*Health)"))
	if n != want {
		t.Errorf("%d goroutines, want %d\n%s", n, want, all)
	}
}

func wantPhase(t *testing.T, h *health.Health, phase string) {
	t.Helper()
	r := h.Report()
	if r.Phase != phase || h.Ready() != (phase == "ready") || r.Ready != h.Ready() {
		t.Errorf("phase %q, ready %v; want %q\n%+v", r.Phase, h.Ready(), phase, r.Checks)
	}
}

func result(t *testing.T, h *health.Health, name string) health.Result {
	t.Helper()
	checks := h.Report().Checks
	i := slices.IndexFunc(checks, func(r health.Result) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("no result of %s", name)
	}
	return checks[i]
}

func TestZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{})
		wantPhase(t, h, "starting")
		if !h.Live() || h.Started() || h.Share() != 0.1 {
			t.Error("wrong before Start")
		}
		h.Start(t.Context())
		wantPhase(t, h, "ready")
		if !h.Live() || !h.Started() || h.Report().Status != pass || len(h.Report().Notes) != 0 {
			t.Errorf("wrong after Start: %+v", h.Report())
		}
		h.Start(t.Context())
		h.Stop()
		wantPhase(t, h, "stopped")
		if !h.Live() || !h.Started() {
			t.Error("dead after Stop")
		}
		h.Stop()
		h.Start(t.Context())
		wantPhase(t, h, "stopped")
	})
}

// The first probe comes before the first result.
func TestNotReadyBeforeFirstResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context) error { time.Sleep(500 * time.Millisecond); return nil }
		h := started(t, health.Config{Checks: []health.Check{
			{Name: "db", Func: slow}, {Name: "dog", Func: slow, Class: health.Liveness},
		}})
		wantPhase(t, h, "starting")
		if !h.Live() || h.Started() || h.Report().Slowest != "db" {
			t.Errorf("wrong before the first result: %+v", h.Report())
		}
		if got := result(t, h, "db").Output; got != "no result yet" {
			t.Errorf("output %q", got)
		}
		time.Sleep(501 * time.Millisecond)
		wantPhase(t, h, "ready")
		r := h.Report()
		if r.Slowest != "db" || r.Startup != 500*time.Millisecond || !r.Started {
			t.Errorf("wrong after it: %+v", r)
		}
		if got := result(t, h, "db"); got.Took != 500*time.Millisecond || got.Output != "" {
			t.Errorf("result %+v", got)
		}
	})
}

func TestClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db, disk, dog, cert dependency
		h := started(t, health.Config{Checks: []health.Check{
			{Name: "db", Func: db.check},
			{Name: "disk", Func: disk.check, Class: health.Local},
			{Name: "dog", Func: dog.check, Class: health.Liveness},
			{Name: "cert", Func: cert.check, Class: health.Info},
		}})
		want := func(phase string, live bool, status health.Status) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			wantPhase(t, h, phase)
			if h.Live() != live || !h.Started() || h.Report().Status != status {
				t.Errorf("live %v, want %v; %v, want %v", h.Live(), live, h.Report().Status, status)
			}
		}
		want("ready", true, pass)
		db.down.Store(true)
		want("ready", true, warn)
		r := result(t, h, "db")
		if ago := time.Since(r.Since); r.Status != warn || r.Output != "connection refused" ||
			ago < 40*time.Second || ago > time.Minute {
			t.Errorf("result %+v, %v ago", r, ago)
		}
		db.down.Store(false)
		want("ready", true, pass)
		if r := result(t, h, "db"); r.Output != "" || r.Failures != 0 {
			t.Errorf("result %+v", r)
		}
		cert.down.Store(true)
		want("ready", true, warn)
		disk.down.Store(true)
		want("unready", true, fail)
		disk.down.Store(false)
		want("ready", true, warn)
		dog.down.Store(true)
		want("unready", false, fail)
		dog.down.Store(false)
		cert.down.Store(false)
		want("ready", true, pass)
	})
}

// A database that is down when a replica starts keeps it waiting, and not for ever.
func TestStartupTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db, cache dependency
		db.down.Store(true)
		h := started(t, health.Config{Checks: []health.Check{
			{Name: "cache", Func: cache.check}, {Name: "db", Func: db.check},
		}})
		time.Sleep(59 * time.Second)
		wantPhase(t, h, "starting")
		if r := h.Report(); r.Slowest != "db" || r.Startup != 0 {
			t.Errorf("waits for %s", r.Slowest)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantPhase(t, h, "ready")
		r := h.Report()
		if want := []string{"did not wait for db any longer than 1m0s"}; r.Status != warn ||
			!slices.Equal(r.Notes, want) || r.Slowest != "db" || r.Startup != time.Minute {
			t.Errorf("report %+v", r)
		}
		db.down.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := h.Report(); r.Status != pass || len(r.Notes) != 0 || r.Startup != time.Minute {
			t.Errorf("report %+v", r)
		}
	})
}

// The times of start-up count from Start, however late that is.
func TestLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db, dog dependency
		db.down.Store(true)
		dog.down.Store(true)
		cfg := health.Config{Checks: []health.Check{
			{Name: "db", Func: db.check}, {Name: "dog", Func: dog.check, Class: health.Liveness},
		}}
		h := health.New(cfg)
		cfg.StartupTimeout = math.MaxInt64
		patient := health.New(cfg)
		time.Sleep(time.Hour)
		h.Start(t.Context())
		patient.Start(t.Context())
		time.Sleep(23 * time.Second) // three runs, and less than three intervals
		synctest.Wait()
		wantPhase(t, h, "starting")
		if !h.Live() || h.Started() {
			t.Errorf("live %v, started %v", h.Live(), h.Started())
		}
		dog.down.Store(false)
		time.Sleep(36 * time.Second)
		wantPhase(t, h, "starting")
		time.Sleep(time.Second)
		synctest.Wait()
		wantPhase(t, h, "ready")
		wantPhase(t, patient, "starting")
	})
}

// A check that is on its way up still says what was wrong.
func TestOutputWhileItComesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk dependency
		h := started(t, health.Config{Checks: []health.Check{{
			Name: "disk", Func: disk.check, Class: health.Local, Successes: 1000,
		}}})
		disk.down.Store(true)
		time.Sleep(time.Minute)
		disk.down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if r := result(t, h, "disk"); r.Output != "connection refused" || r.Failures != 0 {
			t.Errorf("result %+v", r)
		}
	})
}

// A short Interval has a Timeout that fits.
func TestShortInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, health.Config{Checks: []health.Check{{
			Name: "hung", Func: hang(t), Interval: 100 * time.Millisecond,
		}}})
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if r := result(t, h, "hung"); r.Output != "no answer within 100ms" {
			t.Errorf("result %+v", r)
		}
		h.Stop()
	})
}

func TestGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		h := health.New(health.Config{
			Gates:  []string{"config", "cache", "pool"},
			Checks: []health.Check{{Name: "db", Func: db.check}},
		})
		h.Gate("config")() // before Start
		h.Gate("unknown")()
		time.Sleep(time.Second)
		h.Start(t.Context())
		synctest.Wait()
		if r := h.Report(); r.Slowest != "cache" || r.Started || r.Checks[0].Took != 0 {
			t.Errorf("report %+v", r)
		}
		time.Sleep(2 * time.Second)
		h.Gate("pool")()
		wantPhase(t, h, "starting")
		time.Sleep(3 * time.Second)
		open := h.Gate("cache")
		wantPhase(t, h, "starting")
		open()
		open()
		wantPhase(t, h, "ready")
		r := h.Report()
		if r.Slowest != "cache" || r.Startup != 5*time.Second || !h.Started() {
			t.Errorf("report %+v", r)
		}
		if r := r.Checks[1]; r.Took != 5*time.Second || r.Class.String() != "gate" ||
			r.Status != pass || r.Output != "" {
			t.Errorf("gate %+v", r)
		}
		time.Sleep(time.Second)
		open()
		if got := result(t, h, "cache").Took; got != 5*time.Second {
			t.Errorf("opened again after %v", got)
		}
	})
}

// A check that hangs has one goroutine, however long it does.
func TestHungCheckIsOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, health.Config{Checks: []health.Check{
			{Name: "hung", Func: hang(t), Class: health.Local},
		}})
		time.Sleep(time.Second)
		synctest.Wait()
		if r := result(t, h, "hung"); !r.Stuck || r.Failures != 1 || r.Stale {
			t.Errorf("result %+v", r)
		}
		time.Sleep(100 * 12 * time.Second)
		wantGoroutines(t, 1)
		wantPhase(t, h, "starting")
		r := result(t, h, "hung")
		if !r.Stuck || r.Failures < 100 || r.Output != "no answer within 1s" || !r.Stale {
			t.Errorf("result %+v", r)
		}
		h.Stop()
	})
}

// A check that hangs later is noticed, and forgiven.
func TestHungAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		var hung atomic.Bool
		var running, most atomic.Int64
		h := started(t, health.Config{Checks: []health.Check{{
			Name: "disk", Class: health.Local,
			Func: func(context.Context) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				if hung.Load() {
					<-back
				}
				return nil
			},
		}}})
		wantPhase(t, h, "ready")
		hung.Store(true)
		time.Sleep(time.Minute)
		wantPhase(t, h, "unready")
		if most.Load() != 1 {
			t.Errorf("%d runs at a time", most.Load())
		}
		hung.Store(false)
		close(back)
		synctest.Wait()
		wantPhase(t, h, "unready") // too late to pass
		if r := result(t, h, "disk"); r.Stuck || r.Status != fail {
			t.Errorf("result %+v", r)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantPhase(t, h, "ready")
	})
}

// The context of a run ends in time, and with the run.
func TestRunContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		contexts := make(chan context.Context, 10)
		runs := 0
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "db", Timeout: 2 * time.Second, Failures: 1,
			Func: func(ctx context.Context) error {
				runs++
				contexts <- ctx
				at, ok := ctx.Deadline()
				if !ok || time.Until(at) != 2*time.Second || ctx.Value(key{}) != "value" {
					t.Errorf("deadline %v, value %v", time.Until(at), ctx.Value(key{}))
				}
				if runs > 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			},
		}}})
		h.Start(context.WithValue(t.Context(), key{}, "value"))
		synctest.Wait()
		if err := (<-contexts).Err(); err != context.Canceled {
			t.Errorf("after the run: %v", err)
		}
		second := <-contexts
		h.Stop() // in the midst of it
		synctest.Wait()
		if second.Err() != context.Canceled || result(t, h, "db").Failures != 0 {
			t.Errorf("after Stop: %v, %+v", second.Err(), result(t, h, "db"))
		}
	})
}

// What a run can do instead of returning.
func TestPanicsAndTheLike(t *testing.T) {
	tests := []struct {
		name string
		run  func(context.Context) error
		want string
	}{
		{"panic", func(context.Context) error { panic("no host") }, "panic: no host"},
		{"nil panic", func(context.Context) error { panic(nil) }, "panic: panic called with nil"},
		{
			"goexit", func(context.Context) error { runtime.Goexit(); return nil },
			"ended its goroutine",
		},
		{
			"nil error", func(context.Context) error { return (*hostile)(nil) },
			"panic: runtime error",
		},
		{"panicking error", func(context.Context) error { return &hostile{} }, "panic: no text"},
		{
			"long", func(context.Context) error { return &hostile{"e" + strings.Repeat("é", 999)} },
			"eéé",
		},
		{
			"late", func(ctx context.Context) error { <-ctx.Done(); return nil },
			"no answer within 1s",
		},
		{
			"heeding", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			"no answer within 1s",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs := 0
				h := started(t, health.Config{Checks: []health.Check{{
					Name: "db", Class: health.Local,
					Func: func(ctx context.Context) error {
						if runs++; runs <= 3 {
							return test.run(ctx)
						}
						return nil
					},
				}}})
				time.Sleep(1100 * time.Millisecond)
				r := result(t, h, "db")
				if !strings.HasPrefix(r.Output, test.want) || len(r.Output) > 1100 ||
					!utf8.ValidString(r.Output) || r.Failures != 1 {
					t.Errorf("result %+v", r)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				wantPhase(t, h, "ready")
				wantGoroutines(t, 1)
			})
		})
	}
}

// hostile is an error that has no text.
type hostile struct{ text string }

func (h *hostile) Error() string {
	if h.text == "" {
		panic("no text")
	}
	return h.text
}

// A check may call whatever there is, Stop included.
func TestCheckCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *health.Health
		h = health.New(health.Config{
			Gates: []string{"cache"},
			Checks: []health.Check{{Name: "self", Func: func(ctx context.Context) error {
				h.Gate("cache")()
				h.Start(ctx)
				h.Report()
				if h.Share() == 1 {
					h.SetDraining()
					h.Stop()
				}
				return nil
			}}},
		})
		h.Start(t.Context())
		synctest.Wait()
		wantPhase(t, h, "ready")
		time.Sleep(2 * time.Minute)
		wantPhase(t, h, "stopped")
	})
}

func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dog dependency
		checks := []health.Check{{Name: "dog", Func: dog.check, Class: health.Liveness}}
		h := started(t, health.Config{Checks: checks})
		time.Sleep(time.Second)
		h.SetDraining()
		wantPhase(t, h, "draining")
		if !h.Live() || !h.Started() || h.Report().Since != time.Now() {
			t.Errorf("report %+v", h.Report())
		}
		h.SetDraining()
		time.Sleep(time.Minute)
		wantPhase(t, h, "draining")
		if !h.Live() {
			t.Error("dead while draining")
		}
		dog.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.Live() {
			t.Error("lives, though it hangs while draining")
		}
		dog.down.Store(false)
		time.Sleep(time.Minute)
		h.Stop()
		runs := dog.runs.Load()
		dog.down.Store(true)
		time.Sleep(time.Hour)
		if wantPhase(t, h, "stopped"); !h.Live() || dog.runs.Load() != runs {
			t.Error("looked at after Stop")
		}
		h.Gate("none")()
		h.SetDraining()
		if wantPhase(t, h, "stopped"); !h.Live() {
			t.Error("stale after Stop")
		}

		h = health.New(health.Config{Checks: checks})
		h.SetDraining() // a signal while the process starts
		if h.Started() {
			t.Error("started before Start")
		}
		time.Sleep(time.Hour)
		h.SetDraining()
		if wantPhase(t, h, "draining"); !h.Live() {
			t.Error("dead before Start")
		}
		h.Start(t.Context())
		synctest.Wait()
		if wantPhase(t, h, "draining"); !h.Started() {
			t.Error("not started")
		}
	})
}

func TestStartContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		ctx, cancel := context.WithCancel(t.Context())
		cfg := health.Config{Checks: []health.Check{{Name: "db", Func: db.check}}}
		h := health.New(cfg)
		h.Start(ctx)
		synctest.Wait()
		wantPhase(t, h, "ready")
		cancel()
		synctest.Wait()
		wantPhase(t, h, "stopped")
		wantGoroutines(t, 0)
		h = health.New(cfg)
		h.Start(ctx) // which has ended
		wantPhase(t, h, "stopped")
		h = health.New(cfg)
		h.Stop()
		h.Start(t.Context())
		synctest.Wait()
		wantPhase(t, h, "stopped")
		if db.runs.Load() != 1 {
			t.Errorf("%d runs", db.runs.Load())
		}
	})
}

// The first runs are at once, and then they spread over the interval.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := time.Now()
		var mu sync.Mutex
		times := map[string][]time.Duration{}
		var cfg health.Config
		for i := range 100 {
			name := string(rune('A' + i))
			cfg.Checks = append(cfg.Checks, health.Check{
				Name: name,
				Func: func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					times[name] = append(times[name], time.Since(base))
					return nil
				},
			})
		}
		h := started(t, cfg)
		time.Sleep(35 * time.Second)
		h.Stop()
		synctest.Wait()
		second := make([]int, 10)
		for name, at := range times {
			if at[0] != 0 || len(at) < 3 {
				t.Fatalf("%s ran at %v", name, at)
			}
			if gap := at[2] - at[1]; gap < 8*time.Second || gap > 12*time.Second {
				t.Errorf("%s ran %v later", name, gap)
			}
			second[at[1]/time.Second]++
		}
		for tenth, n := range second {
			if n > 30 {
				t.Errorf("%d of 100 in the same tenth of the interval, %d", n, tenth)
			}
		}
	})
}

// Probes by the thousand, from all sides, while everything changes.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		h := health.New(health.Config{
			Gates: []string{"cache"},
			Checks: []health.Check{
				{Name: "db", Func: db.check, Interval: 10 * time.Millisecond, Failures: 1},
				{Name: "disk", Func: db.check, Class: health.Local},
			},
			OnChange: func(health.Change) {},
			Ramp:     health.Ramp{Apply: func(float64) {}},
		})
		h.Start(t.Context())
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 1000 {
					h.Live()
					h.Ready()
					if h.Started() && h.Report().Startup < 0 {
						t.Error("negative")
					}
					h.Share()
					if j%100 == i {
						db.down.Store(i%2 == 0)
						h.Gate("cache")()
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		h.Stop()
	})
}

func TestNoAllocations(t *testing.T) {
	var db dependency
	h := health.New(health.Config{Checks: []health.Check{{Name: "db", Func: db.check}}})
	defer h.Stop()
	got := testing.AllocsPerRun(100, func() {
		h.Live()
		h.Ready()
		h.Started()
		h.Share()
		_ = h.Report().Phase
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}
