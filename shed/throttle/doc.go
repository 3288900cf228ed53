// Package throttle holds calls back that an overloaded server would only turn away.
//
// A server that sheds load does so at a price: it reads each request, decides and
// answers, and at ten times its capacity that is most of what it does. So its clients
// should send less, and nobody tells them how much. A [Throttle] finds out from how its
// calls end: it sends K times what the server accepts, refuses the rest at once, and
// begins with what matters least.
//
// Use one throttle for each dependency, or each host of one, around every attempt:
//
//	var prices = throttle.New(throttle.Config{Name: "prices"})
//
//	price, err := throttle.Do(ctx, prices, func(ctx context.Context) (Price, error) {
//		return client.Price(ctx, id)
//	})
//	if errors.Is(err, throttle.ErrThrottled) {
//		return lastKnown(id), nil
//	}
//
// Use it where the other side refuses what is too much for it and says so, be it by a
// load shedder, by a quota or by a proxy. Do not use it against a server that fails or
// hangs: that is for a breaker, which goes around a throttle and sees all of this
// package's refusals as no calls at all. Nor in place of a limiter, which keeps to an
// agreed rate: a throttle finds where the limit is by going over it. Nor around calls
// that are retried further in, for each attempt is load.
//
// Vocabulary: a call is accepted or rejected by the other side, or says nothing of it
// and is ignored; see [Classify]. It is refused here, by the throttle. The classes of
// criticality go from 1, best-effort, to 5, critical-plus, and travel in the context, by
// shed.WithCriticality or as they came in with a request. A call without one is critical,
// the fourth.
//
// # Algorithm
//
// It is the adaptive throttling of chapter 21 of Site Reliability Engineering (2016). A
// call is refused with the probability
//
//	max(0, (requests - K × accepts) / (requests + 1))
//
// by the last half minute. Requests are those that the throttle refused too. Without
// them it would take for a recovery what is its own work, and at a hundred times the
// capacity send fourteen times as much; with them it sends K times the capacity,
// whatever the demand.
//
// The book keeps the classes apart, which gives each its share of the overload. Here
// there is one account, and for a class
//
//	requests = those of the class and of all above it, accepts = those of all classes
//
// in the numerator, and the requests of the class alone in the denominator, so that this
// class bears what is too much and those above it do not. Sent is K × accepts in
// all, filled from the top: of the classes one at most is refused in part, those above
// it pass untouched, and of those below it nothing goes through. A lower class needs no
// accepts of its own to come back, as it would in accounts of their own: where the higher
// ones get all that they ask for, K - 1 times that is left.
//
// The other side decides what becomes of those K times its capacity. One that knows
// classes turns away the lowest, and critical calls all succeed
// as long as they fit its capacity. One that does not turns away 1 - 1/K of each class
// that is sent: there, a lower K saves more of the critical ones.
//
// The probability is taken over the whole window and over its two newest buckets, and
// the lesser holds. While all stays as it is they are the same. But when the other side
// can take more, what is sent grows with what was accepted in the span that is looked at:
// after an outage, by the window alone, a client that makes 1000 calls a second would send
// a few of them for half a minute, and then all at once.
//
// Whatever the probability, a call goes through as a probe if for a second none of its
// class or a higher one has.
//
// # Defaults
//
// A zero [Config] sends twice what is accepted, over 30 s. Each field says why. There is
// no least number of calls: a client that makes less than one in a second is never
// refused anything.
//
// # Failure modes
//
//   - A call that panics or ends its goroutine is ignored: it may not have been sent.
//   - A call that hangs counts when it ends, so it holds nothing up, and says nothing.
//   - A permit that is never finished is no call at all.
//   - A server that lets calls time out instead of rejecting them is not seen as
//     overloaded, unless Classify says so.
//   - When all calls are rejected from one moment to the next, half a window of good
//     times has to pass before the first is refused. Demand that grows is answered sooner:
//     ten times the capacity after three seconds.
//   - After an idle window nothing is known: the first burst goes through whole.
//   - When nothing was rejected for a whole window, nothing is refused.
//   - Time is monotonic: wall-clock steps do nothing. While a machine is suspended no
//     time passes, or much, as its system has it.
//   - A restart forgets everything, and each process has a view of its own. Many small
//     clients send a probe a second each.
//
// Experimental: the API may change with a minor version.
package throttle
