// Package limiterhttp holds HTTP to rate limits: a [Middleware] for servers, with a bucket
// for each client or tenant, and a [Transport] for clients that keep to somebody else's
// limit.
//
//	addresses := &limiterhttp.Middleware{
//		Name:  "address",
//		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "address"}),
//		Key:   limiterhttp.RemoteAddr,
//		Limit: limiter.Limit{Rate: 10, Burst: 50},
//	}
//	http.ListenAndServe(addr, addresses.Handler(mux))
//
// A chain may have several: one by address before anybody is asked who they are, for that
// costs something too, and one by tenant after. A request that the second refuses has
// used its token of the first.
//
// Do not use it against overload: it does not know how much the server can do. And leave
// the health checks outside.
//
// # Algorithm
//
// A request is refused with 429, a Retry-After and a body of application/problem+json (RFC
// 9457) that names the limit. With or without a refusal, responses carry the fields
// RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-11:
//
//	RateLimit-Policy: "address";q=50;w=5
//	RateLimit: "address";r=49;t=5
//
// The limit is q requests in w seconds, and r are left for the next t seconds. A bucket has
// no window; the one that is told is the time that a whole Burst takes to come back, and
// t is the same for what remains of it. So a client that spreads r over t goes at the
// Rate, however much of the bucket is used; the time until the bucket is full would
// have it hurry when that is short and stand still when it is long. Where nothing is left,
// t is the time until there is something. Several limits are several members of the fields.
//
// The fields are set before the handler runs, since afterwards is too late without wrapping
// the ResponseWriter: a redirect has them too, and a client that goes by them may be late
// in following one when r is 0. A handler may delete them. The ResponseWriter and the
// request are passed on as they are, so that whatever they can do, they still can.
//
// # Defaults
//
// There is none for the key: the remote address is that of everybody where there is a proxy,
// and what a proxy says is what anybody says where there is none. A request without a
// key is refused, and so is every request while the Store fails: a limit on tries
// at a password is not one if it can be had out of the way. Both can be changed.
//
// # Failure modes
//
//   - A Store that fails or is asked with an invalid limit: 503, never 429, which would
//     tell clients that they did too much. See FailOpen and OnError.
//   - A Store that hangs holds its requests up until their contexts end: one that goes
//     over a network should have a timeout of its own, of milliseconds.
//   - A request whose context ends meanwhile is not passed on.
//   - A request that was let through and fails has used its token.
//   - Each replica with a [limiter.Keyed] of its own lets the whole limit through. A refusal
//     is of the scope service all the same: to ask the next replica for more is what
//     a limit is against.
//   - Retry-After and the fields are in whole seconds: a limit whose bucket is full again in
//     less looks slower than it is to a client that goes by t.
//   - A waiting request of a Transport notices its context, and http.Client's Timeout, but
//     not its old Cancel channel.
//
// Stable: the API changes only with a major version. The two RateLimit fields follow their
// draft until it is an RFC.
package limiterhttp
