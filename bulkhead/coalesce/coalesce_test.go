package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
	"github.com/stormjib/stormjib/internal/verdict"
)

const ms = time.Millisecond

var (
	errBoom = errors.New("boom")
	errLeft = errors.New("the user left")
)

// source is a store whose calls are numbered from 1. Each returns its number, or err, when
// it has taken its time or its context ends, unless it is deaf to that.
type source struct {
	takes time.Duration
	err   error
	deaf  bool
	then  func() // called before a call returns

	mu   sync.Mutex
	n    int
	ctxs []context.Context
}

func (s *source) get(ctx context.Context) (int, error) {
	s.mu.Lock()
	s.n++
	s.ctxs = append(s.ctxs, ctx)
	n, err, takes, deaf, then := s.n, s.err, s.takes, s.deaf, s.then
	s.mu.Unlock()
	done := ctx.Done()
	if deaf {
		done = nil
	}
	select {
	case <-time.After(takes):
	case <-done:
		return 0, ctx.Err()
	}
	if then != nil {
		then()
	}
	if err != nil {
		return -n, err
	}
	return n, nil
}

func (s *source) set(takes time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.err = takes, err
}

func (s *source) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// waiting is a call of Do on a goroutine of its own.
type waiting struct {
	value    int
	err      error
	panicked any
	exited   bool
	after    time.Duration
	done     chan struct{}
}

func do(ctx context.Context, g *coalesce.Group[string, int], s *source) *waiting {
	w := &waiting{exited: true, done: make(chan struct{})}
	go func() {
		began := time.Now()
		defer func() {
			w.after = time.Since(began)
			w.panicked = recover()
			close(w.done)
		}()
		w.value, w.err = g.Do(ctx, "key", s.get)
		w.exited = false
	}()
	return w
}

func (w *waiting) want(t *testing.T, value int, err error, after time.Duration) {
	t.Helper()
	<-w.done
	if w.value != value || !errors.Is(w.err, err) || err == nil && w.err != nil ||
		w.after != after || w.exited || w.panicked != nil {
		t.Errorf("got %d, %v after %v (panic %v, exit %v), want %d, %v after %v",
			w.value, w.err, w.after, w.panicked, w.exited, value, err, after)
	}
}

func wantCalls(t *testing.T, s *source, want int) {
	t.Helper()
	synctest.Wait()
	if got := s.calls(); got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
}

func TestColdKeyMakesOneCall(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			g := coalesce.New[string, int](coalesce.Config{TTL: ttl})
			s := &source{takes: 2 * time.Second}
			var all []*waiting
			for range 10_000 {
				all = append(all, do(t.Context(), g, s))
			}
			for _, w := range all {
				w.want(t, 1, nil, 2*time.Second)
			}
			wantCalls(t, s, 1)
			if got := g.Stats(); got.Shared != 9999 || got.Calls != 1 || got.InFlight != 0 {
				t.Errorf("Stats() = %+v", got)
			}
		})
	}
}

type userKey struct{}

func TestFirstCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{})
		s := &source{takes: 100 * ms}
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), userKey{}, "first"))
		first := do(ctx, g, s)
		synctest.Wait()
		second := do(t.Context(), g, s)
		time.Sleep(30 * ms)
		cancel(errLeft)
		first.want(t, 0, context.Canceled, 30*ms)
		if !errors.Is(first.err, errLeft) || verdict.NotAttempted(first.err) {
			t.Errorf("got %v, which does not match the cause, or was not attempted", first.err)
		}
		second.want(t, 1, nil, 100*ms)
		if got := s.ctxs[0].Value(userKey{}); got != "first" {
			t.Errorf("value of the shared context: %v", got)
		}
		deadline, ok := s.ctxs[0].Deadline()
		if in := deadline.Sub(time.Now().Add(-100 * ms)); !ok || in != 10*time.Second {
			t.Errorf("deadline after %v, want 10s", in)
		}
	})
}

func TestLastCallerCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		s := &source{takes: 100 * ms, deaf: true}
		short, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		long, cancel := context.WithTimeout(t.Context(), 20*ms)
		defer cancel()
		a, b := do(short, g, s), do(long, g, s)
		time.Sleep(15 * ms)
		synctest.Wait()
		if err := s.ctxs[0].Err(); err != nil {
			t.Errorf("cancelled while somebody waits: %v", err)
		}
		a.want(t, 0, context.DeadlineExceeded, 10*ms)
		b.want(t, 0, context.DeadlineExceeded, 20*ms)
		if err := s.ctxs[0].Err(); err != context.Canceled {
			t.Errorf("the context of a call nobody waits for: %v", err)
		}
		// The call is deaf and still there; nobody must join it, nor get what it brings.
		c := do(t.Context(), g, s)
		c.want(t, 2, nil, 100*ms)
		do(t.Context(), g, s).want(t, 2, nil, 0)
		wantCalls(t, s, 2)
		got := g.Stats()
		if got.Abandoned != 1 || got.Errors != 0 || got.InFlight != 0 || got.Entries != 1 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

