package hedge

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Do calls fn, once more while that has not returned if p says so, and returns the first
// result that comes without an error. It may call fn on several goroutines at a time,
// none of them the caller's, so fn must be idempotent, and must do with a context of
// its own: that is cancelled when Do returns, so finish reading a response's body
// inside fn. A call that needs no second attempt costs a goroutine, a timer and four
// allocations, together less than a microsecond.
//
// Do does not wait for attempts that have lost: they go on until fn returns. Where they
// come to a result without an error, it is given to discard, once each, on a
// goroutine of their own and possibly after Do has returned. If discard is nil, such
// results are dropped.
//
// An error never ends the call while another attempt is under way. It starts the next
// attempt at once, within MaxAttempts and the budgets, unless it says that there is no
// use in that (it has a method Retryable that returns false) or that there is too much
// load already (it is a refusal, or asks for a delay).
//
// If only one attempt was made, its error is returned as it is. The error of several
// matches that of each; [errors.As] finds the last one first. As for any join, it was not
// attempted only if no attempt was, is not retryable if one is not, and the longest delay
// holds. The result beside an error is that of the last attempt that failed.
//
// When ctx ends, Do returns at once, with an error that matches ctx.Err,
// [context.Cause], and those of attempts that had failed before. When ctx is done
// already, fn is not called.
//
// A panic of fn goes on in the caller as a [*PanicError], and [runtime.Goexit] ends the
// caller too, whatever the other attempts would have come to. A panic after Do has
// returned has no caller to go to, and ends the program like that of any goroutine.
func Do[R any](
	ctx context.Context, p *Policy, fn func(context.Context) (R, error), discard func(R),
) (R, error) {
	if p == nil || fn == nil {
		panic("hedge: Do: nil Policy or function")
	}
	if ctx.Err() != nil {
		var zero R
		return zero, ended.New(ctx, "hedge", true)
	}
	c := begin(ctx, p, fn, discard)
	<-c.ctx.Done() // its end is that of the call, whoever ends it
	result, end := c.end(ctx)
	switch {
	case end.panicked != nil:
		panic(end.panicked)
	case end.exited:
		runtime.Goexit()
	}
	return result, end.err
}

// call is one call of Do. The attempts run on goroutines of their own, the first one
// included: on the caller's it would be cheaper by a third, but when a later one has
// the answer, or ctx ends, the caller would have to wait for whatever it is doing.
// What fails, or is late, starts the next one itself; the caller waits for one event
// only, the end of the context of the attempts, which is why whoever settles the call
// ends it.
type call[R any] struct {
	run func()     // c.attempts; made once, since each mention of it would allocate
	mu  sync.Mutex // of what changes in state

	state[R]
}

// state is what is made anew when a call is used again. The lock is not part of it:
// who has let go of it last may still be at that.
type state[R any] struct {
	policy  *Policy
	fn      func(context.Context) (R, error)
	discard func(R)
	ctx     context.Context //nolint:containedctx // a call lives no longer than its context
	cancel  context.CancelFunc
	delay   time.Duration
	start   int64 // if there is no delay yet, but the policy is to learn one

	timer    *time.Timer // starts the next attempt; nil if there is no delay
	users    int         // the caller, the goroutines, and the timer while it is armed
	begun    int         // attempts
	running  int         // of them
	late     int64       // when the delay was over; 0: not yet
	barred   bool        // an error forbids further attempts
	observed bool        // the first attempt is, by the policy
	settled  bool        // the end is known: what comes now has lost
	result   R
	ending
}

// ending is how a call ends. If there is nothing in it, well.
type ending struct {
	err      error
	errs     []error // of the attempts that failed
	panicked *PanicError
	exited   bool
}

// begin starts a call.
func begin[R any](
	ctx context.Context, p *Policy, fn func(context.Context) (R, error), discard func(R),
) *call[R] {
	c, _ := p.idle.Get().(*call[R])
	if c == nil {
		c = &call[R]{}
		c.run = c.attempts
	}
	c.policy, c.fn, c.discard = p, fn, discard
	c.ctx, c.cancel = context.WithCancel(ctx)
	p.calls.Add(1)
	p.extra.add(int64(min(p.share()*headroom, 1) * token))
	c.users = 2
	c.delay = p.delay()
	if c.delay > 0 {
		c.mu.Lock() // the timer may be faster than the assignment
		c.users++
		c.timer = time.AfterFunc(c.delay, c.run)
		c.mu.Unlock()
	} else {
		c.start = p.clock()
	}
	go c.run()
	return c
}

// attempts makes an attempt, if one may be made, and the next at once while they fail.
func (c *call[R]) attempts() {
	c.mu.Lock()
	n := c.next()
	if n == 0 {
		c.leave()
		return
	}
	c.mu.Unlock()
	for n != 0 {
		n = c.attempt(n)
	}
}

