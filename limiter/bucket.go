package limiter

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Bucket is one bucket of tokens, wherever it is kept: that of a [Limiter], that of a key
// of a [Keyed], or a limiter of package rate. It is a small value, made for a call and
// not kept. The zero Bucket lets nothing through.
type Bucket struct {
	limiter *Limiter

	stranger *rate.Limiter
	name     string // of the stranger
}

// Bucket returns l's bucket.
func (l *Limiter) Bucket() Bucket { return Bucket{limiter: l} }

// FromRate makes a bucket of a limiter that is there already, under a name for its
// results. In [All] it must come last, since a rate.Limiter cannot take tokens back.
func FromRate(name string, l *rate.Limiter) Bucket { return Bucket{stranger: l, name: name} }

// Allow takes a token and reports whether there was one.
func (b Bucket) Allow() bool { return b.AllowN(1) }

// AllowN takes n tokens, all or nothing, and reports whether there were as many. An n below
// 1, or above the Burst, is refused.
func (b Bucket) AllowN(n int) bool {
	if b.limiter != nil {
		return b.limiter.AllowN(n)
	}
	return b.Check(n).OK
}

// Check is AllowN for callers who want to know more.
func (b Bucket) Check(n int) Result {
	switch {
	case b.limiter != nil:
		return b.limiter.Check(n)
	case b.stranger != nil:
		return b.checkStranger(n)
	}
	return (&plan{}).result(b.name, 0, int64(n), false)
}

// refund gives back n tokens that Check granted.
func (b Bucket) refund(n int) {
	if b.limiter != nil {
		b.limiter.refund(int64(n))
	}
}

func (l *Limiter) refund(n int64) {
	l.mu.Lock() // no level is closed now
	defer l.mu.Unlock()
	v := l.level.Load()
	v.theoretical.Add(-n * v.cost)
	if e := l.queue.Front(); e != nil {
		e.Value.(*waiter).look()
	}
}

// checkStranger asks a rate.Limiter. A number below 1 does not reach it: it would get
// tokens for that. Nor is anything reserved to find out how long to wait, since to cancel
// a reservation loses what others have reserved after it.
func (b Bucket) checkStranger(n int) Result {
	l := b.stranger
	now := time.Now()
	limit := Limit{Rate: l.Limit(), Burst: l.Burst()}
	r := Result{Limit: limit, Name: b.name, OK: n > 0 && l.AllowN(now, n)}
	tokens := l.TokensAt(now)
	if limit.Rate == rate.Inf {
		tokens = math.MaxInt32
	}
	r.Remaining = int(max(0, tokens))
	missing := func(n float64) time.Duration {
		if limit.Rate <= 0 {
			return rate.InfDuration
		}
		return time.Duration(math.Ceil(max(0, n-tokens) / float64(limit.Rate) * 1e9))
	}
	r.ResetAfter = missing(float64(limit.Burst))
	switch {
	case r.OK:
		r.Granted = n
	case n < 1 || n > limit.Burst:
		r.RetryAfter = rate.InfDuration
	default:
		r.RetryAfter = missing(float64(n))
	}
	return r
}

// All takes n tokens from each of several buckets, or from none: the first that refuses
// has those before it take theirs back, and its result is returned. If none refuses, it
// is the result of the one with the least left.
//
// Name the most specific bucket first, such as those of the route, of the tenant, and of all.
// The other way round, a tenant who is far over its own limit would use up what is
// there for all before it is refused:
//
//	r := limiter.All(1, tenants.For(tenant), everybody.Bucket())
//
// A limit for each that is below half of the limit for all leaves others something even
// so. To share out fairly what is left is not a rate limit's job.
func All(n int, buckets ...Bucket) Result {
	if len(buckets) == 0 {
		p, _ := Limit{Rate: rate.Inf}.plan()
		return p.result("", 0, int64(n), n > 0)
	}
	first := buckets[0].Check(n)
	if !first.OK || len(buckets) == 1 {
		return first
	}
	rest := All(n, buckets[1:]...)
	if !rest.OK {
		if first.Granted > 0 {
			buckets[0].refund(first.Granted)
		}
		return rest
	}
	if first.Remaining <= rest.Remaining {
		rest, first = first, rest
	}
	rest.Shadowed = rest.Shadowed || first.Shadowed
	return rest
}
