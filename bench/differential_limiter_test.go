package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/throttled/throttled/v2"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

// Where x/time and throttled are right, they say which decisions are: the same times and
// costs must get the same answers. To keep clear of where they differ on purpose, which
// differences_limiter_test.go has, or by rounding:
//
//   - Time goes forward, numbers are above 0, and nobody who waits gives up.
//   - x/time counts in a float64, and throttled in whole nanoseconds for a token. Ours
//     rounds the cost of a token up to a sixteenth of a nanosecond. No step asks for what
//     is within some nanoseconds of being there.

// An oracle is a peer's bucket.
type oracle interface {
	allow(n int) bool
	tokens() float64
	setLimit(limit limiter.Limit)
}

type xTime struct{ l *rate.Limiter }

func (x xTime) allow(n int) bool { return x.l.AllowN(time.Now(), n) }
func (x xTime) tokens() float64  { return x.l.Tokens() }
func (x xTime) setLimit(limit limiter.Limit) {
	x.l.SetLimit(limit.Rate)
	x.l.SetBurst(limit.Burst)
}

type gcra struct {
	*throttled.GCRARateLimiterCtx

	every time.Duration
}

func newGCRA(limit limiter.Limit) oracle {
	every := time.Duration(float64(time.Second)/float64(limit.Rate) + 0.5)
	return &gcra{newThrottled(throttled.PerDuration(1, every), limit.Burst, 1), every}
}

func (g *gcra) allow(n int) bool {
	limited, _, err := g.RateLimitCtx(context.Background(), "key", n)
	return !limited && err == nil
}

func (g *gcra) tokens() float64 {
	_, r, _ := g.RateLimitCtx(context.Background(), "key", 0)
	return float64(r.Limit) - float64(r.ResetAfter)/float64(g.every)
}

func (g *gcra) setLimit(limiter.Limit) {} // it has none

// A run drives our limiter and an oracle through the same steps.
type run struct {
	t      *testing.T
	random *rand.Rand
	mine   *limiter.Limiter
	peer   oracle
	limit  limiter.Limit
	every  time.Duration // a token comes back
	fast   time.Duration // and never faster
	log    []string

	granted, denied, waited int
}

func newRun(
	t *testing.T, seed uint64, fast time.Duration, newOracle func(limiter.Limit) oracle,
) *run {
	t.Helper()
	r := &run{t: t, random: rand.New(rand.NewPCG(seed, 3)), fast: fast}
	r.note("seed %d", seed)
	r.another()
	r.mine = limiter.New(limiter.Config{Limit: r.limit, MaxQueue: 100})
	r.peer = newOracle(r.limit)
	return r
}

// another chooses a limit: up to a token in about a minute, in whole nanoseconds.
func (r *run) another() {
	r.every = r.fast + time.Duration(r.random.Int64N(int64(time.Microsecond)<<r.random.IntN(27)))
	r.limit = limiter.Limit{Rate: rate.Every(r.every), Burst: 1 + r.random.IntN(20)}
	r.note("a token every %v, burst %d", r.every, r.limit.Burst)
}

func (r *run) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *run) fatal(format string, args ...any) {
	r.t.Helper()
	tail := r.log[max(0, len(r.log)-40):]
	r.t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(tail, "\n  "))
}

// blur is what roundings may add up to: some nanoseconds at the fastest limit. As tokens
// it stays the same when the limit changes.
func (r *run) blur() time.Duration {
	const most = 300 * time.Nanosecond
	return time.Duration(float64(most) / float64(r.fast) * float64(r.every))
}

// clear lets time pass until n tokens are clearly there, or clearly not. A full bucket is
// clear.
func (r *run) clear(n int) {
	for {
		tokens := r.peer.tokens()
		missing := time.Duration((float64(n) - tokens) * float64(r.every))
		if missing.Abs() > r.blur() || tokens == float64(r.limit.Burst) {
			return
		}
		time.Sleep(2 * r.blur())
	}
}

func (r *run) sleep() {
	d := time.Duration(r.random.Int64N(int64(r.every) * 3))
	if r.random.IntN(20) == 0 {
		d *= 20 // until it is full
	}
	r.note("sleep %v", d)
	time.Sleep(d)
}

