package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	golimiter "github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

func BenchmarkGranted(b *testing.B)        { serial(b, generous()) }
func BenchmarkGrantedCrowded(b *testing.B) { crowded(b, generous()) }
func BenchmarkDenied(b *testing.B)         { serial(b, stingy()) }
func BenchmarkDeniedCrowded(b *testing.B)  { crowded(b, stingy()) }

const (
	granted      = "Limiter: granted"
	grantedCrowd = "Limiter: granted, 16 goroutines"
	denied       = "Limiter: denied"
	deniedCrowd  = "Limiter: denied, 16 goroutines"
)

// addLimiters adds rows whose goals are those of Allow.
func addLimiters(rs *rows) {
	for _, s := range []struct {
		section    string
		crowd      int
		contenders []contender
		goals      []goal
	}{
		{granted, 0, generous(), []goal{clockPlus(8), partOf(2.5, "⅖", granted, "x-time")}},
		{grantedCrowd, crowd, generous(), []goal{partOf(4, "¼", grantedCrowd, "x-time")}},
		{denied, 0, stingy(), []goal{clockPlus(8)}},
		{deniedCrowd, crowd, stingy(), []goal{partOf(10, "⅒", deniedCrowd, "x-time")}},
	} {
		rs.add(s.section, s.crowd, s.contenders)
		find(*rs, s.section, "stormjib").goals = s.goals
	}
}

// quota is a limit in the form that all libraries can say: a burst, and the time in which
// all of it comes back.
type quota struct {
	burst  int
	period time.Duration
}

func (q quota) every() time.Duration { return q.period / time.Duration(q.burst) }

func (q quota) limit() limiter.Limit {
	return limiter.Limit{Rate: rate.Every(q.every()), Burst: q.burst}
}

// generous are limiters that grant all of a run. stingy have granted the one that they
// had.
func generous() []contender { return limiters(quota{1_000_000_000, 1000 * time.Second}, 0) }
func stingy() []contender   { return limiters(quota{1, time.Hour}, 1) }

// limiters are those of a quota, of which so much is used. Those that know only keys have
// one.
func limiters(q quota, used int) []contender {
	contenders := []contender{
		{"stormjib", stormjibAllow(q)},
		{"stormjib-check", stormjibCheck(q)},
		{"stormjib-do", stormjibLimiterDo(q)},
		{"x-time", xTimeAllow(q)},
		{"throttled", storeLoop([]string{"key"}, throttledTake(q, 1000))},
		{"go-limiter", storeLoop([]string{"key"}, goLimiterTake(q, 1))},
		{"failsafe-executor", failsafeLimiterExecutor(q)},
		{"failsafe-standalone", failsafeLimiterTry(q)},
		{"mutex", mutexAllow(q)},
	}
	for _, c := range contenders {
		_ = c.loop(used)
	}
	return contenders
}

// verdict makes an error of a refusal.
func verdict(ok bool) error {
	if ok {
		return nil
	}
	return errRefused
}

func newLimiter(q quota) *limiter.Limiter { return limiter.New(limiter.Config{Limit: q.limit()}) }

func stormjibAllow(q quota) func(int) error {
	l := newLimiter(q)
	return func(n int) error {
		ok := true
		for range n {
			ok = l.Allow()
		}
		return verdict(ok)
	}
}

func stormjibCheck(q quota) func(int) error {
	l := newLimiter(q)
	return func(n int) error {
		r := limiter.Result{OK: true}
		for range n {
			r = l.Check(1)
		}
		return verdict(r.OK)
	}
}

func stormjibLimiterDo(q quota) func(int) error {
	l, ctx := newLimiter(q), context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = limiter.Do(ctx, l, answer)
		}
		return err
	}
}

func xTimeAllow(q quota) func(int) error {
	l := rate.NewLimiter(q.limit().Rate, q.burst)
	return func(n int) error {
		ok := true
		for range n {
			ok = l.Allow()
		}
		return verdict(ok)
	}
}

// storeLoop takes one token of each key, again and again. Where one loop ends the next one
// goes on, so that in many short ones each key has its turn.
func storeLoop[K any](keys []K, take func(key K) bool) func(int) error {
	var next atomic.Uint64
	return func(n int) error {
		i := (next.Add(uint64(n)) - uint64(n)) % uint64(len(keys))
		ok := true
		for range n {
			ok = take(keys[i])
			if i++; i == uint64(len(keys)) {
				i = 0
			}
		}
		return verdict(ok)
	}
}

func throttledTake(q quota, most int) func(string) bool {
	store, err := memstore.NewCtx(most)
	if err != nil {
		panic(err)
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate:  throttled.PerDuration(q.burst, q.period),
		MaxBurst: q.burst - 1,
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	return func(key string) bool {
		limited, _, err := l.RateLimitCtx(ctx, key, 1)
		return !limited && err == nil
	}
}

func newGoLimiter(q quota, keys int) golimiter.Store {
	store, err := memorystore.New(&memorystore.Config{
		Tokens: uint64(q.burst), Interval: q.period, InitialAlloc: keys,
	})
	if err != nil {
		panic(err)
	}
	return store
}

func goLimiterTake(q quota, keys int) func(string) bool {
	store, ctx := newGoLimiter(q, keys), context.Background()
	return func(key string) bool {
		_, _, _, ok, _ := store.Take(ctx, key)
		return ok
	}
}

func newFailsafeLimiter(q quota) ratelimiter.RateLimiter[int] {
	return ratelimiter.NewBursty[int](uint(q.burst), q.period)
}

func failsafeLimiterExecutor(q quota) func(int) error {
	executor := failsafe.With[int](newFailsafeLimiter(q))
	return func(n int) (err error) {
		for range n {
			_, err = executor.Get(plainAnswer)
		}
		return err
	}
}

func failsafeLimiterTry(q quota) func(int) error {
	l := newFailsafeLimiter(q)
	return func(n int) error {
		ok := true
		for range n {
			ok = l.TryAcquirePermit()
		}
		return verdict(ok)
	}
}

// bucket is what one writes without a library: the same algorithm and clock, and a mutex.
type bucket struct {
	base       time.Time
	cost, full time.Duration

	mu          sync.Mutex
	theoretical time.Duration
}

func (b *bucket) allow() bool {
	now := time.Since(b.base)
	b.mu.Lock()
	defer b.mu.Unlock()
	next := max(b.theoretical, now) + b.cost
	if next-now > b.full {
		return false
	}
	b.theoretical = next
	return true
}

func mutexAllow(q quota) func(int) error {
	b := &bucket{base: time.Now(), cost: q.every(), full: q.period}
	return func(n int) error {
		ok := true
		for range n {
			ok = b.allow()
		}
		return verdict(ok)
	}
}

// TestLimiterContenders checks that what is measured is what the name says.
func TestLimiterContenders(t *testing.T) {
	for _, group := range []struct {
		name       string
		contenders []contender
		refused    bool
	}{
		{"generous", generous(), false},
		{"stingy", stingy(), true},
	} {
		for _, c := range group.contenders {
			if err := c.loop(100); (err != nil) != group.refused {
				t.Errorf("%s: %s: the last call returned %v", group.name, c.name, err)
			}
		}
	}
}

func TestLimiterAllocations(t *testing.T) { noAllocations(t, generous(), stingy()) }
