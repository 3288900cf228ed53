package retry

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Do calls fn, and again while it fails and p allows it, and returns its last result.
//
// If a single attempt was made and nothing but its error decided, that error is
// returned as it is. Otherwise the error is an [*Error], the result of the last attempt
// beside it. When ctx is done already, fn is not called. The context that fn gets may
// be cancelled when fn returns: finish reading a response's body inside fn.
//
// A first attempt that succeeds costs a few nanoseconds and allocates nothing.
func Do[R any](
	ctx context.Context, p *Policy, fn func(context.Context) (R, error),
) (R, error) {
	if p == nil || fn == nil {
		panic("retry: Do: nil Policy or function")
	}
	l := loop{policy: p}
	if p.AttemptTimeout <= 0 && p.MaxElapsed <= 0 && ctx.Err() == nil {
		// The hot path: whatever else there is to know, only an error asks for it.
		result, err := fn(ctx)
		if err == nil {
			p.budget().Success()
			return result, nil
		}
		l.attempt = 1
		if err = l.failed(ctx, err); err != nil {
			return result, err
		}
	} else if err := l.begin(ctx); err != nil {
		var zero R
		return zero, err
	}
	return attempts(ctx, &l, fn)
}

// Do is the function [Do] for a function without a result.
func (p *Policy) Do(ctx context.Context, fn func(context.Context) error) error {
	if p == nil || fn == nil {
		panic("retry: Do: nil Policy or function")
	}
	_, err := Do(ctx, p, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, fn(ctx)
	})
	return err
}

// attempts makes the attempts that are left.
func attempts[R any](
	ctx context.Context, l *loop, fn func(context.Context) (R, error),
) (R, error) {
	for {
		result, err := attempt(ctx, l, fn)
		if err == nil {
			l.succeeded()
			return result, nil
		}
		if err = l.failed(ctx, err); err != nil {
			return result, err
		}
	}
}

// attempt makes one. Its context ends with it, also if fn panics.
func attempt[R any](
	ctx context.Context, l *loop, fn func(context.Context) (R, error),
) (R, error) {
	ctx, cancel := l.next(ctx)
	defer cancel()
	return fn(ctx)
}

// Attempts is for loops that are no function: it yields the context of an attempt and
// a [Try] that ends it, until the Try is told of a success, or of an error that is not
// retried.
//
//	for ctx, try := range policy.Attempts(ctx) {
//		answer, err := call(ctx)
//		if !try.Again(err) {
//			return answer, try.Err()
//		}
//	}
//	return nil, context.Cause(ctx) // it was done before the first attempt
//
// Again waits. A loop that leaves without it, by break or return, makes no further
// attempt, and its budget learns nothing.
func (p *Policy) Attempts(ctx context.Context) iter.Seq2[context.Context, *Try] {
	if p == nil {
		panic("retry: Attempts: nil Policy")
	}
	return func(yield func(context.Context, *Try) bool) {
		t := Try{outer: ctx, loop: loop{policy: p}}
		if t.loop.begin(ctx) != nil {
			return
		}
		for t.again = true; t.again; {
			if !t.attempt(yield) {
				return
			}
		}
	}
}

// Try is an attempt of [Policy.Attempts].
type Try struct {
	outer  context.Context //nolint:containedctx // of the loop that the Try lives in
	loop   loop
	cancel context.CancelFunc
	again  bool
	err    error
}

// attempt yields one. Its context ends with it, also if the body panics.
func (t *Try) attempt(yield func(context.Context, *Try) bool) (more bool) {
	t.again = false
	ctx, cancel := t.loop.next(t.outer)
	defer cancel()
	t.cancel = cancel
	return yield(ctx, t)
}

// Again ends the attempt with its error, nil included, and reports whether another one
// follows. It waits for that. Then the loop should go on; else it should return
// [Try.Err]. Call it once in each turn of the loop.
func (t *Try) Again(err error) bool {
	t.cancel()
	if err == nil {
		t.loop.succeeded()
	} else {
		err = t.loop.failed(t.outer, err)
		t.again = err == nil
	}
	t.err = err
	return t.again
}

// Err returns what [Do] would, after Again reported false.
func (t *Try) Err() error { return t.err }

// Attempt returns the number of the attempt that ctx belongs to: 1 in the first one, and
// outside of any Policy. In the second attempt of a policy, the attempts of one inside it
// count on from 2: the work is being done again.
func Attempt(ctx context.Context) int { return hop.Attempt(ctx) }

type onceKey struct{}

// Once returns a context in which policies make a single attempt, and return its error
// as it is. It is for those who want an outer layer to retry, and not the inner ones
// that it calls: normally the innermost layer retries, since it knows best, and what it
// gives up on is not retried by the others.
func Once(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, true)
}

// keep is how many errors an Error holds.
const keep = 8

// loop is what one call of a Policy remembers.
type loop struct {
	policy    *Policy
	attempt   int           // made, or under way
	prev      time.Duration // the last backoff
	started   time.Time     // if there is a MaxElapsed
	timer     *time.Timer   // of the waits
	errs      []error
	attempted bool // one attempt at least was more than a refusal
}

