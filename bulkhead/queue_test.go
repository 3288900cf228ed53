package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stormjib/stormjib/bulkhead"
)

// The verbs of the tests. Those of queueRun play on the model too, which checks all that
// the queue says of itself.

// script runs f in a bubble, on a queue whose handler waits to be told how to end.
func queueScript(t *testing.T, cfg queueConfig, f func(r *queueRun)) {
	t.Helper()
	cfg.Workers = max(cfg.Workers, 1)
	synctest.Test(t, func(t *testing.T) {
		r := newQueueRun(t, cfg)
		f(r)
		r.end()
	})
}

func (r *queueRun) put(n int) {
	r.t.Helper()
	for range n {
		r.arrive(false, false)
		r.compare()
	}
}

func (r *queueRun) do(n int) {
	r.t.Helper()
	for range n {
		r.arrive(true, false)
		r.compare()
	}
}

func (r *queueRun) done(i int, how string) {
	r.t.Helper()
	r.finish(i, how)
	r.compare()
}

func (r *queueRun) leave(i int) {
	r.t.Helper()
	r.cancel(i)
	r.compare()
}

func (r *queueRun) answered(i int, want string) {
	r.t.Helper()
	if got := r.answers[i]; got != want {
		r.t.Errorf("item %d: %q, want %q", i, got, want)
	}
}

func (r *queueRun) began(want ...int) {
	r.t.Helper()
	if !slices.Equal(r.begun, want) {
		r.t.Errorf("began %v, want %v", r.begun, want)
	}
}

// pause is a handler that takes its time.
func pause(d time.Duration) func(context.Context, int) error {
	return func(context.Context, int) error {
		time.Sleep(d)
		return nil
	}
}

func TestQueueIsFirstComeFirstServed(t *testing.T) {
	queueScript(t, queueConfig{Capacity: 10}, func(r *queueRun) {
		r.put(4)
		for i := range 4 {
			r.done(i, "ok")
		}
		r.began(0, 1, 2, 3)
	})
}

func TestQueueBlocksFirstComeFirstServed(t *testing.T) {
	cfg := queueConfig{Capacity: 1, Overflow: bulkhead.Block}
	queueScript(t, cfg, func(r *queueRun) {
		r.put(5) // 0 is handled, 1 has the place, the others wait for it
		r.answered(2, "")
		r.leave(3) // it must not swallow a place
		r.answered(3, "left early")
		r.done(0, "ok")
		r.answered(2, "ok")
		r.answered(4, "")
		r.put(1) // 5 does not pass 4
		r.done(1, "ok")
		r.answered(4, "ok")
		r.answered(5, "")
		for _, i := range []int{2, 4, 5} {
			r.done(i, "ok")
		}
		r.began(0, 1, 2, 4, 5)
	})
}

func TestQueueDropsOldest(t *testing.T) {
	cfg := queueConfig{Capacity: 2, Workers: 2, Overflow: bulkhead.DropOldest}
	queueScript(t, cfg, func(r *queueRun) {
		r.put(2) // handled
		r.do(1)
		r.put(3)
		r.answered(2, "full") // its caller drops it
		if want := []string{"2 full", "3 full"}; !slices.Equal(r.dropped, want) {
			r.t.Errorf("dropped %v, want %v", r.dropped, want)
		}
		r.done(0, "ok")
		r.done(1, "ok")
		r.began(0, 1, 4, 5)
	})
}

// A caller that leaves takes its item along, so that what nobody wants any more does not
// fill the queue.
func TestQueueDoLeavesItsPlace(t *testing.T) {
	queueScript(t, queueConfig{Capacity: 2}, func(r *queueRun) {
		r.do(4)
		r.answered(3, "full")
		r.leave(1)
		r.answered(1, "left early")
		r.do(1)
		r.leave(0) // it is handled: what comes of that goes to OnError
		r.answered(0, "left")
		r.done(0, "failed")
		r.done(2, "failed")
		r.answered(2, "failed")
		if want := []string{"0 failed"}; !slices.Equal(r.failed, want) {
			r.t.Errorf("OnError got %v, want %v", r.failed, want)
		}
		r.began(0, 2, 4)
	})
}

// One that leaves makes room for one that waits for room.
func TestQueueDoLeavesItsPlaceToWhoWaits(t *testing.T) {
	cfg := queueConfig{Capacity: 1, Overflow: bulkhead.Block}
	queueScript(t, cfg, func(r *queueRun) {
		r.do(4)
		r.leave(1)
		r.leave(3)
		r.answered(3, "left early")
		r.done(0, "ok")
		r.began(0, 2)
	})
}

