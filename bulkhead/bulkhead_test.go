package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

var errBoom = errors.New("boom")

// The verbs of the tests. Time is that of a synctest bubble, so that waiting is exact
// and costs nothing.

func ok(context.Context) error   { return nil }
func boom(context.Context) error { return errBoom }

// bubble runs f with a bulkhead of cfg in a synctest bubble.
func bubble(t *testing.T, cfg bulkhead.Config, f func(*testing.T, *bulkhead.Bulkhead)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, bulkhead.New(cfg)) })
}

// patient is a Config under which calls wait as long as their contexts let them.
func patient(maxConcurrent int) bulkhead.Config {
	return bulkhead.Config{MaxConcurrent: maxConcurrent, MaxQueue: 100, MaxWait: -1}
}

func acquire(t *testing.T, b *bulkhead.Bulkhead, n int) *bulkhead.Permit {
	t.Helper()
	p, err := b.AcquireN(t.Context(), n)
	if err != nil {
		t.Fatalf("refused: %v; %+v", err, b.Stats())
	}
	return &p
}

// refused asks for a slot that is not to be had, and returns why.
func refused(t *testing.T, b *bulkhead.Bulkhead, n int) *bulkhead.FullError {
	t.Helper()
	p, err := b.AcquireN(t.Context(), n)
	full, ok := errors.AsType[*bulkhead.FullError](err)
	if !ok || !errors.Is(err, bulkhead.ErrFull) {
		t.Fatalf("got %v, want a refusal; %+v", err, b.Stats())
	}
	p.Release() // the permit of a refusal is the zero one, if a caller overlooks the error
	return full
}

func wantUse(t *testing.T, b *bulkhead.Bulkhead, inUse, waiting int) {
	t.Helper()
	if s := b.Stats(); s.InUse != inUse || s.Waiting != waiting {
		t.Errorf("%d in use and %d waiting, want %d and %d", s.InUse, s.Waiting, inUse, waiting)
	}
}

// line is a bulkhead and those who come to it, each by a name, in a bubble.
type line struct {
	*bulkhead.Bulkhead
	mu      sync.Mutex
	told    []string // who has had an answer
	permits map[string]*bulkhead.Permit
}

func stand(b *bulkhead.Bulkhead) *line {
	return &line{Bulkhead: b, permits: map[string]*bulkhead.Permit{}}
}

// join has somebody ask for n, and returns when they have it or wait for it.
func (l *line) join(ctx context.Context, name string, n int) {
	go func() {
		p, err := l.AcquireN(ctx, n)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			name += "!"
		}
		l.told = append(l.told, name)
		l.permits[name] = &p
	}()
	synctest.Wait()
}

func (l *line) release(names ...string) {
	for _, name := range names {
		l.mu.Lock()
		p := l.permits[name]
		l.mu.Unlock()
		p.Release()
		synctest.Wait()
	}
}

// want compares who has had an answer since the last time, in the order of their names:
// a name, with a ! if it was no slot. Of several that are served at once, each finds out
// when its goroutine runs.
func (l *line) want(t *testing.T, want string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.told)
	if got := strings.Join(l.told, " "); got != want {
		t.Fatalf("answered %q, want %q; %+v", got, want, l.Stats())
	}
	l.told = nil
}

func TestBoundsCalls(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 3}, func(t *testing.T, b *bulkhead.Bulkhead) {
		first, _, _ := acquire(t, b, 1), acquire(t, b, 1), acquire(t, b, 1)
		err := b.Do(t.Context(), func(context.Context) error {
			t.Error("a refused call was made")
			return nil
		})
		if !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("got %v", err)
		}
		if why := refused(t, b, 1).Reason; why != bulkhead.QueueFull {
			t.Errorf("the reason is %q", why)
		}
		if _, ok := b.TryAcquire(); ok {
			t.Error("a fourth call was let through")
		}
		wantUse(t, b, 3, 0)
		first.Release()
		if err := b.Do(t.Context(), func(context.Context) error {
			wantUse(t, b, 3, 0)
			return nil
		}); err != nil {
			t.Error(err)
		}
		p, ok := b.TryAcquire()
		if !ok {
			t.Error("no slot although one is free")
		}
		p.Release()
		wantUse(t, b, 2, 0)
	})
}

