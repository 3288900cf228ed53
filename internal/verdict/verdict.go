// Package verdict reads what an error says about itself: whether the call it
// stands for was ever made, how soon another is pointless, and whether another
// is forbidden.
//
// An error says so by a method of its own: NotAttempted() bool, RetryAfter()
// time.Duration or Retryable() bool. The packages of this module agree on these
// three methods instead of importing each other, and any error of a user's may
// join in.
//
// They are not read with errors.As. It takes the first match in a depth-first
// walk, so one branch of a join would answer for the others, and it allocates.
// Here the outermost error with the method answers along a single chain; where a
// chain forks, every branch is heard and the careful answer wins.
package verdict

import "time"

// NotAttempted reports whether err says that the call was never made. A join
// says so only if every one of its branches does: one call that may have reached
// the other side is enough to have had an effect.
func NotAttempted(err error) bool {
	for err != nil {
		if e, ok := err.(interface{ NotAttempted() bool }); ok {
			return e.NotAttempted()
		}
		branches, next := unwrap(err)
		if branches != nil {
			return every(branches, NotAttempted, false)
		}
		err = next
	}
	return false
}

// RetryAfter returns for how long err says that another call is pointless, or 0
// if it does not say. The longest answer among the branches of a join holds.
// It is never negative.
func RetryAfter(err error) time.Duration {
	for err != nil {
		if e, ok := err.(interface{ RetryAfter() time.Duration }); ok {
			return max(0, e.RetryAfter())
		}
		branches, next := unwrap(err)
		longest := time.Duration(0)
		for _, branch := range branches {
			longest = max(longest, RetryAfter(branch))
		}
		if branches != nil {
			return longest
		}
		err = next
	}
	return 0
}

// Retryable reports whether nothing in err forbids another call. An error that
// says nothing does not forbid it; a join forbids it if any of its branches does.
func Retryable(err error) bool {
	for err != nil {
		if e, ok := err.(interface{ Retryable() bool }); ok {
			return e.Retryable()
		}
		branches, next := unwrap(err)
		if branches != nil {
			return every(branches, Retryable, true)
		}
		err = next
	}
	return true
}

// unwrap returns the error below err, or the branches where it forks.
func unwrap(err error) (branches []error, next error) {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return nil, e.Unwrap()
	case interface{ Unwrap() []error }:
		return e.Unwrap(), nil
	}
	return nil, nil
}

// every reports whether says holds for each branch that is an error at all, and
// ifNone where there is none.
func every(branches []error, says func(error) bool, ifNone bool) bool {
	holds := ifNone
	for _, branch := range branches {
		if branch == nil {
			continue
		}
		if !says(branch) {
			return false
		}
		holds = true
	}
	return holds
}