// Whether a burst fits depends on the numbers, and not on when the scheduler gets to
// the workers.
func TestQueueCountsWorkersThatStart(t *testing.T) {
	for _, overflow := range []bulkhead.Overflow{bulkhead.Reject, bulkhead.DropOldest} {
		var mu sync.Mutex
		var began []int
		var pushed []int
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 3, Workers: 2, Overflow: overflow,
			Handle: func(_ context.Context, i int) error {
				mu.Lock()
				defer mu.Unlock()
				began = append(began, i)
				return nil
			},
			OnDrop: func(i int, _ error) { pushed = append(pushed, i) },
		})
		mu.Lock()
		for i := range 5 {
			if err := q.Put(t.Context(), i); err != nil {
				t.Fatalf("item %d: %v", i, err)
			}
		}
		s := q.Stats()
		if s.Depth != 3 || s.Busy != 2 {
			t.Errorf("%d wait and %d are handled, want 3 and 2", s.Depth, s.Busy)
		}
		err := q.Put(t.Context(), 5)
		if rejected := errors.Is(err, bulkhead.ErrFull); rejected != (overflow == bulkhead.Reject) {
			t.Errorf("the sixth: %v", err)
		}
		mu.Unlock()
		if left, err := q.Drain(context.Background()); left != nil || err != nil {
			t.Errorf("Drain returned %v, %v", left, err)
		}
		if overflow == bulkhead.DropOldest && !slices.Equal(pushed, []int{2}) {
			t.Errorf("%v made room, want the first that no worker was for", pushed)
		}
		if len(began) != 5 {
			t.Errorf("handled %v", began)
		}
	}
}

// The wait of a Put whose context ends and that gets room in the same moment: the context
// wins, also if the room came first, as long as no worker has the item.
func TestQueuePutDoneWinsOverRoom(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			gate := make(chan struct{})
			var handled []int
			q := bulkhead.NewQueue(queueConfig{
				Capacity: 1, Overflow: bulkhead.Block,
				Handle: func(_ context.Context, i int) error {
					handled = append(handled, i)
					<-gate
					return nil
				},
			})
			_ = q.Put(t.Context(), 0)
			_ = q.Put(t.Context(), 1)
			ctx, cancel := context.WithCancel(t.Context())
			var err error
			go func() { err = q.Put(ctx, 2) }()
			synctest.Wait()
			later := make(chan error)
			go func() { later <- q.Put(t.Context(), 3) }()
			synctest.Wait()
			cancel()
			gate <- struct{}{}
			synctest.Wait()
			if said(err) != "left early" {
				t.Errorf("got %v", err)
			}
			if err := <-later; err != nil {
				t.Errorf("the place was not passed on: %v", err)
			}
			if s := q.Stats(); s.Accepted != 3 || s.GaveUp != 1 || s.Depth != 1 {
				t.Errorf("%+v", s)
			}
			close(gate)
			_, err = q.Drain(t.Context())
			if err != nil || !slices.Equal(handled, []int{0, 1, 3}) {
				t.Errorf("handled %v, %v", handled, err)
			}
		})
	}
}

// The room came first, and the caller has not run since.
func TestQueuePutTakesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 1, Overflow: bulkhead.Block,
			Handle: func(context.Context, int) error { <-gate; return nil },
		})
		_ = q.Put(t.Context(), 0)
		_ = q.Put(t.Context(), 1)
		ctx := &lazyContext{Context: t.Context(), read: make(chan struct{})}
		var err error
		go func() { err = q.Put(ctx, 2) }()
		synctest.Wait()
		gate <- struct{}{} // room for 2: its Put is to look at its context
		synctest.Wait()
		if s := q.Stats(); s.Depth != 1 || s.Accepted != 2 {
			t.Errorf("before it has looked: %+v", s)
		}
		ctx.over.Store(true)
		close(ctx.read)
		synctest.Wait()
		if said(err) != "left early" {
			t.Errorf("got %v", err)
		}
		if s := q.Stats(); s.Depth != 0 || s.Accepted != 2 || s.GaveUp != 1 {
			t.Errorf("after: %+v", s)
		}
		close(gate)
	})
}

// The worker was faster: the item is handled, so Put says so.
func TestQueuePutCannotTakeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 1, Overflow: bulkhead.Block,
			Handle: func(context.Context, int) error { <-gate; return nil },
		})
		_ = q.Put(t.Context(), 0)
		_ = q.Put(t.Context(), 1)
		ctx := &lazyContext{Context: t.Context(), read: make(chan struct{})}
		err := errors.New("not returned")
		go func() { err = q.Put(ctx, 2) }()
		synctest.Wait()
		gate <- struct{}{}
		gate <- struct{}{}
		synctest.Wait()
		ctx.over.Store(true)
		close(ctx.read)
		synctest.Wait()
		if err != nil {
			t.Errorf("got %v", err)
		}
		close(gate)
		synctest.Wait()
		if s := q.Stats(); s.Accepted != 3 || s.Succeeded != 3 || s.GaveUp != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// lazyContext is done when it says so, and lets nobody but the first see whether it is
// before read is closed.
type lazyContext struct {
	context.Context
	asked atomic.Int64
	over  atomic.Bool
	read  chan struct{}
}

func (c *lazyContext) Err() error {
	if c.asked.Add(1) > 1 {
		<-c.read
	}
	if c.over.Load() {
		return context.Canceled
	}
	return nil
}

func TestQueueDoneContextIsRefused(t *testing.T) {
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 5, Handle: func(context.Context, int) error { return nil },
	})
	why := errors.New("the user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for _, call := range []func(context.Context, int) error{q.Put, q.Do} {
		err := call(ctx, 1)
		if said(err) != "left early" || !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	}
	if s := q.Stats(); s.GaveUp != 2 || s.Accepted != 0 || s.ArrivalRate == 0 {
		t.Errorf("%+v", s)
	}
}

func TestQueueRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := bulkhead.NewQueue(queueConfig{
			Name: "mails", Capacity: 3,
			Handle: pause(100 * time.Millisecond),
		})
		refuse := func() *bulkhead.FullError {
			t.Helper()
			var err error
			for err == nil {
				err = q.Put(t.Context(), 1)
			}
			full, ok := errors.AsType[*bulkhead.FullError](err)
			if !ok || !errors.Is(err, bulkhead.ErrFull) {
				t.Fatalf("got %v", err)
			}
			return full
		}
		full := refuse()
		const text = `bulkhead "mails": full`
		if full.Name != "mails" || said(full) != "full" || full.Error() != text {
			t.Errorf("is %+v: %v", full, full)
		}
		if full.RetryAfter() != 0 {
			t.Errorf("nothing was ever done, but it knows of %v", full.RetryAfter())
		}
		if again := refuse(); again != full {
			t.Error("two refusals in a row do not share an error")
		}
		for range 600 { // it is never empty
			refuse()
			time.Sleep(100 * time.Millisecond)
		}
		after := refuse().RetryAfter().Round(10 * time.Millisecond)
		if after != 100*time.Millisecond {
			t.Errorf("RetryAfter is %v, but an item takes 100ms", after)
		}
		_, _ = q.Drain(t.Context())
	})
}

type queueKey struct{}

// An HTTP handler's context is cancelled as soon as it has answered 202.
func TestQueuePutContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := context.WithValue(t.Context(), queueKey{}, "kept")
		ctx, cancel := context.WithTimeout(base, time.Second)
		handled := false
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 5,
			Handle: func(ctx context.Context, _ int) error {
				time.Sleep(2 * time.Second)
				_, deadline := ctx.Deadline()
				if ctx.Err() != nil || deadline || ctx.Value(queueKey{}) != "kept" {
					t.Errorf("%v, a deadline: %t, %v", ctx.Err(), deadline, ctx.Value(queueKey{}))
				}
				if ctx.Value(new(int)) != nil {
					t.Error("there is a value that nobody set")
				}
				before := runtime.NumGoroutine()
				for range 1000 {
					_, stop := context.WithCancel(ctx)
					defer stop()
				}
				if n := runtime.NumGoroutine() - before; n > 500 {
					t.Errorf("%d goroutines for 1000 contexts derived from it", n)
				}
				handled = true
				return nil
			},
		})
		if err := q.Put(ctx, 1); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := q.Drain(t.Context()); err != nil || !handled {
			t.Errorf("%v, handled %t", err, handled)
		}
	})
}

func TestQueueDoContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the user left")
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), queueKey{}, "kept"))
		ctx, stop := context.WithTimeout(ctx, time.Hour)
		defer stop()
		var cause, told error
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 5,
			Handle: func(ctx context.Context, _ int) error {
				if _, ok := ctx.Deadline(); !ok || ctx.Value(queueKey{}) != "kept" {
					t.Error("it is not the caller's")
				}
				<-ctx.Done()
				time.Sleep(time.Minute)
				cause = context.Cause(ctx)
				return errQueued
			},
			OnError: func(_ int, err error) { told = err },
		})
		began := time.Now()
		time.AfterFunc(time.Second, func() { cancel(why) })
		err := q.Do(ctx, 1)
		if said(err) != "left" || !errors.Is(err, why) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if _, err := q.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if cause != why || told != errQueued {
			t.Errorf("the handler saw %v, OnError got %v", cause, told)
		}
	})
}

// What the handler leaves behind ends with it.
func TestQueueDoContextEnds(t *testing.T) {
	var handlers context.Context
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 5,
		Handle: func(ctx context.Context, _ int) error {
			handlers = ctx
			return nil
		},
	})
	if err := q.Do(t.Context(), 1); err != nil || handlers.Err() == nil {
		t.Errorf("%v; the context outlives the call", err)
	}
}

// Its context is over, but its goroutine has not run yet: the worker sees it.
func TestQueueWorkerSparesAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var dropped []string
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 5,
			Handle: func(_ context.Context, i int) error {
				if i == 1 {
					t.Error("it was handled")
				}
				<-gate
				return nil
			},
			OnDrop: func(i int, why error) {
				dropped = append(dropped, fmt.Sprint(i, " ", said(why)))
			},
		})
		_ = q.Put(t.Context(), 0)
		ctx := &lazyContext{Context: t.Context(), read: make(chan struct{})}
		close(ctx.read)
		var err error
		go func() { err = q.Do(ctx, 1) }()
		synctest.Wait()
		ctx.over.Store(true) // and Done does not tell
		close(gate)
		synctest.Wait()
		if said(err) != "left early" || !slices.Equal(dropped, []string{"1 left early"}) {
			t.Errorf("got %v, dropped %v", err, dropped)
		}
		s := q.Stats()
		if s.Abandoned != 1 || s.Succeeded != 1 || s.Busy != 0 || s.CompletionRate > 1.5 {
			t.Errorf("%+v", s)
		}
	})
}

// The worker has the item, and while it looks whether anybody wants it, the caller leaves:
// then it is the worker who drops it.
func TestQueueWorkerDropsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped []string
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 5,
			Handle: func(context.Context, int) error {
				t.Error("it was handled")
				return nil
			},
			OnDrop: func(i int, why error) {
				dropped = append(dropped, fmt.Sprint(i, " ", said(why)))
			},
			OnError: func(_ int, err error) { t.Error(err) },
		})
		inner, cancel := context.WithCancel(t.Context())
		ctx := &lazyContext{Context: inner, read: make(chan struct{})}
		var err error
		go func() { err = q.Do(ctx, 1) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		ctx.over.Store(true)
		close(ctx.read)
		synctest.Wait()
		if said(err) != "left" || !slices.Equal(dropped, []string{"1 left early"}) {
			t.Errorf("got %v, dropped %v", err, dropped)
		}
	})
}

