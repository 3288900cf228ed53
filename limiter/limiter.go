package limiter

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Config configures a [Limiter].
type Config struct {
	// Name is carried in errors, results and Stats. It is for people, and need not be
	// unique.
	Name string

	// Limit is what passes. If zero, nothing does.
	Limit Limit

	// MaxQueue is how many callers may wait in [Limiter.Wait] and [Limiter.Do]. If
	// zero, none: they refuse at once, as Allow does. A queue is for work that may be
	// late, such as a batch that keeps to another's limit. Where somebody waits for an
	// answer, a call that is refused can still be answered otherwise.
	MaxQueue int

	// Shadow lets everything through, but counts what would not have been: for finding
	// out what a limit would do. If zero, the limit holds.
	Shadow bool
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [New] panics with the same text.
func (c Config) Validate() error {
	err := c.Limit.Validate()
	if c.MaxQueue < 0 {
		err = errors.Join(err, fmt.Errorf("limiter: Config%s: MaxQueue is %d, "+
			"but must not be negative", quoted(c.Name), c.MaxQueue))
	}
	return err
}

// Limiter is one bucket of tokens. Make it with [New], use it from any number of
// goroutines, and let the garbage collector have it: it has no goroutine, and nothing to
// close.
//
// Use [Limiter.Allow] to drop or refuse what is too much, [Limiter.Check] to tell the
// caller how long it should stay away, [Limiter.Wait] to be slowed down, and
// [Limiter.Do], or the generic [Do], around a call.
//
// A call costs one reading of the clock and one compare-and-swap; it takes no lock and
// allocates nothing. A refusal writes nothing at all, so that however many are refused
// do not slow each other, or those who are not. Calls that are let through, or refused,
// are therefore not counted here; count them where you call. A limiter takes about 200
// bytes.
type Limiter struct {
	level  atomic.Pointer[level]
	queued atomic.Int64 // tokens that those in the queue wait for; set with the lock held

	name     string
	base     time.Time
	maxQueue int
	shadow   bool

	shadowed, queueFull, tooShort, gaveUp atomic.Uint64

	last atomic.Pointer[LimitedError] // that Do returned

	mu    sync.Mutex // held to wait, and to set the limit
	queue list.List  // of *waiter, first come first
}

// level is a limit and how much of it is used. To change the limit is to replace the
// level, so that no call can take by one limit what is counted by another.
type level struct {
	plan

	// theoretical is the theoretical arrival time of the algorithm: when the bucket is
	// full again. Of a level that was replaced it is closed, far behind any other.
	theoretical atomic.Int64
}

const closed = maxAge + 2*maxTicks

// New returns a limiter whose bucket is full. It panics if cfg is not valid; see
// [Config.Validate].
func New(cfg Config) *Limiter {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	l := &Limiter{name: cfg.Name, base: time.Now(), maxQueue: cfg.MaxQueue, shadow: cfg.Shadow}
	plan, _ := cfg.Limit.plan()
	l.level.Store(&level{plan: plan})
	return l
}

// clock returns ticks since the limiter was made. It is monotonic, and half the price of
// time.Now.
func (l *Limiter) clock() int64 { return ticks(time.Since(l.base)) }

// debt returns how long it is until the bucket is full.
func (v *level) debt(now int64) int64 { return max(v.theoretical.Load(), now) - now }

// take takes n, if there are as many, and returns the debt that there is then.
//
// It is right in any order: a goroutine that was held up between its reading of the
// clock and here finds a later time stored, and counts from that. It can come away
// with less than it might have had, and never with more.
func (v *level) take(now, n int64) (debt int64, ok bool) {
	if v.cost == 0 && n <= v.burst {
		return 0, true
	}
	for {
		stored := v.theoretical.Load()
		debt := max(stored, now) - now
		if n > v.burst || debt+n*v.cost > v.full {
			return debt, false
		}
		if v.theoretical.CompareAndSwap(stored, now+debt+n*v.cost) {
			return debt + n*v.cost, true
		}
	}
}

// take takes n from the level that holds, unless others wait, who go first.
func (l *Limiter) take(n int) (v *level, debt int64, ok bool) {
	for {
		v = l.level.Load()
		now := l.clock()
		switch {
		case n < 1 || l.queued.Load() != 0:
			debt = v.debt(now)
		default:
			debt, ok = v.take(now, int64(n))
		}
		if ok || debt < closed-now {
			return v, debt, ok
		}
		l.mu.Lock()   // SetLimit has closed v, and is about to replace it
		l.mu.Unlock() //nolint:staticcheck // It was for waiting.
	}
}

// Allow takes a token and reports whether there was one. While others wait for tokens
// there is none: nobody passes them.
func (l *Limiter) Allow() bool { return l.AllowN(1) }

// AllowN is Allow for n tokens. It takes all or nothing. An n below 1, or above the
// Burst, is refused.
func (l *Limiter) AllowN(n int) bool {
	_, _, ok := l.take(n)
	return ok || l.spared()
}

// Check is AllowN for callers who want to know more.
func (l *Limiter) Check(n int) (r Result) { // named, or it would be copied twice
	v, debt, ok := l.take(n)
	r = v.result(l.name, debt, int64(n), ok)
	if ok {
		return r
	}
	r.RetryAfter = v.wait(debt, int64(n), l.queued.Load())
	if l.spared() {
		r.OK, r.Shadowed, r.RetryAfter = true, true, 0
	}
	return r
}

// spared reports whether a call that was refused goes on all the same.
func (l *Limiter) spared() bool {
	if l.shadow {
		l.shadowed.Add(1)
	}
	return l.shadow
}

// Do calls fn when there is a token for it, and returns what fn returned. It waits for
// one only if MaxQueue allows it. If there is none the error is a [*LimitedError] and fn
// is not called; see [Limiter.Wait].
func (l *Limiter) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("limiter: Do: nil function")
	}
	if err := l.Wait(ctx, 1); err != nil {
		return err
	}
	return fn(ctx)
}

