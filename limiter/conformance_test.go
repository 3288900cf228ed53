package limiter_test

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// grant is n tokens that were let through at a time, in ticks.
type grant struct{ at, n int64 }

// conform fails the test if in any stretch of time there were more grants than Burst
// plus Rate times its length. It reckons in whole numbers, so that one token in a thousand
// million is one too many.
func conform(t *testing.T, l limiter.Limit, grants []grant) {
	t.Helper()
	// The last bits of the Rate are what float64 made of it: see TestCostOfEvery.
	perTick := new(big.Rat).SetFloat64(float64(l.Rate))
	perTick.Mul(perTick, new(big.Rat).SetFloat64(1+0x1p-50))
	perTick.Quo(perTick, new(big.Rat).SetInt64(limiter.TicksPerSecond))
	worth := func(tokens *big.Int, at int64) *big.Int { // tokens less what came in until then
		came := new(big.Int).Mul(big.NewInt(at), perTick.Num())
		return tokens.Mul(tokens, perTick.Denom()).Sub(tokens, came)
	}
	most := new(big.Int).Mul(big.NewInt(int64(l.Burst)), perTick.Denom())
	slices.SortStableFunc(grants, func(a, b grant) int { return cmp.Compare(a.at, b.at) })
	var least *big.Int // at the beginning of the worst stretch up to now
	sum := new(big.Int)
	for i, g := range grants {
		before := worth(new(big.Int).Set(sum), g.at)
		if least == nil || before.Cmp(least) < 0 {
			least = before
		}
		sum.Add(sum, big.NewInt(g.n))
		after := worth(new(big.Int).Set(sum), g.at)
		if after.Sub(after, least).Cmp(most) > 0 {
			t.Fatalf("%v: too much in a stretch that ends at %d of %d: %+v", l, i, len(grants), g)
		}
	}
}

// theLimits are slow ones, fast ones, and ones in which a token takes no whole number of ticks.
func theLimits() (limits []limiter.Limit) {
	for _, r := range []rate.Limit{
		rate.Every(30 * 24 * time.Hour), rate.Every(time.Minute), 0.1, 1.0 / 3, 1, 3, 7, 10, 99.9,
		1000, 123456.789, 1e6, 7e6, 7e7, 1e8, 3e8, 7e8, 1e9, 5e9, 16e9, 1e12, 1e300,
	} {
		for _, burst := range []int{1, 2, 17} {
			limits = append(limits, limit(r, burst))
		}
	}
	return append(limits, limit(1e9, 1e9), limit(1000, 100000), limit(16e9, math.MaxInt32))
}

// level returns a full bucket, idle up to now.
func level(t *testing.T, l limiter.Limit) *limiter.Level {
	t.Helper()
	v, err := limiter.NewLevel(l)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Calls at all kinds of times, of all kinds of sizes; of a young limiter, and of one that
// has been up for years. Above all one that is up for longer than it can count.
func TestConformance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, l := range theLimits() {
		for _, start := range []int64{0, 1 << 61, limiter.MaxAge - 1e6} {
			v, now := level(t, l), start
			var grants []grant
			for range 2000 {
				n := 1 + rng.Int64N(int64(min(l.Burst, 9)))
				switch rng.IntN(40) {
				case 0:
					n = int64(l.Burst)
				case 1:
					now += rng.Int64N(v.Cost() * int64(l.Burst) * 2) // idle
				}
				now = min(now+rng.Int64N(2*v.Cost())*rng.Int64N(3), limiter.MaxAge)
				if _, ok := v.Take(now, n); ok {
					grants = append(grants, grant{now, n})
				}
				if _, ok := v.Take(now, int64(l.Burst)+1); ok {
					t.Fatalf("%v: more than the burst at once", l)
				}
			}
			if len(grants) == 0 {
				t.Errorf("%v: nothing granted", l)
			}
			conform(t, l, grants)
		}
	}
}