// begin returns an error if ctx has ended.
func (l *loop) begin(ctx context.Context) error {
	if l.policy.MaxElapsed > 0 {
		l.started = time.Now()
	}
	if ctx.Err() != nil {
		return l.stop(over(ctx))
	}
	return nil
}

// next returns the context of the next attempt.
func (l *loop) next(ctx context.Context) (context.Context, context.CancelFunc) {
	l.attempt++
	if l.attempt > 1 {
		ctx = hop.WithAttempt(ctx, hop.Attempt(ctx)+l.attempt-1)
	}
	if d := l.policy.AttemptTimeout; d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}

// succeeded tells the budget.
func (l *loop) succeeded() {
	switch b := l.policy.budget(); {
	case l.attempt == 1:
		b.Success()
	case b.Refund:
		b.Return()
	}
}

// failed decides on what follows the error of an attempt. It returns nil when it has
// waited for the next attempt, else what the call ends with.
func (l *loop) failed(ctx context.Context, err error) error {
	if len(l.errs) == keep {
		copy(l.errs[1:], l.errs[2:])
		l.errs[keep-1] = err
	} else {
		l.errs = append(l.errs, err)
	}
	l.attempted = l.attempted || !verdict.NotAttempted(err)
	if ctx.Err() != nil {
		return l.end(over(ctx))
	}
	if !l.retryable(err) {
		return l.alone(&stopped{text: "retry: not to be retried"})
	}
	if most := l.maxAttempts(); most > 0 && l.attempt >= most || ctx.Value(onceKey{}) != nil {
		return l.alone(ErrExhausted)
	}
	delay, reason := l.delay(ctx, err)
	if reason != nil {
		return l.stop(reason)
	}
	if !l.policy.budget().Take() {
		return l.stop(ErrBudget)
	}
	return l.wait(ctx, err, delay)
}

func (l *loop) retryable(err error) bool {
	if l.policy.RetryIf != nil {
		return l.policy.RetryIf(err)
	}
	return verdict.Retryable(err)
}

func (l *loop) maxAttempts() int {
	if l.policy.MaxAttempts == 0 {
		return 3
	}
	return l.policy.MaxAttempts
}

// delay returns how long to wait, or why there is no use in it. What an error asks for
// is a floor, and the backoff comes on top: clients that were told the same moment
// should not come back at the same moment.
func (l *loop) delay(ctx context.Context, err error) (time.Duration, error) {
	most := l.policy.MaxRetryAfter
	if most == 0 {
		most = 2 * time.Second
	}
	asked := verdict.RetryAfter(err)
	if asked > max(most, 0) {
		return 0, &stopped{"retry: asked to wait for " + asked.String(), ErrExhausted}
	}
	l.prev = max(l.backoff()(l.attempt, l.prev), 0)
	delay := asked + l.prev
	if delay < asked {
		delay = math.MaxInt64 // no int64 has it
	}
	if m := l.policy.MaxElapsed; m > 0 && time.Since(l.started) >= m-delay {
		return 0, elapsed()
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		const text = "retry: the deadline comes before the next attempt"
		return 0, &stopped{text, context.DeadlineExceeded}
	}
	return delay, nil
}

func (l *loop) backoff() Backoff {
	if l.policy.Backoff != nil {
		return l.policy.Backoff
	}
	return fullJitter
}

func fullJitter(attempt int, _ time.Duration) time.Duration {
	return upTo(grown(50*time.Millisecond, 2*time.Second, attempt), nil)
}

// wait waits, with a token taken. The token goes back if the attempt is not made.
func (l *loop) wait(ctx context.Context, err error, delay time.Duration) error {
	waited := false
	defer func() {
		if !waited {
			l.policy.budget().Return()
		}
	}()
	if l.policy.OnRetry != nil {
		l.policy.OnRetry(ctx, Event{Attempt: l.attempt, Err: err, Delay: delay})
	}
	if delay > 0 {
		if l.timer == nil {
			l.timer = time.NewTimer(delay)
		} else {
			l.timer.Reset(delay)
		}
		select {
		case <-l.timer.C:
		case <-ctx.Done():
			l.timer.Stop()
		}
	}
	// Of a timer and a context that are ready together, select takes any.
	if ctx.Err() != nil {
		return l.end(over(ctx))
	}
	// OnRetry has taken its time too, and the machine may have slept.
	if m := l.policy.MaxElapsed; m > 0 && time.Since(l.started) > m {
		return l.stop(elapsed())
	}
	waited = true
	return nil
}

func elapsed() error { return &stopped{"retry: MaxElapsed is over, or would be", ErrExhausted} }

// alone ends the call for a reason that a single attempt does not need.
func (l *loop) alone(reason error) error {
	if l.attempt == 1 {
		return l.errs[0]
	}
	return l.stop(reason)
}

// end ends the call because its context has. An error that says so itself is enough.
func (l *loop) end(reason error) error {
	last := l.errs[len(l.errs)-1]
	var e *ended.Error
	if l.attempt == 1 && errors.As(reason, &e) && e.SaidBy(last) {
		return last
	}
	return l.stop(reason)
}

func (l *loop) stop(reason error) error {
	return &Error{
		Attempts: l.attempt, Reason: reason, Errs: l.errs, notAttempted: !l.attempted,
	}
}
