package redislimiter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

// ErrClosed is the reason of an [UnavailableError] after [Store.Close].
var ErrClosed = errors.New("store is closed")

// Reasons too.
var (
	errBudget = errors.New("no answer within the budget")
	errProbe  = errors.New("no probe came back")
)

// UnavailableError says that Redis could not be asked, and so nobody knows whether the
// call is within its limit. It is no refusal, and does not match [limiter.ErrLimited].
//
// It has no Unwrap: a Budget that is over is a deadline that was exceeded, and yet none
// of the caller's.
type UnavailableError struct {
	Name string // of the Store
	Err  error  // what became of the last question to Redis

	until time.Time
}

// Error names the Store and the reason.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("redislimiter%s: unavailable: %v", quoted(e.Name), e.Err)
}

// NotAttempted returns true: the call was not made.
func (e *UnavailableError) NotAttempted() bool { return true }

// RetryAfter returns in how long Redis is asked again.
func (e *UnavailableError) RetryAfter() time.Duration {
	if e.until.IsZero() {
		return 0
	}
	return max(0, time.Until(e.until))
}

// share returns what this replica may let through by itself, or the zero Limit if nobody
// asks for that.
func (q *question) share() limiter.Limit {
	if q.store.shares == nil {
		return limiter.Limit{}
	}
	n := max(1, q.store.cfg.Replicas())
	l := q.plan.limit
	return limiter.Limit{Rate: l.Rate / rate.Limit(n), Burst: max(1, l.Burst/n)}
}

// charge takes from the share what Redis has granted, as far as it goes. So shares are no
// fuller at the beginning of an outage than they would be if they had always been used.
func (q *question) charge(n int64) {
	if share := q.share(); share.Burst > 0 && n > 0 {
		// An error, for a share that would take years to fill, leaves a token or two
		// more.
		_, _ = q.store.shares.Take(context.Background(), q.key, share, int(n), 0)
	}
}

// fallBack decides without Redis, for a reason.
func (q *question) fallBack(ctx context.Context, reason error) (Decision, error) {
	s := q.store
	switch s.cfg.Fail {
	case FailLocal:
		return q.byShare(ctx, reason)
	case FailOpen:
		s.count.open.Add(1)
		return q.decision(FromNobody, 0, q.most, true), nil
	}
	return Decision{}, s.unavailable(reason)
}

func (s *Store) unavailable(reason error) error {
	s.count.errors.Add(1)
	if e, ok := errors.AsType[*UnavailableError](reason); ok {
		return e
	}
	return &UnavailableError{Name: s.cfg.Name, Err: reason}
}

// byShare decides by this replica's share. What is more than that can ever have is not
// refused for good: it may well pass when Redis is back.
func (q *question) byShare(ctx context.Context, reason error) (Decision, error) {
	s, share := q.store, q.share()
	if q.least > int64(share.Burst) && q.least <= q.plan.burst || share.Validate() != nil {
		return Decision{}, s.unavailable(reason)
	}
	r, err := s.shares.Take(ctx, q.key, share, int(q.most), int(q.least))
	if err != nil {
		return Decision{}, err
	}
	s.count.shared.Add(1)
	return Decision{r, FromShare}, nil
}
