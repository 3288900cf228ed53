package redislimiter_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

// bubble runs a test in fake time, with a Store on a fake Redis.
func bubble(
	t *testing.T, cfg redislimiter.Config, test func(*testing.T, *redislimiter.Store, *fake),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newFake(quick)
		if cfg.Client == nil {
			cfg.Client = r
		}
		cfg.Replicas = three
		s := redislimiter.New(cfg)
		defer s.Close()
		test(t, s, r)
	})
}

// Who is under way when Redis begins to hang waits for a Budget, and nobody else at all.
func TestOutageCostsOneBudget(t *testing.T) {
	for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
		cfg := redislimiter.Config{Gap: gap}
		bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
			r.set(true)
			l := of(1000, 300)
			begun := time.Now()
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if d := decide(t, s, "key", l, 1, 1); d.Source != redislimiter.FromShare {
						t.Errorf("gap %v: %+v", gap, d)
					}
				})
			}
			wg.Wait()
			if took := time.Since(begun); took != 20*time.Millisecond {
				t.Errorf("gap %v: took %v", gap, took)
			}
			for range 60_000 {
				time.Sleep(time.Millisecond)
				begun = time.Now()
				decide(t, s, "key", l, 1, 1)
				if time.Since(begun) != 0 {
					t.Fatalf("gap %v: a call waited", gap)
				}
			}
			if st := s.Stats(); st.Up || st.Outages != 1 || st.Calls > 50+5+25 {
				t.Errorf("gap %v: %+v", gap, st)
			}
			r.set(false)
			back := time.Now()
			for !s.Stats().Up {
				time.Sleep(time.Millisecond)
				decide(t, s, "key", l, 1, 1)
			}
			if took := time.Since(back); took > 3700*time.Millisecond {
				t.Errorf("gap %v: found out after %v", gap, took)
			}
			if d := decide(t, s, "key", l, 1, 1); d.Source != redislimiter.FromRedis {
				t.Errorf("gap %v: %+v", gap, d)
			}
		})
	}
}

// The shares of all replicas make up the limit, and no more.
func TestFailLocalKeepsToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFake(quick)
		all := stores(t, r, redislimiter.Config{Gap: 50 * time.Millisecond})
		r.set(true)
		f := fleet{of(1000, 200), demand("even", 20_000), 10 * time.Second}
		g := f.run(t, all)
		g.within(t, f.limit)
		if n := g.sum(); n < 9900 {
			t.Errorf("%d of 10200 passed", n)
		}
	})
}

// A caller with less time than a Budget does not make an outage of a Redis that is slow; but
// if it hangs that is found out for all.
func TestCallersInAHurry(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		bubble(t, redislimiter.Config{}, func(t *testing.T, s *redislimiter.Store, r *fake) {
			r.delay = func() time.Duration { return 10 * time.Millisecond }
			r.set(hangs)
			why := errors.New("why")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Millisecond, why)
			defer cancel()
			_, err := s.Take(ctx, "k", of(1, 1), 1, 1)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) || !s.Stats().Up {
				t.Errorf("%v, %+v", err, s.Stats())
			}
			time.Sleep(time.Second)
			if st := s.Stats(); st.Up == hangs || st.Calls != 2 {
				t.Errorf("hangs %v: %+v", hangs, st)
			}
		})
	}
}

// A caller who leaves while another asks for both has the error of its own context, and a
// decision takes a Budget at most, however it is divided.
func TestJoin(t *testing.T) {
	cfg := redislimiter.Config{Gap: 50 * time.Millisecond}
	bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
		r.set(true)
		var wg sync.WaitGroup
		wg.Go(func() { decide(t, s, "k", of(1000, 300), 1, 1) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := s.Take(ctx, "k", of(1000, 300), 1, 1)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		wg.Wait()
	})
	bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
		r.delay = func() time.Duration { return 15 * time.Millisecond }
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				begun := time.Now()
				decide(t, s, "k", of(1000, 300), 1, 1)
				if took := time.Since(begun); took > 20*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		}
		wg.Wait()
	})
}

// wild is a client with a hook that panics, or ends the goroutine.
type wild struct {
	*fake

	do func()
}

func (w *wild) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if w.do != nil {
		w.do()
	}
	return w.fake.EvalSha(ctx, sha, keys, args...)
}

