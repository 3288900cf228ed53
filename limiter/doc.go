// Package limiter bounds how often something happens.
//
// A client that sends fifty times its share, a batch job without a brake, a partner's quota
// of ten calls a second: what they have in common is a rate, and a limiter lets that rate
// through and no more. It is a bucket that holds Burst tokens and gets Rate of them a
// second; a call takes one, and without one it is refused, or waits.
//
// One limit for everything is a [Limiter]:
//
//	var partner = limiter.New(limiter.Config{
//		Name:     "partner",
//		Limit:    limiter.Limit{Rate: 10, Burst: 10},
//		MaxQueue: 100,
//	})
//
//	if err := partner.Wait(ctx, 1); err != nil {
//		return err
//	}
//
// One for each client, tenant or address is a [Keyed], which takes a fixed amount of memory
// however many there are:
//
//	var tenants = limiter.NewKeyed(limiter.KeyedConfig[string]{
//		Name:  "tenants",
//		Limit: limiter.Limit{Rate: 100, Burst: 20},
//	})
//
//	if r := tenants.Check(tenant, 1); !r.OK {
//		return r.Err()
//	}
//
// [All] holds a call against several limits at once.
//
// Do not use it against overload: how much a server can do changes with what it does, and
// a rate that was right when it was measured is wrong after the next release. A limit is
// for what somebody was promised, or may have. Nor to bound how many calls are under way
// at a time: a hundred a second may be one at a time or a thousand; that is a bulkhead's
// job. Nor for a limit that a fleet shares: ten replicas let ten times as much through,
// unless they share a [Store].
//
// # Algorithm
//
// The generic cell rate algorithm of the ATM Forum (Traffic Management 4.0, 1996): the
// state of a bucket is one number, the time at which it will be full again. A call moves
// it on by the time that its tokens take to come back, unless it would then be further
// away than a whole burst takes. That is a token bucket, exactly, in one atomic word: no
// lock, nothing to fill up in the background, and a call that is refused changes nothing.
//
// Waiting is a queue, first come, first served. Those who wait have reserved nothing; so
// when one gives up nothing is lost, and a new limit is theirs at once.
//
// # Defaults
//
// The zero [Limit] lets nothing through. Nobody waits unless MaxQueue says so. A [Keyed]
// has room for 65,536 keys.
//
// # Failure modes
//
//   - Time is monotonic: wall-clock steps do nothing. A goroutine that is held up between
//     reading the clock and taking its tokens gets fewer than it might, never more. While
//     a machine is suspended no time passes, or much, as its system has it: then buckets
//     are full, and not fuller.
//   - A call that was let through and then panics, fails or is never made has used its
//     tokens.
//   - A restart fills all buckets.
//   - While somebody waits, Allow refuses: who waits goes first.
//
// Stable: the API changes only with a major version.
package limiter