// The end of the call and of the context come in the same instant: the one or the other is
// what happened. A panic has one caller, whichever it was.
func TestEndsTogether(t *testing.T) {
	for _, then := range []func(){nil, breaks} {
		synctest.Test(t, func(t *testing.T) {
			for range 200 {
				g := coalesce.New[string, int](coalesce.Config{})
				ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
				w := do(ctx, g, &source{takes: 10 * ms, deaf: true, then: then})
				<-w.done
				synctest.Wait()
				left := w.err != nil
				next := do(t.Context(), g, &source{n: 1})
				<-next.done
				got := g.Stats().Abandoned
				if left != (got == 1) || w.after != 10*ms || then == nil && left == (w.value == 1) {
					t.Fatalf("%d, %v after %v, %d abandoned", w.value, w.err, w.after, got)
				}
				if then != nil && (w.panicked == nil) == (next.panicked == nil) {
					t.Fatalf("panics %v, %v", w.panicked, next.panicked)
				}
				cancel()
			}
		})
	}
}

func TestDoneContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		s := &source{}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errLeft)
		for range 2 { // without a result, and with one
			w := do(ctx, g, s)
			w.want(t, 0, context.Canceled, 0)
			if !errors.Is(w.err, errLeft) || !verdict.NotAttempted(w.err) {
				t.Errorf("got %v, which does not match the cause, or was attempted", w.err)
			}
			do(t.Context(), g, s).want(t, 1, nil, 0)
		}
		wantCalls(t, s, 1)
	})
}

func TestResultIsUntouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		w := do(t.Context(), g, &source{err: errBoom})
		w.want(t, -1, errBoom, 0)
		if w.err != errBoom {
			t.Errorf("got %v, which is not the error itself", w.err)
		}
		do(t.Context(), g, &source{}).want(t, 1, nil, 0) // the error was not kept
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{
			Name: "pages", TTL: time.Hour, Timeout: 50 * ms,
		})
		s := &source{takes: 80 * ms, deaf: true}
		first := do(t.Context(), g, s)
		time.Sleep(20 * ms)
		second := do(t.Context(), g, s)
		first.want(t, 0, context.DeadlineExceeded, 50*ms)
		second.want(t, 0, context.DeadlineExceeded, 30*ms)
		const text = `coalesce: the call shared by those who wait "pages" took longer than 50ms`
		if first.err.Error() != text || verdict.NotAttempted(first.err) {
			t.Errorf("got %v", first.err)
		}
		if got := g.Stats(); got.Errors != 1 || got.InFlight != 1 {
			t.Errorf("Stats() = %+v", got)
		}
		time.Sleep(10 * ms)
		s.set(40*ms, nil)
		do(t.Context(), g, s).want(t, 2, nil, 40*ms) // the first returned meanwhile, too late
		do(t.Context(), g, s).want(t, 2, nil, 0)
		if got := g.Stats(); got.Errors != 1 || got.InFlight != 0 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

func TestNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{Timeout: -1})
		s := &source{takes: time.Hour}
		do(t.Context(), g, s).want(t, 1, nil, time.Hour)
		if _, ok := s.ctxs[0].Deadline(); ok {
			t.Error("there is a deadline")
		}
		ctx, cancel := context.WithTimeout(t.Context(), ms)
		defer cancel()
		do(ctx, g, s).want(t, 0, context.DeadlineExceeded, ms)
		synctest.Wait()
		if s.ctxs[1].Err() == nil || g.Stats().InFlight != 0 {
			t.Error("the last caller has left, and the call goes on")
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		s := &source{takes: 10 * ms}
		g.Forget("key") // which is not there
		do(t.Context(), g, s).want(t, 1, nil, 10*ms)
		g.Forget("key")
		if got := g.Stats().Entries; got != 0 {
			t.Errorf("%d entries", got)
		}
		before := do(t.Context(), g, s)
		time.Sleep(5 * ms)
		g.Forget("key")
		after := do(t.Context(), g, s) // must not get what was read before
		before.want(t, 2, nil, 10*ms)
		do(t.Context(), g, s).want(t, 3, nil, 5*ms) // nor must this one, which joins
		after.want(t, 3, nil, 10*ms)
		do(t.Context(), g, s).want(t, 3, nil, 0)
		wantCalls(t, s, 3)
	})
}

