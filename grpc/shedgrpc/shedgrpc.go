// Package shedgrpc puts load shedding around gRPC: a [Server], which refuses what is too
// much for its handlers, the least critical first, and a [Client], which says what a call
// is and backs off from servers that shed.
//
//	shedder := shed.New(shed.Config{Name: "api"})
//	guard := &shedgrpc.Server{
//		Shedder: func(context.Context, string) *shed.Shedder { return shedder },
//	}
//	server := grpc.NewServer(
//		grpc.ChainUnaryInterceptor(guard.Unary()),
//		grpc.ChainStreamInterceptor(guard.Stream()))
//
// In a server, put it behind what finds out who asks, and before bulkheads. Use a shedder
// for each kind of work that runs out of something of its own.
//
// # What a call says of itself
//
// A call has a class, a tenant, and a number of its attempt. The Server puts them into
// its context, where package shed finds them, and the Client puts class and tenant of a
// context into the calls that are made in it, so that what is behind this server knows
// them too:
//
//	stormjib-criticality: sheddable-plus
//	stormjib-tenant: "acme"
//	grpc-previous-rpc-attempts: 1
//
// The attempt does not go on: a call that is made for a second attempt is a first one.
// Who retries writes it, as retrygrpc and gRPC itself do; x-envoy-attempt-count is
// understood too. The time that is left goes on by itself, in grpc-timeout.
//
// What is believed of whom: a call can do itself harm. From anybody its class may be
// lower than it would be, and its attempt later. A higher class, and a tenant, are
// believed of those alone whom Server.Trust names, or everybody's calls would be
// critical-plus, and each the first of a new tenant.
//
// # Algorithm
//
// A call holds its slot until its handler returns, or calls [StopClock]. See packages
// shed and throttle for the rest.
//
// What a call has shown of the load is what [Classify] makes of its error, with these
// exceptions. A handler that panics, or whose client has left, says nothing. One that
// returns when the deadline of its context is over has run out of time, which is
// overload; but not if the deadline may be that of a client nobody trusts, or anybody
// could make the limit fall by asking for the impossible.
//
// # A tap
//
// By the time an interceptor is called, gRPC has made a goroutine for the call and,
// unless it is a stream, read its message. What that takes is little beside most calls,
// but not nothing, and a flood of calls that are all refused is made of it. [Server.Tap]
// decides before:
//
//	grpc.NewServer(grpc.InTapHandle(guard.Tap()), grpc.ChainUnaryInterceptor(guard.Unary()), ...)
//
// It takes a slot if there is one, and refuses otherwise. It waits for nothing, since it
// runs where the frames of a connection are read: so with a tap there is no queue, and
// what a call is matters only where slots are kept for those that are more critical. The
// interceptors take the slot over, and are needed as well.
//
// # Defaults
//
// Refused is with Unavailable; and with ResourceExhausted where a tenant has more calls
// waiting than others have, and this one had to go for that. The answer says that it is a
// refusal of this replica: a breaker of breakergrpc does not take it for a failure, a
// Client of retrygrpc tries another replica at once, within its budget, and the [Client]
// of this package sends less. Retries are not pushed back (gRFC A6): a client of gRPC's
// own would take that for the whole service, and one full replica must not silence
// retries to nine idle ones.
//
// The services by which others look at a server, health and reflection, pass: a server
// that is busy is not to be restarted for that.
//
// # Failure modes
//
//   - A stream that stays open holds its slot for as long, and seems to be slow: call
//     StopClock in its handler as soon as it waits for news. A bulkhead can bound how
//     many there are.
//   - A handler that hangs holds its slot; see package shed.
//   - A call that the tap has let through, and that never gets to the interceptors, gives
//     its slot back when gRPC ends it.
//   - A server cannot be made to think it is fast by calls that it can only turn down:
//     see [Classify].
//   - What gRPC takes before all this, connections, handshakes and headers, it does not
//     bound: see grpc.MaxConcurrentStreams, grpc.MaxHeaderListSize and the documentation
//     of shedhttp.
//
// Experimental: the API may change with a minor version.
package shedgrpc

import (
	"google.golang.org/grpc/codes"

	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/throttle"
)

// Classify is what a [Server] without a Classify goes by. In this order:
//
//   - nil is OK, and so are NotFound, AlreadyExists, Aborted and FailedPrecondition: to
//     find out took what it takes to serve;
//   - DeadlineExceeded is Overloaded, and so is an error by which something behind this
//     server says that it sheds load, passed on as it was: to send less there is the
//     better answer;
//   - all else is Ignored, calls of the handler's that were not attempted included.
//     InvalidArgument, Unauthenticated or ResourceExhausted are most often given before
//     any work is done, and Internal, Unknown or Unavailable where none can be done. Were
//     they OK, a server that fails, or has much to turn down, would seem to be a fast
//     one; were they Overloaded, one method that is broken would have calls refused to
//     all the others.
func Classify(method string, err error) shed.Outcome {
	if err == nil {
		return shed.OK
	}
	if verdict.NotAttempted(err) {
		return shed.Ignored
	}
	a := wire.Read(method, err, nil)
	switch {
	case a.Refusal.Reason == hop.Shed, a.Behind == hop.Shed:
		return shed.Overloaded
	case a.Refusal.Reason != "":
		return shed.Ignored
	}
	switch a.Code {
	case codes.OK, codes.NotFound, codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return shed.OK
	case codes.DeadlineExceeded:
		return shed.Overloaded
	}
	return shed.Ignored
}

// classifyAnswer tells what an answer, not that of a call that went well, means for a
// throttle. Rejected are
//
//   - an answer which says that the server sheds load, or has as many calls as it takes,
//     or that a limit is reached: those of servers with this module's packages, and of
//     Envoy;
//   - Unavailable and ResourceExhausted that say nothing of the kind, but when to come
//     back.
//
// All else is Accepted, an error of the server's included: it was work, and a client that
// sent less for a bug would make it an outage. So is a ResourceExhausted that says
// nothing at all: gRPC's own, about a message that is too large, is one.
func classifyAnswer(a *wire.Answer) throttle.Outcome {
	switch a.Refusal.Reason {
	case hop.Shed, hop.Limit, hop.Full:
		return throttle.Rejected
	case "":
		asks := a.After > 0 || a.Pushback
		if asks && (a.Code == codes.Unavailable || a.Code == codes.ResourceExhausted) {
			return throttle.Rejected
		}
	}
	return throttle.Accepted
}
