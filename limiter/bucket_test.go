package limiter_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// named returns the Config of a limit with a name.
func named(name string, r rate.Limit, burst int) limiter.Config {
	return limiter.Config{Name: name, Limit: limit(r, burst)}
}

func TestBucketIsItsLimiter(t *testing.T) {
	bubble(t, named("all", 10, 5), func(t *testing.T, l *limiter.Limiter) {
		b := l.Bucket()
		if !b.Allow() || !b.AllowN(2) {
			t.Error("refused")
		}
		want := limiter.Result{
			OK: true, Granted: 2, ResetAfter: 500 * ms, Limit: limit(10, 5), Name: "all",
		}
		if got := b.Check(2); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if b.Allow() || b.AllowN(1) {
			t.Error("granted")
		}
		none(t, l, 1)
	})
}

// A variable that somebody forgot to set should be noticed.
func TestZeroBucket(t *testing.T) {
	for _, b := range []limiter.Bucket{{}, limiter.FromRate("", nil)} {
		for _, n := range []int{1, 0, -1, math.MaxInt, math.MinInt} {
			if b.Allow() || b.AllowN(n) {
				t.Errorf("grants %d", n)
			}
			neverTaken(t, b.Check(n))
			neverTaken(t, limiter.All(n, b))
		}
	}
	if got := limiter.FromRate("lost", nil).Check(1).Name; got != "lost" {
		t.Errorf("the name is %q", got)
	}
}

func TestFromRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := rate.NewLimiter(10, 5)
		b := limiter.FromRate("theirs", l)
		for i, step := range []struct {
			after time.Duration
			n     int
			want  limiter.Result
		}{
			{0, 2, limiter.Result{OK: true, Granted: 2, Remaining: 3, ResetAfter: 200 * ms}},
			{0, 3, limiter.Result{OK: true, Granted: 3, ResetAfter: 500 * ms}},
			{0, 1, limiter.Result{RetryAfter: 100 * ms, ResetAfter: 500 * ms}},
			{0, 6, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
			{0, 0, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
			{0, -5, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
			{99 * ms, 1, limiter.Result{RetryAfter: ms, ResetAfter: 401 * ms}},
			{ms, 1, limiter.Result{OK: true, Granted: 1, ResetAfter: 500 * ms}},
			{time.Hour, -1, limiter.Result{Remaining: 5, RetryAfter: never}},
		} {
			time.Sleep(step.after)
			step.want.Name, step.want.Limit = "theirs", limit(10, 5)
			if got := b.Check(step.n); got != step.want {
				t.Errorf("step %d:\ngot  %+v\nwant %+v", i, got, step.want)
			}
		}
		if !b.AllowN(5) || b.Allow() || l.Allow() {
			t.Error("the two differ")
		}
	})
}

// A limiter of package rate may have been made with anything. What it says of itself must
// not become a negative time, or a negative number of tokens.
func TestFromRateExtremes(t *testing.T) {
	nan := rate.Limit(math.NaN())
	for _, r := range []rate.Limit{
		0, -1, nan, 5e-324, 1e-12, 1, 1e9, 1e300, rate.Inf, rate.Limit(math.Inf(1)),
	} {
		for _, burst := range []int{0, 1, 1000, math.MaxInt32, math.MaxInt, -1} {
			for _, n := range []int{1, 2, 999, 0, -1, math.MinInt, math.MaxInt} {
				b := limiter.FromRate("", rate.NewLimiter(r, burst))
				for range 3 {
					got := b.Check(n)
					negative := got.Remaining < 0 && burst >= 0 || got.RetryAfter < 0 ||
						got.ResetAfter < 0
					granted := got.OK && (n < 1 || got.Granted != n || got.RetryAfter != 0)
					if negative || granted || !got.OK && got.Granted != 0 {
						t.Errorf("%v, %d: Check(%d) = %+v", float64(r), burst, n, got)
					}
				}
			}
		}
	}
	full := limiter.FromRate("", rate.NewLimiter(0, 5))
	if got := full.Check(6); got.ResetAfter != 0 || got.RetryAfter != never || got.Remaining != 5 {
		t.Errorf("a full bucket that never fills: %+v", got)
	}
	inf := limiter.FromRate("", rate.NewLimiter(rate.Inf, 0))
	got := inf.Check(math.MaxInt)
	if !got.OK || got.Remaining != math.MaxInt || got.ResetAfter != 0 {
		t.Errorf("no limit: %+v", got)
	}
}

