package redislimiter_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

// fake is a Redis in the time of a synctest bubble, where no socket can be: the script again,
// in Go. TestFake holds it against the script.
type fake struct {
	redis.Scripter

	delay func() time.Duration // there, and back

	mu      sync.Mutex
	buckets map[string][2]int64 // stamp and debt
	calls   int
	hangs   bool
}

func newFake(delay func() time.Duration) *fake {
	return &fake{buckets: map[string][2]int64{}, delay: delay}
}

func (f *fake) EvalSha(
	ctx context.Context, _ string, keys []string, args ...any,
) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	if err := f.sleep(ctx); err != nil {
		cmd.SetErr(err)
		return cmd
	}
	var numbers [5]int64
	for i, arg := range args {
		numbers[i], _ = arg.(int64)
	}
	n, debt := f.take(keys[0], time.Now(), numbers)
	cmd.SetVal([]any{n, debt})
	if err := f.sleep(ctx); err != nil { // the answer is lost, and its tokens with it
		cmd.SetErr(err)
	}
	return cmd
}

// sleep is one way over the network.
func (f *fake) sleep(ctx context.Context) error {
	f.mu.Lock()
	hangs, d := f.hangs, time.Hour
	f.mu.Unlock()
	if !hangs {
		d = f.delay() / 2
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) take(key string, at time.Time, args [5]int64) (n, debt int64) {
	cost, burst, leave, most, least := args[0], args[1], args[2], args[3], args[4]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	now, write := at.UnixMicro(), false
	if b, ok := f.buckets[key]; ok {
		debt = max(0, b[1]-max(0, now-b[0])*16000)
		write = now < b[0] || debt > cost*burst
		debt = min(debt, cost*burst)
	}
	n = min(most, burst-(debt+leave+cost-1)/cost)
	if n < least || n < 0 {
		n = 0
	}
	if n > 0 || write {
		debt += n * cost
		f.buckets[key] = [2]int64{now, debt}
	}
	return n, debt
}

func (f *fake) set(hangs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs = hangs
}

func (f *fake) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// grants are what was let through, and when.
type grants struct {
	mu  sync.Mutex
	all []grant
}

type grant struct {
	at time.Time
	n  int
}

func (g *grants) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, grant{time.Now(), n})
}

func (g *grants) sum() (n int) {
	for _, one := range g.all {
		n += one.n
	}
	return n
}

// within fails the test if in any stretch of time there was more than Burst plus Rate times
// its length.
func (g *grants) within(t *testing.T, l limiter.Limit) {
	t.Helper()
	level, least := 0.0, math.Inf(1) // of tokens less what came in; at the worst beginning
	begin := g.all[0].at
	for _, one := range g.all {
		came := float64(l.Rate) * one.at.Sub(begin).Seconds()
		least = min(least, level-came)
		level += float64(one.n)
		if over := level - came - least - float64(l.Burst); over > 1e-6 {
			t.Fatalf("%v: %v too many by %v", l, over, one.at.Sub(begin))
		}
	}
}

// fleet is replicas and what comes to them.
type fleet struct {
	limit  limiter.Limit
	demand []float64 // calls a second, at each replica
	last   time.Duration
}

// run has calls come that do not know of each other.
func (f *fleet) run(t *testing.T, replicas []limiter.Store) *grants {
	t.Helper()
	var g grants
	var wg sync.WaitGroup
	end := time.Now().Add(f.last)
	for i, demand := range f.demand {
		if demand == 0 {
			continue
		}
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for {
				time.Sleep(time.Duration(rng.ExpFloat64() / demand * 1e9))
				if time.Now().After(end) {
					return
				}
				wg.Go(func() {
					r, err := replicas[i].Take(t.Context(), "key", f.limit, 1, 1)
					if err == nil && r.OK {
						g.add(r.Granted)
					}
				})
			}
		})
	}
	wg.Wait()
	return &g
}