func TestReturnsUntouched(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 1)
	if err := b.Do(ctx, boom); err != errBoom {
		t.Errorf("got %v", err)
	}
	got, err := bulkhead.Do(ctx, b, func(got context.Context) (int, error) {
		if got != ctx {
			t.Error("the call got another context")
		}
		return 7, errBoom
	})
	if got != 7 || err != errBoom {
		t.Errorf("got %v and %v", got, err)
	}
	acquire(t, b, 1)
	got, err = bulkhead.Do(ctx, b, func(context.Context) (int, error) { return 7, nil })
	if got != 0 || !errors.Is(err, bulkhead.ErrFull) {
		t.Errorf("refused: got %v and %v", got, err)
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	bubble(t, patient(2), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		for i := range 7 {
			l.join(t.Context(), fmt.Sprint(i), 1)
		}
		l.want(t, "0 1")
		for i := range 5 {
			l.release(fmt.Sprint(i))
			l.want(t, fmt.Sprint(i+2))
		}
	})
}

// With weights, the one at the head waits for what it needs, and the others for it.
func TestNobodyPasses(t *testing.T) {
	bubble(t, patient(3), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		l.join(t.Context(), "a", 2)
		l.join(t.Context(), "heavy", 3)
		l.want(t, "a")
		l.join(t.Context(), "b", 1) // would fit
		l.join(t.Context(), "c", 1)
		if _, ok := b.TryAcquire(); ok {
			t.Error("TryAcquire passed those who wait")
		}
		l.want(t, "")
		wantUse(t, b, 2, 3)
		l.release("a")
		l.want(t, "heavy")
		l.release("heavy")
		l.want(t, "b c")
		if _, ok := b.TryAcquire(); !ok {
			t.Error("TryAcquire fails although nobody waits")
		}
	})
}

// A newcomer comes just as a slot is given back, again and again. Under a semaphore that
// lets newcomers pass, the one in line would wait for as long as that goes on.
func TestNoBargingAtRelease(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		for range 200 {
			p := acquire(t, b, 1)
			l := stand(b)
			l.join(t.Context(), "waits", 1)
			p.Release()
			if _, ok := b.TryAcquire(); ok {
				t.Fatal("a newcomer passed the one in line")
			}
			synctest.Wait()
			l.want(t, "waits")
			l.release("waits")
		}
	})
}

func TestCancelledHeadLetsOthersThrough(t *testing.T) {
	for name, cfg := range map[string]bulkhead.Config{
		"by its context": patient(3),
		"by MaxWait":     {MaxConcurrent: 3, MaxQueue: 9, MaxWait: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
				l := stand(b)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				l.join(t.Context(), "a", 1)
				l.join(ctx, "heavy", 3)
				time.Sleep(time.Millisecond)
				l.join(t.Context(), "b", 1)
				l.join(t.Context(), "c", 1)
				l.join(t.Context(), "d", 1)
				l.want(t, "a")
				time.Sleep(time.Second - time.Millisecond)
				synctest.Wait()
				l.want(t, "b c heavy!")
				wantUse(t, b, 3, 1)
				// Those behind it kept their order.
				l.release("a")
				l.want(t, "d")
			})
		})
	}
}

// Each waiter of a few may leave; the others are served in their order, and nothing of
// what is free is lost.
func TestCancelledWaiter(t *testing.T) {
	for _, leaves := range []int{0, 1, 2} {
		bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
			l := stand(b)
			l.join(t.Context(), "first", 1)
			l.want(t, "first")
			var order []string
			for i := range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l.join(ctx, fmt.Sprint(i), 1)
				if i == leaves {
					time.AfterFunc(time.Second, cancel)
					continue
				}
				order = append(order, fmt.Sprint(i))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			l.want(t, fmt.Sprint(leaves, "!"))
			l.release("first")
			l.want(t, order[0])
			l.release(order[0])
			l.want(t, order[1])
			l.release(order[1])
			wantUse(t, b, 0, 0)
		})
	}
}

