package wire

import (
	"strconv"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Answer is what a call came to, as the client reads it. It is an error, for policies to
// ask: its methods are those of package verdict, and it unwraps to the error of the call.
type Answer struct { //nolint:errname // it is what came back, first of all
	Err     error       // of the call, not nil
	Code    codes.Code  // of its status
	Refusal hop.Refusal // its Reason is "" if nothing says that the call was refused

	// Behind is why something behind the server refused a call of another method, if the
	// server has passed that on.
	Behind string

	// Pushback reports whether the trailer says when to retry, in a way that can be read
	// or not: then After and NoRetry are what it says, since it is later than the status.
	Pushback bool
	After    time.Duration // 0: not said
	NoRetry  bool          // nobody should send the call again
}

// Read reads the answer to a call of a method, by its error, which is not nil, and its
// trailer.
func Read(method string, err error, trailer metadata.MD) *Answer {
	st, ok := status.FromError(err)
	if !ok { // of an interceptor or a channel that is not gRPC's
		st = status.FromContextError(err)
	}
	a := &Answer{Err: err, Code: st.Code()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.RetryInfo:
			a.After = max(0, detail.GetRetryDelay().AsDuration())
		case *errdetails.ErrorInfo:
			a.readInfo(method, detail)
		}
	}
	a.readEnvoy(trailer)
	a.readPushback(trailer)
	return a
}

func (a *Answer) readInfo(method string, info *errdetails.ErrorInfo) {
	said := info.GetMetadata()
	if info.GetDomain() != domain {
		return
	}
	if said[methodKey] != method {
		a.Behind = info.GetReason()
		return
	}
	a.Refusal = hop.Refusal{Reason: info.GetReason(), Scope: hop.Replica}
	if said[scopeKey] == hop.Service {
		a.Refusal.Scope = hop.Service
	}
	a.Refusal.NoRetry = said[retryKey] == "no"
	a.NoRetry = a.Refusal.NoRetry
}

// readEnvoy reads how Envoy says that its circuit breaker or its overload manager, or its
// rate limit, has refused for all that is behind it, and that nobody should retry that. It
// says so by the presence of a key.
func (a *Answer) readEnvoy(trailer metadata.MD) {
	refusal := hop.Refusal{Scope: hop.Service, NoRetry: true}
	switch {
	case a.Refusal.Reason != "":
		return
	case len(trailer["x-envoy-overloaded"]) > 0:
		refusal.Reason = hop.Shed
	case len(trailer["x-envoy-ratelimited"]) > 0:
		refusal.Reason = hop.Limit
	default:
		return
	}
	a.Refusal, a.NoRetry = refusal, true
}

// readPushback reads grpc-retry-pushback-ms as gRPC's own clients do: what is not one
// number, at least 0, forbids another attempt.
func (a *Answer) readPushback(trailer metadata.MD) {
	values := trailer.Get(PushbackKey)
	if len(values) == 0 {
		return
	}
	a.Pushback = true
	ms, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil || len(values) > 1 {
		a.NoRetry = true
		return
	}
	a.After = time.Duration(ms) * time.Millisecond
}

// Refused reports whether the answer says that the call was refused, and not tried.
func (a *Answer) Refused() bool { return a.Refusal.Reason != "" && a.Refusal.Refused() }

// Error is that of the call.
func (a *Answer) Error() string { return a.Err.Error() }

// Unwrap returns the error of the call.
func (a *Answer) Unwrap() error { return a.Err }

// GRPCStatus is what package status asks for.
func (a *Answer) GRPCStatus() *status.Status { return status.Convert(a.Err) }

// RetryAfter returns for how long another call is pointless, or 0.
func (a *Answer) RetryAfter() time.Duration { return a.After }

// Retryable reports whether nothing forbids another call.
func (a *Answer) Retryable() bool { return !a.NoRetry }