// next returns the number of the attempt that may begin now, 0 if none may. It is called
// with the lock held.
func (c *call[R]) next() int {
	if c.settled {
		return 0
	}
	if c.begun > 0 {
		if c.late == 0 {
			c.late = c.policy.clock()
		}
		if c.barred || c.begun >= c.policy.maxAttempts() || c.ctx.Err() != nil || !c.policy.take() {
			return 0
		}
		c.disarm()
		if c.timer != nil && c.begun+1 < c.policy.maxAttempts() {
			c.users++
			c.timer.Reset(c.delay)
		}
	}
	c.begun++
	c.running++
	return c.begun
}

// attempt makes the nth attempt, and returns the number of the one to follow it at once.
func (c *call[R]) attempt(n int) (next int) {
	ctx := c.ctx
	if n > 1 {
		ctx = hop.WithAttempt(ctx, hop.Attempt(ctx)+n-1)
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		c.mu.Lock()
		if c.settled { // too late to recover: the panic would be lost
			c.running--
			c.leave()
			return
		}
		c.broke(recover())
	}()
	result, err := c.fn(ctx)
	returned = true
	return c.finish(n, result, err)
}

// finish takes what an attempt has come to.
func (c *call[R]) finish(n int, result R, err error) (next int) {
	c.mu.Lock()
	c.running--
	switch {
	case c.settled:
		discard := c.discard
		c.leave()
		if err == nil && discard != nil {
			discard(result)
		}
		return 0
	case err == nil:
		if n > 1 {
			c.policy.won.Add(1)
		}
		c.observe(n == 1)
		c.result, c.errs = result, nil
		c.settle()
		return 0
	case c.ctx.Err() != nil: // the caller is leaving, and does not wait for what it would hear
		c.leave()
		return 0
	}
	if n == 1 {
		c.observe(false)
	}
	c.result, c.errs = result, append(c.errs, err)
	c.barred = c.barred || !worthAnother(err)
	if next = c.next(); next != 0 {
		c.mu.Unlock()
		return next
	}
	if c.barred {
		c.disarm()
	}
	if c.running > 0 {
		c.leave()
		return 0
	}
	c.settle()
	return 0
}

// worthAnother reports whether err lets another attempt follow. What refuses, or asks for
// a delay, has too much load already, and it is the same load here and there.
func worthAnother(err error) bool {
	return verdict.Retryable(err) && !verdict.NotAttempted(err) && verdict.RetryAfter(err) == 0
}

// broke ends the call that an attempt has left by a panic, or by Goexit if there is none.
// It is called with the lock held.
func (c *call[R]) broke(panicked any) {
	if panicked != nil {
		c.panicked = &PanicError{Value: panicked, Stack: debug.Stack()}
	} else {
		c.exited = true
	}
	c.running--
	c.settle()
}

// settle ends the call, and unlocks it.
func (c *call[R]) settle() {
	c.settled = true
	c.observe(false)
	c.disarm()
	cancel := c.cancel
	c.leave()
	cancel()
}

// end returns what the call has ended with, or ends it because its caller's context
// has.
func (c *call[R]) end(ctx context.Context) (R, ending) {
	c.mu.Lock()
	left := !c.settled
	if left {
		c.settled = true
		c.observe(false)
		c.disarm()
	}
	result, end := c.result, c.ending
	c.leave()
	if left {
		end.err = joined(end.errs, ended.New(ctx, "hedge", false))
	} else if end.errs != nil {
		end.err = joined(end.errs, nil)
	}
	return result, end
}

// observe tells the policy how long the first attempt took: exactly, or so far. It does
// so once. For a call that is not late it reads no clock: that its delay was not over is
// all there is to know.
func (c *call[R]) observe(exactly bool) {
	if c.observed || c.policy.Delay > 0 {
		return
	}
	c.observed = true
	took := time.Duration(0)
	switch {
	case c.delay == 0:
		took = time.Duration(c.policy.clock() - c.start)
	case c.late != 0:
		took = c.delay + time.Duration(c.policy.clock()-c.late)
	}
	c.policy.observe(took, exactly)
}

// disarm stops the timer. If it fires this moment its goroutine is still a user.
func (c *call[R]) disarm() {
	if c.timer != nil && c.timer.Stop() {
		c.users--
	}
}

// leave unlocks the call for the last time that this goroutine knows it. What is left
// by all is used again for another one: with its lock and its closure it is most of what
// would have to be allocated.
func (c *call[R]) leave() {
	c.users--
	last := c.users == 0
	c.mu.Unlock()
	if last {
		p := c.policy
		c.state = state[R]{}
		p.idle.Put(c)
	}
}

// PanicError is what a panic of an attempt goes on with in the caller. It has happened on
// another goroutine, whose stack would be lost with it.
type PanicError struct {
	Value any    // what the attempt panicked with
	Stack []byte // of the attempt
}

// Error returns the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("hedge: an attempt panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// failures are the errors of several attempts, or of some and of the context.
type failures struct{ errs []error } // the last one first

func (f *failures) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v (", f.errs[0])
	for i, err := range f.errs[1:] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%v", err)
	}
	return b.String() + ")"
}

func (f *failures) Unwrap() []error { return f.errs }

// joined returns the errors of the attempts as one, with that of the context if it has
// ended.
func joined(errs []error, end *ended.Error) error {
	slices.Reverse(errs)
	if end != nil {
		errs = append(errs, end)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return &failures{errs}
}
