// Package wire holds how what crosses a hop is said in gRPC: what a refused call gets as
// its answer, how answers are read, and what a call says of itself.
//
// Most of it is said as others say it. A delay is a RetryInfo among the details of a
// status, and grpc-retry-pushback-ms in the trailer (gRFC A6) for clients that retry by
// their service config. What refused is an ErrorInfo among the details, since these reach
// the client on every path: a tap handle can send no trailer.
package wire

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What an ErrorInfo of ours has as its domain and as the keys of its metadata.
const (
	domain    = "stormjib"
	scopeKey  = "scope"  // hop.Replica or hop.Service
	methodKey = "method" // of the call that was refused
	retryKey  = "retry"  // "no": nobody should send the call again
)

// PreviousAttemptsKey is the metadata by which a client says how often it has made the call
// before, from the second attempt on (gRFC A6).
const PreviousAttemptsKey = "grpc-previous-rpc-attempts"

// What a call says of itself besides, in the syntax of package hop.
const (
	CriticalityKey = "stormjib-criticality"
	TenantKey      = "stormjib-tenant"
)

// PushbackKey is the trailer by which a server says when a call may be retried, in
// milliseconds, or by a negative number that it may not (gRFC A6).
const PushbackKey = "grpc-retry-pushback-ms"

// Refuse returns the error by which a server answers a call that it refuses because of
// err, and sets the trailer that goes with it. The delay is the one that err asks for. It
// is pushed back only where the refusal is the whole service's: a client of gRPC's own
// takes it for that, and one full replica must not silence retries to nine idle ones.
func Refuse(
	ctx context.Context, code codes.Code, method, text string, r hop.Refusal, err error,
) error {
	after := verdict.RetryAfter(err)
	switch {
	case r.NoRetry:
		setPushback(ctx, "-1")
	case r.Scope == hop.Service && after > 0:
		setPushback(ctx, milliseconds(after))
	}
	return Status(code, method, text, r, after).Err()
}

// Status returns the status alone, for where there is no trailer.
func Status(
	code codes.Code, method, text string, r hop.Refusal, after time.Duration,
) *status.Status {
	return withDetails(status.New(code, text), after, mark(method, r))
}

// mark returns what says among the details of a status that a call was refused.
func mark(method string, r hop.Refusal) *errdetails.ErrorInfo {
	info := &errdetails.ErrorInfo{
		Reason: r.Reason,
		Domain: domain,
		// A server that passes the error of another on, as it is, has not refused the
		// call. By the method the client can tell.
		Metadata: map[string]string{scopeKey: r.Scope, methodKey: method},
	}
	if r.NoRetry {
		info.Metadata[retryKey] = "no"
	}
	return info
}

// GivenUp returns err, by which a handler answers, as one that says to clients that the call
// is not to be retried, and sets the trailer that goes with it. It is still err to errors.Is
// and to errors.As.
func GivenUp(ctx context.Context, method string, err error) error {
	st, ok := status.FromError(err)
	if !ok { // gRPC would do the same
		st = status.FromContextError(err)
	}
	if st.Code() == codes.OK {
		return err
	}
	setPushback(ctx, "-1")
	failed := hop.Refusal{Reason: hop.Failed, Scope: hop.Service, NoRetry: true}
	return &answered{err, withDetails(st, 0, mark(method, failed))}
}

type answered struct {
	error
	status *status.Status
}

func (e *answered) Unwrap() error { return e.error }

// GRPCStatus is what package status asks for.
func (e *answered) GRPCStatus() *status.Status { return e.status }

// Later returns st with the delay that err asks for, if it asks for one: for what is no
// refusal.
func Later(st *status.Status, err error) *status.Status {
	if after := verdict.RetryAfter(err); after > 0 {
		return withDetails(st, after)
	}
	return st
}

// Spread returns err with a delay that is up to a fifth longer, but no more than a minute,
// and is another one each time: those who are refused together should not come back
// together.
func Spread(err error) error {
	after := verdict.RetryAfter(err)
	if after <= 0 || after > math.MaxInt64-time.Minute {
		return err
	}
	return &spreadError{err, after + rand.N(min(after/5, time.Minute)+1)}
}

type spreadError struct {
	error
	after time.Duration
}

func (e *spreadError) Unwrap() error             { return e.error }
func (e *spreadError) RetryAfter() time.Duration { return e.after }

// withDetails returns st with details, and with a RetryInfo if there is a delay. One for
// ever is none.
func withDetails(
	st *status.Status, after time.Duration, details ...protoadapt.MessageV1,
) *status.Status {
	if after > 0 && after < math.MaxInt64 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	detailed, err := st.WithDetails(details...)
	if err != nil {
		return st // it has text that is no UTF-8; the code is what counts
	}
	return detailed
}

func setPushback(ctx context.Context, value string) {
	// Without a stream, as in a test of a handler, there is nobody to tell.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(PushbackKey, value))
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(float64(d)/float64(time.Millisecond))), 10)
}

// Local returns err, by which a policy in the client has refused a call, as an error that
// is a status too, for callers that know only these. It is still err to errors.Is and to
// errors.As.
func Local(err error, code codes.Code) error { return &localError{err, code} }

type localError struct {
	err  error
	code codes.Code
}

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// GRPCStatus is what package status asks for.
func (e *localError) GRPCStatus() *status.Status {
	return Later(status.New(e.code, e.err.Error()), e.err)
}
