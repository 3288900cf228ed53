package retrygrpc

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// failure is the error of an attempt, as the loop and its policy see it.
type failure struct {
	*wire.Answer
	once      bool // the call may have been executed, and must not be twice
	elsewhere bool // another replica may answer
	final     bool // by its code, or because it says so, another attempt is of no use
}

// Unwrap returns the error of the attempt.
func (f *failure) Unwrap() error { return f.Err }

// Retryable reports whether another attempt is of use: see Defaults in the package's
// documentation.
func (f *failure) Retryable() bool { return !f.final }

// failed returns the failure of an attempt, by its context, its error and what else was
// received.
func (l *call) failed(ctx context.Context, g *got, err error) *failure {
	f := &failure{Answer: wire.Read(l.method, err, g.trailer)}
	f.elsewhere = f.Refused() && f.Refusal.Scope == hop.Replica
	if f.elsewhere && !f.Pushback {
		f.After = 0 // how long one replica needs is no matter to the others
	}
	f.once = !l.notExecuted(f, g) && !l.idempotent()
	f.final = f.NoRetry || !verdict.Retryable(err) || !l.passing(ctx, f)
	return f
}

// notExecuted reports whether it is known that no handler was called.
func (l *call) notExecuted(f *failure, g *got) bool {
	if verdict.NotAttempted(f.Err) || f.Refused() {
		return true
	}
	// gRPC knows the peer as soon as it has begun to send. A channel that is not gRPC's
	// may never say.
	return l.cc != nil && g.peer.Addr == nil
}

// passing reports whether a code is that of a state that passes.
func (l *call) passing(ctx context.Context, f *failure) bool {
	switch f.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		return f.After > 0 || f.Pushback || f.elsewhere
	case codes.DeadlineExceeded:
		return l.policy.AttemptTimeout > 0 && l.ctx.Err() == nil && late(ctx)
	}
	return false
}

// late reports whether the time of an attempt is over. The server counts to the same moment,
// and its answer may be there first.
func late(ctx context.Context) bool {
	const apart = 10 * time.Millisecond
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= apart
}
