package coalesce_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// A step is one caller at some time after the first. Each call of the source takes 10ms
// and comes to its number, or to errBoom where the step says that it fails.
type step struct {
	at     time.Duration
	fails  error // what calls that begin from now on come to
	within time.Duration
	want   int // 0: the error
	after  time.Duration
	calls  int // so far, this one included
}

func TestTimes(t *testing.T) {
	const s = time.Second
	late := &delayed{3 * s}
	refused := &refusal{}
	for name, test := range map[string]struct {
		cfg   coalesce.Config
		steps []step
	}{
		"nothing is kept": {coalesce.Config{}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 10 * ms, want: 2, after: 10 * ms, calls: 2},
		}},
		"fresh until the end of the TTL": {coalesce.Config{TTL: 10 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 10*s + 10*ms - 1, want: 1, calls: 1},
			{at: 10*s + 10*ms, want: 2, after: 10 * ms, calls: 2},
			{at: 11 * s, want: 2, calls: 2},
		}},
		"stale while it is refreshed": {coalesce.Config{TTL: 10 * s, Stale: 5 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 10*s + 10*ms, want: 1, calls: 2},
			{at: 10*s + 15*ms, want: 1, calls: 2}, // one refresh
			{at: 10*s + 20*ms, want: 2, calls: 2},
			{at: 20*s + 20*ms - 1, want: 2, calls: 2}, // which has a TTL of its own
			{at: 25*s + 20*ms, want: 3, after: 10 * ms, calls: 3},
		}},
		"stale until the end of Stale": {coalesce.Config{TTL: 10 * s, Stale: 5 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 15*s + 10*ms - 1, want: 1, calls: 2},
			{at: 15*s + 10*ms, want: 2, after: 10*ms - 1, calls: 2}, // joins the refresh
		}},
		"a refresh that fails within Stale": {coalesce.Config{TTL: 5 * s, Stale: 5 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 6 * s, fails: errBoom, want: 1, calls: 2},
			{at: 6*s + 510*ms - 1, fails: errBoom, want: 1, calls: 2}, // a tenth of the TTL
			{at: 6*s + 510*ms, fails: errBoom, want: 1, calls: 3},
			{at: 10*s + 10*ms, fails: errBoom, after: 10 * ms, calls: 4}, // no longer than that
			{at: 10*s + 30*ms, fails: errBoom, after: 10 * ms, calls: 5},
			{at: 11 * s, want: 6, after: 10 * ms, calls: 6},
		}},
		"on error": {coalesce.Config{TTL: 20 * s, StaleOnError: time.Minute}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 30 * s, want: 2, after: 10 * ms, calls: 2}, // who can wait for a new one does
			{at: 55 * s, fails: errBoom, want: 2, after: 10 * ms, calls: 3},
			{at: 56 * s, fails: errBoom, want: 2, calls: 3}, // now it is known to fail
			{at: 56*s + 10*ms, fails: errBoom, want: 2, calls: 4},
			{at: 56*s + 15*ms, want: 2, calls: 4}, // nobody waits for the refresh
			{at: 58 * s, want: 2, calls: 5},
			{at: 59 * s, want: 5, calls: 5}, // over
			{at: 80 * s, want: 6, after: 10 * ms, calls: 6},
		}},
		"on error until the end of that": {coalesce.Config{TTL: s, StaleOnError: 9 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 10*s - 1, fails: errBoom, want: 1, after: 10 * ms, calls: 2},
			{at: 10*s + 10*ms - 1, fails: errBoom, want: 1, calls: 2},
			{at: 10*s + 10*ms, fails: errBoom, after: 10 * ms, calls: 3},
		}},
		"on error, too late for it": {coalesce.Config{TTL: s, StaleOnError: 9 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 10 * s, fails: errBoom, after: 10 * ms, calls: 2},
		}},
		"on error, shorter than Stale": {
			coalesce.Config{TTL: s, Stale: 9 * s, StaleOnError: 3 * s}, []step{
				{at: 0, want: 1, after: 10 * ms, calls: 1},
				{at: 2 * s, fails: errBoom, want: 1, calls: 2},
				{at: 10 * s, fails: errBoom, want: 1, calls: 3},
				{at: 10*s + 10*ms, fails: errBoom, after: 10 * ms, calls: 4},
			},
		},
		"an error that asks for a delay": {coalesce.Config{TTL: s, StaleOnError: 60 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 2 * s, fails: late, want: 1, after: 10 * ms, calls: 2},
			{at: 5*s + 10*ms - 1, want: 1, calls: 2},
			{at: 5*s + 10*ms, want: 1, calls: 3},
		}},
		"an error's delay does not outlast what is served": {
			coalesce.Config{TTL: s, StaleOnError: s}, []step{
				{at: 0, want: 1, after: 10 * ms, calls: 1},
				{at: s + 10*ms, fails: late, want: 1, after: 10 * ms, calls: 2},
				{at: 2*s + 10*ms, want: 3, after: 10 * ms, calls: 3},
			},
		},
		"an error's delay is over with the next result": {
			coalesce.Config{TTL: s, Stale: s}, []step{
				{at: 0, want: 1, after: 10 * ms, calls: 1},
				{at: s + 10*ms, fails: late, want: 1, calls: 2},
				{at: 2*s + 10*ms, want: 3, after: 10 * ms, calls: 3},
				{at: 3*s + 20*ms, want: 3, calls: 4},
				{at: 3*s + 30*ms, want: 4, calls: 4},
			},
		},
		"the caller's deadline is shorter": {coalesce.Config{TTL: s, StaleOnError: 9 * s}, []step{
			{at: 0, want: 1, after: 10 * ms, calls: 1},
			{at: 2 * s, within: 3 * ms, want: 1, after: 3 * ms, calls: 2},
			{at: 2*s + 5*ms, want: 2, after: 5 * ms, calls: 2}, // the call went on
			{at: 20 * s, within: 3 * ms, after: 3 * ms, calls: 3},
			{at: 20*s + 5*ms, want: 4, after: 10 * ms, calls: 4}, // this one did not
		}},
		"errors are kept": {coalesce.Config{TTL: 10 * s, ErrorTTL: 2 * s}, []step{
			{at: 0, fails: errBoom, after: 10 * ms, calls: 1},
			{at: 2*s + 10*ms - 1, calls: 1},
			{at: 2*s + 10*ms, fails: errBoom, after: 10 * ms, calls: 2},
			{at: 2*s + 30*ms, calls: 2},
			{at: 5 * s, want: 3, after: 10 * ms, calls: 3},
			{at: 15 * s, want: 3, calls: 3},
		}},
		"errors are not served when stale": {
			coalesce.Config{TTL: s, ErrorTTL: s, Stale: time.Hour, StaleOnError: time.Hour}, []step{
				{at: 0, fails: errBoom, after: 10 * ms, calls: 1},
				{at: s + 10*ms, want: 2, after: 10 * ms, calls: 2},
			},
		},
		"a stale result is better than an error": {
			coalesce.Config{TTL: s, ErrorTTL: time.Hour, StaleOnError: 2 * s}, []step{
				{at: 0, want: 1, after: 10 * ms, calls: 1},
				{at: 2 * s, fails: errBoom, want: 1, after: 10 * ms, calls: 2},
				{at: 3*s + 10*ms, fails: errBoom, after: 10 * ms, calls: 3},
				{at: time.Hour, calls: 3},
			},
		},
		"a refusal is not kept": {coalesce.Config{TTL: s, ErrorTTL: s}, []step{
			{at: 0, fails: refused, after: 10 * ms, calls: 1},
			{at: 10 * ms, want: 2, after: 10 * ms, calls: 2},
		}},
		"a call that hangs": {
			coalesce.Config{TTL: s, StaleOnError: time.Minute, Timeout: 4 * ms}, []step{
				{at: 0, after: 4 * ms, calls: 1},
			},
		},
		"times beyond all times": {
			coalesce.Config{TTL: 1<<63 - 1, Stale: 1<<63 - 1, StaleOnError: 1<<63 - 1}, []step{
				{at: 0, want: 1, after: 10 * ms, calls: 1},
				{at: 1000 * time.Hour, want: 1, calls: 1},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.cfg.Jitter = -1
				follow(t, test.cfg, test.steps)
			})
		})
	}
}