// allow compares a decision, and what is said to one who is refused.
func (r *run) allow() {
	n := 1 + r.random.IntN(r.limit.Burst+2)
	r.clear(n)
	before := r.peer.tokens()
	result, ok := r.mine.Check(n), r.peer.allow(n)
	r.note("take %d of %v: %v", n, before, ok)
	if result.OK != ok {
		r.fatal("take %d of %v: stormjib %v, the oracle %v", n, before, result.OK, ok)
	}
	if ok {
		r.granted++
		return
	}
	r.denied++
	if n > r.limit.Burst {
		return
	}
	missing := time.Duration((float64(n) - before) * float64(r.every))
	if (result.RetryAfter - missing).Abs() > r.blur() {
		r.fatal("take %d: stormjib says to retry after %v, the oracle is short of %v",
			n, result.RetryAfter, missing)
	}
}

// check compares how many tokens there are.
func (r *run) check() {
	mine, peer := r.mine.Stats().Tokens, r.peer.tokens()
	if difference := time.Duration((mine - peer) * float64(r.every)); difference.Abs() > r.blur() {
		r.fatal("stormjib has %v tokens, the oracle %v", mine, peer)
	}
}

func (r *run) steps(steps int, step func()) {
	for range steps {
		step()
		r.check()
	}
	if r.granted < steps/20 || r.denied+r.waited < steps/20 {
		r.fatal("granted %d, denied %d, waited %d: the run shows too little",
			r.granted, r.denied, r.waited)
	}
}

// oracles runs a step again and again in a bubble, for many seeds.
func oracles(
	t *testing.T, fast time.Duration, newOracle func(limiter.Limit) oracle, step func(*run),
) {
	t.Helper()
	seeds, steps := 300, 400
	if testing.Short() {
		seeds = 50
	}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			r := newRun(t, seed, fast, newOracle)
			r.steps(steps, func() { step(r) })
		})
	}
}

func newXTime(limit limiter.Limit) oracle {
	return xTime{rate.NewLimiter(limit.Rate, limit.Burst)}
}

func TestSameAsXTime(t *testing.T) {
	oracles(t, time.Microsecond, newXTime, func(r *run) {
		if r.random.IntN(2) == 0 {
			r.sleep()
			return
		}
		r.allow()
	})
}

// TestSameAsXTimeSetLimit changes the limit again and again: the tokens stay, as far as
// they fit.
func TestSameAsXTimeSetLimit(t *testing.T) {
	oracles(t, time.Millisecond, newXTime, func(r *run) {
		switch n := r.random.IntN(20); {
		case n == 0:
			r.setLimit()
		case n < 8:
			r.sleep()
		default:
			r.allow()
		}
	})
}

func (r *run) setLimit() {
	tokens := r.peer.tokens()
	r.another()
	r.note("at %v tokens", tokens)
	if err := r.mine.SetLimit(r.limit); err != nil {
		r.fatal("%v", err)
	}
	r.peer.setLimit(r.limit)
}

// TestSameAsXTimeWait has some wait at a time: each must leave when it does there.
func TestSameAsXTimeWait(t *testing.T) {
	oracles(t, time.Microsecond, newXTime, func(r *run) {
		if r.random.IntN(2) == 0 {
			time.Sleep(time.Duration(r.random.IntN(2*r.limit.Burst)) * r.every)
			return
		}
		r.wait(1 + r.random.IntN(4))
	})
}

func (r *run) wait(callers int) {
	peer, ok := r.peer.(xTime)
	if !ok {
		r.fatal("not x/time")
	}
	left, peerLeft := make(chan time.Time, callers), make(chan time.Time, callers)
	start := time.Now()
	for range callers {
		n := 1 + r.random.IntN(r.limit.Burst)
		r.note("wait for %d", n)
		go func() {
			if r.mine.Wait(context.Background(), n) == nil {
				left <- time.Now()
			}
		}()
		go func() {
			if peer.l.WaitN(context.Background(), n) == nil {
				peerLeft <- time.Now()
			}
		}()
		synctest.Wait() // the next one comes after it
	}
	for i := range callers {
		mine, peer := <-left, <-peerLeft
		if mine.Sub(peer).Abs() > r.blur() {
			r.fatal("number %d: stormjib lets it go after %v, the oracle after %v",
				i, mine.Sub(start), peer.Sub(start))
		}
		if mine.Sub(start) > r.blur() {
			r.waited++
			continue
		}
		r.granted++
	}
	time.Sleep(2 * r.blur())
}

func TestSameAsThrottled(t *testing.T) {
	oracles(t, time.Microsecond, newGCRA, func(r *run) {
		if r.random.IntN(2) == 0 {
			r.sleep()
			return
		}
		r.allow()
	})
}
