// Package breaker stops calling a dependency that does not work.
//
// When a dependency hangs or fails, every call to it costs the caller its timeout,
// a goroutine and a connection, and the dependency load that it cannot use. A
// circuit breaker watches how calls end. When too many fail it opens: calls are
// refused at once, with an error that says so and until when. After a while it lets
// a few through as probes, and if those succeed it lets the others follow.
//
// Use one breaker per dependency, or per host of one, around every call that leaves
// the process:
//
//	var prices = breaker.New(breaker.Config{Name: "prices"})
//
//	price, err := breaker.Do(ctx, prices, func(ctx context.Context) (Price, error) {
//		return client.Price(ctx, id)
//	})
//	if errors.Is(err, breaker.ErrOpen) {
//		return lastKnown(id), nil
//	}
//
// Do not use it where there is nothing to do with a refusal but to pass it on: it is
// the fallback, or the work that is not wasted, that makes it worth having. Nor
// around work of your own process, nor against overload: a breaker knows only all or
// nothing, and a dependency that sheds two thirds of its load is doing well. Nor
// instead of a timeout: a call that never ends never fails.
//
// Vocabulary: a call is a success, a failure, or ignored; see [Classify]. A rule is
// what opens the breaker when broken. A probe is a call let through to find out. A
// permit is leave for one call.
//
// # Algorithm
//
// The states are those of Nygard's Release It (2007), with a ramp added: Closed,
// Open, HalfOpen, Ramp, and Closed again. A failure of a probe, or a broken rule in
// the ramp, opens the breaker again, for longer. The ramp is Envoy's slow start, and
// that the open time goes back step by step and not at once is Envoy's outlier
// detection: a dependency that comes and goes does not get the shortest time each
// time.
//
// A state is one immutable value behind an atomic pointer, with its deadline and its
// counters. To change state is to replace it, so that one caller does, however many
// find the reason, and a permit that outlives its state is known to. A window is
// not a ring of buckets that are cleared: counters only grow, and what slides is a
// list of ten readings of them.
//
// A failure counts in the window in which it ended, however long the call was. A
// success never opens the breaker; a failure, or a slow call, does.
//
// # Defaults
//
// A zero [Config] opens when half of at least 10 calls in 30 s failed, or when all
// calls for 2 s did; stays open for 5 s, growing to 60 s; closes after 3 probes that
// succeed; and then takes 2.5 s to let all calls through. Each field says why.
//
// # Failure modes
//
//   - A call that panics or ends its goroutine counts as a failure, and the panic
//     goes on with its stack.
//   - A call that hangs counts when it ends: give it a timeout. As a probe it holds
//     its place for ProbeTimeout.
//   - A permit that is never finished is no call at all.
//   - A result that comes after the state has changed counts in [Stats], and
//     nowhere else.
//   - Time is monotonic: wall-clock steps do nothing. While a machine is suspended
//     no time passes, or much, as its system has it.
//   - A restart forgets everything; the breaker begins closed.
//   - Each process has its own view. Nothing is shared, so nothing shared can fail.
//
// Stable: the API changes only with a major version.
package breaker
