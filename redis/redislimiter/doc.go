// Package redislimiter keeps rate limits in Redis, where a whole fleet shares them.
//
// A limiter in memory limits one replica. Ten of them let ten times as much through; a
// tenth of the limit for each is right only while all get the same share of the traffic
// and somebody changes it with every replica. A [Store] is a [limiter.Store] for which
// there is one bucket, however many replicas there are:
//
//	client := redis.NewClient(&redis.Options{
//		Addr: "redis:6379", ContextTimeoutEnabled: true, MaxRetries: -1,
//	})
//	store := redislimiter.New(redislimiter.Config{
//		Name:     "tenants",
//		Client:   client,
//		Replicas: replicas, // how many there are now
//		Gap:      50 * time.Millisecond,
//	})
//	result, err := store.Take(ctx, tenant, limiter.Limit{Rate: 1000, Burst: 200}, 1, 1)
//
// Do not use it where a limit may be off by the number of replicas, as one against floods
// by address may: memory is a thousand times as fast and does not fail. Nor against
// overload; see package limiter.
//
// # Algorithm
//
// The generic cell rate algorithm, as in package limiter, in a script that Redis runs in
// one piece: one key and one round trip for each question, in whole numbers of
// sixteenths of a nanosecond, by Redis's own clock. A bucket is kept as when it was
// written and how long from then it takes to fill, so that a clock that goes back, as
// after a failover, has nobody wait for longer than before. A refusal writes nothing,
// and a bucket that is full is gone. It needs Redis 5, and works on a cluster.
//
// With a Gap tokens are leased. A replica takes as many of a key as it will need for a
// gap, going by the last ones, and asks for the next in the background when the gap is
// over and half of them are used. So a key in steady demand costs each replica one
// question a gap, whether a hundred a second come or a million; a demand that rises all
// at once costs a few more, each for twice as many tokens. Where Redis had fewer than
// were asked for, nobody asks again within a gap, and calls for which there are no
// tokens here are refused meanwhile.
//
// Tokens are void two gaps after they were asked for, by the monotonic clock or the wall
// clock, whichever is first, so that a machine that was suspended has none left over;
// none is ever given back, for that could give it twice. And each question leaves in the
// bucket what comes in during two gaps. So in any stretch of time all replicas together
// let through no more than Burst plus Rate times its length, as without leases; but of
// the Burst what comes in during two gaps can't be had at once.
//
// Of a bucket that fills in less than four gaps, a quarter of that time is the gap. Where
// there is not a token in a gap, or a Burst below 4, there is nothing to lease, and each
// decision asks Redis.
//
// # Defaults
//
// A decision waits 20 ms for Redis, once, without another try. There are no leases,
// since they refuse some of what could pass when demand is just about the limit, a few
// in a hundred. When Redis can't be asked each replica holds to its share of the limit:
// to refuse everything makes an outage of the limiter one of the service, and to let
// everything pass leaves what is behind it without protection in a bad hour.
//
// # Failure modes
//
//   - Redis does not answer: after the first time nobody asks for 100 ms, and for longer
//     if it goes on, up to 3 s; then one question in the background finds out whether it
//     is back. An outage costs those calls a Budget that are under way when it begins,
//     and no others. See [Fail] for what is decided meanwhile; it is never a refusal.
//   - Redis answers with an error: that call is decided as in an outage, but the next
//     asks.
//   - In a cluster, an outage of one shard is one for all keys of the Store, for as long
//     as that shard is away.
//   - With FailLocal an outage of time t lets through Rate*t + Burst, at most, over all
//     replicas, if Replicas is right, or one burst of a single token for each if there
//     are more of them than that; and as much less as the traffic is uneven. A share has
//     been charged with what its replica had used before. What tokens are leased stay
//     good.
//   - Redis loses its memory, in a restart, a flush or a failover: all buckets are full,
//     which is worth a Burst.
//   - Redis's clock leaps ahead: buckets fill by as much, which is worth a Burst at most.
//   - An answer that comes late, or goes lost, has taken its tokens.
//   - With leases, a call for more than may be leased at once comes on top of the tokens
//     that are leased; and one for fewer, but more than are here, is refused where
//     others were within the last gap.
//   - While a key is refused by its lease, its bucket may have been deleted in Redis by
//     hand: that is seen a gap later.
//   - There are more keys than MaxKeys: those without a lease are asked for one by one.
//   - Of a key, what a client can choose should be bounded in length: Redis keeps it as
//     it is.
//
// Stable: the API changes only with a major version.
package redislimiter