func TestDoneContext(t *testing.T) {
	why := errors.New("the user left")
	done, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 10, MaxQueue: 10})
	for name, call := range map[string]func() error{
		"Acquire":  func() error { _, err := b.Acquire(done); return err },
		"AcquireN": func() error { _, err := b.AcquireN(done, 2); return err },
		"too heavy, but done first": func() error {
			_, err := b.AcquireN(done, 99)
			return err
		},
		"Do": func() error {
			return b.Do(done, func(context.Context) error { t.Error("called"); return nil })
		},
		"the function Do": func() error {
			_, err := bulkhead.Do(done, b, func(context.Context) (int, error) {
				t.Error("called")
				return 0, nil
			})
			return err
		},
	} {
		err := call()
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) ||
			errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("%s: got %v, want what the context says and why", name, err)
		}
		if got, want := fmt.Sprint(err), "bulkhead: the user left"; got != want {
			t.Errorf("%s: message %q, want %q", name, got, want)
		}
	}
	if s := b.Stats(); s.InUse != 0 || s.GaveUp != 5 || s.RefusedWeight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	why := errors.New("the user left")
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := b.Acquire(ctx)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		ctx, stop := context.WithTimeoutCause(t.Context(), time.Hour, why)
		defer stop()
		start := time.Now()
		_, err = b.Acquire(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != time.Hour {
			t.Errorf("waited for %v, want as long as the context lets it", waited)
		}
		if s := b.Stats(); s.GaveUp != 2 || s.Waiting != 0 || s.InUse != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The context ends, and then the slot comes, before the waiter has seen either: a select
// would take one of them by lot.
func TestDoneContextWinsOverAGrant(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		for range 1000 {
			p := acquire(t, b, 1)
			ctx, cancel := context.WithCancel(t.Context())
			l := stand(b)
			l.join(ctx, "waits", 1)
			cancel()
			p.Release()
			synctest.Wait()
			l.want(t, "waits!")
			wantUse(t, b, 0, 0)
		}
	})
}

// The other way round the slot may be taken before the context ends. Whatever it is, the
// slot is either with the caller or free.
func TestContextEndsAfterAGrant(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		for range 1000 {
			p := acquire(t, b, 1)
			ctx, cancel := context.WithCancel(t.Context())
			l := stand(b)
			l.join(ctx, "waits", 1)
			p.Release()
			cancel()
			synctest.Wait()
			if got := l.permits["waits"]; got != nil {
				got.Release()
			}
			wantUse(t, b, 0, 0)
		}
	})
}

// lateContext has ended when its owner says so, and its channel does not tell.
type lateContext struct {
	context.Context
	ended atomic.Bool
}

func (c *lateContext) Done() <-chan struct{} { return nil }

func (c *lateContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// A slot that was granted to one whose context has ended goes to the next in line.
func TestUnwantedGrantGoesOn(t *testing.T) {
	bubble(t, patient(2), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		l.join(t.Context(), "a", 2)
		late := &lateContext{Context: t.Context()}
		l.join(late, "late", 2)
		l.join(t.Context(), "b", 1)
		l.join(t.Context(), "c", 1)
		l.want(t, "a")
		late.ended.Store(true)
		wantUse(t, b, 2, 3)
		l.release("a")
		l.want(t, "b c late!")
		wantUse(t, b, 2, 0)
		if s := b.Stats(); s.GaveUp != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// callback is a context whose methods do something, as those of a user's may.
type callback struct {
	context.Context
	done, err func()
}

func (c callback) Done() <-chan struct{} { c.done(); return c.Context.Done() }
func (c callback) Err() error            { c.err(); return c.Context.Err() }

// No code of a user's runs under the lock.
func TestContextsMayUseTheBulkhead(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		p := acquire(t, b, 1)
		time.AfterFunc(time.Second, p.Release)
		use := func() {
			b.Stats()
			_ = b.Resize(1)
		}
		q, err := b.Acquire(callback{t.Context(), use, use})
		if err != nil {
			t.Fatal(err)
		}
		q.Release()
	})
}

// A slot that is given back just before somebody stands in line is seen by nobody but
// themselves.
func TestReleaseAsACallComes(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		p := acquire(t, b, 1)
		q, err := b.Acquire(callback{t.Context(), p.Release, func() {}})
		if err != nil {
			t.Fatal(err)
		}
		wantUse(t, b, 1, 0)
		q.Release()
		wantUse(t, b, 0, 0)
	})
}

