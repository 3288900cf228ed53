package throttle

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Throttle guards one dependency from too many calls. Make it with [New], use it from
// any number of goroutines, and let the garbage collector have it: it has no goroutine
// and no timer, and nothing to close.
//
// Most callers want [Throttle.Do] or the generic [Do]. Adapters, where the call and its
// end are in different places, use [Throttle.Allow] and [Permit.Done].
//
// While nothing is rejected a call costs one reading of the clock, when it ends, and one
// atomic addition; it takes no lock and allocates nothing. Otherwise it costs another
// reading of the clock and a look at what the window holds, and so does a refusal, which
// allocates nothing either. A throttle takes about 300 bytes, and about 1000 more when it
// is busy.
type Throttle struct {
	gate gate
	set  *settings
	name string
	off  bool // lets every call through and counts none

	last [classes]atomic.Pointer[ThrottledError] // that Allow returned, by class
}

// New returns a throttle that has seen no calls. It panics if cfg is not valid; see
// [Config.Validate].
func New(cfg Config) *Throttle { return newThrottle(cfg.Name, cfg.settings()) }

func newThrottle(name string, set *settings) *Throttle {
	t := &Throttle{set: set, name: name}
	t.gate.k, t.gate.window.width = set.k, set.width
	return t
}

// clock returns nanoseconds since the settings were made. It is monotonic, and half the
// price of time.Now. A throttle made inside a testing/synctest bubble and used outside
// would see a time before that; it sees 0.
func (s *settings) clock() int64 { return max(0, int64(time.Since(s.base))) }

// Do calls fn if the throttle lets it through, returns what fn returned, and counts it
// by the classification of its error. If the throttle refuses, the error is a
// [*ThrottledError] and fn is not called. A panic or runtime.Goexit of fn is Ignored and
// goes on with its stack untouched.
func (t *Throttle) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("throttle: Do: nil function")
	}
	p, err := t.Allow(ctx)
	if err != nil {
		return err
	}
	// Done clears p, so that this records only what a panic or Goexit left open. Not
	// recover: it would lose the stack, and does not see Goexit.
	defer p.Record(Ignored)
	err = fn(ctx)
	p.Done(ctx, err)
	return err
}

// Do is [Throttle.Do] for a function with a result. The result is returned untouched
// too, beside an error or not.
func Do[R any](
	ctx context.Context, t *Throttle, fn func(context.Context) (R, error),
) (R, error) {
	if fn == nil {
		panic("throttle: Do: nil function")
	}
	p, err := t.Allow(ctx)
	if err != nil {
		var zero R
		return zero, err
	}
	defer p.Record(Ignored) // as in Throttle.Do
	result, err := fn(ctx)
	p.Done(ctx, err)
	return result, err
}

// Permit is leave for one call, from [Throttle.Allow]. Finish it once, with Done or
// Record; a second finish does nothing, and neither does finishing the zero Permit. It
// must not be copied: a copy could be finished again.
//
// A permit that is never finished counts for nothing.
type Permit struct {
	t     *Throttle // nil: finished
	class int
}

// Allow asks leave for one call of the class that ctx carries. If the error is nil,
// finish the permit when the call has ended, whatever became of it. Otherwise the error
// is a [*ThrottledError].
func (t *Throttle) Allow(ctx context.Context) (Permit, error) {
	if t.off {
		return Permit{}, nil
	}
	class := classOf(ctx)
	if t.gate.until.Load() == 0 {
		return Permit{t, class}, nil // the hot path: nothing was rejected for long
	}
	probability, ok := t.gate.admit(t.set.clock(), class, rand.Float64())
	if !ok {
		return Permit{}, t.refusal(class, probability)
	}
	return Permit{t, class}, nil
}

// Done finishes the permit with the error of the call, nil included, and counts the call
// by what Config.Classify, or [Classify], makes of it. The context is that of the caller
// of the throttle: whether it was cancelled is what tells a caller who left.
func (p *Permit) Done(ctx context.Context, err error) {
	if p.t == nil {
		return
	}
	// The user's code runs before the permit is cleared: if that panics, the deferred
	// Record of Do still finishes it.
	p.Record(p.t.set.classify(ctx, err))
}

// Record finishes the permit with an outcome that the caller has judged itself, as by
// the status of a response.
func (p *Permit) Record(outcome Outcome) {
	if t := p.t; t != nil {
		p.t = nil
		t.gate.count(t.set.clock(), p.class, outcome)
	}
}
