package redislimiter

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"

	"github.com/stormjib/stormjib/limiter"
)

const (
	stripes = 16

	// tries is how many leases are looked at to find one that can be forgotten.
	tries = 8
)

// leases are the leases of all keys, in stripes that do not wait for each other.
type leases struct {
	seed    maphash.Seed
	most    int // leases in a stripe
	stripes [stripes]stripe
}

type stripe struct {
	mu   sync.Mutex
	keys map[string]*lease
}

func newLeases(maxKeys int) *leases {
	l := &leases{seed: maphash.MakeSeed(), most: max(1, maxKeys/stripes)}
	for i := range l.stripes {
		l.stripes[i].keys = map[string]*lease{}
	}
	return l
}

func (l *leases) stripe(key string) *stripe {
	return &l.stripes[maphash.String(l.seed, key)%stripes]
}

// lease returns the lease of a key, with the stripe's lock held; or nil if there is no
// room. Room is made by forgetting one that has no tokens and nothing to remember, so a
// flood of keys costs others nothing but a question for each of their own decisions.
func (st *stripe) lease(key string, p *plan, now moment, most int) *lease {
	l := st.keys[key]
	if l == nil {
		if len(st.keys) >= most && !st.forget(now) {
			return nil
		}
		l = &lease{plan: *p}
		st.keys[key] = l
	}
	if l.plan != *p { // another limit: what is here is void, what is under way goes on
		*l = lease{plan: *p, asking: l.asking, wait: l.wait}
	}
	return l
}

func (st *stripe) forget(now moment) bool {
	tried := 0
	for key, l := range st.keys { // in an order that nobody knows
		if l.idle(now) {
			delete(st.keys, key)
			return true
		}
		if tried++; tried == tries {
			break
		}
	}
	return false
}

// leasable reports whether q can be decided by a lease, and sets its terms. They hold
// also if Redis is then asked for this one alone, since a full Burst must not follow on
// the tokens of leases. A call for more than a lease can have goes on top of those.
func (q *question) leasable() bool {
	if q.store.leases == nil || q.most == 0 {
		return false
	}
	t, ok := newTerms(&q.plan, q.store.cfg.Gap)
	if !ok || q.least > t.most {
		return false
	}
	q.terms = t
	return true
}

// step is what a caller of a lease has to do next.
type step int

const (
	decided  step = iota
	askOne        // there is no lease for the key
	askNow        // for a batch, on this goroutine
	askLater      // decided, but ask for a batch in the background
	join          // wait until another has asked
)

// byLease decides by the tokens that are here, and sees to it that there are some.
func (q *question) byLease(ctx context.Context) (Decision, error) {
	for {
		d, next := q.try()
		switch next {
		case decided, askLater:
			if next == askLater {
				q.refresh()
			}
			q.store.count.leased.Add(1)
			return d, nil
		case askOne:
			return q.one(ctx)
		case askNow:
			d, err := q.batch(ctx)
			if err != nil {
				return q.failed(ctx, err)
			}
			return d, nil
		}
		if err := q.join(ctx); err != nil {
			return q.failed(ctx, err)
		}
	}
}

// try takes tokens that are here, or says what to do.
func (q *question) try() (Decision, step) {
	s, st := q.store, q.store.leases.stripe(q.key)
	st.mu.Lock()
	defer st.mu.Unlock()
	q.begun = s.now()
	l := st.lease(q.key, &q.plan, q.begun, s.leases.most)
	q.lease = l
	if l == nil {
		return Decision{}, askOne
	}
	if n, ok := l.take(q.begun, q.most, max(1, q.least)); ok {
		d := q.leased(n, true)
		if !l.due(q.begun) || s.failing.Load() != nil {
			return d, decided
		}
		q.want = l.ask(q.begun, 1, &q.terms)
		return d, askLater
	}
	switch {
	case l.refuses(q.begun):
		l.demand += q.least
		return q.leased(0, q.least == 0), decided
	case l.asking:
		if l.wait == nil {
			l.wait = make(chan struct{})
		}
		q.wait = l.wait
		return Decision{}, join
	case s.failing.Load() != nil:
		return Decision{}, askOne // which sees to a probe, and falls back
	}
	l.demand += q.least
	q.want = l.ask(q.begun, q.most, &q.terms)
	return Decision{}, askNow
}

// leased is a decision by what Redis said when it was asked last.
func (q *question) leased(n int64, ok bool) Decision {
	l, now := q.lease, q.begun
	r := limiter.Result{OK: ok, Name: q.store.cfg.Name, Limit: q.plan.limit}
	r.ResetAfter = max(0, l.full-now.mono)
	if !ok {
		r.RetryAfter = l.next - now.mono
		return Decision{r, FromLease}
	}
	r.Granted = int(n)
	r.Remaining = int(min(l.has(now)+int64(l.rest), q.plan.burst))
	return Decision{r, FromLease}
}

// join waits until another has asked, within the Budget.
func (q *question) join(ctx context.Context) error {
	limited, cancel := q.limited(ctx, q.begun.mono)
	defer cancel()
	select {
	case <-q.wait:
		return nil
	case <-limited.Done():
		return context.Cause(limited)
	}
}

// batch asks for a batch and takes from it.
func (q *question) batch(ctx context.Context) (Decision, error) {
	defer q.ended() // also if a hook of the client panics, or Replicas
	a, err := q.ask(ctx, q.want, max(1, q.least))
	if err != nil {
		return Decision{}, err
	}
	q.charge(a.n)
	q.store.count.redis.Add(1)
	mine := min(a.n, q.most)
	q.settle(answer{a.n - mine, a.debt}, q.want-mine)
	return q.decision(FromRedis, a.debt, mine, a.n >= q.least), nil
}

// refresh asks for a batch in the background, on a copy: the caller's ends before that.
func (q *question) refresh() {
	later := *q
	started := q.store.background.start(func() {
		defer later.ended()
		a, err := later.ask(context.Background(), later.want, 1)
		if err == nil {
			later.charge(a.n)
			later.settle(a, later.want)
		}
	})
	if !started {
		q.ended()
	}
}

// settle puts an answer into the lease, unless that is of another limit by now.
func (q *question) settle(a answer, wanted int64) {
	st := q.store.leases.stripe(q.key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if q.lease.plan == q.plan {
		q.lease.answered(q.begun, q.store.now(), wanted, a, &q.terms, rand.Float64())
	}
}

// ended has those who wait for the question try again.
func (q *question) ended() {
	st := q.store.leases.stripe(q.key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if wait := q.lease.ended(); wait != nil {
		close(wait)
	}
}
