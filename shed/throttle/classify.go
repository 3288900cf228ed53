package throttle

import (
	"context"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Outcome is what a call says of the load on the other side.
type Outcome uint8

// The outcomes of a call. One that is none of the three counts as Ignored.
const (
	Accepted Outcome = iota // the other side took it, whatever came of it
	Rejected                // the other side turned it away, for overload or a quota
	Ignored                 // it says nothing of the other side's load
)

// Classify is what a Config without a Classify goes by. In this order:
//
//   - no error is Accepted;
//   - an error which says that the call was not made, as the refusals of this module's
//     packages do, is Ignored: the other side had no part in it;
//   - an error that asks to be left alone for some time, by a method RetryAfter()
//     time.Duration, is Rejected: a server asks for that when it has too much to do, or
//     its caller has had his share;
//   - if ctx was cancelled, the caller has left, and the call is Ignored;
//   - all else is Accepted. A call that failed was work for the other side, and a client
//     that sent less for a bug of the server's would make it an outage.
//
// An error of a protocol that tells rejections in another way, such as a status, needs
// a Classify of its own, or [Permit.Record].
func Classify(ctx context.Context, err error) Outcome {
	switch {
	case err == nil:
		return Accepted
	case verdict.NotAttempted(err):
		return Ignored
	case verdict.RetryAfter(err) > 0:
		return Rejected
	case ctx != nil && ctx.Err() == context.Canceled:
		return Ignored
	}
	return Accepted
}

// critical is the class of calls that have none, or one that there is not.
const critical = 4

// classOf returns the class of the calls made in ctx, counted from 0.
func classOf(ctx context.Context) int {
	if ctx == nil {
		return critical - 1
	}
	class := hop.SenderOf(ctx).Criticality
	if class < 1 || class > classes {
		return critical - 1
	}
	return int(class) - 1
}

func className(class uint8) string {
	names := [...]string{"best-effort", "sheddable", "sheddable-plus", "critical", "critical-plus"}
	if class < 1 || class > classes {
		return "unknown"
	}
	return names[class-1]
}
