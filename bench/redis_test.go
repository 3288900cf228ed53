package bench

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redisrate "github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/goredisstore.v9"

	"github.com/stormjib/stormjib/redis/redislimiter"
)

func BenchmarkRedis(b *testing.B) { serial(b, shared(b, new(atomic.Int64))) }

const sharedLimit = "Limiter shared by Redis, a decision"

func addShared(tb testing.TB, rs *rows) {
	tb.Helper()
	rs.add(sharedLimit, 0, shared(tb, new(atomic.Int64)))
	find(*rs, sharedLimit, "stormjib").goals = []goal{
		noMoreThan(sharedLimit, "redis_rate"),
	}
	find(*rs, sharedLimit, "stormjib-leases").goals = []goal{
		partOf(10, "⅒", sharedLimit, "redis_rate"),
	}
}

// shared are limiters that keep a bucket in the same Redis, which is in memory here: what a
// network adds is the same for each question. calls counts these.
func shared(tb testing.TB, calls *atomic.Int64) []contender {
	tb.Helper()
	server := miniredis.RunT(tb)
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	client.AddHook(counting{calls})
	tb.Cleanup(func() { _ = client.Close() })
	return []contender{
		{"stormjib", sharedTake(tb, client, 0)},
		{"stormjib-leases", sharedTake(tb, client, 50*time.Millisecond)},
		{"redis_rate", redisRate(client)},
		{"throttled", throttledRedis(tb, client)},
	}
}

const sharedRate, sharedBurst = 1_000_000, 1_000_000

func sharedTake(tb testing.TB, client *redis.Client, gap time.Duration) func(int) error {
	tb.Helper()
	store := redislimiter.New(redislimiter.Config{
		Client: client, Gap: gap, Budget: time.Second, Fail: redislimiter.FailClosed,
		Prefix: "stormjib:" + gap.String() + ":",
	})
	tb.Cleanup(func() { _ = store.Close() })
	ctx, limit := context.Background(), quota{sharedBurst, time.Second}.limit()
	return func(n int) error {
		for range n {
			if _, err := store.Take(ctx, "key", limit, 1, 1); err != nil {
				return err
			}
		}
		return nil
	}
}

func redisRate(client *redis.Client) func(int) error {
	l, ctx := redisrate.NewLimiter(client), context.Background()
	limit := redisrate.Limit{Rate: sharedRate, Burst: sharedBurst, Period: time.Second}
	return func(n int) error {
		for range n {
			if _, err := l.Allow(ctx, "key", limit); err != nil {
				return err
			}
		}
		return nil
	}
}

func throttledRedis(tb testing.TB, client *redis.Client) func(int) error {
	tb.Helper()
	store, err := goredisstore.NewCtx(client, "throttled:")
	if err != nil {
		tb.Fatal(err)
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate: throttled.PerSec(sharedRate), MaxBurst: sharedBurst - 1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	return func(n int) error {
		for range n {
			if _, _, err := l.RateLimitCtx(ctx, "key", 1); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestRedisCalls counts the questions that a decision takes.
func TestRedisCalls(t *testing.T) {
	const n = 2000
	var calls atomic.Int64
	for _, c := range shared(t, &calls) {
		_ = c.loop(10) // scripts are loaded
		before := calls.Load()
		if err := c.loop(n); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		each := float64(calls.Load()-before) / n
		t.Logf("%-20s %.3f questions for a decision", c.name, each)
		switch {
		case c.name == "stormjib" && each != 1,
			c.name == "stormjib-leases" && each > 0.1:
			t.Errorf("%s asks %.3f times for a decision", c.name, each)
		}
	}
}

// counting counts the commands of a client.
type counting struct{ calls *atomic.Int64 }

func (counting) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (c counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.calls.Add(1)
		return next(ctx, cmd)
	}
}

func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.calls.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}
