package redislimiter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

func three() int { return 3 }

// client returns one that is fit, and closed with the test.
func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: 50,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// open returns a Store that takes its time: a busy machine is no outage.
func open(t *testing.T, addr string, cfg redislimiter.Config) *redislimiter.Store {
	t.Helper()
	if cfg.Client == nil {
		cfg.Client = client(t, addr)
	}
	if cfg.Budget == 0 {
		cfg.Budget = 5 * time.Second
	}
	cfg.Replicas = three
	s := redislimiter.New(cfg)
	t.Cleanup(func() { s.Close() })
	return s
}

func of(r rate.Limit, burst int) limiter.Limit { return limiter.Limit{Rate: r, Burst: burst} }

func decide(
	t *testing.T, s *redislimiter.Store, key string, l limiter.Limit, most, least int,
) redislimiter.Decision {
	t.Helper()
	d, err := s.Decide(t.Context(), key, l, most, least)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSteps(t *testing.T) {
	m := miniredis.RunT(t)
	now := time.Unix(1_700_000_000, 0)
	m.SetTime(now)
	s := open(t, m.Addr(), redislimiter.Config{Name: "n"})
	steps := []struct {
		pass                   time.Duration
		limit                  limiter.Limit
		most, least            int
		granted, remaining     int
		ok                     bool
		retryAfter, resetAfter time.Duration
	}{
		{0, of(10, 5), 0, 0, 0, 5, true, 0, 0},
		{0, of(10, 5), 3, 3, 3, 2, true, 0, 300 * ms},
		{0, of(10, 5), 3, 3, 0, 2, false, 100 * ms, 300 * ms},
		{0, of(10, 5), 9, 1, 2, 0, true, 0, 500 * ms},
		{50 * ms, of(10, 5), 1, 1, 0, 0, false, 50 * ms, 450 * ms},
		{50 * ms, of(10, 5), 1, 1, 1, 0, true, 0, 500 * ms},
		{0, of(10, 5), 6, 6, 0, 0, false, rate.InfDuration, 500 * ms},
		// The clock goes back: nothing is gained or lost, and time goes on.
		{-time.Minute, of(10, 5), 1, 1, 0, 0, false, 100 * ms, 500 * ms},
		{100 * ms, of(10, 5), 1, 1, 1, 0, true, 0, 500 * ms},
		{-time.Minute, of(10, 5), 2, 1, 0, 0, false, 100 * ms, 500 * ms},
		{250 * ms, of(10, 5), 5, 1, 2, 0, true, 0, 450 * ms},
		{50 * ms, of(10, 5), 1, 1, 1, 0, true, 0, 500 * ms}, // of a fraction
		// Another limit: a debt is no longer than its bucket takes to fill, from then on.
		{0, of(100, 5), 1, 1, 0, 0, false, 10 * ms, 50 * ms},
		{30 * ms, of(100, 5), 5, 0, 3, 0, true, 0, 50 * ms},
		{time.Hour, of(10, 5), 5, 5, 5, 0, true, 0, 500 * ms},
		{0, of(0, 0), 1, 1, 0, 0, false, rate.InfDuration, 0},
		{0, of(0, 0), 0, 0, 0, 0, true, 0, 0},
	}
	for i, step := range steps {
		now = now.Add(step.pass)
		m.SetTime(now)
		if step.pass > 0 {
			m.FastForward(step.pass) // or keys would live for ever
		}
		d := decide(t, s, "k", step.limit, step.most, step.least)
		want := limiter.Result{
			OK: step.ok, Granted: step.granted, Remaining: step.remaining, Name: "n",
			RetryAfter: step.retryAfter, ResetAfter: step.resetAfter, Limit: step.limit,
		}
		if d.Result != want || d.Source != redislimiter.FromRedis {
			t.Errorf("step %d: got %+v\nwant %+v", i, d, want)
		}
	}
	if m.FastForward(time.Hour); len(m.Keys()) != 0 {
		t.Errorf("keys are left: %v", m.Keys())
	}
	if d := decide(t, s, "k", of(rate.Inf, 0), 7, 7); !d.OK || d.Granted != 7 {
		t.Errorf("without a limit: %+v", d)
	}
}

// The time that a token takes is no whole number of anything at these rates.
func TestRateIsExact(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, m.Addr(), redislimiter.Config{})
	for _, r := range []rate.Limit{3, 7, 700_000, 3_333_333} {
		now := time.Unix(1_700_000_000, 0)
		l, granted := of(r, 1000), 0
		for i := range 200 {
			pass := time.Duration(float64(time.Second) * 50 / float64(r))
			now = now.Add(pass.Truncate(time.Microsecond))
			m.SetTime(now)
			n := 1000
			if i > 0 {
				n = 60
			}
			granted += decide(t, s, l.String(), l, n, 1).Granted
		}
		came := 1000 + float64(r)*now.Sub(time.Unix(1_700_000_000, 0)).Seconds()
		if got := float64(granted); got > came || got < came-60 {
			t.Errorf("%v: %v granted of %v", l, got, came)
		}
	}
}

