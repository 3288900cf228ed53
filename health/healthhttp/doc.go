// Package healthhttp answers the probes of Kubernetes, balancers and people over HTTP,
// and takes part in a drain.
//
//	probes := &healthhttp.Probes{Health: state}
//	http.ListenAndServe(addr, probes.Handler(mux))
//
// [Probes] has /livez, /readyz and /startupz. Give each to the probe of that name, and
// /readyz to a balancer. Do not give /readyz to what restarts: it fails where a restart
// does not help.
//
// [Middleware] has the clients of a server that drains go to another one: each reply says
// that its connection is over, and event streams and websockets are asked to leave one by
// one. It refuses nothing.
//
//	draining := &healthhttp.Middleware{Drain: drain}
//	srv.Handler = probes.Handler(draining.Handler(mux))
//
// Probes is the outermost handler. A probe that waits in the queue of what it should tell
// about says that the process is dead while it is busy; a rate limit for an address has
// all the probes of a node in one bucket. Where probes come over another port than
// requests, they say nothing of the port of the requests.
//
// # Algorithm
//
// A probe without a query that passes is an atomic load and the text ok. Any other answer
// is made of one [health.Report], so that its parts are of one moment. Pass and warn are
// 200, fail is 503, and neither is cached. JSON is in the terms of
// draft-inadarei-api-health-check-06, with phase, class and what else there is as members
// of its own.
//
// What fails is named in any answer, since that is what a probe is looked at for. What
// its error says is not: "reason withheld" is there instead, unless Details allows it.
//
// # Defaults
//
// Text, and no details for anybody: a probe is open to all who reach the port, and errors
// have addresses, users and queries in them.
//
// # Failure modes
//
//   - A check that hangs, or a thousand probes at a time: no probe waits for anything.
//   - A client that goes away changes nothing: no check runs for a probe.
//   - A probe before Start, or while the replica starts: /readyz and /startupz are 503,
//     /livez is 200.
//   - An excluded name that is not there is no error, but is named, as in Kubernetes: or
//     a probe would fail for a check that a release has no more. A replica that drains
//     is not ready, whatever is excluded.
//   - A panic of Details goes to net/http, as that of a handler does.
//
// Stable: the API changes only with a major version.
package healthhttp