// All is tried on three buckets, those of a route, a tenant and everybody.
func TestAll(t *testing.T) {
	for _, test := range []struct {
		name                    string
		route, tenant, all, n   int // tokens that are there
		want                    string
		leftRoute, leftT, leftA int
	}{
		{"all grant: the one with the least left", 5, 3, 9, 2, "tenant", 3, 1, 7},
		{"the first has the least", 2, 3, 9, 1, "route", 1, 2, 8},
		{"the last has the least", 9, 8, 7, 1, "all", 8, 7, 6},
		{"the same left: the most specific", 5, 5, 5, 1, "route", 4, 4, 4},
		{"the same left in two", 9, 5, 5, 1, "tenant", 8, 4, 4},
		{"the first refuses", 1, 9, 9, 2, "route", 1, 9, 9},
		{"the second refuses", 9, 1, 9, 2, "tenant", 9, 1, 9},
		{"the last refuses", 9, 9, 1, 2, "all", 9, 9, 1},
		{"all refuse: the first that did", 1, 1, 1, 2, "route", 1, 1, 1},
		{"more than a burst", 9, 9, 9, 11, "route", 9, 9, 9},
		{"less than one", 9, 9, 9, 0, "route", 9, 9, 9},
		{"much less than one", 9, 9, 9, -5, "route", 9, 9, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Second)
				var ls []*limiter.Limiter
				for i, name := range []string{"route", "tenant", "all"} {
					l := limiter.New(named(name, 10, 10))
					take(t, l, 10-[]int{test.route, test.tenant, test.all}[i])
					ls = append(ls, l)
				}
				r := limiter.All(test.n, ls[0].Bucket(), ls[1].Bucket(), ls[2].Bucket())
				granted := test.leftRoute != test.route
				if r.Name != test.want || r.OK != granted || granted && r.Granted != test.n {
					t.Errorf("got %+v, want %v by %s", r, granted, test.want)
				}
				if (r.Err() == nil) != granted || (r.RetryAfter == 0) != granted {
					t.Errorf("got %+v", r)
				}
				left(t, ls[0], test.leftRoute)
				left(t, ls[1], test.leftT)
				left(t, ls[2], test.leftA)
			})
		})
	}
}

func TestAllOfNoneAndOne(t *testing.T) {
	want := limiter.Result{
		OK: true, Granted: 3, Remaining: math.MaxInt, Limit: limit(rate.Inf, 0),
	}
	if got := limiter.All(3); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	neverTaken(t, limiter.All(0))
	neverTaken(t, limiter.All(-1))
	l := limiter.New(named("only", 1e-3, 2))
	if got := limiter.All(2, l.Bucket()); !got.OK || got.Name != "only" || got.Granted != 2 {
		t.Errorf("got %+v", got)
	}
	if got := limiter.All(1, l.Bucket()); got.OK || got.Name != "only" {
		t.Errorf("got %+v", got)
	}
}

// The same bucket twice pays twice, or not at all.
func TestAllTwiceTheSame(t *testing.T) {
	bubble(t, of(10, 5), func(t *testing.T, l *limiter.Limiter) {
		b := l.Bucket()
		if r := limiter.All(2, b, b); !r.OK || r.Remaining != 1 {
			t.Errorf("got %+v", r)
		}
		if r := limiter.All(1, b, b); r.OK || r.RetryAfter != 100*ms {
			t.Errorf("got %+v", r)
		}
		left(t, l, 1)
	})
}

// A thousand refusals by the last bucket leave the others just as they were, to the tick.
func TestAllRefundsExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenant, all := limiter.New(of(3, 7)), limiter.New(of(1, 1))
		take(t, tenant, 4)
		take(t, all, 1)
		time.Sleep(7 * time.Nanosecond)
		before := tenant.Check(100)
		for range 1000 {
			if limiter.All(3, tenant.Bucket(), all.Bucket()).OK {
				t.Fatal("granted")
			}
			if limiter.All(1, tenant.Bucket(), all.Bucket()).OK {
				t.Fatal("granted")
			}
		}
		if after := tenant.Check(100); after != before {
			t.Errorf("was %+v, is %+v", before, after)
		}
		// An idle bucket is full then, and not fuller.
		time.Sleep(time.Hour)
		take(t, all, 1)
		limiter.All(3, tenant.Bucket(), all.Bucket())
		left(t, tenant, 7)
	})
}

// A rate.Limiter comes last: it cannot give back.
func TestAllWithFromRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stranger := limiter.New(of(1, 5)), rate.NewLimiter(1, 2)
		b := limiter.FromRate("theirs", stranger)
		for i := range 5 {
			r := limiter.All(1, l.Bucket(), b)
			if r.OK != (i < 2) || r.Name != "theirs" {
				t.Errorf("%d: %+v", i, r)
			}
		}
		if got := stranger.Tokens(); got != 0 {
			t.Errorf("%v tokens left of theirs", got)
		}
		left(t, l, 3)
	})
}

// One that is in shadow refuses nobody, and is not what the others are answered by.
func TestAllShadowed(t *testing.T) {
	shadow := named("shadow", 1e-3, 1)
	shadow.Shadow = true
	for _, last := range []bool{false, true} {
		s, holds := limiter.New(shadow), limiter.New(named("real", 1e-3, 3))
		buckets := []limiter.Bucket{s.Bucket(), holds.Bucket()}
		if last {
			buckets[0], buckets[1] = buckets[1], buckets[0]
		}
		if r := limiter.All(1, buckets...); !r.OK || r.Shadowed || r.Name != "shadow" {
			t.Errorf("as long as there is something left in it: %+v", r)
		}
		r := limiter.All(1, buckets...)
		if !r.OK || !r.Shadowed || r.Name != "real" || r.Granted != 1 || r.Remaining != 1 {
			t.Errorf("got %+v", r)
		}
		r = limiter.All(2, buckets...)
		if r.OK || r.Name != "real" || r.RetryAfter == 0 {
			t.Errorf("got %+v", r)
		}
		left(t, holds, 1)
	}
	a, b := limiter.New(shadow), limiter.New(shadow)
	for i := range 2 {
		if r := limiter.All(1, a.Bucket(), b.Bucket()); !r.OK || r.Shadowed != (i == 1) {
			t.Errorf("two shadows: %+v", r)
		}
	}
}

