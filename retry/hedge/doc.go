// Package hedge sends a call again when its answer is late, and takes the first answer.
//
// Where a service has many replicas, a few calls are slow for no reason of their own: a
// collection of garbage, a queue, a page that had to be read. Another attempt at such a
// call is a normal one, and most likely answered long before the first. The slowest
// calls become as fast as the others, at the price of a few more of them.
//
//	var lookups hedge.Policy // the zero Policy is one for production
//
//	user, err := hedge.Do(ctx, &lookups, func(ctx context.Context) (User, error) {
//		return replicas.User(ctx, id)
//	}, nil)
//
// Use it for calls that are idempotent, for now and then both attempts are carried out,
// at the same time; and where the second may be faster than the first: where it goes to
// another replica, or is not held up by the same lock. Do not use it for writes that
// the other side cannot recognise; nor where all calls are slow at the same time, which
// is a want of capacity that extra calls do not mend; nor around calls that take less
// than a millisecond. For errors there is retry, and the two go together: a hedge inside
// of a retry.
//
// Vocabulary: an attempt is one call of the function; a hedge is an attempt that begins
// while another is under way, or at once when that has failed. The delay is what passes
// before a hedge. An attempt is late when it takes longer.
//
// # Algorithm
//
// Hedged requests are from Dean and Barroso, The Tail at Scale, CACM 56(2), 2013: to wait
// for the 95th percentile of the latency before the second request bounds the extra load
// to 5 % and takes most of the tail away. That an error starts the next attempt, and a
// refusal none, is from gRPC's proposal A6; a budget beside the percentile is from
// Finagle's BackupRequestFilter.
//
// The percentile is followed by stochastic approximation (Robbins and Monro, Annals of
// Mathematical Statistics 22(3), 1951) with a constant step, as in Ma, Muthukrishnan and
// Sandler, Frugal Streaming for Estimating Quantiles, 2013: a late call moves the delay up
// by a factor, any other moves it down by a smaller one. It is one number in an atomic
// word. What it balances is the share of late calls itself, whatever latencies look
// like: over any number of calls the share is off the target by no more than the way that
// the delay has gone, divided by the step and that number (Gibbs and Candès, Adaptive
// Conformal Inference Under Distribution Shift, 2021).
//
// A call that was cancelled took at least as long as it did, and so did one that failed:
// where that is longer than the delay they count as late, otherwise they say nothing.
//
// # Defaults
//
// The zero [Policy] makes 2 attempts, of which the second comes when the call is slower
// than 95 of 100, yet not within 1 ms. It begins with 64 calls in which it only observes.
// All calls together get 6 extra ones in 100, and 4 at once. Each field says why.
//
// # Failure modes
//
//   - A function that ignores its context goes on in a goroutine after Do has returned,
//     for as long as it likes. Do itself never waits for what has lost.
//   - A panic and the end of a goroutine reach the caller, as [Do] says, unless it has left.
//   - When everything is slow, or fails, each call wants a hedge. The bound on extra calls
//     holds whatever happens; the delay follows a tenfold change in about 50 calls when
//     they get slower, and in about 900 when they get faster.
//   - When more calls are slow than the share of extra ones, the observed delay is that of
//     the slow ones and wins little: set Delay, or raise Extra.
//   - When most callers leave before they have an answer, the delay is learned from those
//     that stay, and is too short.
//   - When the budget is empty the call goes on with the attempts that it has.
//   - A restart begins by observing. Each process has a delay and a budget of its own.
//
// Experimental: the API may change with a minor version.
package hedge
