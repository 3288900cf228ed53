// Package shedhttp puts load shedding around HTTP: a [Middleware] for servers, and a
// [Transport] for clients, which says what a request is and backs off from servers that
// shed.
//
//	shedder := shed.New(shed.Config{Name: "api"})
//	guard := &shedhttp.Middleware{
//		Shedder: func(*http.Request) *shed.Shedder { return shedder },
//	}
//	server := &http.Server{Addr: addr, Handler: guard.Handler(mux)}
//
// In a server, put it behind what finds out who asks, and before bulkheads. Use a shedder
// for each kind of work that runs out of something of its own: a gateway with one for all
// that is behind it would refuse requests to nine backends for the sake of the tenth.
//
// # What a request says of itself
//
// A request has a class, a tenant, a number of its attempt and the time that is left for
// it. The Middleware puts them into its context, where package shed finds them, and the
// Transport puts those of a context into the requests that are made in it, so that what
// is behind this server knows them too:
//
//	Stormjib-Criticality: sheddable-plus
//	Stormjib-Tenant: "acme"
//	Stormjib-Timeout-Ms: 1500
//	Stormjib-Attempt: 2
//
// The attempt does not go on: a request that is made for a second attempt is a first one.
// Its field is written by a retryhttp.Transport; X-Envoy-Attempt-Count is understood too,
// and so is X-Envoy-Expected-Rq-Timeout-Ms.
//
// What is believed of whom: a request can do itself harm. From anybody its class may be
// lower than it would be, its attempt later and its time shorter. Browsers say the first
// of these in fields of their own: what is fetched before anybody asks for it
// (Sec-Purpose: prefetch) is best-effort, and what they put last of all (RFC 9218,
// Priority: u=5 to u=7) is below critical; u=4 is not, for it may be what a script asks
// for while somebody waits. A higher class, and a tenant, are believed of those alone
// whom Middleware.Trust names, or everybody's requests would be critical-plus, and each
// the first of a new tenant.
//
// A field that is not as it should be, too long, out of range, or there more than once,
// says nothing.
//
// # Algorithm
//
// A request holds its slot until its handler returns, or calls [StopClock], or takes over
// the connection. See packages shed and throttle for the rest.
//
// What a request has shown of the load, its outcome, is what [Classify] makes of its
// status, with these exceptions. A handler that panics, or whose client has left, says
// nothing. One that returns when its deadline is over has run out of time, which is
// overload; but not if it was a client nobody trusts who had set that deadline, or
// anybody could make the limit fall by asking for the impossible.
//
// The time that a handler takes is that of writing to a slow client as well: what does
// not fit in the buffers of the connection waits for it. Large responses should have a
// shedder of their own, or stop the clock.
//
// # Defaults
//
// Refused is with 503; and with 429 where a tenant has more requests waiting than others
// have, and this one had to go for that. Whose fault the overload is cannot be told from
// one request, so who has said nothing of its tenant never gets that. The answer says that
// it is a refusal of this replica: a breakerhttp.Transport on the other side does not take
// it for a failure, a retryhttp.Transport tries another replica at once after a 503, within
// its budget, and the [Transport] of this package sends less.
//
// A request whose time is up when it comes is refused before anything is done for it.
//
// The probes of an orchestrator and the scraping of metrics pass, and count for nothing:
// a server that is busy is not to be restarted for that, nor to go blind. See [Bypass].
// Upgrades do not pass: anybody can write an Upgrade field. But once a connection is
// upgraded it holds no slot any more, and how long it lasts counts for nothing. A
// bulkhead can bound how many there are.
//
// # Failure modes
//
//   - A handler that panics, or ends its goroutine, gives back its slot.
//   - A handler that hangs holds it; see package shed. Give requests a timeout.
//   - A server cannot be made to think it is fast by requests that it can only turn down:
//     see [Classify]. But a 404 counts as an answer, since a lookup that finds nothing
//     takes as long as one that does. Where many are asked for that no route is for, put
//     the Middleware behind the mux.
//   - A client that leaves while its request waits is noticed at once where the request
//     has no body. Where it has one, net/http finds out when the body is read: until then
//     it waits, for MaxWait at most.
//   - The request that a handler gets is a copy, as with any middleware that puts
//     something into a context. What handlers leave in it for those outside, its Pattern
//     and its MultipartForm, is copied back. The trailers of a request that has not
//     announced them are not.
//   - A reverse proxy passes on the fields of this package as they came from its client,
//     for those behind it to believe, unless its Transport is one of this package: that
//     writes them by the context alone.
//
// # Unread bodies
//
// Nothing here reads the body of a request that is refused: net/http does what is to be
// done. It reads up to 256 KiB of it before it sends the answer, so that the connection
// can serve the next request, and closes the connection where there is more, or where the
// client has asked to be told to send it (Expect: 100-continue). A client that sends its
// small body slowly gets its answer late, and holds a connection and a goroutine
// meanwhile, but no slot. The server's ReadTimeout is what bounds that.
//
// # What never gets here
//
// A handler runs when a request has been read. What it takes to get that far, a
// Middleware cannot bound, and at many times its capacity it is what a server dies of. So
// bound it where it begins:
//
//   - connections, by a listener that accepts no more than it should, such as
//     golang.org/x/net/netutil.LimitListener, or by what is in front;
//   - requests of one connection, by MaxConcurrentStreams in the HTTP2 of the
//     http.Server;
//   - the time for a header, by ReadHeaderTimeout; for a body, by ReadTimeout; between
//     requests, by IdleTimeout. All are without a bound by default;
//   - the size of a header, by MaxHeaderBytes: a megabyte by default;
//   - connections that wait to be accepted, by the system's backlog: those whose turn
//     comes late are mostly of clients that have left. A short one refuses them sooner.
//
// Handshakes of TLS, which cost more than many a request, are in front of all this too.
//
// Experimental: the API may change with a minor version.
package shedhttp