// Who asks again as soon as it may has nearly all there is: within 1 % up to a hundred
// million a second, and beyond that as much as there are ticks for.
func TestNotLessThanPromised(t *testing.T) {
	for _, l := range theLimits() {
		share := .99
		if l.Rate > 1e8 {
			ticks := float64(limiter.TicksPerSecond) / float64(l.Rate)
			share = ticks / math.Ceil(ticks)
		}
		for _, idle := range []int64{0, 1 << 61} {
			v, now, got := level(t, l), idle, 0.0
			if _, ok := v.Take(now, int64(l.Burst)); !ok {
				t.Fatalf("%v: no burst after %d", l, idle)
			}
			for range 10000 {
				debt, ok := v.Take(now, 1)
				if ok {
					got++
					continue
				}
				if now += debt - v.Cost()*int64(l.Burst-1); now > limiter.MaxAge {
					break
				}
			}
			came := float64(l.Rate) * float64(now-idle) / float64(limiter.TicksPerSecond)
			if got < share*(1-1e-9)*came-1 {
				t.Errorf("%v: %v granted of %v that came", l, got, came)
			}
		}
	}
}

// Goroutines are held up between reading the clock and taking their tokens, so that times
// arrive out of order. Package rate takes its own time back with them, and makes tokens: here
// it grants 2000.
func TestOutOfOrder(t *testing.T) {
	v := level(t, limit(1, 10))
	granted := 0
	for range 1000 {
		for _, now := range []int64{5 * limiter.TicksPerSecond, 0} {
			if _, ok := v.Take(now, 1); ok {
				granted++
			}
		}
	}
	if granted > 15 {
		t.Errorf("%d granted in 5 s at 1/s with a burst of 10", granted)
	}
	v = level(t, limit(rate.Inf, 0))
	for _, now := range []int64{0, 100, 50} { // where there is no limit it does not matter
		if _, ok := v.Take(now, 5); !ok {
			t.Errorf("refused at %d without a limit", now)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, l := range theLimits() {
		v, now := level(t, l), int64(0)
		var grants []grant
		for range 3000 {
			now = min(now+rng.Int64N(v.Cost()*2), limiter.MaxAge)
			late := rng.Int64N(v.Cost()*int64(l.Burst)*2) * rng.Int64N(2)
			stamp, n := max(0, now-late), 1+rng.Int64N(int64(min(l.Burst, 9)))
			if _, ok := v.Take(stamp, n); ok {
				grants = append(grants, grant{stamp, n})
			}
		}
		conform(t, l, grants)
	}
}

// Eight goroutines at the real clock: in no stretch of rounds is there more than there
// may be, however the scheduler has it.
func TestConformanceConcurrently(t *testing.T) {
	for _, l := range []limiter.Limit{
		limit(10, 50), limit(1e5, 10), limit(3e6, 1000), limit(7e7, 3),
	} {
		lim := limiter.New(limiter.Config{Limit: l})
		const rounds = 12
		var granted [rounds]int64
		var began, ended [rounds]time.Time
		for round := range rounds {
			var sum atomic.Int64
			var wg sync.WaitGroup
			began[round] = time.Now()
			for g := range 8 {
				wg.Go(func() {
					for i := range 300 {
						n := 1 + (i*g)%3
						if i%2 == 0 && lim.AllowN(n) || i%2 == 1 && lim.Check(n).OK {
							sum.Add(int64(n))
						}
					}
				})
			}
			wg.Wait()
			ended[round], granted[round] = time.Now(), sum.Load()
		}
		for i := range rounds {
			sum := int64(0)
			for j := i; j < rounds; j++ {
				sum += granted[j]
				took := ended[j].Sub(began[i])
				if most := float64(l.Burst) + float64(l.Rate)*took.Seconds(); float64(sum) > most {
					t.Errorf("%v: %d granted in %v, want at most %v", l, sum, took, most)
				}
			}
		}
	}
}

// A limit that changes all the time, with next to nothing coming in: what was granted and
// what is left are together what there was. A change that lost track of calls under way
// would show here as tokens too many, or too few.
func TestConformanceUnderSetLimit(t *testing.T) {
	const burst = 10000
	limits := []limiter.Limit{limit(1e-3, burst), limit(1e-2, burst), limit(3e-3, burst*2)}
	lim := limiter.New(limiter.Config{Limit: limits[0]})
	var granted atomic.Int64
	var callers, setter sync.WaitGroup
	done := make(chan struct{})
	setter.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				_ = lim.SetLimit(limits[i%3])
			}
		}
	})
	for g := range 4 {
		callers.Go(func() {
			other := limiter.New(of(1e-3, 1))
			other.Allow()
			for i := range 5000 {
				switch n := 1 + (i+g)%2; i % 3 {
				case 0:
					if lim.AllowN(n) {
						granted.Add(int64(n))
					}
				case 1:
					if lim.Check(n).OK {
						granted.Add(int64(n))
					}
				default: // all is given back
					limiter.All(n, lim.Bucket(), other.Bucket())
				}
			}
		})
	}
	callers.Wait()
	close(done)
	setter.Wait()
	set(t, lim, limits[0])
	sum := granted.Load() + int64(lim.Check(burst+1).Remaining)
	// Not given back is what was taken under another limit: it may be lost.
	if sum > burst+1 {
		t.Errorf("%d granted and left of %d", sum, burst)
	}
}