// briefContext ends when somebody has seen that it has not.
type briefContext struct {
	context.Context
	cancel context.CancelFunc
	seen   atomic.Bool
}

func (c *briefContext) Err() error {
	if c.seen.Swap(true) {
		return c.Context.Err()
	}
	c.cancel()
	return nil
}

// A caller that leaves before the worker of its item has begun leaves no hole in the
// numbers.
func TestQueueAbandonedBeforeItsWorkerBegins(t *testing.T) {
	for range 300 {
		var q *bulkhead.Queue[int]
		var s bulkhead.QueueStats
		q = bulkhead.NewQueue(queueConfig{
			Capacity: 1,
			Handle:   func(context.Context, int) error { return nil },
			OnDrop:   func(int, error) { s = q.Stats() },
		})
		inner, cancel := context.WithCancel(t.Context())
		_ = q.Do(&briefContext{Context: inner, cancel: cancel}, 1)
		if s.Depth != 0 || s.Busy < 0 || s.Busy > 1 {
			t.Fatalf("%+v", s)
		}
		if left, err := q.Drain(t.Context()); left != nil || err != nil {
			t.Fatalf("Drain returned %v, %v", left, err)
		}
	}
}

func TestQueuePanics(t *testing.T) {
	ends := map[string]func(){
		"a value":  func() { panic("boom") },
		"an error": func() { panic(errQueued) },
		"nil":      func() { panic(nil) },
		"an exit":  runtime.Goexit,
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []error
				q := bulkhead.NewQueue(queueConfig{
					Name: "mails", Capacity: 5,
					Handle: func(_ context.Context, i int) error {
						if i < 0 {
							end()
						}
						return nil
					},
					OnError: func(_ int, err error) { told = append(told, err) },
				})
				for _, i := range []int{-1, 1, -2, 2} {
					if err := q.Put(t.Context(), i); err != nil {
						t.Fatal(err)
					}
				}
				told = append(told, q.Do(t.Context(), -3))
				if err := q.Do(t.Context(), 3); err != nil {
					t.Errorf("after a panic: %v", err)
				}
				if len(told) != 3 {
					t.Fatalf("told of %v", told)
				}
				for _, err := range told {
					checkPanic(t, name, err)
				}
				if s := q.Stats(); s.Panicked != 3 || s.Succeeded != 3 || s.Busy != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func checkPanic(t *testing.T, name string, err error) {
	t.Helper()
	p, ok := errors.AsType[*bulkhead.PanicError](err)
	if !ok || !strings.Contains(string(p.Stack), "TestQueuePanics") {
		t.Fatalf("%v, without the stack of the handler", err)
	}
	want := map[string]string{
		"a value":  `bulkhead "mails": the handler panicked: boom`,
		"an error": `bulkhead "mails": the handler panicked: failed`,
		"an exit":  `bulkhead "mails": the handler ended its goroutine`,
		"nil":      p.Error(), // the runtime's words
	}[name]
	if p.Error() != want || p.Name != "mails" {
		t.Errorf("says %q, want %q", p, want)
	}
	exited, isError := name == "an exit", name == "an error"
	if (p.Value == nil) != exited || errors.Is(err, errQueued) != isError {
		t.Errorf("its value is %v", p.Value)
	}
}

// A hook on a worker has nobody to panic to. The worker lives on, and Drain waits for it.
func TestQueueOnErrorMayPanic(t *testing.T) {
	for name, end := range map[string]func(){
		"panic": func() { panic("hook") }, "exit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				q := bulkhead.NewQueue(queueConfig{
					Capacity: 5,
					Handle:   func(context.Context, int) error { return errQueued },
					OnError: func(int, error) {
						time.Sleep(time.Second)
						calls++
						end()
					},
				})
				for i := range 3 {
					if err := q.Put(t.Context(), i); err != nil {
						t.Fatal(err)
					}
				}
				if left, err := q.Drain(t.Context()); left != nil || err != nil || calls != 3 {
					t.Errorf("Drain returned %v, %v after %d hooks", left, err, calls)
				}
				if s := q.Stats(); s.HookPanics != 3 || s.Failed != 3 || s.Busy != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A hook on a caller's goroutine panics to that caller; what it had put is handled, and
// reported to the other hook now that nobody waits.
func TestQueueOnDropMayPanic(t *testing.T) {
	for name, do := range map[string]bool{"Put": false, "Do": true} {
		t.Run(name, func(t *testing.T) {
			queueOnDropPanics(t, do)
		})
	}
}

func queueOnDropPanics(t *testing.T, do bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var told []int
		gate := make(chan struct{})
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 1, Overflow: bulkhead.DropOldest,
			Handle:  func(context.Context, int) error { <-gate; return errQueued },
			OnDrop:  func(int, error) { panic("hook") },
			OnError: func(i int, _ error) { told = append(told, i) },
		})
		_ = q.Put(t.Context(), 0)
		_ = q.Put(t.Context(), 1)
		call := q.Put
		if do {
			call = q.Do
		}
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = call(t.Context(), 2)
		}()
		if s := q.Stats(); s.PushedOut != 1 || s.Depth != 1 {
			t.Errorf("%+v", s)
		}
		close(gate)
		if _, err := q.Drain(t.Context()); err != nil || !slices.Equal(told, []int{0, 2}) {
			t.Errorf("%v; OnError was told of %v", err, told)
		}
	})
}

