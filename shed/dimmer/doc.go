// Package dimmer leaves optional work out while there is too much to do.
//
// Much of what a service does for a request could be left out: recommendations beside
// an order, a spelling suggestion beside search results, the last digit of a count. Left
// out of some requests, it makes room for others that otherwise would have to be turned
// away. A [Dimmer] measures a delay, and finds the share of requests that can have the
// optional work while the delay keeps to a target. This is called brownout.
//
// Use one dimmer for each thing that can be overloaded, a server most often. Tell it how
// long requests wait, and ask it before each piece of optional work:
//
//	var dims = dimmer.New(dimmer.Config{
//		Name:     "shop",
//		Features: []string{"recommendations", "reviews"},
//	})
//	var recommendations = dims.Feature("recommendations")
//
//	dims.Observe(wait) // of each request, when it is known
//	if recommendations.Allow(ctx) {
//		page.Recommended = recommend(ctx, page)
//	}
//
// Use it where leaving something out is cheaper than doing it, and a part of the answer
// is worth having. Do not use it for work that must be done sooner or later: that is only
// put off, and comes back when it suits least. Nor instead of a shedder: when what is not
// optional alone is too much, only turning requests away helps, and every feature has
// long been dark then. Nor where nobody would notice: take the feature out.
//
// Vocabulary: a feature is a piece of optional work. It is lit for a request if it may
// run, and dimmed otherwise. Its share is the part of the requests for which it is lit.
// What an operator has set by hand is forced.
//
// # A dimmer below a shedder
//
// A dimmer should act before requests are turned away, so its Target must be below what
// the shedder lets a request wait; half of that is a good start, and the default is half
// of a tenth of a second. Observe the wait in the shedder's queue, of the requests that
// were turned away too: their wait is the limit. Where there is no queue to measure,
// observe how long requests take, with a Target of two to three times what is normal:
// that works too, but a dependency which has become slow then looks like an overload.
//
// # Algorithm
//
// Brownout is by Klein, Maggio, Arzen and Hernandez-Rodriguez (ICSE 2014), with one
// controller for the share, called theta there. At the end of each period it becomes
//
//	share += 0.2 × (e - e') + 0.1 × e, where e = (target - mean) / (target + mean)
//
// and e' is the e of the period before. The share is kept between 0 and 1, a step between
// -0.25 and 0.1. This is a PI controller in the velocity form, which has no sum of
// errors to wind up while the share is at one of its ends.
//
// The paper divides the error by an estimate of how the delay answers to the share, from
// recursive least squares. In a queue there is no such factor: its length answers to the
// share by how fast it grows, not by how long it is, and in quiet times the estimate
// learns nothing but noise. A bounded error needs no estimate: a wait of ten targets says
// hardly more than one of five. What holds the swing of a queue down is the first
// term, which the paper does not have: a queue that is getting shorter is left to.
//
// What is measured is the mean of a period, each delay counting as ten targets at most.
// Not a high percentile: with a feature that doubles the time of a request, the 95th is
// the same for every share above a twentieth, and nothing can be steered by it.
//
// Features are dimmed one after another, in the order of the Config: the second
// only when the first is dark. So at any time one feature at most is lit for a part of
// the requests, and the answers to one request go together without any being remembered.
// Which requests those are is chance, or [WithSeed]. There is one share over all of them,
// and with n features n times the share is dealt out from the last.
//
// # Defaults
//
// A zero [Config] has one feature, holds the mean wait at 50 ms and looks twice in a second.
// Each field says why. An overload that comes from one moment to the next is answered
// with a quarter at once, since a request turned away is worse than one without
// recommendations, and to dim everything takes eleven periods. To light everything again
// takes ten or more. A stall that is over after one period costs that quarter for three.
//
// # Failure modes
//
//   - Nothing is observed: the shares stay for 20 periods, since it may be that nothing
//     ends. Then they rise, by a twentieth of the whole in each, until all is lit: a sensor
//     that has died must not keep features dark for ever. [Stats] tells.
//   - A hung request, observed at last, counts as ten targets, and one step down is a
//     quarter at most. A negative delay is a clock's mistake, and is no measurement.
//   - A Signal that is not a number is no measurement. One that panics does so in a caller
//     of Allow or Observe, once in each period, and is no measurement either.
//   - When the delay has another cause than load, everything goes dark and stays so, to no
//     use. Alert on a share of 0.
//   - With few requests in a period the mean is noise, and the shares swing: take a longer
//     Period. So they do when the Target is less than a twentieth of the Period, since a
//     queue then fills and drains within one. On the mean they are too low then, by about
//     a fifth.
//   - When nobody calls nothing changes, and nothing needs to: the next call makes up
//     for the periods that were missed.
//   - Time is monotonic: wall-clock steps do nothing. A restart forgets the shares, but
//     not what is set by hand if the program sets it. Each process has a view of its own.
//
// Experimental: the API may change with a minor version.
package dimmer