// What somebody else wrote to the key is a full bucket, and no error for ever.
func TestStrangeValue(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, m.Addr(), redislimiter.Config{})
	for _, value := range []string{"", "x", "1", "nan 1", "-1 -1", "1 2 3"} {
		m.Set("limiter:k", value)
		if d := decide(t, s, "k", of(1, 5), 1, 1); d.Remaining != 4 {
			t.Errorf("%q: %+v", value, d)
		}
	}
}

func TestArguments(t *testing.T) {
	m := miniredis.RunT(t)
	for _, gap := range []time.Duration{0, time.Second} {
		s := open(t, m.Addr(), redislimiter.Config{Gap: gap})
		for _, numbers := range [][2]int{{1, 2}, {0, -1}, {-1, -1}} {
			if _, err := s.Take(t.Context(), "k", of(1, 1), numbers[0], numbers[1]); err == nil {
				t.Errorf("%v: no error", numbers)
			}
		}
		if _, err := s.Take(t.Context(), "k", of(-1, 1), 1, 1); err == nil {
			t.Error("a limit that is not valid: no error")
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		_, err := s.Take(ctx, "k", of(1, 1), 1, 1)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
			t.Errorf("ctx has ended: %v", err)
		}
		if got := s.Stats(); !got.Up || got.Calls != 0 {
			t.Errorf("%+v", got)
		}
		s.Close()
		_, err = s.Take(t.Context(), "k", of(1, 1), 1, 1)
		closed, ok := errors.AsType[*redislimiter.UnavailableError](err)
		if !ok || closed.Err != redislimiter.ErrClosed {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestScriptFlush(t *testing.T) {
	m := miniredis.RunT(t)
	c := client(t, m.Addr())
	s := open(t, m.Addr(), redislimiter.Config{Client: c})
	for i := range 4 {
		if d := decide(t, s, "k", of(1e-3, 10), 1, 1); d.Remaining != 9-i {
			t.Errorf("%d: %+v", i, d)
		}
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestValidate(t *testing.T) {
	const want = `redislimiter: Config "x": Client is nil, but is required; ` +
		`Budget is -1ns, but must not be negative; Gap is 1h0m0s, but must be from 0 to 1m0s; ` +
		`Fail is 7, but must be FailLocal, FailOpen or FailClosed; ` +
		`MaxKeys is -1, but must be at least 1 and at most 16777216`
	cfg := redislimiter.Config{Name: "x", Budget: -1, Gap: time.Hour, Fail: 7, MaxKeys: -1}
	if err := cfg.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %v", err, want)
	}
	unfit := []redis.Scripter{
		redis.NewClient(&redis.Options{MaxRetries: -1}),
		redis.NewClient(&redis.Options{ContextTimeoutEnabled: true}),
		redis.NewClusterClient(&redis.ClusterOptions{}),
	}
	for i, c := range unfit {
		cfg := redislimiter.Config{Client: c, Fail: redislimiter.FailOpen}
		if err := cfg.Validate(); err == nil {
			t.Errorf("client %d: no error", i)
		}
	}
	fit := redis.NewClusterClient(&redis.ClusterOptions{ContextTimeoutEnabled: true})
	if err := (redislimiter.Config{Client: fit}).Validate(); err == nil {
		t.Error("FailLocal without Replicas: no error")
	}
	if err := (redislimiter.Config{Client: fit, Replicas: three}).Validate(); err != nil {
		t.Error(err)
	}
	defer func() {
		if got := recover(); got != want {
			t.Errorf("New: %v", got)
		}
	}()
	redislimiter.New(cfg)
}

// silent listens and never answers, as a machine does that hangs.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A Redis that hangs costs those who are under way a budget, and nobody else anything.
func TestOutage(t *testing.T) {
	for _, gap := range []time.Duration{0, 10 * time.Millisecond} {
		for _, fail := range []redislimiter.Fail{
			redislimiter.FailLocal, redislimiter.FailOpen, redislimiter.FailClosed,
		} {
			s := open(t, silent(t), redislimiter.Config{
				Fail: fail, Budget: 20 * time.Millisecond, Gap: gap,
			})
			passed, failed := 0, 0
			for range 1000 {
				d, err := s.Decide(t.Context(), "k", of(1e-3, 33), 1, 1)
				if err != nil {
					failed++
					e, ok := errors.AsType[*redislimiter.UnavailableError](err)
					if !ok || errors.Is(err, limiter.ErrLimited) || !e.NotAttempted() {
						t.Fatal(err)
					}
				}
				if d.OK {
					passed++
				}
			}
			want := map[redislimiter.Fail][2]int{
				redislimiter.FailLocal:  {11, 0},
				redislimiter.FailOpen:   {1000, 0},
				redislimiter.FailClosed: {0, 1000},
			}[fail]
			if got := [2]int{passed, failed}; got != want {
				t.Errorf("fail %d, gap %v: passed and failed %v, want %v", fail, gap, got, want)
			}
			if got := s.Stats(); got.Up || got.Outages != 1 || got.Calls > 6 {
				t.Errorf("fail %d, gap %v: %+v", fail, gap, got)
			}
			// More than the share could ever have is an error, and no refusal for good.
			_, err := s.Take(t.Context(), "k", of(1e-3, 33), 12, 12)
			if (err == nil) != (fail == redislimiter.FailOpen) {
				t.Errorf("fail %d, gap %v: twelve: %v", fail, gap, err)
			}
		}
	}
}

// The share has been charged with what was used before; and Redis is found when it is back.
func TestRecovery(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, m.Addr(), redislimiter.Config{})
	l := of(1e-3, 33)
	for range 9 {
		decide(t, s, "k", l, 1, 1)
	}
	m.Close()
	passed := 0
	for range 100 {
		if d := decide(t, s, "k", l, 1, 1); d.OK && d.Source == redislimiter.FromShare {
			passed++
		}
	}
	if passed != 2 {
		t.Errorf("%d passed, want the 2 that are left of 11", passed)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	for !s.Stats().Up {
		decide(t, s, "k", l, 1, 1)
		time.Sleep(time.Millisecond) // for real sockets to do their work
	}
	if d := decide(t, s, "k", l, 1, 1); d.Source != redislimiter.FromRedis || d.Remaining != 23 {
		t.Errorf("%+v", d)
	}
}

// Of one key, whatever the replicas do at once, no more passes than there is.
func TestConcurrentlyExact(t *testing.T) {
	m := miniredis.RunT(t)
	m.SetTime(time.Unix(1_700_000_000, 0)) // where it stays
	for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
		m.FlushAll()
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			s := open(t, m.Addr(), redislimiter.Config{Gap: gap})
			for range 4 {
				wg.Go(func() {
					for range 100 {
						if decide(t, s, "k", of(100, 200), 1, 1).OK {
							passed.Add(1)
						}
					}
				})
			}
		}
		wg.Wait()
		// What leases leave in the bucket is two gaps' worth.
		if n := passed.Load(); n > 200 || gap == 0 && n != 200 || n < 150 {
			t.Errorf("gap %v: %d of 200 passed", gap, n)
		}
	}
}

// An error that Redis answers with is about that call. The next one asks.
func TestErrorReply(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, m.Addr(), redislimiter.Config{})
	if _, err := m.Push("limiter:k", "a list"); err != nil {
		t.Fatal(err)
	}
	if d := decide(t, s, "k", of(10, 30), 1, 1); d.Source != redislimiter.FromShare {
		t.Errorf("%+v", d)
	}
	if d := decide(t, s, "other", of(10, 30), 1, 1); d.Source != redislimiter.FromRedis {
		t.Errorf("%+v", d)
	}
	m.Del("limiter:k")
	if d := decide(t, s, "k", of(10, 30), 1, 1); d.Source != redislimiter.FromRedis {
		t.Errorf("%+v", d)
	}
	if got := s.Stats(); !got.Up || got.Failures != 1 {
		t.Errorf("%+v", got)
	}
}

// Keys without room for a lease are asked for one by one; and room is made again.
func TestMoreKeysThanLeases(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, m.Addr(), redislimiter.Config{Gap: time.Minute, MaxKeys: 16})
	l := of(10, 10_000)
	for range 3 {
		for i := range 100 {
			if d := decide(t, s, fmt.Sprint(i), l, 1, 1); !d.OK {
				t.Fatalf("%d: %+v", i, d)
			}
		}
	}
	if got := s.Stats(); got.Leases != 16 || got.FromRedis < 84*3 {
		t.Errorf("%+v", got)
	}
}

// All that was started ends with the Store and its client.
func TestGoroutines(t *testing.T) {
	m := miniredis.RunT(t)
	before := runtime.NumGoroutine()
	c := redis.NewClient(&redis.Options{
		Addr: m.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	s := redislimiter.New(redislimiter.Config{
		Client: c, Gap: time.Millisecond, Replicas: three, Budget: time.Second,
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				decide(t, s, "k", of(1e6, 1e6), 1, 1)
			}
		})
	}
	wg.Wait()
	s.Close()
	s.Close()
	c.Close()
	for range 5000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond) // for real sockets to be closed
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
