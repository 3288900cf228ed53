package retry

import (
	"math/rand/v2"
	"time"
)

// Backoff returns how long to wait after an attempt that failed. The first attempt
// is number 1; prev is what the Backoff returned in this call before, 0 at first.
//
// It is a pure function but for the random numbers it draws, so one Backoff serves
// any number of calls at once. A result below zero is read as zero.
type Backoff func(attempt int, prev time.Duration) time.Duration

// The constructors below read a negative duration as zero, and never return more
// than most. rnd returns a uniform number in [0, n), as rand.Int64N does; where it
// is nil, that is what is used. It is called by all calls at once.

// Constant waits d each time: for polling, and for tests. Clients that failed
// together come back together.
func Constant(d time.Duration) Backoff {
	return func(int, time.Duration) time.Duration { return max(d, 0) }
}

// Exponential doubles the wait from base to most, without chance. Clients that failed
// together come back together; it is here to compare with, and to build upon.
func Exponential(base, most time.Duration) Backoff {
	return func(attempt int, _ time.Duration) time.Duration { return grown(base, most, attempt) }
}

// FullJitter waits anything up to what [Exponential] would. Of all kinds of jitter it
// brings contending clients through with the least work: Brooker, Exponential Backoff
// And Jitter, AWS Architecture Blog, 2015.
func FullJitter(base, most time.Duration, rnd func(n int64) int64) Backoff {
	return func(attempt int, _ time.Duration) time.Duration {
		return upTo(grown(base, most, attempt), rnd)
	}
}

// EqualJitter waits half of what [Exponential] would, and anything up to the other
// half: for where a wait close to zero makes no sense.
func EqualJitter(base, most time.Duration, rnd func(n int64) int64) Backoff {
	return func(attempt int, _ time.Duration) time.Duration {
		d := grown(base, most, attempt)
		return d/2 + upTo(d-d/2, rnd)
	}
}

// Decorrelated waits anything from base to three times the wait before, at most
// most. It is a little faster than [FullJitter] and makes a little more calls; the
// source is the same.
func Decorrelated(base, most time.Duration, rnd func(n int64) int64) Backoff {
	return func(_ int, prev time.Duration) time.Duration {
		low := max(min(base, most), 0)
		prev = max(prev, low)
		high := max(most, 0)
		if prev <= high/3 {
			high = 3 * prev
		}
		return low + upTo(high-low, rnd)
	}
}

// grown returns base doubled for each attempt after the first, at most most. It
// shifts only what fits.
func grown(base, most time.Duration, attempt int) time.Duration {
	base, most = max(base, 0), max(most, 0)
	shift := max(attempt, 1) - 1
	if shift < 63 && base <= most>>shift {
		return base << shift
	}
	if base == 0 {
		return 0
	}
	return most
}

// upTo returns a duration in [0, d].
func upTo(d time.Duration, rnd func(n int64) int64) time.Duration {
	if rnd == nil {
		rnd = rand.Int64N
	}
	if d < 1<<63-1 {
		d++
	}
	return time.Duration(rnd(int64(d)))
}