func TestMaxWait(t *testing.T) {
	for _, test := range []struct {
		name string
		set  time.Duration
		want time.Duration
	}{
		{"zero is a second", 0, time.Second},
		{"a nanosecond", 1, 1},
		{"an hour", time.Hour, time.Hour},
	} {
		cfg := bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: test.set}
		t.Run(test.name, func(t *testing.T) {
			bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
				p := acquire(t, b, 1)
				start := time.Now()
				full := refused(t, b, 1)
				if full.Reason != bulkhead.WaitedTooLong || time.Since(start) != test.want {
					t.Errorf("%v after %v, want %v", full, time.Since(start), test.want)
				}
				if test.want == 1 {
					return
				}
				time.AfterFunc(test.want-1, p.Release)
				acquire(t, b, 1) // at the last moment
				wantUse(t, b, 1, 0)
			})
		})
	}
	t.Run("negative", func(t *testing.T) {
		bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
			p := acquire(t, b, 1)
			time.AfterFunc(1000*time.Hour, p.Release)
			acquire(t, b, 1)
		})
	})
}

// MaxQueue counts those who wait, not those who have their slots.
func TestMaxQueue(t *testing.T) {
	for _, most := range []int{0, 1, 5} {
		cfg := bulkhead.Config{MaxConcurrent: 2, MaxQueue: most, MaxWait: -1}
		bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
			l := stand(b)
			for i := range 2 + most {
				l.join(t.Context(), fmt.Sprint(i), 1)
			}
			wantUse(t, b, 2, most)
			start := time.Now()
			if full := refused(t, b, 1); full.Reason != bulkhead.QueueFull {
				t.Errorf("%v", full)
			}
			if waited := time.Since(start); waited != 0 {
				t.Errorf("refused after %v, want at once", waited)
			}
			l.release("0")
			wantUse(t, b, min(2, 1+most), max(0, most-1))
		})
	}
}

// The last place may be gone when a call that has seen it stands in line.
func TestMaxQueueAsACallComes(t *testing.T) {
	cfg := bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: -1}
	bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
		p := acquire(t, b, 1)
		l := stand(b)
		join := func() { l.join(t.Context(), "first", 1) }
		_, err := b.Acquire(callback{t.Context(), join, func() {}})
		full, ok := errors.AsType[*bulkhead.FullError](err)
		if !ok || full.Reason != bulkhead.QueueFull {
			t.Errorf("got %v", err)
		}
		wantUse(t, b, 1, 1)
		p.Release()
		synctest.Wait()
		l.want(t, "first")
	})
}

// A full queue behind a heavy one refuses too, although there is a slot.
func TestMaxQueueBehindAHeavyOne(t *testing.T) {
	cfg := bulkhead.Config{MaxConcurrent: 2, MaxQueue: 1, MaxWait: -1}
	bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		l.join(t.Context(), "a", 1)
		l.join(t.Context(), "heavy", 2)
		if full := refused(t, b, 1); full.Reason != bulkhead.QueueFull {
			t.Errorf("%v", full)
		}
		wantUse(t, b, 1, 1)
		if n := testing.AllocsPerRun(1000, func() { _, _ = b.Acquire(t.Context()) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		l.release("a")
		l.want(t, "a heavy")
	})
}

func TestWeights(t *testing.T) {
	cfg := bulkhead.Config{MaxConcurrent: 10, MaxQueue: 10, MaxWait: -1}
	bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
		for _, n := range []int{0, -1, 11, math.MaxInt, math.MinInt, math.MaxInt32, math.MinInt32} {
			if full := refused(t, b, n); full.Reason != bulkhead.TooHeavy {
				t.Errorf("a weight of %d: %v", n, full)
			}
			if _, ok := b.TryAcquireN(n); ok {
				t.Errorf("a weight of %d was let through", n)
			}
		}
		wantUse(t, b, 0, 0)
		if s := b.Stats(); s.RefusedWeight != 14 || s.RefusedFull != 0 {
			t.Errorf("%+v", s)
		}
		p := acquire(t, b, 10)
		if full := refused(t, b, 11); full.Reason != bulkhead.TooHeavy {
			t.Errorf("also when it is full: %v", full)
		}
		p.Release()
		p, q := acquire(t, b, 3), acquire(t, b, 7)
		wantUse(t, b, 10, 0)
		q.Release()
		wantUse(t, b, 3, 0)
		if _, ok := b.TryAcquireN(8); ok {
			t.Error("8 fitted into 7")
		}
		if r, ok := b.TryAcquireN(7); !ok {
			t.Error("7 did not fit into 7")
		} else {
			r.Release()
		}
		p.Release()
		wantUse(t, b, 0, 0)
	})
	// The largest there may be, whose sum would not fit into 32 bits with a sign.
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: math.MaxInt32})
	p := acquire(t, b, math.MaxInt32)
	for _, n := range []int{1, math.MaxInt32} {
		if _, ok := b.TryAcquireN(n); ok {
			t.Error("more than the largest weight was let through")
		}
	}
	wantUse(t, b, math.MaxInt32, 0)
	p.Release()
	wantUse(t, b, 0, 0)
}

