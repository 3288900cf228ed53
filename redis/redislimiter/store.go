package redislimiter

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/limiter"
)

// Source is where a decision comes from. It is made for people and for labels.
type Source string

// The sources.
const (
	FromRedis  Source = "redis"  // asked for this decision
	FromLease  Source = "lease"  // what Redis gave, or said, within the last gaps
	FromShare  Source = "share"  // this replica's share, for Redis can't be asked: FailLocal
	FromNobody Source = "nobody" // let through, for Redis can't be asked: FailOpen
)

// Decision is a Result and where it comes from.
type Decision struct {
	limiter.Result // what Take returns

	Source Source // FromShare and FromNobody are not exact
}

// Store is a [limiter.Store] on Redis. Make it with [New], use it from any number of
// goroutines, and Close it before its client.
//
// It has no goroutine of its own, but starts some that end within a Budget, 64 at most:
// one at a time to find out whether Redis is back, and with leases others to fetch
// tokens.
type Store struct {
	cfg    Config
	base   time.Time
	shares *limiter.Keyed[string] // nil unless FailLocal
	leases *leases                // nil without Gap

	failing atomic.Pointer[UnavailableError] // nil while the guard is closed
	mu      sync.Mutex
	guard   guard
	look    request // what a probe asks

	closed     atomic.Bool
	background background
	count      counters
}

var _ limiter.Store = (*Store)(nil)

// New returns a Store. It does not talk to Redis yet, so that a service can start while
// Redis is down. It panics if cfg is not valid; see [Config.Validate].
func New(cfg Config) *Store {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	s := &Store{cfg: cfg.withDefaults(), base: time.Now()}
	if s.cfg.Fail == FailLocal {
		s.shares = limiter.NewKeyed(limiter.KeyedConfig[string]{
			Name: s.cfg.Name, MaxKeys: s.cfg.MaxKeys,
		})
	}
	if s.cfg.Gap > 0 {
		s.leases = newLeases(s.cfg.MaxKeys)
	}
	return s
}

// Close waits for what is under way in the background, which takes a Budget at most.
// After that Take returns an [*UnavailableError]. It leaves the client open.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.background.close()
	return nil
}

// now reads both clocks at once.
func (s *Store) now() moment {
	t := time.Now()
	return moment{t.Sub(s.base), t.UnixNano()}
}

// Take makes a Store a [limiter.Store]; it is [Store.Decide] for who need not know where
// a decision comes from.
func (s *Store) Take(
	ctx context.Context, key string, limit limiter.Limit, most, least int,
) (limiter.Result, error) {
	d, err := s.Decide(ctx, key, limit, most, least)
	return d.Result, err
}

// Decide takes from least to most tokens from key's bucket, as [limiter.Store] has it,
// and says who decided. It waits for Redis for a Budget at most.
//
// The error is about the arguments, or ctx, if that has ended; or it is an
// [*UnavailableError], while Redis can't be asked, with FailClosed, or with FailLocal if
// the call is for more than this replica's share could ever have.
func (s *Store) Decide(
	ctx context.Context, key string, limit limiter.Limit, most, least int,
) (Decision, error) {
	if ctx.Err() != nil {
		return Decision{}, ended.New(ctx, "redislimiter", true)
	}
	p, err := newPlan(limit)
	if err != nil {
		return Decision{}, err
	}
	if least < 0 || most < least {
		return Decision{}, fmt.Errorf("redislimiter: from %d to %d tokens, "+
			"but must be from at least 0 to at least as many", least, most)
	}
	if s.closed.Load() {
		return Decision{}, s.unavailable(ErrClosed)
	}
	q := question{store: s, key: key, plan: p, most: int64(most), least: int64(least)}
	if p.cost == 0 { // everything passes, or nothing: Redis does not have to be asked
		n := min(q.most, p.burst)
		return q.decision(FromRedis, 0, n, n >= q.least), nil
	}
	if q.leasable() {
		return q.byLease(ctx)
	}
	return q.one(ctx)
}

// question is one call of Decide.
type question struct {
	store       *Store
	key         string
	plan        plan
	most, least int64
	until       time.Duration // of the Budget, once there is need of it

	terms terms // if there are leases; else zero
	lease *lease
	begun moment // when it was tried last
	want  int64  // to ask for
	wait  <-chan struct{}
}

// decision is what there is to say to q, of a bucket with a debt.
func (q *question) decision(from Source, debt, n int64, ok bool) Decision {
	if !ok {
		n = q.least
	}
	return Decision{q.plan.result(q.store.cfg.Name, debt, q.terms.leave, n, ok), from}
}

// one asks Redis for this decision alone.
func (q *question) one(ctx context.Context) (Decision, error) {
	if failing := q.store.down(); failing != nil {
		return q.fallBack(ctx, failing)
	}
	a, err := q.ask(ctx, q.most, q.least)
	if err != nil {
		return q.failed(ctx, err)
	}
	q.charge(a.n)
	q.store.count.redis.Add(1)
	return q.decision(FromRedis, a.debt, a.n, a.n >= q.least), nil
}

// failed decides when there was no answer.
func (q *question) failed(ctx context.Context, err error) (Decision, error) {
	if ctx.Err() != nil {
		return Decision{}, ended.New(ctx, "redislimiter", true)
	}
	return q.fallBack(ctx, err)
}

func (q *question) request(most, least int64) request {
	return request{
		key:  q.store.cfg.Prefix + q.key,
		cost: q.plan.cost, burst: q.plan.burst, leave: q.terms.leave,
		most: most, least: least,
	}
}
