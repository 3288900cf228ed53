// Package retry calls a function again when it fails, without making an outage worse.
//
// A single failure is cured by another attempt. But attempts are load, and when what
// fails is a dependency with too much of it, three attempts for each call are what
// keeps it down: so most retries that hurt were meant to help. A policy of this package
// therefore has a budget by default, of retries in proportion to what succeeds; its
// waits are random; it never waits for what comes too late; and when one layer has
// retried, those above it do not.
//
//	var lookups retry.Policy // the zero Policy is one for production
//
//	user, err := retry.Do(ctx, &lookups, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// Use it for calls that may be repeated without harm: that read, or that the other side
// can recognise. Mark errors that another attempt cannot cure with [Permanent]. Do not
// use it to wait until something comes up, where seconds are short; nor around a call
// that is retried further in; nor where nobody is waiting for the answer any more.
//
// Vocabulary: an attempt is one call of the function; a retry is an attempt after the
// first. A budget holds tokens, and each retry takes one.
//
// # Algorithm
//
// The waits are exponential with full jitter (Brooker, AWS Architecture Blog, 2015). The
// budget is a token bucket to which successes at the first attempt add (Brooker, Fixing
// retries with token buckets and circuit breakers, 2022; gRPC's A6 and Finagle have
// the like). That one layer retries, and tells the others, is from chapter 22 of Site
// Reliability Engineering (2016).
//
// # Defaults
//
// The zero [Policy] makes 3 attempts, with waits of up to 50 ms, doubling up to 2 s; waits
// at most 2 s where an error asks for a delay; and its budget lets retries add a tenth to
// the load, with 3 at once and one in ten seconds whatever succeeds. Each field says why.
//
// In a total outage a thousand clients that call once a second add 30 % to the load in
// the first ten seconds and 15 % over a minute; few clients that call often, under 2 %.
//
// # Failure modes
//
//   - A function that panics or ends its goroutine ends the call; nothing is retried.
//   - A function that ignores its context holds the call for as long as it likes, also
//     beyond AttemptTimeout.
//   - A context that ends during a wait ends the wait and the call, and the token goes
//     back.
//   - When the budget is empty the call ends at once with its error: it is not delayed,
//     so a loop around it that knows no pause would be a busy one.
//   - A restart begins with a full, small bucket.
//   - Each process has a budget of its own.
//
// Stable: the API changes only with a major version.
package retry