// The same for a caller of Do that finds its own item dropped.
func TestQueueOnDropMayPanicInDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 1,
			Handle:   func(context.Context, int) error { <-gate; return nil },
			OnDrop:   func(int, error) { panic("hook") },
		})
		_ = q.Put(t.Context(), 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = q.Do(ctx, 1)
		}()
		if s := q.Stats(); s.Abandoned != 1 || s.Depth != 0 {
			t.Errorf("%+v", s)
		}
		close(gate)
		_, _ = q.Drain(t.Context())
	})
}

func TestQueueHooksMayUseTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *bulkhead.Queue[int]
		gate := make(chan struct{})
		q = bulkhead.NewQueue(queueConfig{
			Capacity: 1, Overflow: bulkhead.DropOldest,
			Handle: func(context.Context, int) error { <-gate; return errQueued },
			OnDrop: func(i int, _ error) {
				if i < 3 {
					_ = q.Put(t.Context(), i+10)
				}
				q.Stats()
			},
			OnError: func(i int, _ error) {
				if i < 3 {
					_ = q.Put(t.Context(), i+20)
				}
				q.Stats()
			},
		})
		for i := range 3 {
			_ = q.Put(t.Context(), i)
		}
		close(gate)
		synctest.Wait()
		// 0 is handled and has 20 follow; 1 and 2 make room, and so do 11, 12 of theirs.
		if s := q.Stats(); s.Accepted != 6 || s.PushedOut != 4 || s.Failed != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestQueueDrain(t *testing.T) {
	handle := pause(time.Second)
	over, stop := context.WithCancel(t.Context())
	stop()
	t.Run("an empty queue", func(t *testing.T) {
		q := bulkhead.NewQueue(queueConfig{Name: "mails", Capacity: 1, Handle: handle})
		for range 2 {
			// There is nothing to wait for, so it does not matter how long it may.
			if left, err := q.Drain(over); left != nil || err != nil {
				t.Errorf("returned %v, %v", left, err)
			}
		}
		for _, call := range []func(context.Context, int) error{q.Put, q.Do} {
			err := call(t.Context(), 1)
			if said(err) != "draining" || err.Error() != `bulkhead "mails": draining` {
				t.Errorf("got %v", err)
			}
		}
		if s := q.Stats(); s.TooLate != 2 || !s.Draining {
			t.Errorf("%+v", s)
		}
	})
	t.Run("finishes what is queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := bulkhead.NewQueue(queueConfig{Capacity: 9, Workers: 2, Handle: handle})
			for i := range 9 {
				_ = q.Put(t.Context(), i)
			}
			began := time.Now()
			left, err := q.Drain(t.Context())
			if left != nil || err != nil || time.Since(began) != 5*time.Second {
				t.Errorf("returned %v, %v after %v", left, err, time.Since(began))
			}
		})
	})
	t.Run("returns what is left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := bulkhead.NewQueue(queueConfig{Capacity: 9, Workers: 2, Handle: handle})
			for i := range 9 {
				_ = q.Put(t.Context(), i)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			left, err := q.Drain(ctx)
			if !slices.Equal(left, []int{6, 7, 8}) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("returned %v, %v", left, err)
			}
			// The handlers go on: they do not look at their contexts.
			if left, err := q.Drain(t.Context()); left != nil || err != nil {
				t.Errorf("the second returned %v, %v", left, err)
			}
			if s := q.Stats(); s.Succeeded != 6 || s.Returned != 3 {
				t.Errorf("%+v", s)
			}
		})
	})
	t.Run("at the same time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := bulkhead.NewQueue(queueConfig{Capacity: 9, Handle: handle})
			for i := range 4 {
				_ = q.Put(t.Context(), i)
			}
			var patient, hasty []int
			var errPatient, errHasty error
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			go func() { hasty, errHasty = q.Drain(ctx) }()
			patient, errPatient = q.Drain(t.Context())
			synctest.Wait()
			if !slices.Equal(hasty, []int{2, 3}) || errHasty == nil {
				t.Errorf("the one that gave up returned %v, %v", hasty, errHasty)
			}
			if patient != nil || errPatient != nil {
				t.Errorf("the other one returned %v, %v", patient, errPatient)
			}
		})
	})
}

