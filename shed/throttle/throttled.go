package throttle

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrThrottled is matched by every [ThrottledError].
var ErrThrottled = errors.New("throttle: throttled")

// ThrottledError is the error of a call that was refused, and not made. It matches
// [ErrThrottled].
type ThrottledError struct {
	Name  string // Config.Name
	Class uint8  // of the call: 1, best-effort, to 5, critical-plus

	// Probability is how likely a call of this class was to be refused, to within a
	// hundredth.
	Probability float64

	after time.Duration
}

// Error names the throttle, the class and the probability.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("throttle%s: overloaded: %s calls are refused with probability %.2f",
		quoted(e.Name), className(e.Class), e.Probability)
}

// Is reports whether target is [ErrThrottled].
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// NotAttempted returns true: the call was not made.
func (e *ThrottledError) NotAttempted() bool { return true }

// RetryAfter returns how long it takes at least until another call has noticeably better
// odds: a tenth of the Window if all calls are refused, and less as fewer are.
func (e *ThrottledError) RetryAfter() time.Duration { return e.after }

// Retryable returns false. How many calls are sent does not depend on how many are tried,
// so a retry that goes through does so in the place of another call, which nobody has
// tried yet. Where the next attempt goes to another host, with a throttle of its own, let
// the retry's RetryIf say so.
func (e *ThrottledError) Retryable() bool { return false }

// refusal returns the error for a refused call. Calls share one until the probability
// has moved by a hundredth: what is refused should not have the garbage collector to pay.
func (t *Throttle) refusal(class int, probability float64) *ThrottledError {
	if e := t.last[class].Load(); e != nil && math.Abs(e.Probability-probability) < 0.01 {
		return e
	}
	e := &ThrottledError{
		Name:        t.name,
		Class:       uint8(class + 1),
		Probability: probability,
		after:       time.Duration(probability * float64(t.set.width)),
	}
	t.last[class].Store(e)
	return e
}