// The same without anything to give back: then nothing is lost either.
func TestNothingIsLostUnderSetLimit(t *testing.T) {
	const burst = 5e6
	lim := limiter.New(of(1, burst))
	var granted atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	began := time.Now()
	for range 3 {
		wg.Go(func() {
			for !done.Load() {
				if lim.Allow() {
					granted.Add(1)
				}
			}
		})
	}
	for i := range 60000 {
		set(t, lim, limit(rate.Limit(i%3+1), burst+i%2))
	}
	done.Store(true)
	wg.Wait()
	got := float64(granted.Load()) + lim.Stats().Tokens
	if came := 3 * time.Since(began).Seconds(); got < burst-1 || got > burst+came+1 {
		t.Errorf("%v granted and left of %v", got, burst)
	}
}

// Where there are tokens for all nobody is refused: not while the limit changes, and not
// for having read the clock before another did.
func TestPlentyForAll(t *testing.T) {
	plenty := []limiter.Limit{limit(1e6, 1e6), limit(2e6, 2e6), limit(rate.Inf, 0)}
	for name, limits := range map[string][]limiter.Limit{
		"changing": plenty, "no limit": plenty[2:], "one limit": plenty[:1],
	} {
		lim := limiter.New(limiter.Config{Limit: limits[0]})
		var refused atomic.Int64
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 30000 {
					if g == 0 && len(limits) > 1 {
						_ = lim.SetLimit(limits[i%len(limits)])
					} else if !lim.Allow() || !lim.Check(1).OK {
						refused.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if n := refused.Load(); n != 0 {
			t.Errorf("%s: %d refused", name, n)
		}
	}
}

// Of a level that SetLimit replaces nothing can be taken, at any age, since nobody would
// count it.
func TestNothingFromAClosedLevel(t *testing.T) {
	limits := append(theLimits(), limit(rate.Every(80*24*time.Hour), 10), limit(16e9, 1<<30))
	for _, l := range limits {
		v := level(t, l)
		v.Close()
		for _, now := range []int64{0, 1, 1 << 40, 1 << 60, 1 << 61, limiter.MaxAge} {
			for _, n := range []int64{1, int64(l.Burst)/2 + 1, int64(l.Burst), math.MaxInt64} {
				if _, ok := v.Take(now, n); ok {
					t.Errorf("%v: %d at %d", l, n, now)
				}
			}
		}
	}
}

// After nine years time stands still for a limiter. It lets no more through than there is,
// and hangs nowhere.
func TestNineYears(t *testing.T) {
	for _, l := range []limiter.Limit{limit(10, 5), limit(rate.Every(160*24*time.Hour), 5)} {
		bubble(t, limiter.Config{Limit: l, MaxQueue: 1}, func(t *testing.T, lim *limiter.Limiter) {
			const year = 365 * 24 * time.Hour
			for range 3 {
				time.Sleep(3*year - 24*time.Hour)
				left(t, lim, 5)
			}
			time.Sleep(3 * year)
			lim.Allow()
			for range 3 {
				set(t, lim, limit(l.Rate*2, 7))
				set(t, lim, l)
				limiter.All(1, lim.Bucket(), limiter.Bucket{})
				time.Sleep(year)
			}
			for range 5 {
				lim.Allow()
			}
			none(t, lim, 1)
			time.Sleep(3 * year)
			none(t, lim, 1)
		})
	}
}

// FuzzTake throws all kinds of limits, times and numbers at the algorithm.
func FuzzTake(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, r := range []float64{1e-7, 1, 3e8, 1e9, 16e9, 1e18, 1e300, math.MaxFloat64 / 2} {
		for _, burst := range []int64{1, 1000, 1 << 31, 1 << 59, 1 << 60} {
			script := make([]byte, 60)
			for i := range script {
				script[i] = byte(rng.Uint32())
			}
			f.Add(r, burst, rng.Int64N(limiter.MaxAge), script)
		}
	}
	f.Fuzz(func(t *testing.T, r float64, burst, now int64, script []byte) {
		l := limit(rate.Limit(r), int(burst))
		v, err := limiter.NewLevel(l)
		if err != nil || l.Rate >= rate.Inf || l.Rate == 0 {
			return
		}
		now = min(max(0, now), limiter.MaxAge)
		full := v.Cost() * int64(l.Burst)
		var grants []grant
		for ; len(script) >= 3; script = script[3:] {
			now = min(now+int64(script[0])<<(script[1]%54), limiter.MaxAge)
			stamp := max(0, now-full/8*int64(script[1]/64))
			b := int64(l.Burst)
			n := []int64{1, b, b/2 + 1, b/3 + 1, 1 << 40, b + 1, math.MaxInt64}[script[2]%7]
			debt, ok := v.Take(stamp, n)
			if ok {
				grants = append(grants, grant{stamp, n})
			}
			if ok && n > b || debt < 0 || ok && debt > full || debt > limiter.MaxAge+full {
				t.Fatalf("%v: take(%d, %d) = %d, %v", l, stamp, n, debt, ok)
			}
		}
		conform(t, l, grants)
	})
}

// FuzzAnything throws all kinds of numbers at a limiter and at its results.
func FuzzAnything(f *testing.F) {
	for _, r := range []float64{
		0, -1, math.NaN(), 1e-7, 1, 1e9, 1e300, math.MaxFloat64, math.Inf(1),
	} {
		for _, burst := range []int64{-1, 0, 1, 1 << 40, math.MaxInt64} {
			f.Add(r, burst, int64(math.MaxInt64), 2*r, burst/2, int64(time.Hour))
			f.Add(2*r, burst-1, int64(1), r, burst, int64(math.MaxInt64/4))
		}
	}
	f.Fuzz(func(t *testing.T, r1 float64, b1, n int64, r2 float64, b2, sleep int64) {
		l1, l2 := limit(rate.Limit(r1), int(b1)), limit(rate.Limit(r2), int(b2))
		if l1.Validate() != nil {
			l1 = limit(10, 10)
		}
		bubble(t, limiter.Config{Limit: l1, MaxQueue: 1}, func(t *testing.T, l *limiter.Limiter) {
			sane(t, l, int(n))
			_ = l.SetLimit(l2)
			sane(t, l, int(n))
			time.Sleep(min(max(0, time.Duration(sleep)), math.MaxInt64/8))
			sane(t, l, int(n))
			_ = l.SetLimit(l1)
			sane(t, l, int(n))
			synctest.Wait()
		})
	})
}

// sane fails the test if what l says of n can't be.
func sane(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	bucket, s := l.Bucket(), l.Stats()
	for i, got := range []limiter.Result{
		l.Check(n), l.Check(1), bucket.Check(n), limiter.All(n, bucket, bucket),
		limiter.All(n, bucket, limiter.Bucket{}),
	} {
		burst := s.Limit.Burst
		switch {
		case s.Limit.Rate >= rate.Inf:
			burst = math.MaxInt
		case s.Limit.Rate == 0:
			burst = 0
		}
		asked := n
		if i == 1 {
			asked = 1
		}
		wrong := got.Remaining < 0 || got.Remaining > burst || got.RetryAfter < 0 ||
			got.ResetAfter < 0 || got.OK != (got.Granted == asked && asked > 0) ||
			!got.OK && (got.Granted != 0 || got.RetryAfter == 0) || got.OK && got.RetryAfter != 0 ||
			got.OK && asked > burst || (got.Err() == nil) != got.OK
		if wrong {
			t.Fatalf("of %d, at %+v: %s", asked, s, fmt.Sprintf("%+v", got))
		}
	}
	if s.Tokens < 0 || math.IsNaN(s.Tokens) {
		t.Fatalf("%+v", s)
	}
}