func follow(t *testing.T, cfg coalesce.Config, steps []step) {
	t.Helper()
	g := coalesce.New[string, int](cfg)
	s := &source{}
	began := time.Now()
	for _, step := range steps {
		time.Sleep(time.Until(began.Add(step.at)))
		synctest.Wait()
		s.set(10*ms, step.fails)
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if step.within != 0 {
			ctx, cancel = context.WithTimeout(ctx, step.within)
		}
		w := do(ctx, g, s)
		synctest.Wait()
		if got := s.calls(); got != step.calls {
			t.Errorf("at %v: %d calls, want %d", step.at, got, step.calls)
		}
		if step.after == 0 { // the next step may be before a refresh has ended
			select {
			case <-w.done:
			default:
				t.Errorf("at %v: the caller has to wait", step.at)
			}
		}
		// The next caller comes while this one may still wait.
		t.Cleanup(cancel)
		go func() {
			<-w.done
			if w.after != step.after || step.want > 0 != (w.err == nil) ||
				step.want > 0 && w.value != step.want {
				t.Errorf("at %v: %d, %v after %v, want %d after %v",
					step.at, w.value, w.err, w.after, step.want, step.after)
			}
		}()
	}
	time.Sleep(20 * ms)
}

type delayed struct{ d time.Duration }

