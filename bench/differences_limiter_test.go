package bench

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

// admitted counts how many of so many calls are let through.
func admitted(calls int, allow func() bool) (n int) {
	for range calls {
		if allow() {
			n++
		}
	}
	return n
}

// TestDifferenceClockGoesBack has two goroutines read the clock five seconds apart, and ask
// in turn: one of them was held up. It can be shown of x/time because it takes the time
// from its caller. Ours reads the clock itself; what it makes of readings that come in the
// wrong order, its own tests show.
func TestDifferenceClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const legal = 10 + 5
		limit := limiter.Limit{Rate: 1, Burst: 10}
		mine := limiter.New(limiter.Config{Limit: limit})
		peer := rate.NewLimiter(limit.Rate, limit.Burst)
		early, late := time.Now(), time.Now().Add(5*time.Second)

		n := admitted(1000, mine.Allow)
		time.Sleep(5 * time.Second)
		n += admitted(1000, mine.Allow)
		fact(t, n == legal, "stormjib admits 15 of 2000 calls in 5s, at 1/s with a burst of 10")
		n = admitted(2000, func() bool {
			early, late = late, early
			return peer.AllowN(early, 1)
		})
		fact(t, n == 2000, "x/time admits all of 2000, if every second comes with the earlier time")
	})
}

func TestDifferenceNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := limiter.Limit{Rate: 1, Burst: 10}
		mine := limiter.New(limiter.Config{Limit: limit})
		xTime := rate.NewLimiter(limit.Rate, limit.Burst)
		wrapped := limiter.FromRate("x/time", rate.NewLimiter(limit.Rate, limit.Burst))
		gcra := newThrottled(throttled.PerSec(1), 10, 10)
		drain := func(take func(n int) bool) int {
			take(10)
			take(-5)
			return admitted(100, func() bool { return take(1) })
		}
		fact(t, drain(mine.AllowN) == 0 && drain(wrapped.AllowN) == 0,
			"stormjib refuses a number below 1, also in front of x/time")
		fact(t, drain(func(n int) bool { return xTime.AllowN(time.Now(), n) }) == 5,
			"x/time gives 5 tokens for taking -5")
		fact(t, drain(func(n int) bool {
			limited, _, _ := gcra.RateLimitCtx(t.Context(), "key", n)
			return !limited
		}) == 5, "throttled gives 5 tokens for taking -5")
	})
}

// newThrottled has throttled read the bubble's clock, by the method it has for that.
func newThrottled(r throttled.Rate, burst, keys int) *throttled.GCRARateLimiterCtx {
	store, err := memstore.New(keys)
	if err != nil {
		panic(err)
	}
	store.SetTimeNow(time.Now)
	l, err := throttled.NewGCRARateLimiterCtx(throttled.WrapStoreWithContext(store),
		throttled.RateQuota{MaxRate: r, MaxBurst: burst - 1})
	if err != nil {
		panic(err)
	}
	return l
}

// TestDifferenceCancelled has fifty callers wait and then leave, all at once.
func TestDifferenceCancelled(t *testing.T) {
	waitAfter := func(t *testing.T, wait func(context.Context) error) time.Duration {
		t.Helper()
		_ = wait(t.Context()) // the one token
		ctx, cancel := context.WithCancel(t.Context())
		for range 50 {
			go func() { _ = wait(ctx) }()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		start := time.Now()
		if err := wait(t.Context()); err != nil {
			t.Error(err)
		}
		return time.Since(start)
	}
	limit := limiter.Limit{Rate: 10, Burst: 1}
	synctest.Test(t, func(t *testing.T) {
		mine := limiter.New(limiter.Config{Limit: limit, MaxQueue: 100})
		waited := waitAfter(t, func(ctx context.Context) error { return mine.Wait(ctx, 1) })
		fact(t, waited == 100*time.Millisecond,
			"stormjib: who comes after fifty that gave up waits for one token")
	})
	synctest.Test(t, func(t *testing.T) {
		peer := rate.NewLimiter(limit.Rate, limit.Burst)
		waited := waitAfter(t, peer.Wait)
		fact(t, waited > time.Second,
			"x/time: who comes after fifty that gave up waits for tokens nobody took")
		t.Logf("namely %v", waited)
	})
}

// TestDifferenceSetLimit raises the limit by a thousand while somebody waits.
func TestDifferenceSetLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit, faster := limiter.Limit{Rate: 1, Burst: 1}, limiter.Limit{Rate: 1000, Burst: 1}
		mine := limiter.New(limiter.Config{Limit: limit, MaxQueue: 1})
		peer := rate.NewLimiter(limit.Rate, limit.Burst)
		mine.Allow()
		peer.Allow()
		start := time.Now()
		left, peerLeft := make(chan time.Duration, 1), make(chan time.Duration, 1)
		go func() { _ = mine.Wait(t.Context(), 1); left <- time.Since(start) }()
		go func() { _ = peer.Wait(t.Context()); peerLeft <- time.Since(start) }()
		time.Sleep(20 * time.Millisecond)
		if err := mine.SetLimit(faster); err != nil {
			t.Fatal(err)
		}
		peer.SetLimit(faster.Rate)
		fact(t, <-left < 22*time.Millisecond, "stormjib: who waits leaves by the new limit")
		fact(t, <-peerLeft == time.Second, "x/time: who waits sleeps on by the old limit")
	})
}

func TestDifferenceDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := limiter.Limit{Rate: 0.1, Burst: 1}
		mine := limiter.New(limiter.Config{Limit: limit, MaxQueue: 1})
		peer := rate.NewLimiter(limit.Rate, limit.Burst)
		mine.Allow()
		peer.Allow()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := mine.Wait(ctx, 1)
		fact(t, errors.Is(err, context.DeadlineExceeded) && errors.Is(err, limiter.ErrLimited),
			"stormjib: the error of a deadline that is too short matches DeadlineExceeded")
		err = peer.Wait(ctx)
		fact(t, err != nil && errors.Unwrap(err) == nil &&
			!errors.Is(err, context.DeadlineExceeded),
			"x/time: the error of a deadline that is too short matches nothing")
	})
}

// TestDifferenceWindows asks for all there is at the end of a window, and again at the
// beginning of the next.
func TestDifferenceWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota{100, 200 * time.Millisecond}
		mine, peer := newLimiter(q), newFailsafeLimiter(q)
		time.Sleep(q.period - 15*time.Millisecond)
		n, peerN := admitted(1000, mine.Allow), admitted(1000, peer.TryAcquirePermit)
		time.Sleep(30 * time.Millisecond)
		n += admitted(1000, mine.Allow)
		peerN += admitted(1000, peer.TryAcquirePermit)
		fact(t, n == 100+15, "stormjib admits 115 in 30ms, at 100 in 200ms")
		fact(t, peerN == 200, "failsafe-go's bursty limiter admits 200 in 30ms, at 100 in 200ms")
	})
}

// TestDifferenceTicks does the same to go-limiter. That reads a clock which no bubble has,
// so the window is short, and a round in which the machine was busy does not count.
func TestDifferenceTicks(t *testing.T) {
	q := quota{100, time.Millisecond}
	var most int
	for range 100 {
		n, took := aroundTheTick(t, q)
		if took < q.period/5 {
			most = max(most, n)
		}
	}
	fact(t, most > 150, "go-limiter admits more than 150 in 0.2ms, at 100 in 1ms")
	t.Logf("namely %d", most)
}

func aroundTheTick(t *testing.T, q quota) (n int, took time.Duration) {
	t.Helper()
	store := newGoLimiter(q, 1)
	defer func() { _ = store.Close(t.Context()) }()
	take := func() bool {
		_, _, _, ok, _ := store.Take(t.Context(), "key")
		return ok
	}
	start := time.Now()
	take() // the window of a key begins with its first call
	for time.Since(start) < q.period*9/10 {
		continue
	}
	begin := time.Now()
	n = admitted(q.burst, take)
	for time.Since(start) < q.period*21/20 {
		continue
	}
	n += admitted(q.burst, take)
	return n, time.Since(begin)
}

// TestDifferenceFast: at 300 million a second a token takes 3.33ns.
func TestDifferenceFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst, part, parts = 300_000_000, 10_000, 1000, 10_000
		mine := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: perSecond, Burst: burst}})
		peer := newThrottled(throttled.PerSec(perSecond), burst, 1)
		start := time.Now()
		n, peerN := 0, 0
		for range parts {
			time.Sleep(time.Microsecond)
			n += part * admitted(1, func() bool { return mine.AllowN(part) })
			peerN += part * admitted(1, func() bool {
				limited, _, _ := peer.RateLimitCtx(t.Context(), "key", part)
				return !limited
			})
		}
		legal := burst + int(perSecond*time.Since(start).Seconds())
		fact(t, n <= legal && n > legal*97/100,
			"stormjib at 300 million a second admits no more, and at most 3 % less")
		fact(t, peerN > legal*110/100, "throttled at 300 million a second admits a tenth more")
	})
}

// TestDifferenceFlood has a tenant use up its limit, and then send requests in the names of
// others until the tables are full several times over.
func TestDifferenceFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, burst, flood = 1000, 100, 10_000
		mine := limiter.NewKeyed(limiter.KeyedConfig[string]{
			Limit: limiter.Limit{Rate: 1, Burst: burst}, MaxKeys: room,
		})
		peer := newThrottled(throttled.PerSec(1), burst, room)
		take := func(key string) bool {
			limited, _, _ := peer.RateLimitCtx(t.Context(), key, 1)
			return !limited
		}
		tenant := func() (n, peerN int) {
			return admitted(1000, func() bool { return mine.Allow("tenant") }),
				admitted(1000, func() bool { return take("tenant") })
		}
		tenant()
		for _, key := range newKeyring(flood).strings {
			mine.Allow(key)
			take(key)
		}
		n, peerN := tenant()
		fact(t, n == 0, "stormjib: a flood of keys gives a tenant no tokens")
		fact(t, peerN == burst, "throttled: a flood of keys fills the bucket of a tenant")
	})
}