// The call that was forgotten comes back last: it must not take the place of the other's
// result, nor of its call.
func TestForgottenCallIsSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
		slow, quick := &source{takes: 30 * ms}, &source{takes: 10 * ms, n: 10}
		ctx, cancel := context.WithCancel(t.Context())
		before, leaves := do(t.Context(), g, slow), do(ctx, g, slow)
		synctest.Wait()
		g.Forget("key")
		do(t.Context(), g, quick).want(t, 11, nil, 10*ms)
		cancel()
		leaves.want(t, 0, context.Canceled, 10*ms)
		before.want(t, 1, nil, 30*ms)
		do(t.Context(), g, quick).want(t, 11, nil, 0)
	})
}

func TestForgottenCallWhoseCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{})
		s := &source{takes: 30 * ms}
		ctx, cancel := context.WithCancel(t.Context())
		before := do(ctx, g, s)
		synctest.Wait()
		g.Forget("key")
		after := do(t.Context(), g, s)
		time.Sleep(ms)
		cancel()
		before.want(t, 0, context.Canceled, ms)
		synctest.Wait()
		if s.ctxs[0].Err() == nil || s.ctxs[1].Err() != nil {
			t.Errorf("contexts: %v, %v", s.ctxs[0].Err(), s.ctxs[1].Err())
		}
		do(t.Context(), g, s).want(t, 2, nil, 29*ms)
		after.want(t, 2, nil, 30*ms)
	})
}

func TestNilFunction(t *testing.T) {
	defer func() {
		if got := recover(); got != "coalesce: Do: nil function" {
			t.Errorf("panic %v", got)
		}
	}()
	g := coalesce.New[string, int](coalesce.Config{})
	_, _ = g.Do(t.Context(), "key", nil)
}

func TestKeysAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[int, string](coalesce.Config{TTL: time.Hour})
		for range 2 {
			for key := range 100 {
				got, err := g.Do(t.Context(), key, func(context.Context) (string, error) {
					return fmt.Sprint(key), nil
				})
				if got != fmt.Sprint(key) || err != nil {
					t.Errorf("%d: %s, %v", key, got, err)
				}
			}
		}
		if got := g.Stats(); got.Calls != 100 || got.Hits != 100 || got.Entries != 100 {
			t.Errorf("Stats() = %+v", got)
		}
	})
}

// A key that no map takes panics, and leaves no lock held.
func TestUncomparableKey(t *testing.T) {
	g := coalesce.New[any, int](coalesce.Config{TTL: time.Hour})
	s := &source{}
	panics := func(f func()) {
		t.Helper()
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, "[]int") {
				t.Errorf("panic %v", got)
			}
		}()
		f()
	}
	for range 2 {
		panics(func() { _, _ = g.Do(t.Context(), []int{1}, s.get) })
		panics(func() { g.Forget([]int{1}) })
		if _, err := g.Do(t.Context(), "key", s.get); err != nil || s.n != 1 {
			t.Errorf("%v, %d calls", err, s.n)
		}
	}
	ttl0 := coalesce.New[any, int](coalesce.Config{})
	panics(func() { _, _ = ttl0.Do(t.Context(), []int{1}, s.get) })
	_ = ttl0.Stats()
}

func TestKeyThatIsNotItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[float64, int](coalesce.Config{TTL: time.Hour, MaxEntries: 10})
		nan := func() float64 { z := 0.0; return z / z }()
		s := &source{takes: ms}
		for range 100 {
			if _, err := g.Do(t.Context(), nan, s.get); err != nil {
				t.Error(err)
			}
		}
		s.then = func() { panic(errBoom) }
		ctx, cancel := context.WithTimeout(t.Context(), ms/2)
		defer cancel()
		s.deaf = true
		_, err := g.Do(ctx, nan, s.get)
		time.Sleep(ms)
		synctest.Wait()
		g.Forget(nan)
		got := g.Stats()
		if err == nil || got.Entries != 0 || got.Calls != 101 || got.Panics != 1 {
			t.Errorf("%v, Stats() = %+v", err, got)
		}
		if n := coalesce.Len(g); n != 0 {
			t.Errorf("%d entries that nobody will ever find", n)
		}
	})
}

// Callers of all kinds at the same time, for the race detector. Afterwards nothing is
// left behind.
func TestHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[int, int](coalesce.Config{
			TTL: 200 * time.Microsecond, Stale: 100 * time.Microsecond,
			StaleOnError: 300 * time.Microsecond, ErrorTTL: 50 * time.Microsecond,
			MaxEntries: 4, Timeout: 500 * time.Microsecond,
		})
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := range 2000 {
					hammer(t, g, (worker+i)%7, i)
				}
			})
		}
		all.Wait()
		time.Sleep(ms)
		synctest.Wait()
		got := g.Stats()
		if got.InFlight != 0 || got.Entries > 4 || coalesce.Len(g) != got.Entries {
			t.Errorf("%d entries, Stats() = %+v", coalesce.Len(g), got)
		}
	})
}