func (e *delayed) Error() string             { return "come back later" }
func (e *delayed) RetryAfter() time.Duration { return e.d }

type refusal struct{}

func (*refusal) Error() string      { return "refused" }
func (*refusal) NotAttempted() bool { return true }

// A refresh has nobody who waits for it. It ends by the timeout, and is no refresh of the
// caller that came first.
func TestRefreshIsDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, Stale: time.Hour, Timeout: 100 * ms, Jitter: -1,
		})
		s := &source{}
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(time.Second)
		s.set(time.Hour, nil)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), userKey{}, "first"))
		do(ctx, g, s).want(t, 1, nil, 0)
		cancel()
		time.Sleep(99 * ms)
		synctest.Wait()
		if err := s.ctxs[1].Err(); err != nil || s.ctxs[1].Value(userKey{}) != "first" {
			t.Errorf("context of the refresh: %v, %v", err, s.ctxs[1].Value(userKey{}))
		}
		time.Sleep(ms)
		synctest.Wait()
		if got := g.Stats(); got.RefreshErrors != 1 || got.Errors != 1 || got.InFlight != 0 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

// Who joins a refresh and leaves does not cancel it.
func TestRefreshSurvivesItsWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, Stale: 10 * ms, Jitter: -1,
		})
		s := &source{takes: 100 * ms}
		do(t.Context(), g, s).want(t, 1, nil, 100*ms)
		time.Sleep(time.Second + 5*ms)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(50 * ms)
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		do(ctx, g, s).want(t, 0, context.DeadlineExceeded, 10*ms)
		do(t.Context(), g, s).want(t, 2, nil, 40*ms)
		wantCalls(t, s, 2)
	})
}

// A caller who leaves of its own accord does not make others get what is stale, nor does it
// get that.
func TestCancelledWaiterOfRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, StaleOnError: time.Hour, Jitter: -1,
		})
		s := &source{takes: 100 * ms}
		do(t.Context(), g, s).want(t, 1, nil, 100*ms)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		w := do(ctx, g, s)
		time.Sleep(ms)
		cancel()
		w.want(t, 0, context.Canceled, ms)
		do(t.Context(), g, s).want(t, 3, nil, 100*ms)
	})
}

// What was forgotten is not served, though the refresh fails.
func TestForgetDuringRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, Stale: time.Second, StaleOnError: time.Hour, Jitter: -1,
		})
		s := &source{takes: 10 * ms}
		do(t.Context(), g, s).want(t, 1, nil, 10*ms)
		time.Sleep(time.Minute)
		s.set(10*ms, errBoom)
		waits := do(t.Context(), g, s)
		ctx, cancel := context.WithTimeout(t.Context(), 8*ms)
		defer cancel()
		leaves := do(ctx, g, s)
		time.Sleep(5 * ms)
		g.Forget("key")
		waits.want(t, -2, errBoom, 10*ms)
		leaves.want(t, 0, context.DeadlineExceeded, 8*ms)

		s.set(10*ms, nil)
		do(t.Context(), g, s).want(t, 3, nil, 10*ms)
		time.Sleep(1500 * ms)
		do(t.Context(), g, s).want(t, 3, nil, 0)
		synctest.Wait()
		g.Forget("key") // the refresh, which nobody waits for
		synctest.Wait()
		if err := s.ctxs[3].Err(); err != context.Canceled {
			t.Errorf("the context of a refresh of what was forgotten: %v", err)
		}
		if got := g.Stats(); got.Entries != 0 || got.InFlight != 0 || got.RefreshErrors != 0 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