// Do is [Limiter.Do] for a function with a result. The result is returned untouched
// too, beside an error or not.
func Do[R any](
	ctx context.Context, l *Limiter, fn func(context.Context) (R, error),
) (R, error) {
	if fn == nil {
		panic("limiter: Do: nil function")
	}
	if err := l.Wait(ctx, 1); err != nil {
		var zero R
		return zero, err
	}
	return fn(ctx)
}

// SetLimit changes the limit. The tokens that are there stay, as far as they fit into the
// new burst; a limiter that let everything through has a full bucket then, and one
// that let nothing through has an empty one. Those who wait go on by the new limit; who
// could not get its tokens before its deadline any more is refused.
func (l *Limiter) SetLimit(limit Limit) error {
	plan, err := limit.plan()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, next := l.level.Load(), &level{plan: plan}
	stored := old.theoretical.Swap(closed)
	now := l.clock()
	next.theoretical.Store(now + plan.debtAfter(&old.plan, max(stored, now)-now))
	l.level.Store(next)
	l.rearm(next, now)
	return nil
}

// debtAfter returns what a debt under the old plan is under p, for the same tokens. As
// it stands it would be the same *time*: slower by ten, the bucket would be nearly full
// at once, and faster by ten, a customer who just paid for more would still be kept out.
func (p *plan) debtAfter(old *plan, debt int64) int64 {
	switch {
	case old.burst == 0:
		return p.full
	case old.cost == 0 || p.cost == 0:
		return 0
	}
	room := uint64(max(0, old.full-debt))
	hi, lo := bits.Mul64(room, uint64(p.cost))
	if hi >= uint64(old.cost) {
		return 0
	}
	room, _ = bits.Div64(hi, lo, uint64(old.cost))
	if room >= uint64(p.full) {
		return 0
	}
	return p.full - int64(room)
}

// Stats is what a limiter knows of itself at one moment.
type Stats struct {
	Name    string  // Config.Name
	Limit   Limit   // as last set
	Tokens  float64 // in the bucket
	Waiting int     // callers in Wait and Do

	// The others only grow.
	Shadowed    uint64 // calls that would have been refused, but for Shadow
	RefusedFull uint64 // callers who found MaxQueue others waiting
	TooShort    uint64 // callers whose deadline was too short for their tokens
	GaveUp      uint64 // callers whose context ended before they had their tokens
}

// Stats returns a snapshot. It takes the lock that those who wait take.
func (l *Limiter) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, now := l.level.Load(), l.clock()
	s := Stats{
		Name:        l.name,
		Limit:       v.limit,
		Tokens:      float64(rate.Inf),
		Waiting:     l.queue.Len(),
		Shadowed:    l.shadowed.Load(),
		RefusedFull: l.queueFull.Load(),
		TooShort:    l.tooShort.Load(),
		GaveUp:      l.gaveUp.Load(),
	}
	switch {
	case v.burst == 0:
		s.Tokens = 0
	case v.cost != 0:
		s.Tokens = float64(max(0, v.full-v.debt(now))) / float64(v.cost)
	}
	return s
}