func TestPanicAndGoexitFreeTheSlot(t *testing.T) {
	for name, exit := range map[string]func(context.Context) error{
		"panic":  func(context.Context) error { panic("burst") },
		"goexit": func(context.Context) error { runtime.Goexit(); return nil },
	} {
		for form, do := range map[string]func(b *bulkhead.Bulkhead){
			"method": func(b *bulkhead.Bulkhead) { _ = b.Do(context.Background(), exit) },
			"function": func(b *bulkhead.Bulkhead) {
				_, _ = bulkhead.Do(context.Background(), b, func(ctx context.Context) (int, error) {
					return 0, exit(ctx)
				})
			},
		} {
			t.Run(name+" in the "+form, func(t *testing.T) {
				b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
				for range 3 {
					var wg sync.WaitGroup
					wg.Go(func() {
						defer func() { _ = recover() }()
						do(b)
					})
					wg.Wait()
					wantUse(t, b, 0, 0)
				}
			})
		}
	}
}

func TestPanicKeepsItsStack(t *testing.T) {
	defer func() {
		if v := recover(); v != "burst" {
			t.Errorf("recovered %v", v)
		}
		if stack := string(debug.Stack()); !strings.Contains(stack, "burstDeepInside") {
			t.Errorf("the origin is not on the stack:\n%s", stack)
		}
	}()
	_ = bulkhead.New(bulkhead.Config{MaxConcurrent: 1}).Do(t.Context(), burstDeepInside)
}

func burstDeepInside(context.Context) error { panic("burst") }

// panicked returns what f panics with.
func panicked(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestNilFunction(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
	for name, do := range map[string]func(){
		"method":   func() { _ = b.Do(t.Context(), nil) },
		"function": func() { _, _ = bulkhead.Do[int](t.Context(), b, nil) },
	} {
		if v := panicked(do); v != "bulkhead: Do: nil function" {
			t.Errorf("%s: recovered %v", name, v)
		}
		wantUse(t, b, 0, 0)
	}
}

func TestPermitIsReleasedOnce(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 5})
	p, q := acquire(t, b, 2), acquire(t, b, 3)
	p.Release()
	p.Release()
	wantUse(t, b, 3, 0)
	q.Release()
	q.Release()
	wantUse(t, b, 0, 0)
	var zero bulkhead.Permit
	zero.Release()
}

const copied = "bulkhead: a copy of a Permit was released too"

// A copy that gives back what is not in use any more is found out, and nothing else is
// harmed by it.
func TestPermitCopied(t *testing.T) {
	bubble(t, patient(3), func(t *testing.T, b *bulkhead.Bulkhead) {
		for range 10 {
			p := acquire(t, b, 3)
			c := *p
			p.Release()
			if v := panicked(c.Release); v != copied {
				t.Fatalf("recovered %v", v)
			}
			wantUse(t, b, 0, 0)
		}
		// With something else in use, but less.
		p := acquire(t, b, 2)
		c := *p
		p.Release()
		q := acquire(t, b, 1)
		if v := panicked(c.Release); v != copied {
			t.Fatalf("recovered %v", v)
		}
		wantUse(t, b, 1, 0)
		l := stand(b)
		l.join(t.Context(), "heavy", 3)
		l.want(t, "")
		q.Release()
		synctest.Wait()
		l.want(t, "heavy")
		l.release("heavy")
		wantUse(t, b, 0, 0)
	})
}

// What was not under way has not ended, or refusals would say that it goes fast.
func TestPermitCopiedIsNotCounted(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 3}, func(t *testing.T, b *bulkhead.Bulkhead) {
		p := acquire(t, b, 2)
		spent := *p
		p.Release()
		acquire(t, b, 1)
		refused(t, b, 3)
		for range 10 {
			c := spent
			if v := panicked(c.Release); v != copied {
				t.Fatalf("recovered %v", v)
			}
		}
		time.Sleep(time.Second)
		if got := refused(t, b, 3).RetryAfter(); got != time.Second {
			t.Errorf("asks for %v, but nothing has ended for a second", got)
		}
	})
}