// Tokens that come back are for those who wait. They see them at once.
func TestRefundWakesWaiters(t *testing.T) {
	queue(t, limit(1, 10), func(q *waiting) {
		q.until(5 * time.Second)
		r := q.l.Check(5) // by All, which asks a second bucket
		head := q.wait(q.t.Context(), 3)
		next := q.wait(q.t.Context(), 3)
		q.until(6 * time.Second)
		q.l.Refund(r) // which refused
		q.until(20 * time.Second)
		q.left(head, 6*time.Second)
		q.left(next, 6*time.Second)
	})
}

// Tokens taken from one limit are not given back to another, whose bucket may have had no
// room for them.
func TestNoRefundAcrossLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		before limiter.Limit
		taken  int
		after  limiter.Limit
		want   int // after those that are left are used
	}{
		{"the same limit", limit(1, 10), 5, limit(1, 10), 5},
		{"a smaller one", limit(1, 10), 5, limit(1, 3), 0},
		{"from no limit", limit(rate.Inf, 0), 5, limit(1, 10), 0},
		{"to no limit and back", limit(1, 10), 5, limit(rate.Inf, 0), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, limiter.Config{Limit: test.before}, func(t *testing.T, l *limiter.Limiter) {
				r := l.Check(test.taken)
				set(t, l, test.after)
				if test.after.Rate == rate.Inf {
					set(t, l, limit(1, 9))
				}
				drain(l)
				l.Refund(r)
				left(t, l, test.want)
			})
		})
	}
}

// All buckets under one hammer: with next to nothing coming in, what was granted and what
// is left are together what there was.
func TestAllHammer(t *testing.T) {
	const burst = 20000
	tenants := []*limiter.Limiter{
		limiter.New(of(1e-3, burst)), limiter.New(of(1e-3, burst)),
		limiter.New(of(1e-3, burst)), limiter.New(of(1e-3, burst)),
	}
	all := limiter.New(of(1e-3, burst))
	var granted [4]atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			tenant := tenants[g%4]
			for i := range 4000 {
				n := 1 + i%5
				if limiter.All(n, tenant.Bucket(), all.Bucket()).OK {
					granted[g%4].Add(int64(n))
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for i, tenant := range tenants {
		n := int(granted[i].Load())
		sum += n
		left(t, tenant, burst-n)
	}
	left(t, all, burst-sum)
	if sum < burst-5 {
		t.Errorf("%d granted of %d", sum, burst)
	}
}

// One tenant calls 20,000 times a second and nine behave, under a limit of 1,000 for all
// and 200 for each. What a refusal by the second limit does not give back to the first,
// the one tenant takes from the nine.
func TestPoliteTenants(t *testing.T) {
	type asks func(tenant, all *limiter.Limiter) bool
	polite := func(ask asks) (share float64) {
		synctest.Test(t, func(*testing.T) {
			all := limiter.New(named("all", 1000, 100))
			tenants := make([]*limiter.Limiter, 10)
			for i := range tenants {
				tenants[i] = limiter.New(named("tenant", 200, 20))
			}
			offered, admitted := 0, 0
			for i := range 5 * 20000 {
				ask(tenants[0], all)
				if which := i / 20 % 10; i%20 == 7 && which != 0 { // 100 a second of each
					offered++
					if ask(tenants[which], all) {
						admitted++
					}
				}
				time.Sleep(50 * time.Microsecond)
			}
			share = float64(admitted) / float64(offered)
		})
		return share
	}
	for _, test := range []struct {
		name        string
		ask         asks
		least, most float64
	}{
		{"All, the tenant's limit first", func(tenant, all *limiter.Limiter) bool {
			return limiter.All(1, tenant.Bucket(), all.Bucket()).OK
		}, .88, 1},
		{"All, the tenant's limit last", func(tenant, all *limiter.Limiter) bool {
			return limiter.All(1, all.Bucket(), tenant.Bucket()).OK
		}, .88, 1},
		{"one after the other, the tenant's first", func(tenant, all *limiter.Limiter) bool {
			return tenant.Allow() && all.Allow()
		}, .88, 1},
		{"one after the other, the tenant's last", func(tenant, all *limiter.Limiter) bool {
			return all.Allow() && tenant.Allow()
		}, 0, .15},
	} {
		share := polite(test.ask)
		t.Logf("%-40s %.1f %% of polite calls let through", test.name, 100*share)
		if share < test.least || share > test.most {
			t.Errorf("%s: %.3f, want %v to %v", test.name, share, test.least, test.most)
		}
	}
}
