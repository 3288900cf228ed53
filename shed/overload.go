package shed

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
)

// ErrOverloaded is matched by every [OverloadError].
var ErrOverloaded = errors.New("shed: overloaded")

// Reason is why a call was refused. It is made for people and for labels.
type Reason string

// The reasons.
const (
	LimitReached Reason = "limit"    // no slot, and the call would not wait
	QueueFull    Reason = "queue"    // no slot, and no place to wait or none in time
	TooLate      Reason = "deadline" // it could not be done before its deadline
	Evicted      Reason = "evicted"  // it waited, and had to make room for another
	Pressure     Reason = "pressure" // no slot, for Config.Pressure has taken some
	Closed       Reason = "closed"   // the Shedder was closed
)

var allReasons = [...]Reason{ //nolint:gochecknoglobals // A constant, but for the language.
	LimitReached, QueueFull, TooLate, Evicted, Pressure, Closed,
}

const reasons = len(allReasons)

func (r Reason) index() int {
	for i, other := range allReasons {
		if r == other {
			return i
		}
	}
	return 0
}

// OverloadError is the error of a call that was refused, and not made. It matches
// [ErrOverloaded]. It is about this replica alone: another may have a slot.
type OverloadError struct {
	Name   string      // Config.Name
	Reason Reason      // why
	Class  Criticality // that the call was counted for

	// OverShare is true if the call's tenant had more calls waiting than others of its class,
	// and this one had to go for that. It is the tenant's doing, and there may be room for
	// others.
	OverShare bool
}

// Error names the shedder, the reason and the class.
func (e *OverloadError) Error() string {
	return "shed" + quoted(e.Name) + ": overloaded: " + string(e.Reason) +
		", for " + e.Class.String() + overShare(e.OverShare)
}

func overShare(is bool) string {
	if is {
		return ", over its share"
	}
	return ""
}

// Is reports whether target is [ErrOverloaded].
func (e *OverloadError) Is(target error) bool { return target == ErrOverloaded }

// NotAttempted returns true: the call was not made.
func (e *OverloadError) NotAttempted() bool { return true }

// RetryAfter returns a second, give or take a half, and another one each time: those who
// are refused together should not come back together.
func (e *OverloadError) RetryAfter() time.Duration {
	return time.Second/2 + rand.N(time.Second)
}

// denial is why a call is refused. It is zero if it is not.
type denial struct {
	why       Reason
	overShare bool
}

// refuse counts a refusal and returns its error, of which there is one for each class and
// denial, made in advance: what is refused must cost nothing.
func (s *Shedder) refuse(d denial, c Criticality) error {
	if s.pressed.Load() && (d.why == LimitReached || d.why == QueueFull) {
		d.why = Pressure
	}
	s.refused[c].Add(1)
	if d.overShare {
		return s.crowders[c][d.why.index()]
	}
	return s.errors[c][d.why.index()]
}

// allRefused returns how many calls were refused so far.
func (s *Shedder) allRefused() uint64 {
	n := uint64(0)
	for c := range s.refused {
		n += s.refused[c].Load()
	}
	return n
}

// Outcome is what the end of a call means for the limit.
type Outcome uint8

// The outcomes. One that is none of the three is Ignored.
const (
	OK         Outcome = iota // it was served; how long it took counts
	Ignored                   // it says nothing: a quick failure, a client that left
	Overloaded                // it ran out of time, or something behind has refused it
)

// Classify is what a Shedder without a Classify goes by: nil is OK; a deadline that is over
// and a refusal from elsewhere that asks to stay away are Overloaded; all other errors, and
// calls that were not attempted, are Ignored.
func Classify(_ context.Context, err error) Outcome {
	switch {
	case err == nil:
		return OK
	case verdict.NotAttempted(err):
		return Ignored
	case errors.Is(err, context.DeadlineExceeded), verdict.RetryAfter(err) > 0:
		return Overloaded
	}
	return Ignored
}