// While a copy is found out, others use the bulkhead. That must not leave a mark on it.
func TestPermitCopiedConcurrently(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 9})
	p := acquire(t, b, 1)
	spent := *p
	p.Release()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	try := func(f func()) {
		if v := panicked(f); v != nil && v != copied {
			t.Errorf("recovered %v", v)
		}
	}
	wg.Go(func() {
		defer close(stop)
		for range 100_000 {
			again := spent
			try(again.Release)
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				try(func() {
					// With each copy that takes the slot of another, that one's is one too many.
					if p, err := b.Acquire(context.Background()); err == nil {
						p.Release()
					}
				})
			}
		})
	}
	wg.Wait()
	wantUse(t, b, 0, 0)
	acquire(t, b, 1)
	if _, ok := b.TryAcquire(); ok {
		t.Error("a second call was let through")
	}
}

func TestResizeUp(t *testing.T) {
	bubble(t, patient(1), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		for _, name := range []string{"a", "b", "c", "d"} {
			l.join(t.Context(), name, 1)
		}
		l.want(t, "a")
		resize(t, b, 2)
		l.want(t, "b")
		resize(t, b, 4)
		l.want(t, "c d")
		wantUse(t, b, 4, 0)
		if s := b.Stats(); s.MaxConcurrent != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func resize(t *testing.T, b *bulkhead.Bulkhead, n int) {
	t.Helper()
	if err := b.Resize(n); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestResizeDown(t *testing.T) {
	bubble(t, patient(4), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		for _, name := range []string{"a", "b", "c", "d"} {
			l.join(t.Context(), name, 1)
		}
		l.join(t.Context(), "e", 1)
		l.want(t, "a b c d")
		resize(t, b, 2)
		if s := b.Stats(); s.InUse != 4 || s.MaxConcurrent != 2 || s.Waiting != 1 {
			t.Errorf("%+v: calls under way go on", s)
		}
		l.release("a", "b")
		l.want(t, "")
		if _, ok := b.TryAcquire(); ok {
			t.Error("let through before there were fewer")
		}
		l.release("c")
		l.want(t, "e")
		l.release("d", "e")
		wantUse(t, b, 0, 0)
	})
}

func TestResizeDownRefusesHeavyWaiters(t *testing.T) {
	bubble(t, patient(4), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		l.join(t.Context(), "a", 1)
		l.join(t.Context(), "four", 4)
		l.join(t.Context(), "two", 2)
		l.join(t.Context(), "three", 3)
		l.want(t, "a")
		resize(t, b, 2)
		l.want(t, "four! three!")
		wantUse(t, b, 1, 1)
		if s := b.Stats(); s.RefusedWeight != 2 {
			t.Errorf("%+v", s)
		}
		l.release("a")
		l.want(t, "two")

		// What stood behind a heavy one gets its slot with the refusal.
		resize(t, b, 3)
		l.join(t.Context(), "three", 3)
		l.join(t.Context(), "one", 1)
		l.want(t, "")
		resize(t, b, 2)
		l.want(t, "three!")
		l.release("two")
		l.want(t, "one")
	})
}

// With less room, one that waits behind the heavy one may fit at once.
func TestResizeDownServesThoseBehind(t *testing.T) {
	bubble(t, patient(5), func(t *testing.T, b *bulkhead.Bulkhead) {
		l := stand(b)
		l.join(t.Context(), "a", 1)
		l.join(t.Context(), "five", 5)
		l.join(t.Context(), "two", 2)
		l.want(t, "a")
		resize(t, b, 3)
		l.want(t, "five! two")
		wantUse(t, b, 3, 0)
	})
}

// A call that has been found light enough may be too heavy when it stands in line. It
// would wait for ever, and everybody behind it.
func TestResizeAsACallComes(t *testing.T) {
	bubble(t, patient(10), func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 5)
		ctx := callback{t.Context(), func() { _ = b.Resize(6) }, func() {}}
		l := stand(b)
		l.join(ctx, "heavy", 8)
		l.want(t, "heavy!")
		acquire(t, b, 1)
	})
}

