package redislimiter

import (
	"time"

	"github.com/stormjib/stormjib/limiter"
)

// Script is the source of the script.
var Script = source

// Lease is a lease and its terms, with times since one base on both clocks.
type Lease struct {
	lease lease
	terms terms
}

func NewLease(l limiter.Limit, gap time.Duration) (*Lease, bool) {
	p, err := newPlan(l)
	if err != nil {
		panic(err)
	}
	t, ok := newTerms(&p, gap)
	return &Lease{lease{plan: p}, t}, ok
}

func same(now time.Duration) moment { return moment{now, int64(now)} }

// Terms returns the gap, the life of a token, and in tokens a batch and what is left.
func (l *Lease) Terms() (gap, life time.Duration, most, leave int64) {
	return l.terms.gap, l.terms.life, l.terms.most, l.terms.leave / l.lease.plan.cost
}

// Ask is for one caller, who wants a token.
func (l *Lease) Ask(now time.Duration) int64 { return l.lease.ask(same(now), 1, &l.terms) }

// Answer is n tokens, of a bucket that then owes so many.
func (l *Lease) Answer(begun, now time.Duration, wanted, n, owes int64, jitter float64) {
	a := answer{n, owes * l.lease.plan.cost}
	l.lease.answered(same(begun), same(now), wanted, a, &l.terms, jitter)
	l.lease.ended()
}

func (l *Lease) Take(now time.Duration, most, least int64) (int64, bool) {
	return l.lease.take(same(now), most, least)
}

func (l *Lease) Has(now time.Duration) int64    { return l.lease.has(same(now)) }
func (l *Lease) Due(now time.Duration) bool     { return l.lease.due(same(now)) }
func (l *Lease) Idle(now time.Duration) bool    { return l.lease.idle(same(now)) }
func (l *Lease) Refuses(now time.Duration) bool { return l.lease.refuses(same(now)) }
func (l *Lease) Next() time.Duration            { return l.lease.next }
func (l *Lease) Size() int64                    { return l.lease.size }
func (l *Lease) Want(n int64)                   { l.lease.demand += n }

func (l *Lease) HasAt(mono, wall time.Duration) int64 {
	return l.lease.has(moment{mono, int64(wall)})
}

// Guard is a guard without jitter.
type Guard struct{ guard guard }

func (g *Guard) Failed(now time.Duration) bool     { return g.guard.failed(now, .5) }
func (g *Guard) Due(now time.Duration) bool        { return g.guard.due(now) }
func (g *Guard) Probed(now time.Duration, ok bool) { g.guard.probed(now, ok, .5) }

// Until returns when the pause is over, or 0 while it is closed.
func (g *Guard) Until() time.Duration {
	if !g.guard.open {
		return 0
	}
	return g.guard.until
}
