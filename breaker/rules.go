package breaker

import (
	"context"

	"github.com/stormjib/stormjib/internal/verdict"
)

// Outcome is what a call says of the dependency.
type Outcome uint8

// The outcomes of a call.
const (
	Success Outcome = iota
	Failure
	Ignored // neither: it counts for nothing, unless it was slow
)

// Classify is what a Config without a Classify goes by. In this order:
//
//   - no error is a Success;
//   - an error which says that the call was not made, as the refusals of this
//     module's packages do, is Ignored: the dependency had no part in it;
//   - if ctx was cancelled, the caller has left, and the call is Ignored;
//   - all else is a Failure. A deadline too, whoever set it: a dependency that
//     hangs is seen by nothing else, and an http.Client's Timeout arrives as the
//     deadline of the request's context.
func Classify(ctx context.Context, err error) Outcome {
	switch {
	case err == nil:
		return Success
	case verdict.NotAttempted(err):
		return Ignored
	case ctx != nil && ctx.Err() == context.Canceled:
		return Ignored
	}
	return Failure
}

// count counts a call in e, closed or in its ramp, and returns the rule that it
// breaks, or "".
//
// A success never opens the breaker, even as the one that brings the window up to
// MinCalls: the next failure will. A slow one can.
func (s *settings) count(e *epoch, now int64, outcome Outcome, slow bool) (broken string) {
	if e.window.width != 0 {
		e.window.roll(now)
	}
	e.window.count(outcome, slow)
	switch outcome {
	case Success:
		e.streak.end()
	case Ignored:
	default:
		broken = s.failed(e, now)
	}
	if broken == "" && slow && s.tooSlow(e, now) {
		broken = "slow rate"
	}
	return broken
}

// failed returns the rule that one more failure in e breaks.
func (s *settings) failed(e *epoch, now int64) string {
	length, lasting := e.streak.extend(now)
	if s.consecutive != 0 && length >= s.consecutive {
		return "consecutive failures"
	}
	if s.failingFor != 0 && lasting >= s.failingFor && uint64(length) >= s.minCalls {
		return "failing for"
	}
	if s.failureRate != 0 {
		c := e.window.recent(now)
		all := c.succeeded + c.failed
		if all >= s.minCalls && reaches(c.failed, all, s.failureRate) {
			return "failure rate"
		}
	}
	return ""
}

// tooSlow reports whether the slow calls in e are too many. Unlike for failures,
// ignored calls that were slow are part of the whole.
func (s *settings) tooSlow(e *epoch, now int64) bool {
	c := e.window.recent(now)
	all := c.succeeded + c.failed + c.slowIgnored
	return all >= s.minCalls && reaches(c.slow+c.slowIgnored, all, s.slowRate)
}
