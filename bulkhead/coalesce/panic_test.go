package coalesce_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

func breaks() { panic(errBoom) }

// breaking has the calls that begin from now on end by f.
func (s *source) breaking(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.then = f
}

// wantPanic wants the panic of breaks, with its stack.
func (w *waiting) wantPanic(t *testing.T) *coalesce.PanicError {
	t.Helper()
	<-w.done
	p, ok := w.panicked.(*coalesce.PanicError)
	if !ok {
		t.Fatalf("got %d, %v (panic %v), want a panic", w.value, w.err, w.panicked)
	}
	if p.Value != any(errBoom) || !errors.Is(p, errBoom) ||
		!strings.Contains(string(p.Stack), "coalesce_test.breaks") ||
		!strings.Contains(p.Error(), "coalesce: the shared call panicked: boom\n\ngoroutine ") {
		t.Errorf("%v", p)
	}
	return p
}

func TestPanicReachesEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour, ErrorTTL: time.Hour})
		s := &source{takes: ms, then: breaks}
		a, b := do(t.Context(), g, s), do(t.Context(), g, s)
		if a.wantPanic(t) != b.wantPanic(t) {
			t.Error("two callers got two panics of one call")
		}
		s.breaking(nil)
		do(t.Context(), g, s).want(t, 2, nil, ms) // nothing of it is kept
		if got := g.Stats(); got.Panics != 1 || got.Errors != 1 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

func TestPanicOfNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{})
		w := do(t.Context(), g, &source{then: func() { panic("text") }})
		<-w.done
		p, ok := w.panicked.(*coalesce.PanicError)
		if !ok || p.Unwrap() != nil || p.Value != "text" {
			t.Errorf("got %v", w.panicked)
		}
	})
}

func TestGoexitReachesEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, StaleOnError: time.Hour, ErrorTTL: time.Hour, Jitter: -1,
		})
		s := &source{takes: ms}
		for range 2 { // without a stale result, and with one
			s.breaking(runtime.Goexit)
			a, b := do(t.Context(), g, s), do(t.Context(), g, s)
			<-a.done
			<-b.done
			if !a.exited || !b.exited || a.panicked != nil || a.after != ms {
				t.Errorf("exits %v, %v, panic %v after %v", a.exited, b.exited, a.panicked, a.after)
			}
			time.Sleep(2 * time.Second)
			s.breaking(nil)
			w := do(t.Context(), g, s)
			<-w.done
			if w.err != nil || w.exited {
				t.Errorf("got %v, exit %v", w.err, w.exited)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// With a stale result a panic reaches those who wait, for it is a bug to be seen; the
// others get the result.
func TestPanicOfRefreshWithWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, StaleOnError: time.Hour, Jitter: -1,
		})
		s := &source{takes: ms}
		do(t.Context(), g, s).want(t, 1, nil, ms)
		time.Sleep(time.Minute)
		s.breaking(breaks)
		do(t.Context(), g, s).wantPanic(t)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		wantCalls(t, s, 2)
	})
}

// A panic that nobody waits for goes on in the next caller for the key, once, before all
// that is kept.
func TestPanicOfRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			TTL: time.Second, Stale: time.Hour, Jitter: -1,
		})
		s := &source{takes: ms}
		do(t.Context(), g, s).want(t, 1, nil, ms)
		time.Sleep(time.Minute)
		s.breaking(breaks)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		time.Sleep(ms)
		synctest.Wait()
		if got := g.Stats(); got.Panics != 1 || got.RefreshErrors != 1 {
			t.Errorf("Stats() = %+v", got)
		}
		if _, err := g.Do(t.Context(), "other", func(context.Context) (int, error) {
			return 0, errLeft
		}); err != errLeft {
			t.Errorf("another key got %v", err)
		}
		do(t.Context(), g, s).wantPanic(t)
		do(t.Context(), g, s).want(t, 1, nil, 0)
		wantCalls(t, s, 2) // and it was a refresh that failed
	})
}

func TestPanicAfterAllHaveLeft(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			g := coalesce.New[string, int](coalesce.Config{TTL: ttl, MaxEntries: 1})
			s := &source{takes: 10 * ms, deaf: true, then: breaks}
			ctx, cancel := context.WithTimeout(t.Context(), ms)
			defer cancel()
			do(ctx, g, s).want(t, 0, context.DeadlineExceeded, ms)
			time.Sleep(20 * ms)
			do(t.Context(), g, s).wantPanic(t)
			s.breaking(nil)
			do(t.Context(), g, s).want(t, 2, nil, 10*ms)
			if got := g.Stats(); got.Panics != 1 || got.Errors != 0 || got.Entries > 1 {
				t.Errorf("Stats() = %+v", got)
			}
		})
	}
}

// The next call has begun when the panic of the one before comes: it is for the next
// caller, and not for those who wait.
func TestPanicDuringNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{})
		s := &source{takes: 10 * ms, deaf: true, then: breaks}
		ctx, cancel := context.WithTimeout(t.Context(), ms)
		defer cancel()
		do(ctx, g, s).want(t, 0, context.DeadlineExceeded, ms)
		s.breaking(nil)
		next := do(t.Context(), g, s)
		time.Sleep(9*ms + ms/2)
		do(t.Context(), g, s).wantPanic(t)
		do(t.Context(), g, s).want(t, 2, nil, ms/2)
		next.want(t, 2, nil, 10*ms)
		do(t.Context(), g, s).want(t, 3, nil, 10*ms)
		if n := coalesce.Len(g); n != 0 {
			t.Errorf("%d entries", n)
		}
	})
}

// A panic takes a fresh result's turn, too.
func TestPanicBeforeFreshResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		s := &source{takes: 10 * ms, deaf: true, then: breaks}
		ctx, cancel := context.WithTimeout(t.Context(), ms)
		defer cancel()
		do(ctx, g, s).want(t, 0, context.DeadlineExceeded, ms)
		s.set(ms, nil)
		s.breaking(nil)
		do(t.Context(), g, s).want(t, 2, nil, ms)
		time.Sleep(20 * ms)
		do(t.Context(), g, s).wantPanic(t)
		do(t.Context(), g, s).want(t, 2, nil, 0)
	})
}