func TestWildHooks(t *testing.T) {
	for name, do := range map[string]func(){
		"panic": func() { panic("wild") }, "Goexit": runtime.Goexit,
	} {
		for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
			w := &wild{do: do}
			cfg := redislimiter.Config{Gap: gap, Client: w}
			bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
				w.fake = r
				var wg sync.WaitGroup
				wg.Go(func() {
					defer func() { _ = recover() }()
					_, _ = s.Take(t.Context(), "k", of(1000, 300), 1, 1)
					t.Errorf("%s: returned", name)
				})
				wg.Wait()
				w.do = nil
				begun := time.Now()
				d := decide(t, s, "k", of(1000, 300), 1, 1)
				if d.Source != redislimiter.FromRedis || time.Since(begun) != 200*time.Microsecond {
					t.Errorf("%s, gap %v: %+v after %v", name, gap, d, time.Since(begun))
				}
			})
		}
	}
}

// A probe that never comes back is no probe for ever.
func TestGoexitInProbe(t *testing.T) {
	w := &wild{}
	bubble(t, redislimiter.Config{Client: w}, func(t *testing.T, s *redislimiter.Store, r *fake) {
		w.fake = r
		r.set(true)
		decide(t, s, "k", of(1000, 300), 1, 1)
		w.do = runtime.Goexit
		time.Sleep(time.Second)
		decide(t, s, "k", of(1000, 300), 1, 1)
		synctest.Wait()
		w.do = nil
		r.set(false)
		time.Sleep(time.Second)
		decide(t, s, "k", of(1000, 300), 1, 1)
		time.Sleep(time.Second)
		if st := s.Stats(); !st.Up {
			t.Errorf("%+v", st)
		}
	})
}

// An error of FailClosed says when Redis will be asked again, and means a pause.
func TestUnavailable(t *testing.T) {
	cfg := redislimiter.Config{Name: "n", Fail: redislimiter.FailClosed}
	bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
		r.set(true)
		_, err := s.Take(t.Context(), "k", of(1, 1), 1, 1)
		e, ok := errors.AsType[*redislimiter.UnavailableError](err)
		if !ok || !e.NotAttempted() || errors.Is(err, limiter.ErrLimited) {
			t.Fatal(err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("a Budget that is over is no deadline of the caller's")
		}
		_, err = s.Take(t.Context(), "k", of(1, 1), 1, 1)
		e, ok = errors.AsType[*redislimiter.UnavailableError](err)
		if !ok || e.RetryAfter() < 80*time.Millisecond || e.RetryAfter() > 120*time.Millisecond {
			t.Fatalf("%v, %v", err, e.RetryAfter())
		}
		after := e.RetryAfter()
		time.Sleep(50 * time.Millisecond)
		if got := e.RetryAfter(); got != after-50*time.Millisecond {
			t.Errorf("%v, then %v", after, got)
		}
	})
}

// Neither leases nor fallbacks allocate.
func TestAllocations(t *testing.T) {
	count := func(t *testing.T, s *redislimiter.Store, l limiter.Limit, from redislimiter.Source) {
		t.Helper()
		ctx := t.Context()
		d, _ := s.Decide(ctx, "k", l, 1, 1)
		calls := s.Stats().Calls
		n := testing.AllocsPerRun(100, func() { _, _ = s.Decide(ctx, "k", l, 1, 1) })
		if n != 0 || d.Source != from || s.Stats().Calls != calls {
			t.Errorf("%v allocations, %+v, %+v", n, d, s.Stats())
		}
	}
	leased := redislimiter.Config{Gap: time.Second}
	bubble(t, leased, func(t *testing.T, s *redislimiter.Store, _ *fake) {
		l := of(1000, 100_000)
		for range 1000 {
			decide(t, s, "k", l, 1, 1)
		}
		count(t, s, l, redislimiter.FromLease)
	})
	bubble(t, leased, func(t *testing.T, s *redislimiter.Store, _ *fake) {
		l := of(10, 40)
		for decide(t, s, "k", l, 1, 1).OK {
			continue
		}
		count(t, s, l, redislimiter.FromLease)
	})
	for fail, from := range map[redislimiter.Fail]redislimiter.Source{
		redislimiter.FailLocal:  redislimiter.FromShare,
		redislimiter.FailOpen:   redislimiter.FromNobody,
		redislimiter.FailClosed: "",
	} {
		cfg := redislimiter.Config{Fail: fail}
		bubble(t, cfg, func(t *testing.T, s *redislimiter.Store, r *fake) {
			r.set(true)
			_, _ = s.Decide(t.Context(), "k", of(1000, 100), 1, 1)
			count(t, s, of(1000, 100), from)
		})
	}
}
