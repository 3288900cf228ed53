package bench

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"golang.org/x/sync/singleflight"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// TestDifferencePermits has calls end in ways that a function's result does not show.
func TestDifferencePermits(t *testing.T) {
	for _, end := range []struct {
		name string
		call func()
	}{
		{"panics", func() { panic("call") }},
		{"exits its goroutine", runtime.Goexit},
	} {
		mine, peer := newBulkhead(1, 0), newFailsafeBulkhead(1, 0)
		executor := failsafe.With[int](peer)
		exits(func() {
			_ = mine.Do(t.Context(), func(context.Context) error { end.call(); return nil })
		})
		exits(func() {
			_, _ = executor.Get(func() (int, error) { end.call(); return 0, nil })
		})
		fact(t, mine.Stats().InUse == 0, "stormjib gets the slot of a call back that "+end.name)
		fact(t, !peer.TryAcquirePermit(),
			"failsafe-go's bulkhead never gets the permit of a call back that "+end.name)
	}
}

// TestDifferenceDoneContext: a caller who has left should not get a slot. x/sync's
// semaphore has it so too.
func TestDifferenceDoneContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const rounds = 1000
	var mine, semaphore, failsafe int
	b, s, f := newBulkhead(1, 0), newSemaphore(1, 0), newFailsafeBulkhead(1, 0)
	for range rounds {
		if permit, err := b.Acquire(ctx); err == nil {
			mine++
			permit.Release()
		}
		if s.Acquire(ctx, 1) == nil {
			semaphore++
			s.Release(1)
		}
		if f.AcquirePermit(ctx) == nil {
			failsafe++
			f.ReleasePermit()
		}
	}
	fact(t, mine == 0 && semaphore == 0,
		"stormjib and x/sync give no free slot to a context that is done")
	fact(t, failsafe > rounds/4 && failsafe < rounds*3/4,
		"failsafe-go gives half of them one, by chance")
}

func TestDifferenceReleasedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, peer := newBulkhead(1, 0), newFailsafeBulkhead(1, 0)
		permit, _ := mine.TryAcquire()
		permit.Release()
		permit.Release()
		fact(t, mine.Stats().InUse == 0, "stormjib: to release a permit twice does nothing")

		returned := make(chan struct{})
		go func() {
			defer close(returned)
			peer.TryAcquirePermit()
			peer.ReleasePermit()
			peer.ReleasePermit()
		}()
		time.Sleep(time.Hour)
		select {
		case <-returned:
			t.Error("no longer true: failsafe-go waits when a permit is released twice")
		default:
			t.Log("failsafe-go waits when a permit is released twice, for somebody to take one")
		}
		peer.TryAcquirePermit()
		<-returned
	})
}

func TestDifferenceTooHeavy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := bulkhead.New(bulkhead.Config{MaxConcurrent: 2, MaxQueue: 1, MaxWait: -1})
		peer := newSemaphore(2, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		_, err := mine.AcquireN(ctx, 3)
		fact(t, errors.Is(err, bulkhead.ErrFull) && time.Since(start) == 0,
			"stormjib refuses a weight above its size at once")
		err = peer.Acquire(ctx, 3)
		fact(t, err != nil && time.Since(start) == time.Hour,
			"x/sync waits with a weight above its size until the context ends")
	})
}

// TestDifferenceWaiting has a thousand callers come to one slot that is taken.
func TestDifferenceWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the client has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		mine := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 10, MaxWait: -1})
		_, _ = mine.TryAcquire()
		peer := newSemaphore(1, 1)
		const callers = 1000
		refused, ended := make(chan error, callers), make(chan error, callers)
		peerEnded := make(chan error, callers)
		for range callers {
			go func() {
				_, err := mine.Acquire(ctx)
				if errors.Is(err, bulkhead.ErrFull) {
					refused <- err
					return
				}
				ended <- err
			}()
			go func() { peerEnded <- peer.Acquire(ctx, 1) }()
		}
		synctest.Wait()
		fact(t, len(refused) == 990, "stormjib refuses at once for whom there is no place to wait")
		fact(t, len(peerEnded) == 0, "x/sync lets a thousand wait")
		cancel(cause)
		synctest.Wait()
		err := <-ended
		fact(t, errors.Is(err, context.Canceled) && errors.Is(err, cause),
			"stormjib's error matches why the context ended, too")
		err = <-peerEnded
		fact(t, errors.Is(err, context.Canceled) && !errors.Is(err, cause),
			"x/sync's error matches only that it did")
	})
}

// TestDifferenceFirstCallerLeaves has ten wait for the call of the first, who then goes.
func TestDifferenceFirstCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := coalesce.New[string, int](coalesce.Config{})
		var peer singleflight.Group
		slowly := func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Second):
				return 42, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		first, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		var good, peerGood int
		results, peerResults := make(chan error, 11), make(chan error, 11)
		call := func(ctx context.Context) {
			go func() { _, err := mine.Do(ctx, "key", slowly); results <- err }()
			go func() {
				_, err, _ := peer.Do("key", func() (any, error) { return slowly(ctx) })
				peerResults <- err
			}()
			synctest.Wait()
		}
		call(first)
		for range 10 {
			call(t.Context())
		}
		for range 11 {
			if <-results == nil {
				good++
			}
			if <-peerResults == nil {
				peerGood++
			}
		}
		fact(t, good == 10, "stormjib: a call goes on for those who wait when the first has left")
		fact(t, peerGood == 0, "singleflight: all get the end of the first one's context")
	})
}

// TestDifferencePatience has a caller with little time join a call that takes long.
func TestDifferencePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := coalesce.New[string, int](coalesce.Config{Timeout: time.Hour})
		var peer singleflight.Group
		slowly := func(context.Context) (int, error) { time.Sleep(time.Minute); return 42, nil }
		plainly := func() (any, error) { return slowly(context.Background()) }
		go func() { _, _ = mine.Do(context.Background(), "key", slowly) }()
		go func() { _, _, _ = peer.Do("key", plainly) }()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := mine.Do(ctx, "key", slowly)
		fact(t, errors.Is(err, context.DeadlineExceeded) && time.Since(start) == time.Millisecond,
			"stormjib: who shares a call leaves it when its own time is over")
		_, _, _ = peer.Do("key", plainly)
		fact(t, time.Since(start) == time.Minute,
			"singleflight: who shares a call waits to its end; Do knows no context")
	})
}