// stores are those of ten replicas on one Redis.
func stores(t *testing.T, client redis.Scripter, cfg redislimiter.Config) (all []limiter.Store) {
	t.Helper()
	cfg.Client = client
	cfg.Replicas = func() int { return 10 }
	for range 10 {
		s := redislimiter.New(cfg)
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	return all
}

// shapes are what comes to each of ten replicas of a thousand a second: in equal parts, most
// to two of them, or all to the one that holds the only connection.
var shapes = map[string][10]float64{
	"even":   {100, 100, 100, 100, 100, 100, 100, 100, 100, 100},
	"uneven": {400, 400, 25, 25, 25, 25, 25, 25, 25, 25},
	"sticky": {1000},
}

func demand(shape string, total float64) (demand []float64) {
	for _, part := range shapes[shape] {
		demand = append(demand, part*total/1000)
	}
	return demand
}

func quick() time.Duration { return 200 * time.Microsecond }

// What ten replicas let through of a limit that is meant for all.
func TestFleet(t *testing.T) {
	local := func(l limiter.Limit) func(*testing.T, *fake) []limiter.Store {
		return func(*testing.T, *fake) (all []limiter.Store) {
			for range 10 {
				all = append(all, fixed{limiter.NewKeyed(limiter.KeyedConfig[string]{}), l})
			}
			return all
		}
	}
	leases := func(t *testing.T, r *fake) []limiter.Store {
		t.Helper()
		return stores(t, r, redislimiter.Config{Gap: 50 * time.Millisecond})
	}
	one := func(t *testing.T, r *fake) []limiter.Store {
		t.Helper()
		return stores(t, r, redislimiter.Config{})
	}
	for _, test := range []struct {
		name        string
		replicas    func(*testing.T, *fake) []limiter.Store
		shape       string
		demand      float64
		least, most float64 // of what is legal
	}{
		{"a limit for each", local(of(1000, 200)), "even", 20_000, 9.9, 10.1},
		{"a tenth for each", local(of(100, 20)), "even", 20_000, .99, 1},
		{"a tenth for each", local(of(100, 20)), "uneven", 1000, .3, .5},
		{"a tenth for each", local(of(100, 20)), "sticky", 20_000, .09, .11},
		{"one by one", one, "even", 2000, .999, 1},
		{"one by one", one, "sticky", 2000, .999, 1},
		{"leases", leases, "even", 300, .98, 1.02},
		{"leases", leases, "even", 800, .98, 1.02},
		{"leases", leases, "even", 1000, .95, 1.01}, // just what there is
		{"leases", leases, "even", 1200, .96, 1},
		{"leases", leases, "even", 2000, .98, 1},
		{"leases", leases, "even", 20_000, .98, 1},
		{"leases", leases, "uneven", 300, .98, 1.02},
		{"leases", leases, "uneven", 1000, .95, 1.01},
		{"leases", leases, "uneven", 5000, .98, 1},
		{"leases", leases, "sticky", 800, .98, 1.02},
		{"leases", leases, "sticky", 1000, .98, 1.01},
		{"leases", leases, "sticky", 20_000, .98, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newFake(quick)
			f := fleet{of(1000, 200), demand(test.shape, test.demand), 10 * time.Second}
			g := f.run(t, test.replicas(t, r))
			legal := min(test.demand*10, 1000*10+200)
			part, calls := float64(g.sum())/legal, float64(r.called())/10
			t.Logf("%s, %s, %v/s: %.3f of what is legal, %.0f calls/s",
				test.name, test.shape, test.demand, part, calls)
			if part < test.least || part > test.most {
				t.Errorf("%s, %s, %v/s: %v of what is legal",
					test.name, test.shape, test.demand, part)
			}
			if test.name == "leases" {
				g.within(t, f.limit)
				if calls > 200 {
					t.Errorf("%v/s: %v calls a second", test.demand, calls)
				}
			}
		})
	}
}

// fixed is a Store with a limit of its own.
type fixed struct {
	limiter.Store

	limit limiter.Limit
}

func (f fixed) Take(
	ctx context.Context, key string, _ limiter.Limit, most, least int,
) (limiter.Result, error) {
	return f.Store.Take(ctx, key, f.limit, most, least)
}

// Whatever comes, of one size or another, and however late or lost answers are: in no stretch
// of time do ten replicas let through more than there is.
func TestNeverTooMuch(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			l := of(rate.Limit(20+rng.ExpFloat64()*500), 4+rng.IntN(300))
			var mu sync.Mutex
			random := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n)
			}
			r := newFake(func() time.Duration {
				if random(20) == 0 {
					return time.Duration(random(40)) * time.Millisecond
				}
				return time.Duration(random(1000)) * time.Microsecond
			})
			gap := time.Duration(random(3)) * 50 * time.Millisecond
			all := stores(t, r, redislimiter.Config{Gap: gap, Fail: redislimiter.FailClosed})
			var g grants
			var wg sync.WaitGroup
			for range 20_000 {
				time.Sleep(time.Duration(random(2_000_000)))
				if random(2000) == 0 {
					time.Sleep(time.Second)
				}
				r.set(random(2000) == 0)
				i, most := random(10), 1+random(max(1, l.Burst/8))
				wg.Go(func() {
					result, err := all[i].Take(t.Context(), "key", l, most, 1)
					if err == nil && result.OK {
						g.add(result.Granted)
					}
				})
			}
			wg.Wait()
			if len(g.all) == 0 {
				t.Fatalf("%v: nothing granted", l)
			}
			// What one question is answered is used when that comes, by which time there may
			// have come in more.
			slack := l
			if gap == 0 || float64(l.Burst) < .04*float64(l.Rate) {
				slack.Burst += int(float64(l.Rate) * .02)
			}
			g.within(t, slack)
		})
	}
}

// The fake does as the script does.
func TestFake(t *testing.T) {
	m := miniredis.RunT(t)
	c := client(t, m.Addr())
	rng := rand.New(rand.NewPCG(1, 2))
	script := redis.NewScript(redislimiter.Script)
	f, now := newFake(quick), time.Unix(1_700_000_000, 0)
	for range 3000 {
		now = now.Add(time.Duration(rng.IntN(300)-10) * time.Millisecond)
		m.SetTime(now)
		args := [5]int64{
			16e8 + rng.Int64N(2)*16e8, 5 + rng.Int64N(5), rng.Int64N(2) * 16e8,
			rng.Int64N(5), 0,
		}
		args[4] = rng.Int64N(args[3] + 1)
		n, debt := f.take("k", now, args)
		got, err := script.Run(t.Context(), c, []string{"k"},
			args[0], args[1], args[2], args[3], args[4]).Int64Slice()
		if err != nil || got[0] != n || got[1] != debt {
			t.Fatalf("%v: the script says %v, %v, the fake %v, %v", args, got, err, n, debt)
		}
	}
}