// A context that is done already: nothing more is begun, and the handlers are told.
func TestQueueDrainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var put, do error
		handled := 0
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 9, Workers: 2, Overflow: bulkhead.Block,
			Handle: func(ctx context.Context, i int) error {
				handled++
				<-ctx.Done()
				if i == 0 {
					put = context.Cause(ctx)
				} else {
					do = context.Cause(ctx)
				}
				return ctx.Err()
			},
		})
		_ = q.Put(t.Context(), 0)
		answers := make([]error, 3)
		for i := range answers {
			go func() { answers[i] = q.Do(t.Context(), i+1) }()
			synctest.Wait()
		}
		for i := range 7 {
			_ = q.Put(t.Context(), i+4)
		}
		blocked := make(chan error, 1)
		go func() { blocked <- q.Put(t.Context(), 20) }()
		synctest.Wait()
		why := errors.New("SIGTERM")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		left, err := q.Drain(ctx)
		if !slices.Equal(left, []int{4, 5, 6, 7, 8, 9, 10}) || !errors.Is(err, why) {
			t.Errorf("returned %v, %v", left, err)
		}
		synctest.Wait()
		if err := <-blocked; said(err) != "draining" {
			t.Errorf("a Put that waited for room: %v", err)
		}
		draining := bulkhead.ErrDraining
		if handled != 2 || !errors.Is(put, draining) || !errors.Is(do, draining) {
			t.Errorf("%d handled, they saw %v and %v", handled, put, do)
		}
		if answers[0] != context.Canceled { //nolint:err113 // untouched
			t.Errorf("one that was handled: %v", answers[0])
		}
		if said(answers[1]) != "draining" || said(answers[2]) != "draining" {
			t.Errorf("those that were not: %v", answers[1:])
		}
	})
}

// A queue needs no Drain to be forgotten, and keeps no item that it is done with.
func TestQueueKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which does not end before the workers do
		items := make([]weak.Pointer[[64]byte], 40)
		q := bulkhead.NewQueue(bulkhead.QueueConfig[*[64]byte]{
			Capacity: 20, Handle: func(context.Context, *[64]byte) error { return nil },
		})
		for i := range items {
			item := new([64]byte)
			items[i] = weak.Make(item)
			if i%2 == 0 {
				_ = q.Put(context.WithValue(t.Context(), queueKey{}, item), item)
			} else {
				_ = q.Do(context.WithValue(t.Context(), queueKey{}, item), item)
			}
		}
		synctest.Wait()
		runtime.GC()
		for i, p := range items {
			if p.Value() != nil {
				t.Errorf("item %d is still there", i)
			}
		}
		runtime.KeepAlive(q)
	})
}

func TestQueueAllocates(t *testing.T) {
	gate := make(chan struct{})
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 5000, Handle: func(context.Context, int) error { <-gate; return nil },
	})
	ctx := t.Context()
	fill := func() {
		for q.Put(ctx, 1) == nil {
		}
	}
	fill()
	if n := testing.AllocsPerRun(1000, func() { _ = q.Put(ctx, 1) }); n > 0 {
		t.Errorf("a refusal allocates %v times", n)
	}
	for range 5001 {
		gate <- struct{}{}
	}
	if n := testing.AllocsPerRun(1000, func() { _ = q.Put(ctx, 1) }); n > 0 {
		t.Errorf("a Put allocates %v times", n)
	}
	close(gate)
	_, _ = q.Drain(ctx)
}

// From the Put to the end of the handler: nothing but the handler's context.
func TestQueueAllocatesAContext(t *testing.T) {
	handled := make(chan struct{})
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 1, Handle: func(context.Context, int) error { handled <- struct{}{}; return nil },
	})
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		_ = q.Put(ctx, 1)
		<-handled
	})
	if n > 1 {
		t.Errorf("an item allocates %v times", n)
	}
}

// Memory is taken as items come.
func TestQueueHugeCapacity(t *testing.T) {
	q := bulkhead.NewQueue(bulkhead.QueueConfig[[1 << 10]byte]{
		Capacity: math.MaxInt, Workers: math.MaxInt,
		Handle: func(context.Context, [1 << 10]byte) error { return nil },
	})
	if err := q.Put(t.Context(), [1 << 10]byte{}); err != nil {
		t.Error(err)
	}
	if left, err := q.Drain(t.Context()); left != nil || err != nil {
		t.Errorf("Drain returned %d, %v", len(left), err)
	}
}

func TestQueueConfigValidate(t *testing.T) {
	handle := func(context.Context, int) error { return nil }
	for _, test := range []struct {
		cfg  queueConfig
		want string
	}{
		{queueConfig{Capacity: 1, Handle: handle}, ""},
		{queueConfig{Capacity: math.MaxInt, Overflow: bulkhead.DropOldest, Handle: handle}, ""},
		{queueConfig{}, "bulkhead: QueueConfig: " +
			"Capacity is 0, but must be at least 1; Handle is nil, but must be a function"},
		{
			queueConfig{Name: "mails", Capacity: -1, Workers: -2, Overflow: 3, Handle: handle},
			`bulkhead: QueueConfig "mails": ` +
				"Capacity is -1, but must be at least 1; Workers is -2, but must be at least 1; " +
				"Overflow is 3, but must be Reject, Block or DropOldest",
		},
		{queueConfig{Capacity: 1, Overflow: -1, Handle: handle}, "bulkhead: QueueConfig: " +
			"Overflow is -1, but must be Reject, Block or DropOldest"},
	} {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v: %q, want %q", test.cfg.Name, got, test.want)
		}
		func() {
			defer func() {
				if v := recover(); v != nil && v != test.want || v == nil && test.want != "" {
					t.Errorf("NewQueue panicked with %v, want %q", v, test.want)
				}
			}()
			bulkhead.NewQueue(test.cfg)
		}()
	}
}