func TestResizeInvalid(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 2})
	for _, n := range []int{0, -1, math.MinInt, math.MaxInt} {
		if n == math.MaxInt32 {
			continue // where an int has 32 bits
		}
		err := b.Resize(n)
		want := fmt.Sprintf("bulkhead %q: Resize to %d: must be from 1 to 2147483647", "prices", n)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if s := b.Stats(); s.MaxConcurrent != 2 {
		t.Errorf("%+v", s)
	}
	if err := b.Resize(math.MaxInt32); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	cfg := bulkhead.Config{Name: "prices", MaxConcurrent: 2, MaxQueue: 2, MaxWait: time.Minute}
	bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
		want := bulkhead.Stats{Name: "prices", MaxConcurrent: 2}
		check := func() {
			t.Helper()
			synctest.Wait()
			if got := b.Stats(); got != want {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
		}
		check()
		p := acquire(t, b, 2)
		want.InUse = 2
		check()
		l := stand(b)
		ctx, cancel := context.WithCancel(t.Context())
		l.join(ctx, "a", 1)
		time.Sleep(time.Second)
		l.join(t.Context(), "b", 1)
		time.Sleep(time.Second)
		want.Waiting, want.OldestWait = 2, 2*time.Second
		check()
		refused(t, b, 1)
		b.TryAcquire()
		want.RefusedFull = 2
		check()
		refused(t, b, 3)
		want.RefusedWeight = 1
		check()
		cancel()
		want.GaveUp, want.Waiting, want.OldestWait = 1, 1, time.Second
		want.LongestWait = 2 * time.Second
		check()
		time.Sleep(59 * time.Second)
		want.RefusedWait, want.Waiting, want.OldestWait = 1, 0, 0
		want.LongestWait = time.Minute
		check()
		l.join(t.Context(), "c", 1)
		time.Sleep(30 * time.Second)
		p.Release()
		want.InUse = 1
		check()
		if err := b.Resize(7); err != nil {
			t.Fatal(err)
		}
		want.MaxConcurrent = 7
		check()
		l.release("c")
		want.InUse = 0
		check()
	})
}

// Where there is room for all, nobody is refused, however they come and go.
func TestNeverRefusedWhileThereIsRoom(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 8})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20_000 {
				p, err := b.AcquireN(context.Background(), 1+i%3)
				if err != nil {
					t.Error(err, b.Stats())
					return
				}
				p.Release()
				q, ok := b.TryAcquireN(1)
				if !ok {
					t.Error("TryAcquire was refused", b.Stats())
					return
				}
				q.Release()
			}
		})
	}
	wg.Wait()
}

