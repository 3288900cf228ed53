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

	keyed *keyed
	hash  uint64 // of the key
	own   bool   // the key has a plan of its own
	plan  plan

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
	switch {
	case b.limiter != nil:
		return b.limiter.AllowN(n)
	case b.keyed != nil:
		return b.keyed.allowN(b.hash, ownPlan(&b), int64(n))
	}
	return b.Check(n).OK
}

// Check is AllowN for callers who want to know more.
func (b Bucket) Check(n int) Result {
	switch {
	case b.limiter != nil:
		return b.limiter.Check(n)
	case b.keyed != nil:
		return b.keyed.checkN(b.hash, ownPlan(&b), int64(n))
	case b.stranger != nil:
		return b.checkStranger(n)
	}
	return (&plan{}).result(b.name, 0, int64(n), false)
}

// ownPlan returns the plan of a key that has one.
func ownPlan(b *Bucket) *plan {
	if b.own {
		return &b.plan
	}
	return nil
}

// refund gives back the tokens that Check granted with r.
func (b Bucket) refund(r Result) {
	switch {
	case b.limiter != nil:
		b.limiter.refund(r)
	case b.keyed != nil:
		b.keyed.refund(b.hash, ownPlan(&b), r)
	}
}

// refund does nothing if the limit is another one by now. Its bucket may have had no
// room for the tokens, and then they were lost already.
func (l *Limiter) refund(r Result) {
	l.mu.Lock() // no level is closed now
	defer l.mu.Unlock()
	v := l.level.Load()
	if r.Limit != v.limit {
		return
	}
	v.theoretical.Add(-int64(r.Granted) * v.cost)
	l.wakeHead()
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
	switch {
	case limit.Rate == rate.Inf:
		r.Remaining = math.MaxInt
	case tokens < float64(limit.Burst):
		r.Remaining = int(max(0, tokens))
	default:
		r.Remaining = limit.Burst // which, as a float64, may not fit into an int
	}
	missing := func(n float64) time.Duration {
		// Not up: who comes less than a nanosecond early is let through there.
		wait := math.Round((n - tokens) / float64(limit.Rate) * 1e9)
		switch {
		case n <= tokens:
			return 0
		case wait >= 0 && wait < float64(rate.InfDuration):
			return time.Duration(wait)
		}
		return rate.InfDuration
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
// Name the most specific bucket first, such as that of the route, of the tenant, of all:
//
//	r := limiter.All(1, tenants.For(tenant), everybody.Bucket())
//
// The other way round, each call of a tenant who is far over its own limit takes what is
// there for all, if only for a moment, and others are refused in that moment. Who asks one
// after another by hand, and that way round, gives nothing back: there such a tenant leaves
// others next to nothing.
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
			buckets[0].refund(first)
		}
		return rest
	}
	// One that was spared has taken nothing, and its limit is not the caller's.
	if rest.Granted == 0 || first.Granted != 0 && first.Remaining <= rest.Remaining {
		rest, first = first, rest
	}
	rest.Shadowed = rest.Shadowed || first.Shadowed
	return rest
}
