package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
)

// Breaker guards one dependency. Make it with [New], use it from any number of
// goroutines, and let the garbage collector have it: it has no goroutine and no
// timer, and nothing to close.
//
// Most callers want [Breaker.Do] or the generic [Do]. Adapters, where the call and
// its end are in different places, use [Breaker.Allow] and [Permit.Done].
//
// While the breaker is closed a call costs one reading of the clock, when it ends,
// and one atomic addition; it takes no lock and allocates nothing. A refusal
// costs one reading of the clock and one addition, and allocates nothing either.
// A breaker takes about 400 bytes, and about 500 more when it is busy.
type Breaker struct {
	now  atomic.Pointer[epoch] // the current state, published with all that belongs to it
	set  *settings
	name string

	refused   atomic.Uint64
	unrefused atomic.Uint64 // calls let through only because of Shadow
	ignored   atomic.Uint64

	mu      sync.Mutex // held to change the state, and by the probes of a half-open one
	past    tally      // of earlier epochs, and of calls that outlived theirs
	opened  uint64
	changes *changes // nil if nobody is told
	fixed   bool     // shared by keys without one of their own: manual control is off
}

// New returns a closed breaker. It panics if cfg is not valid; see
// [Config.Validate].
func New(cfg Config) *Breaker {
	return newBreaker(cfg.Name, cfg.settings())
}

func newBreaker(name string, set *settings) *Breaker {
	b := &Breaker{set: set, name: name}
	if set.onChange != nil {
		b.changes = &changes{}
	}
	b.now.Store(b.newEpoch(Closed, auto, 0, 0))
	return b
}

// clock returns nanoseconds since the settings were made. It is monotonic, and
// half the price of time.Now. A breaker made inside a testing/synctest bubble and
// used outside would see a time before that; it sees 0.
func (b *Breaker) clock() int64 { return max(0, int64(time.Since(b.set.base))) }

// Do calls fn if the breaker allows it, returns what fn returned, and counts it by
// the classification of its error. If the breaker refuses, the error is an
// [*OpenError] and fn is not called. A panic or runtime.Goexit of fn counts as a
// failure and goes on with its stack untouched.
func (b *Breaker) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("breaker: Do: nil function")
	}
	p := Permit{b: b, epoch: b.now.Load()}
	if !p.epoch.plain {
		if err := p.acquire(); err != nil {
			return err
		}
	}
	// Done clears p, so that this records only what a panic or Goexit left open.
	// Not recover: it would lose the stack, and does not see Goexit.
	defer p.Record(Failure)
	err := fn(ctx)
	p.Done(ctx, err)
	return err
}

// Do is [Breaker.Do] for a function with a result. The result is returned
// untouched too, beside an error or not.
func Do[R any](
	ctx context.Context, b *Breaker, fn func(context.Context) (R, error),
) (R, error) {
	if fn == nil {
		panic("breaker: Do: nil function")
	}
	p := Permit{b: b, epoch: b.now.Load()}
	if !p.epoch.plain {
		if err := p.acquire(); err != nil {
			var zero R
			return zero, err
		}
	}
	defer p.Record(Failure) // as in Breaker.Do
	result, err := fn(ctx)
	p.Done(ctx, err)
	return result, err
}

// Permit is leave for one call, from [Breaker.Allow]. Finish it once, with Done or
// Record; a second finish does nothing, and neither does finishing the zero Permit.
// It must not be copied: a copy could be finished again.
//
// A permit that is never finished counts for nothing; that of a probe gives back its
// place after ProbeTimeout.
type Permit struct {
	b     *Breaker
	epoch *epoch // when the call began; nil: finished
	start int64  // of the call, if slow calls count or it is a probe
	probe uint64 // its id, if it is a probe
}

// Allow asks leave for one call. If the error is nil, finish the permit when the
// call has ended, whatever became of it. Otherwise the error is an [*OpenError].
func (b *Breaker) Allow() (Permit, error) {
	p := Permit{b: b, epoch: b.now.Load()}
	if p.epoch.plain {
		return p, nil
	}
	err := p.acquire()
	return p, err
}

// Done finishes the permit with the error of the call, nil included, and counts
// the call by what Config.Classify, or [Classify], makes of it. The context is that
// of the caller of the breaker: whether it was cancelled is what tells a caller who
// left from a dependency that failed.
func (p *Permit) Done(ctx context.Context, err error) {
	e := p.epoch
	if e == nil {
		return
	}
	if err != nil || !e.plain || p.b.now.Load() != e {
		p.finish(p.classify(ctx, err), err)
		return
	}
	// The hot path: a success of a breaker that was closed all the time.
	p.epoch = nil
	e.streak.end()
	if e.window.width != 0 {
		e.window.roll(p.b.clock())
		e.window.succeeded.Add(1)
	}
}

// Record finishes the permit with an outcome that the caller has judged itself. An
// outcome that is none of the three counts as a Failure.
func (p *Permit) Record(outcome Outcome) {
	if p.epoch != nil {
		p.finish(outcome, nil)
	}
}

// classify runs the user's code before the permit is cleared: if that panics, the
// deferred Record of Do still finishes the permit.
func (p *Permit) classify(ctx context.Context, err error) Outcome {
	set := p.b.set
	if set.classify != nil {
		return set.classify(ctx, err)
	}
	if err == nil {
		return Success
	}
	outcome := Classify(ctx, err)
	if outcome == Failure && set.slowCall != 0 && p.hurried(ctx) {
		return Ignored
	}
	return outcome
}

// hurried reports whether the call ran into a deadline of its caller's that had
// left it less time than what counts as slow. It goes by the clock, since the
// deadline of an http.Client reaches the call by another way too, and a moment
// earlier than ctx.Err knows of it.
func (p *Permit) hurried(ctx context.Context) bool {
	if ctx == nil {
		return false
	}
	deadline, ok := ctx.Deadline()
	end := int64(deadline.Sub(p.b.set.base))
	return ok && end <= p.b.clock() && end-p.start < p.b.set.slowCall
}

// finish counts the end of any call.
func (p *Permit) finish(outcome Outcome, err error) {
	b, e := p.b, p.epoch
	p.epoch = nil
	now := b.clock()
	slow := b.set.slowCall != 0 && now-p.start >= b.set.slowCall
	if outcome == Ignored {
		b.ignored.Add(1)
	}
	switch {
	case b.now.Load() != e || e.state == Open:
		b.finishLate(now, outcome, slow, err)
	case e.state == HalfOpen:
		b.finishProbe(p, e, now, outcome, slow, err)
	default:
		if rule := b.set.count(e, now, outcome, slow); rule != "" {
			b.open(e, now, rule, verdict.RetryAfter(err))
		}
	}
}

// finishLate counts a call that began in an earlier state, or held up its probe's
// place for too long. It says nothing of how things are now, except that a server
// which asks to be left alone still does.
func (b *Breaker) finishLate(now int64, outcome Outcome, slow bool, err error) {
	b.past.count(outcome, slow)
	if err == nil || outcome != Failure {
		return
	}
	if after := verdict.RetryAfter(err); after > 0 {
		b.prolong(now, after)
	}
}