func hammer(t *testing.T, g *coalesce.Group[int, int], key, i int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	switch i % 5 {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, 20*time.Microsecond)
		defer cancel()
	case 1:
		time.AfterFunc(10*time.Microsecond, cancel)
	case 2:
		g.Forget(key)
	}
	defer func() {
		if v := recover(); v != nil && !errors.Is(v.(error), errBoom) {
			t.Errorf("panic %v", v)
		}
	}()
	got, err := g.Do(ctx, key, func(ctx context.Context) (int, error) {
		switch i % 11 {
		case 0:
			return 0, errBoom
		case 1:
			panic(errBoom)
		case 2:
			<-ctx.Done()
		case 3:
			time.Sleep(50 * time.Microsecond)
		}
		return key, ctx.Err()
	})
	if err == nil && got != key {
		t.Errorf("got %d for key %d", got, key)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	get := func(context.Context) (int, error) { return 1, nil }
	for name, g := range map[string]*coalesce.Group[string, int]{
		"fresh": coalesce.New[string, int](coalesce.Config{TTL: time.Hour}),
		"stale": coalesce.New[string, int](coalesce.Config{
			TTL: 1, Stale: time.Hour, StaleOnError: time.Hour, Timeout: time.Hour,
		}),
	} {
		_, _ = g.Do(ctx, "key", get)
		if name == "stale" { // the refresh that the next one starts hangs
			hangs := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
			_, _ = g.Do(ctx, "key", hangs)
		}
		if got := testing.AllocsPerRun(1000, func() { _, _ = g.Do(ctx, "key", get) }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
		g.Forget("key")
	}
}

// What a function returns when its time is up may be part of something: it is dropped, and
// its error is not ours to choose from. Both come at the same instant, so try often.
func TestReturnedWhenTimeIsUp(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour, Timeout: time.Second})
			for _, err := range []error{nil, errors.New("query cancelled")} {
				_, got := g.Do(t.Context(), "k", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					return 1, err
				})
				if !errors.Is(got, context.DeadlineExceeded) {
					t.Errorf("got %v", got)
				}
				synctest.Wait()
			}
			if got := g.Stats().Entries; got != 0 {
				t.Errorf("%d results are kept", got)
			}
		})
	}
}

// Who comes when a call's time is up gets a call of its own, and not the other's error.
func TestJoinWhenTimeIsUp(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			g := coalesce.New[string, int](coalesce.Config{TTL: time.Hour, Timeout: time.Second})
			go func() {
				_, _ = g.Do(t.Context(), "k", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					time.Sleep(time.Second)
					return 0, ctx.Err()
				})
			}()
			time.Sleep(time.Second)
			one := func(context.Context) (int, error) { return 1, nil }
			if v, err := g.Do(t.Context(), "k", one); v != 1 || err != nil {
				t.Errorf("got %v, %v", v, err)
			}
			time.Sleep(2 * time.Second)
			if s := g.Stats(); s.Entries != 1 || s.InFlight != 0 {
				t.Errorf("in the end %+v", s)
			}
		})
	}
}

// A context of the user's that panics leaves no waiter behind, for which the call would go
// on.
func TestContextPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[string, int](coalesce.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		go func() {
			defer func() { _ = recover() }()
			_, _ = g.Do(&changed{Context: ctx}, "k", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				ended = true
				return 0, nil
			})
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !ended {
			t.Error("the call goes on, for nobody")
		}
	})
}

type changed struct {
	context.Context
	asked bool
}

func (c *changed) Err() error {
	if c.asked {
		panic("boom")
	}
	c.asked = true
	return nil
}

type asks time.Duration

func (asks) Error() string               { return "busy" }
func (a asks) RetryAfter() time.Duration { return time.Duration(a) }

// An error can ask for a minute, and not for half a day.
func TestRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.New[int, int](coalesce.Config{
			TTL: time.Minute, Jitter: -1, StaleOnError: 24 * time.Hour,
		})
		calls := 0
		get := func() {
			_, _ = g.Do(t.Context(), 1, func(context.Context) (int, error) {
				if calls++; calls == 2 {
					return 0, asks(12 * time.Hour)
				}
				return calls, nil
			})
			synctest.Wait()
		}
		get()
		time.Sleep(time.Minute)
		get()
		time.Sleep(59 * time.Second)
		if get(); calls != 2 {
			t.Errorf("%d calls before a minute", calls)
		}
		time.Sleep(time.Second)
		if get(); calls != 3 {
			t.Errorf("%d calls after a minute", calls)
		}
	})
}
