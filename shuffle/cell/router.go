package cell

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Router says which cell has a tenant. Make it with [New], give [Router.Run] a goroutine,
// and use it from any number of others. It has no goroutine of its own while Run is not
// running, and nothing to close.
//
//	router := cell.New(cell.Config{Source: pull, Path: "/var/lib/edge/cells"})
//	go router.Run(ctx)
//
//	route, err := router.Route(tenant)
type Router struct {
	cfg  Config
	disk disk
	base time.Time

	view    atomic.Pointer[view]
	wake    chan struct{}
	running atomic.Bool

	mu      sync.Mutex
	stats   Stats  // counters, and what was last
	durable uint64 // the version that is on disk

	// Those are of the goroutine that pulls.
	events   []Event
	limits   bounds
	answered time.Time // the first answer since the map was confirmed
}

// view is a map and what is known of it. It is never changed.
type view struct {
	table     *table
	origin    string
	own       bool      // this replica may write by it
	stale     bool      // since Age was last looked at
	confirmed time.Time // when the pull was sent; zero: not by this process
	since     time.Time // confirmed, or when the map was issued
}

// Where a map is from.
const (
	originSource   = "source"
	originDisk     = "disk"
	originPrevious = "previous"
	originSeed     = "seed"
)

// New returns a router with the map of Path, or of Path.1 if that is damaged, or else of
// Seed. If there is none, Route says so until a pull has brought one. It panics if cfg is
// not valid; see [Config.Validate].
func New(cfg Config) *Router {
	cfg = cfg.withDefaults()
	r := &Router{
		cfg:  cfg,
		disk: disk{cfg.Path, cfg.Replica, cfg.MaxBytes},
		base: time.Now(),
		wake: make(chan struct{}, 1),
	}
	t, origin, own := r.boot()
	if t == nil {
		return r
	}
	r.view.Store(&view{
		table: t, origin: origin, own: own, stale: true, since: t.snapshot.Issued,
	})
	r.limits = newBounds(cfg, len(t.snapshot.Slots))
	if origin == originDisk {
		r.durable = t.snapshot.Version
	}
	return r
}

// boot finds a map to begin with. One of Path.1 is not this replica's own: it may have
// told the control plane that it has a later one.
func (r *Router) boot() (t *table, origin string, own bool) {
	if r.cfg.Path != "" {
		r.disk.sweep()
		t, own, err := r.disk.load(r.cfg.Path)
		if err == nil {
			return t, originDisk, own
		}
		r.diskFailed(err)
		if t, _, err = r.disk.load(r.cfg.Path + previous); err == nil {
			return t, originPrevious, false
		}
		r.diskFailed(err)
	}
	if r.cfg.Seed == nil {
		return nil, "", false
	}
	t, err := readTable(r.cfg.Seed, r.cfg.MaxBytes)
	if err != nil {
		r.note(Event{Kind: "rejected", Err: err}, &r.stats.Rejected)
		return nil, "", false
	}
	return t, originSeed, false
}

var errRunning = errors.New("cell: Router is running already")

// Run pulls the map until ctx ends, and returns an error that matches why; or at once if
// the router is running already. The first pull is at once, the second after a random
// part of Period, so that processes that began together do not pull together, and each
// other after a Period.
//
// A Source that does not return holds up the pulls and nothing else: routes stay as they
// are, and become stale. If it panics, Run does.
func (r *Router) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errRunning
	}
	defer r.running.Store(false)
	stale := time.AfterFunc(r.cfg.MaxAge, func() { r.expire(r.cfg.MaxAge) })
	defer r.expire(0) // nobody pulls any more
	defer stale.Stop()

	p := pace{period: r.cfg.Period}
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.report()
	for wake := r.wake; ; {
		select {
		case <-ctx.Done():
			return ended.New(ctx, "cell", false)
		case <-wake:
			wake = nil // one is enough until there has been a pull
			timer.Reset(time.Until(p.soon()))
		case <-timer.C:
			if r.pull(ctx) {
				stale.Reset(r.cfg.MaxAge)
			}
			p.pulled(time.Now(), rand.N(r.cfg.Period))
			timer.Reset(time.Until(p.due))
			wake = r.wake
		}
	}
}

