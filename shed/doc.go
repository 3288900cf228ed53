// Package shed keeps a server that is asked for more than it can do at doing what it can.
//
// A server that takes everything on serves nobody when there is too much: all requests
// share what there is, each takes longer than its client waits, and the work goes to
// answers that nobody is there for any more. A [Shedder] bounds how many calls are under
// way, finds the bound itself, keeps a few more waiting, the important ones first, and
// refuses the others at once, while they can still go elsewhere.
//
//	var shedder = shed.New(shed.Config{Name: "api"})
//
//	permit, err := shedder.Acquire(ctx)
//	if err != nil {
//		return err // errors.Is(err, shed.ErrOverloaded)
//	}
//	err = serve(ctx)
//	permit.Done(ctx, err)
//
// Use one for each server, or for each kind of work in it that runs out of something of
// its own. Say what is important with [WithCriticality], and who asks with
// stormjib.WithTenant.
//
// Do not use it where the right number is known and does not change, such as that of a
// pool's connections: that is a bulkhead's job. Nor for what a client may have, which is
// a rate limit's. Nor to protect a dependency from its callers: it knows only of its own
// process; a shedder is for the server's side.
//
// Vocabulary: a permit is leave for one call, which holds a slot for it. The limit is how
// many slots there are. A window is a stretch of some fifty calls, after each of which
// the limit is looked at again.
//
// # Algorithm
//
// The limit follows from Little's law, N = X * R: calls under way, calls done in a
// second, seconds that one takes. [RateVegas], the default, knows what calls take while
// all is well, and lets the limit be what is needed for the present throughput at that
// latency, and a little more, as TCP Vegas does (Brakmo, O'Malley and Peterson, SIGCOMM
// 1994). When latency rises and calls are refused, it can't tell by itself whether it is
// the server that has too much to do or something behind it that got slow. So it claims
// the rate that could be served before, at today's latency: where that rate is not
// delivered, the claim was wrong and is dropped. A claim of a rate is safe where a claim
// of slots is not: however many replicas share a backend, their claims add up to what it
// could do before.
//
// The queue is class first, and has calls of a high class pass slots on to each other:
// when one of them had to wait for long, those below have to do with fewer. It is fair
// between tenants inside of a class by start-time fair queueing (Goyal, Vin and Cheng,
// SIGCOMM 1996), charged by how long calls take, over 256 hashed flows. It is first come,
// first served, but in the lowest class that waits when somebody has been waiting for 100
// ms without a break: that is where there is too much, and from then on the newest goes
// first, as in Facebook's Fail at Scale (Maurer, ACM Queue 2015).
//
// # Defaults
//
// A zero [Config] starts with 20 slots, finds between 1 and 1000, and lets as many calls
// wait as there are slots, 8 at least, for 100 ms at most, and twice as many in a burst.
// Each field says why. RateVegas is the default since of the algorithms here it alone
// neither refuses most calls when a dependency gets slower nor lets the limits of
// replicas that share a backend rise in an overload. Vegas, Gradient and AIMD are for
// comparison, and Fixed is for tests.
//
// # Failure modes
//
//   - A call that panics or ends its goroutine gives back its slot.
//   - A call that hangs holds its slot. When none has ended for a second one more is let
//     through, and so on each second: a server is never locked up for good.
//   - A failure that comes quickly says nothing of how much can be done, and is ignored;
//     else a server that does nothing but fail would seem to be a fast one. So is a
//     client that leaves. Calls that run into their deadline shrink the limit.
//   - Time is monotonic. A window during which the machine was suspended is dropped.
//   - A restart forgets what was learned, unless it is given on; see [Shedder.Snapshot].
//     A server that is overloaded from its first second takes that for normal: it still
//     does what it can, at two to four times the latency.
//   - Capacity that is lost looks like a dependency that got slow, until a claim has
//     failed: for some seconds calls take several times as long. In a fleet, the next
//     claims, ever rarer, cost some of that again.
//   - A dependency that gets more than ten times as slow as the server was is taken for
//     stuck. Set nothing for it: what would be served then is worth little.
//   - Calls that take thousands of times as long as others, such as long polls, can take
//     all slots, and be taken for overload. They have to say so: [Permit.StopClock].
//   - Where few are refused each second they know only after MaxWait; where many are,
//     most know at once.
//
// Experimental: the API and the algorithm may change with a minor version.
package shed