// A nil context is the caller's bug, and the queue is none the worse for it.
func TestQueueNilContext(t *testing.T) {
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 1, Handle: func(context.Context, int) error { return nil },
	})
	calls := []func(){
		func() { _ = q.Put(nil, 1) },   //nolint:staticcheck // on purpose
		func() { _ = q.Do(nil, 1) },    //nolint:staticcheck // on purpose
		func() { _, _ = q.Drain(nil) }, //nolint:staticcheck // on purpose
	}
	for i, call := range calls {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("call %d did not panic", i)
				}
			}()
			call()
		}()
	}
	if err := q.Do(t.Context(), 1); err != nil {
		t.Errorf("after it: %v", err)
	}
	if s := q.Stats(); s.Accepted != 1 || s.Draining {
		t.Errorf("%+v", s)
	}
}

func TestMeter(t *testing.T) {
	const second = int64(time.Second)
	steady := func(m *bulkhead.Meter, from, until, perSecond int64) {
		for i := from * perSecond; i < until*perSecond; i++ {
			m.Add(i * second / perSecond)
		}
	}
	for _, test := range []struct {
		name  string
		play  func(m *bulkhead.Meter)
		at    float64 // seconds
		want  float64
		about float64 // how far off
	}{
		{"nothing yet", func(*bulkhead.Meter) {}, 0, 0, 0},
		{"nothing ever", func(*bulkhead.Meter) {}, 1000, 0, 0},
		{"the first moment is no measure", func(m *bulkhead.Meter) { m.Add(0) }, 0, 1.05, .01},
		{"steady for a second", func(m *bulkhead.Meter) { steady(m, 0, 1, 100) }, 1, 100, 1},
		{"steady for a while", func(m *bulkhead.Meter) { steady(m, 0, 5, 100) }, 5, 100, 1},
		{"steady for long", func(m *bulkhead.Meter) { steady(m, 0, 300, 100) }, 300, 100, 1},
		{"slow", func(m *bulkhead.Meter) {
			for i := range int64(300) {
				m.Add(i * 10 * second)
			}
		}, 2995, .1, .05},
		{"10s after its end", func(m *bulkhead.Meter) { steady(m, 0, 300, 100) }, 310, 36.8, .5},
		{"long after", func(m *bulkhead.Meter) { steady(m, 0, 300, 100) }, 1e9, 0, 0},
		{"10s after it has doubled", func(m *bulkhead.Meter) {
			steady(m, 0, 300, 100)
			steady(m, 300, 310, 200)
		}, 310, 163, 2},
		{"a clock read out of order", func(m *bulkhead.Meter) {
			for i := range int64(1000) {
				m.Add((i + 5 - 2*(i%5)) * second / 100)
			}
		}, 10, 100, 3},
		{"a clock read long before", func(m *bulkhead.Meter) {
			m.Add(100 * second)
			m.Add(0)
		}, 100, .2, .01},
		{"read before the last", func(m *bulkhead.Meter) { steady(m, 0, 300, 100) }, 299, 100, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			var m bulkhead.Meter
			test.play(&m)
			got := m.Rate(int64(test.at * float64(second)))
			if math.IsNaN(got) || math.Abs(got-test.want) > test.about {
				t.Errorf("%v a second, want %v", got, test.want)
			}
		})
	}
}

// The queue tells what to size it by.
func TestQueueRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := bulkhead.NewQueue(queueConfig{
			Capacity: 100,
			Handle:   pause(20 * time.Millisecond),
		})
		for range 60 * 100 { // 100 a second, where 50 can be done
			_ = q.Put(t.Context(), 1)
			time.Sleep(10 * time.Millisecond)
		}
		s := q.Stats()
		if math.Abs(s.ArrivalRate-100) > 1 || math.Abs(s.CompletionRate-50) > 1 {
			t.Errorf("%+v", s)
		}
		if want := 2 * time.Second; s.OldestAge < want*9/10 || s.OldestAge > want*11/10 {
			t.Errorf("the oldest has waited for %v, want about %v: 100 items at 50 a second",
				s.OldestAge, want)
		}
		_, _ = q.Drain(t.Context())
		if s := q.Stats(); s.OldestAge != 0 {
			t.Errorf("empty, and the oldest has waited for %v", s.OldestAge)
		}
	})
}

// The example in the documentation of Queue, in virtual time, with arrivals as random as
// those of many clients: 80 a second, and 200 for 30s, into 10 workers at 100ms each. Keep
// them in step.
func TestQueueSizing(t *testing.T) {
	for _, test := range []struct {
		capacity int
		fits     bool
	}{{3300, true}, {2700, false}} {
		synctest.Test(t, func(t *testing.T) {
			var b burst
			b.play(t, test.capacity)
			if (b.rejected == 0) != test.fits {
				t.Errorf("%d rejected with room for %d", b.rejected, test.capacity)
			}
			if !test.fits {
				return
			}
			if b.deepest < 2700 {
				t.Errorf("at most %d were queued, want about 3000", b.deepest)
			}
			if b.longest < 27*time.Second || b.longest > 33*time.Second {
				t.Errorf("the longest wait was %v, want about 30s", b.longest)
			}
			if b.recovery < 2*time.Minute || b.recovery > 3*time.Minute {
				t.Errorf("it took %v to get through, want about 150s", b.recovery)
			}
		})
	}
}

// burst is what comes of one.
type burst struct {
	rejected          uint64
	deepest           int
	longest, recovery time.Duration
}