// A thousand goroutines, weights, contexts that end, sizes that change: what is in use
// never exceeds the largest size, and in the end nothing is.
func TestConcurrently(t *testing.T) {
	const most = 12
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: most, MaxQueue: 500})
	var used, made, refusals atomic.Int64
	call := func(g, i int) {
		n := 1 + (g+i)%5
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if i%7 == 0 {
			go cancel()
		}
		p, err := b.AcquireN(ctx, n)
		if err != nil {
			refusals.Add(1)
			return
		}
		made.Add(1)
		if now := used.Add(int64(n)); now > most {
			t.Errorf("%d in use, of %d", now, most)
		}
		runtime.Gosched()
		used.Add(int64(-n))
		p.Release()
	}
	var wg sync.WaitGroup
	for g := range 1000 {
		wg.Go(func() {
			for i := range 20 {
				call(g, i)
				if (g+i)%50 == 0 {
					_ = b.Resize(5 + (g+i)%(most-4))
				}
				if p, ok := b.TryAcquire(); ok {
					p.Release()
				}
			}
		})
	}
	wg.Wait()
	if made.Load() == 0 || refusals.Load() == 0 {
		t.Errorf("%d calls made and %d refused", made.Load(), refusals.Load())
	}
	wantUse(t, b, 0, 0)
	s := b.Stats()
	acquire(t, b, s.MaxConcurrent).Release()
	if s.OldestWait != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	give := func(context.Context) (string, error) { return "x", nil }
	free := bulkhead.New(bulkhead.Config{MaxConcurrent: 4})
	full := bulkhead.New(bulkhead.Config{Name: "full", MaxConcurrent: 2})
	acquire(t, full, 2)
	for name, f := range map[string]func(){
		"method":   func() { _ = free.Do(ctx, ok) },
		"function": func() { _, _ = bulkhead.Do(ctx, free, give) },
		"two steps": func() {
			if p, err := free.Acquire(ctx); err == nil {
				p.Release()
			}
		},
		"try": func() {
			if p, ok := free.TryAcquireN(2); ok {
				p.Release()
			}
		},
		"nested": func() {
			_, _ = bulkhead.Do(ctx, free, func(ctx context.Context) (string, error) {
				return bulkhead.Do(ctx, free, give)
			})
		},
		"refused method":   func() { _ = full.Do(ctx, ok) },
		"refused function": func() { _, _ = bulkhead.Do(ctx, full, give) },
		"refused acquire":  func() { _, _ = full.Acquire(ctx) },
		"refused try":      func() { full.TryAcquire() },
		"too heavy":        func() { _, _ = full.AcquireN(ctx, 3) },
		"no weight":        func() { _, _ = free.AcquireN(ctx, -1) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestNewStartsNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100_000 {
		bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines became %d", before, after)
	}
}

// A bulkhead may be made in one time and used in another: package variables are made
// before a test's bubble begins.
func TestMadeOutsideABubble(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1})
	synctest.Test(t, func(t *testing.T) {
		p := acquire(t, b, 1)
		if full := refused(t, b, 1); full.Reason != bulkhead.WaitedTooLong {
			t.Errorf("%v", full)
		}
		if _, ok := b.TryAcquire(); ok {
			t.Error("let through")
		}
		p.Release()
	})
	acquire(t, b, 1)
	wantUse(t, b, 1, 0)

	synctest.Test(t, func(*testing.T) { b = bulkhead.New(bulkhead.Config{MaxConcurrent: 1}) })
	p := acquire(t, b, 1)
	refused(t, b, 1)
	p.Release()
	wantUse(t, b, 0, 0)
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  bulkhead.Config
		want string // "": valid
	}{
		{bulkhead.Config{MaxConcurrent: 1}, ""},
		{bulkhead.Config{MaxConcurrent: math.MaxInt32, MaxQueue: 1, MaxWait: 1}, ""},
		{bulkhead.Config{MaxConcurrent: 1, MaxWait: math.MinInt64}, ""},
		{
			bulkhead.Config{},
			"bulkhead: Config: MaxConcurrent is 0, but must be from 1 to 2147483647",
		},
		{
			bulkhead.Config{Name: "prices", MaxConcurrent: -1},
			`bulkhead: Config "prices": MaxConcurrent is -1, but must be from 1 to 2147483647`,
		},
		{
			bulkhead.Config{MaxConcurrent: 1, MaxQueue: -1},
			"bulkhead: Config: MaxQueue is -1, but must not be negative",
		},
		{
			bulkhead.Config{MaxConcurrent: -2, MaxQueue: -3},
			"bulkhead: Config: MaxConcurrent is -2, but must be from 1 to 2147483647; " +
				"MaxQueue is -3, but must not be negative",
		},
	} {
		err := test.cfg.Validate()
		v := panicked(func() { bulkhead.New(test.cfg) })
		if test.want == "" {
			if err != nil || v != nil {
				t.Errorf("%+v: %v; New panics with %v", test.cfg, err, v)
			}
			continue
		}
		if err == nil || err.Error() != test.want || v != test.want {
			t.Errorf("%+v:\n%v\nNew panics with\n%v, want\n%s", test.cfg, err, v, test.want)
		}
	}
	if math.MaxInt > math.MaxInt32 {
		most := math.MaxInt32 // a constant would not compile where an int has 32 bits
		if (bulkhead.Config{MaxConcurrent: most + 1}).Validate() == nil {
			t.Error("a size that does not fit is valid")
		}
	}
}

// changed is a context of a user's that panics when it is asked again.
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

func TestContextPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: -1})
		first, _ := b.Acquire(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer func() {
				if recover() != "boom" {
					t.Error("the panic is gone")
				}
			}()
			_, _ = b.Acquire(&changed{Context: ctx})
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		first.Release()
		if s := b.Stats(); s.InUse != 0 || s.Waiting != 0 {
			t.Errorf("it left behind %+v", s)
		}
	})
}

// A key that gets a place of its own while it holds a shared slot has both: documented.
func TestGroupKeyWithSharedSlot(t *testing.T) {
	g := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{MaxConcurrent: 1}, MaxKeys: 1,
	})
	a, _ := g.Get("a").TryAcquire()
	shared, ok := g.Get("b").TryAcquire()
	if _, again := g.Get("c").TryAcquire(); !ok || again {
		t.Fatal("b and c do not share one slot")
	}
	a.Release()
	own, ok := g.Get("b").TryAcquire()
	if !ok {
		t.Error("b has a place, and no slot")
	}
	shared.Release()
	own.Release()
}