// A call that was begun as a refresh, and joined, is an ordinary one when it is forgotten:
// it goes with its last waiter.
func TestForgottenRefreshWithWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, Stale: time.Second, Jitter: -1,
		})
		s := &source{}
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(2*time.Second - ms)
		s.set(time.Second, nil)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(ms)
		ctx, cancel := context.WithCancel(t.Context())
		joined := do(ctx, g, s)
		time.Sleep(ms)
		g.Forget("key")
		synctest.Wait()
		if s.ctxs[1].Err() != nil {
			t.Error("cancelled while somebody waits")
		}
		cancel()
		joined.want(t, 0, context.Canceled, ms)
		synctest.Wait()
		if s.ctxs[1].Err() == nil {
			t.Error("nobody waits, and it goes on")
		}
	})
}

// In an outage all who ask get the stale result, with one call a second.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: 10 * time.Second, StaleOnError: time.Hour, Timeout: time.Second,
		})
		s := &source{}
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(time.Minute)
		s.set(time.Hour, nil) // it hangs
		waited := 0
		for range 6000 { // a minute
			w := do(t.Context(), g, s)
			time.Sleep(10 * ms)
			go func() {
				if <-w.done; w.value != 1 || w.err != nil {
					t.Errorf("got %d, %v", w.value, w.err)
				}
			}()
			select {
			case <-w.done:
			default:
				waited++
			}
		}
		if waited > 100 {
			t.Errorf("%d callers had to wait, want those of the first second", waited)
		}
		if got := s.calls(); got > 32 { // each takes a second, and so does the wait
			t.Errorf("%d calls", got)
		}
		s.set(0, nil)
		time.Sleep(3 * time.Second)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		synctest.Wait()
		do(t.Context(), g, s).want(t, s.calls(), nil, 0)
		synctest.Wait()
	})
}

// Keys that are filled together do not expire together, nor before their time.
func TestJitter(t *testing.T) {
	for _, test := range []struct {
		jitter, share float64 // set, and had
	}{{0, 0.1}, {0.5, 0.5}, {-1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			const keys, ttl = 1000, 100 * time.Second
			g := coalesce.New[int, int](coalesce.Config{TTL: ttl, Jitter: test.jitter})
			ask := func() uint64 {
				before := g.Stats().Hits
				for key := range keys {
					_, _ = g.Do(t.Context(), key, func(context.Context) (int, error) {
						return 0, errBoom // once expired it stays away
					})
				}
				return g.Stats().Hits - before
			}
			for key := range keys {
				_, _ = g.Do(t.Context(), key, func(context.Context) (int, error) { return 1, nil })
			}
			took := time.Duration(float64(ttl) * test.share)
			time.Sleep(ttl - took - 1)
			if got := ask(); got != keys {
				t.Errorf("jitter %v: %d of %d left before any may go", test.jitter, got, keys)
			}
			time.Sleep(took/2 + 1)
			if got := ask(); took > 0 && (got < keys*4/10 || got > keys*6/10) {
				t.Errorf("jitter %v: %d of %d left halfway", test.jitter, got, keys)
			}
			time.Sleep(took - took/2 + 1)
			if got := ask(); got != 0 {
				t.Errorf("jitter %v: %d left after the TTL", test.jitter, got)
			}
		})
	}
}

func TestErrorMethodsRunUnlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Second, ErrorTTL: time.Second})
		err := &curious{func() { g.Stats() }}
		do(t.Context(), g, &source{err: err}).want(t, -1, err, 0)
		err = &curious{func() { panic(errBoom) }}
		g.Forget("key")
		w := do(t.Context(), g, &source{err: err})
		<-w.done
		if p, ok := w.panicked.(*coalesce.PanicError); !ok || !errors.Is(p, errBoom) {
			t.Errorf("got %v, %v", w.err, w.panicked)
		}
	})
}

type curious struct{ asks func() }

func (c *curious) Error() string      { return "curious" }
func (c *curious) NotAttempted() bool { c.asks(); return false }