// pace is when to pull. It has no clock.
type pace struct {
	period    time.Duration
	last, due time.Time // zero: there was none
}

// refreshShare is how many pulls there are in a period at most, beside those that are due.
const refreshShare = 10

// soon returns when a pull may be that somebody has asked for.
func (p *pace) soon() time.Time {
	next := p.last.Add(p.period / refreshShare)
	if next.After(p.due) {
		return p.due
	}
	return next
}

// pulled says that there was a pull. Those that are due are so by a fixed beat, or the time
// that a pull takes would be added to each period, and all would drift into step with what
// is slow.
func (p *pace) pulled(now time.Time, random time.Duration) {
	switch {
	case p.last.IsZero():
		p.due = now.Add(random)
	case !now.Before(p.due):
		p.due = p.due.Add(now.Sub(p.due).Truncate(p.period) + p.period)
	}
	p.last = now
}

// Refresh asks for a pull before the next one is due: when a cell has said that the map is
// behind. It does not wait, and has no effect more than ten times in a Period: what a cell
// says to a thousand requests is one thing to ask about.
func (r *Router) Refresh() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pull has a map from the Source, and reports whether it confirmed the one in force or
// replaced it.
func (r *Router) pull(ctx context.Context) bool {
	sent := time.Now()
	timed, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	b, err := r.cfg.Source(timed)
	if err != nil && ctx.Err() != nil {
		return false // whoever ended Run knows
	}
	good := r.take(sent, b, err)
	r.report()
	return good
}

// take looks at an answer.
func (r *Router) take(sent time.Time, b []byte, err error) bool {
	r.count(&r.stats.Pulls)
	if err != nil {
		r.note(Event{Kind: "failed", Err: err}, &r.stats.Failed)
		return false
	}
	t, err := r.accept(b)
	if err != nil {
		r.note(Event{Kind: "rejected", Err: err}, &r.stats.Rejected)
		return false
	}
	old := r.view.Load()
	r.confirm(t, sent)
	r.answered = time.Time{}
	if old == nil || old.table != t {
		r.note(Event{Kind: "applied", Version: t.snapshot.Version}, &r.stats.Applied)
	}
	r.keep(b, t.snapshot.Version)
	return true
}

// accept returns the table of an answer: that which is in force, if it is the same.
func (r *Router) accept(b []byte) (*table, error) {
	body, sum, err := openBounded(b, r.cfg.MaxBytes)
	if err != nil {
		return nil, err
	}
	v := r.view.Load()
	if v != nil && v.table.sum == sum {
		return v.table, nil
	}
	s, err := decode(body)
	if err != nil {
		return nil, err
	}
	if v == nil {
		r.limits = newBounds(r.cfg, len(s.Slots))
		return newTable(s, sum), nil
	}
	if err := r.follows(s, v); err != nil {
		return nil, err
	}
	return newTable(s, sum), nil
}

// follows returns an error unless s may take the place of the map of v.
func (r *Router) follows(s *Snapshot, v *view) error {
	now, old := time.Now(), v.table.snapshot
	if r.answered.IsZero() {
		r.answered = now
	}
	if err := s.Follows(old); err != nil {
		return err
	}
	if s.Forced > old.Version {
		return nil
	}
	slots, tenants := s.moved(old)
	return r.limits.take(now.Sub(r.base), r.answered.Sub(v.since), slots, tenants)
}

// confirm puts a map in force that is as of when the pull was sent: what happened after
// that it may not say.
func (r *Router) confirm(t *table, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view.Store(&view{
		table: t, origin: originSource, own: true, confirmed: sent, since: sent,
	})
}

// expire calls the map stale if it was not confirmed for so long.
func (r *Router) expire(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	if old == nil || old.stale || time.Since(old.confirmed) < after {
		return
	}
	v := *old
	v.stale = true
	r.view.Store(&v)
}

// keep writes the map to the disk, if it is not there yet. What cannot be written is tried
// again with the next pull.
func (r *Router) keep(b []byte, version uint64) {
	if r.cfg.Path == "" || r.kept() == version {
		return
	}
	if err := r.disk.save(b, version); err != nil {
		r.diskFailed(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.durable = version
}

func (r *Router) kept() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durable
}
