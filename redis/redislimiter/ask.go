package redislimiter

import (
	"context"
	_ "embed" // for the script
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed take.lua
var source string

// script knows its own hash: Redis is sent that, and the source where it does not know
// the hash, as after a restart, a failover or a SCRIPT FLUSH.
var script = redis.NewScript(source) //nolint:gochecknoglobals // It has no state.

// request is one call of the script.
type request struct {
	key                             string
	cost, burst, leave, most, least int64
}

// answer is what it returned.
type answer struct {
	n    int64 // tokens taken
	debt int64 // of the bucket then, in ticks
}

func (s *Store) send(ctx context.Context, r request) (answer, error) {
	s.count.calls.Add(1)
	reply, err := script.Run(ctx, s.cfg.Client, []string{r.key},
		r.cost, r.burst, r.leave, r.most, r.least).Int64Slice()
	switch {
	case err != nil:
		return answer{}, err
	case len(reply) != 2 || reply[0] < 0 || reply[0] > r.most || reply[1] < 0:
		return answer{}, fmt.Errorf("an answer that makes no sense: %v", reply)
	}
	return answer{reply[0], reply[1]}, nil
}

// ask asks Redis once, for what is left of the Budget, and tells the guard if that fails.
func (q *question) ask(ctx context.Context, most, least int64) (answer, error) {
	s := q.store
	begun := s.now().mono
	limited, cancel := q.limited(ctx, begun)
	defer cancel()
	a, err := s.send(limited, q.request(most, least))
	if err == nil {
		return a, nil
	}
	s.count.failures.Add(1)
	if until, _ := limited.Deadline(); !time.Now().Before(until) {
		<-limited.Done() // the connection's timer was the faster one
	}
	if context.Cause(limited) == errBudget { //nolint:errorlint // That very error.
		err = fmt.Errorf("%w: %w", errBudget, err)
	}
	switch {
	case answered(err):
		// It costs no time and may be about this key alone, or over with the next call,
		// as while Redis fails over: nobody else has to do without for that.
	case limited.Err() != nil && s.now().mono-begun < s.cfg.Budget:
		s.suspect(q.request(0, 0))
	default:
		s.failed(q.request(0, 0), err)
	}
	return answer{}, err
}

// answered reports whether an error is what Redis said.
func answered(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// limited is ctx, until the Budget of this decision is over.
func (q *question) limited(
	ctx context.Context, now time.Duration,
) (context.Context, context.CancelFunc) {
	if q.until == 0 {
		q.until = now + q.store.cfg.Budget
	}
	return context.WithDeadlineCause(ctx, q.store.base.Add(q.until), errBudget)
}
