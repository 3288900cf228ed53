package bench

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

func BenchmarkHit(b *testing.B)        { serial(b, hits()) }
func BenchmarkHitCrowded(b *testing.B) { crowded(b, hits()) }
func BenchmarkStampede(b *testing.B)   { serial(b, stampedes()) }

const (
	hit      = "Coalesce: a result that is kept"
	hitCrowd = "Coalesce: a result that is kept, 16 goroutines"
	stampede = "Coalesce: 16 callers, one call; for all of them"
)

func addCoalescers(rs *rows) {
	rs.add(hit, 0, hits(), noMoreThan(hit, "mutex-map"))
	rs.add(hitCrowd, crowd, hits(), noMoreThan(hitCrowd, "mutex-map"))
	rs.add(stampede, 1, stampedes())
}

// hits are calls for a key whose result is there. singleflight keeps none, and calls the
// function each time.
func hits() []contender {
	return []contender{
		{"stormjib", stormjibHit(coalesce.Config{TTL: time.Hour})},
		{"stormjib-stale", stormjibHit(coalesce.Config{TTL: time.Hour, Stale: time.Hour})},
		{"singleflight", singleflightCall()},
		{"mutex-map", cacheHit(&cache{ttl: time.Hour})},
		{"rwmutex-map", sharedCacheHit(&sharedCache{ttl: time.Hour})},
	}
}

func stormjibHit(cfg coalesce.Config) func(int) error {
	g, ctx := coalesce.New[string, int](cfg), context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = g.Do(ctx, "key", answer)
		}
		return err
	}
}

func singleflightCall() func(int) error {
	var g singleflight.Group
	fn := func() (any, error) { return 42, nil }
	return func(n int) (err error) {
		for range n {
			_, err, _ = g.Do("key", fn)
		}
		return err
	}
}

// A kept is an entry of a cache as one writes it without a library.
type kept struct {
	value   int
	expires time.Time
}

// cache holds its lock while it asks for what it lacks: that makes one call of many, and
// keeps everybody waiting who wants another key.
type cache struct {
	ttl time.Duration

	mu      sync.Mutex
	entries map[string]kept
}

func (c *cache) do(
	ctx context.Context, key string, fn func(context.Context) (int, error),
) (int, error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok && now.Before(e.expires) {
		return e.value, nil
	}
	value, err := fn(ctx)
	if err == nil {
		if c.entries == nil {
			c.entries = make(map[string]kept)
		}
		c.entries[key] = kept{value, now.Add(c.ttl)}
	}
	return value, err
}

func cacheHit(c *cache) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = c.do(ctx, "key", answer)
		}
		return err
	}
}

// sharedCache lets readers in together, and has singleflight make one call of many.
type sharedCache struct {
	ttl time.Duration

	mu      sync.RWMutex
	entries map[string]kept
	calls   singleflight.Group
}

func (c *sharedCache) do(
	ctx context.Context, key string, fn func(context.Context) (int, error),
) (int, error) {
	now := time.Now()
	c.mu.RLock()
	e, ok := c.entries[key]
	c.mu.RUnlock()
	if ok && now.Before(e.expires) {
		return e.value, nil
	}
	v, err, _ := c.calls.Do(key, func() (any, error) {
		value, err := fn(ctx)
		if err == nil {
			c.keep(key, kept{value, now.Add(c.ttl)})
		}
		return value, err
	})
	value, _ := v.(int)
	return value, err
}

func (c *sharedCache) keep(key string, e kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]kept)
	}
	c.entries[key] = e
}

func sharedCacheHit(c *sharedCache) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = c.do(ctx, "key", answer)
		}
		return err
	}
}

// stampedes are waves: a crowd asks for one key that nobody has, and the call takes until
// all have come. Nothing is kept, and what it costs to start the crowd is a row of its own.
func stampedes() []contender {
	return []contender{
		{"stormjib", stormjibWaves()},
		{"singleflight", singleflightWaves()},
		{"spawn-only", waves(func(string, *wave) {})},
	}
}

// wave is one crowd.
type wave struct {
	come  atomic.Int32
	calls atomic.Int32
}

// answer returns when all of the crowd have come.
func (w *wave) answer(context.Context) (int, error) {
	w.calls.Add(1)
	for w.come.Load() < crowd {
		runtime.Gosched()
	}
	return 42, nil
}

// waves makes a loop of waves. Its error tells of one in which most did not share.
func waves(do func(key string, w *wave)) func(int) error {
	return func(n int) error {
		ok := true
		for i := range n {
			ok = oneWave(strconv.Itoa(i), do).calls.Load() <= crowd/2
		}
		return verdict(ok)
	}
}

func oneWave(key string, do func(key string, w *wave)) *wave {
	var wg sync.WaitGroup
	w := &wave{}
	for range crowd {
		wg.Go(func() {
			w.come.Add(1)
			do(key, w)
		})
	}
	wg.Wait()
	return w
}

func stormjibWaves() func(int) error {
	g, ctx := coalesce.New[string, int](coalesce.Config{}), context.Background()
	return waves(func(key string, w *wave) { _, _ = g.Do(ctx, key, w.answer) })
}

func singleflightWaves() func(int) error {
	var g singleflight.Group
	ctx := context.Background()
	return waves(func(key string, w *wave) {
		_, _, _ = g.Do(key, func() (any, error) { return w.answer(ctx) })
	})
}

// TestCoalesceContenders checks that what is measured is what the name says.
func TestCoalesceContenders(t *testing.T) {
	for _, group := range [][]contender{hits(), stampedes()} {
		for _, c := range group {
			if err := c.loop(100); err != nil {
				t.Errorf("%s: the last call returned %v", c.name, err)
			}
		}
	}
}

func TestCoalesceAllocations(t *testing.T) {
	group := hits()
	for _, c := range group {
		_ = c.loop(1) // the first call brings the result
	}
	noAllocations(t, group)
}