func (b *burst) play(t *testing.T, capacity int) {
	t.Helper()
	var mu sync.Mutex
	q := bulkhead.NewQueue(bulkhead.QueueConfig[time.Time]{
		Capacity: capacity, Workers: 10,
		Handle: func(_ context.Context, came time.Time) error {
			mu.Lock()
			b.longest = max(b.longest, time.Since(came))
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			return nil
		},
	})
	rng := rand.New(rand.NewPCG(8, 9))
	arrive := func(perSecond float64, d time.Duration, until int) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			time.Sleep(time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second)))
			_ = q.Put(t.Context(), time.Now())
			depth := q.Stats().Depth
			if b.deepest = max(b.deepest, depth); depth <= until {
				return
			}
		}
	}
	arrive(80, 30*time.Second, -1)
	arrive(200, 30*time.Second, -1)
	began := time.Now()
	arrive(80, time.Hour, 0)
	b.recovery = time.Since(began)
	b.rejected = q.Stats().Rejected
	_, _ = q.Drain(t.Context())
}

// Everything at once, and each item accounted for exactly once.
func TestQueueHammer(t *testing.T) {
	for overflow := bulkhead.Reject; overflow <= bulkhead.DropOldest; overflow++ {
		for _, patience := range []time.Duration{0, time.Hour} {
			queueHammer(t, overflow, patience)
		}
	}
}

// What has become of an item.
type fate struct{ handled, told, dropped, accepted, returned, refused, gone atomic.Int32 }

func queueHammer(t *testing.T, overflow bulkhead.Overflow, patience time.Duration) {
	t.Helper()
	const goroutines, each = 8, 600
	fates := make([]fate, goroutines*each)
	q := bulkhead.NewQueue(queueConfig{
		Capacity: 4, Workers: 3, Overflow: overflow,
		Handle: func(_ context.Context, i int) error {
			fates[i].handled.Add(1)
			switch i % 7 {
			case 1:
				return errQueued
			case 2:
				panic("boom")
			case 3:
				runtime.Goexit()
			case 4:
				runtime.Gosched()
			}
			return nil
		},
		OnDrop:  func(i int, _ error) { fates[i].dropped.Add(1) },
		OnError: func(i int, _ error) { fates[i].told.Add(1) },
	})
	var wg sync.WaitGroup
	for g := range goroutines {
		rng := rand.New(rand.NewPCG(7, uint64(g)))
		wg.Go(func() {
			for i := g * each; i < (g+1)*each; i++ {
				hammerQueue(t, q, &fates[i], i, rng)
			}
		})
	}
	// While they are at it.
	for s := q.Stats(); s.Accepted+s.Rejected+s.GaveUp < goroutines*each/4; s = q.Stats() {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var left [2][]int
	for i := range left {
		wg.Go(func() { left[i], _ = q.Drain(ctx) })
	}
	wg.Wait()
	if again, err := q.Drain(t.Context()); again != nil || err != nil {
		t.Errorf("the last Drain returned %v, %v", again, err)
	}
	for _, i := range slices.Concat(left[0], left[1]) {
		fates[i].returned.Add(1)
	}
	checkFates(t, q.Stats(), fates)
}

// hammerQueue calls Put or Do with a context that ends at some time.
func hammerQueue(t *testing.T, q *bulkhead.Queue[int], f *fate, i int, rng *rand.Rand) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rng.IntN(3) == 0 {
		spins := rng.IntN(50)
		go func() {
			for range spins {
				runtime.Gosched()
			}
			cancel()
		}()
	}
	if rng.IntN(2) == 0 {
		if q.Put(ctx, i) != nil {
			f.refused.Add(1)
		} else {
			f.accepted.Add(1)
		}
		return
	}
	switch err := q.Do(ctx, i); said(err) {
	case "ok", "failed", "panicked":
		f.gone.Add(1) // handled, and its caller told
	case "left":
		f.accepted.Add(1)
	default:
		f.refused.Add(1)
	}
}

func checkFates(t *testing.T, s bulkhead.QueueStats, fates []fate) {
	t.Helper()
	var handled, dropped, returned uint64
	for i := range fates {
		f := &fates[i]
		h, d, r := f.handled.Load(), f.dropped.Load(), f.returned.Load()
		handled, dropped, returned = handled+uint64(h), dropped+uint64(d), returned+uint64(r)
		failed := i%7 >= 1 && i%7 <= 3
		switch {
		case h+d+r > 1,
			f.accepted.Load() == 1 && h+d+r != 1,
			f.refused.Load() == 1 && h+r != 0,
			f.gone.Load() == 1 && (h != 1 || f.told.Load() != 0),
			failed && f.accepted.Load() == 1 && f.told.Load() != h,
			!failed && f.told.Load() != 0:
			t.Fatalf("item %d: handled %d, dropped %d, returned %d: %+v", i, h, d, r, f)
		}
	}
	if handled != s.Succeeded+s.Failed+s.Panicked || dropped != s.PushedOut+s.Abandoned ||
		returned > s.Returned {
		t.Errorf("%d handled, %d dropped, %d returned; %+v", handled, dropped, returned, s)
	}
	if s.Accepted != handled+dropped+s.Returned || s.Depth+s.Busy+s.Waiting != 0 {
		t.Errorf("does not add up: %+v", s)
	}
	if s.Accepted+s.Rejected+s.GaveUp+s.TooLate != uint64(len(fates)) {
		t.Errorf("%d calls, but %+v", len(fates), s)
	}
}

// What the example shows is a test that passes.
func TestQueueExample(t *testing.T) { levelsBursts(t) }
