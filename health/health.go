package health

import (
	"context"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Health knows whether a replica lives, has started and is ready. Make it with [New] and
// use it from any number of goroutines.
//
// From [Health.Start] to [Health.Stop] it has one goroutine and two timers for each check.
// What hangs in a function of the user's holds the goroutine that is there for it, and
// never a second one.
type Health struct {
	cfg  Config
	base time.Time // what the times count from

	now     atomic.Pointer[snapshot]
	readyAt atomic.Int64 // when the replica was ready first, or never

	mu       sync.Mutex // held around what follows, never around the user's code
	checks   []*checked
	gates    []gate
	running  bool // Start was called
	draining bool
	stopped  bool
	cancel   context.CancelFunc // of the context of the checks; nil before Start

	startedAt, stoppedAt time.Duration // of Start and Stop
	startup              time.Duration
	slowest              string
	changes              changes
	faults               faults
}

const never = -1

type gate struct {
	name string
	open bool
	at   time.Duration // when it was opened
}

// New returns a Health that is starting, and looks at nothing before [Health.Start]. It
// panics if cfg is not valid; see [Config.Validate].
func New(cfg Config) *Health {
	h := &Health{cfg: cfg.filled(), base: time.Now()}
	h.readyAt.Store(never)
	for _, name := range h.cfg.Gates {
		h.gates = append(h.gates, gate{name: name})
	}
	for _, check := range h.cfg.Checks {
		h.checks = append(h.checks, &checked{monitor: newMonitor(h.rules(check), rand.Float64)})
	}
	first := &snapshot{changed: make(chan struct{})}
	first.Phase, first.Since = phaseStarting, h.base
	first.Checks = h.results(0, nil)
	first.Live = true
	h.now.Store(first)
	return h
}

// clock returns the time since the Health was made. It is monotonic. One made inside a
// testing/synctest bubble and used outside would see a time before that; it sees 0.
func (h *Health) clock() time.Duration { return max(0, time.Since(h.base)) }

// wall returns the time that was shown by clocks on walls.
func (h *Health) wall(t time.Duration) time.Time { return h.base.Add(t) }

// Start begins to run the checks, each of them at once, and returns. When ctx ends that is
// like [Health.Stop]. Calls after the first do nothing, nor does one after Stop.
func (h *Health) Start(ctx context.Context) {
	if ctx.Err() != nil {
		h.Stop()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	if !h.start(cancel) {
		cancel()
		return
	}
	context.AfterFunc(ctx, h.Stop)
	for _, c := range h.checks {
		persist(func() bool { return h.look(ctx, c) }, func(reason any) { h.broken(c, reason) })
	}
	if h.cfg.Ramp.Apply != nil {
		persist(h.ramp(ctx), func(any) { h.fault(&h.faults.apply) })
	}
}

// start reports whether this is the first call.
func (h *Health) start(cancel context.CancelFunc) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running || h.stopped {
		return false
	}
	now := h.clock()
	h.running, h.startedAt, h.cancel = true, now, cancel
	for _, c := range h.checks {
		c.start(now)
		c.alarm = time.AfterFunc(forever, func() { h.noticed(c) })
		h.arm(c, now)
	}
	h.update(now)
	return true
}

// Stop ends the checks, for good. The replica is not ready from then on; whether it lives
// and has started remains as it was, since a probe that comes now should not have the
// last requests killed. The contexts of runs under way end, but nobody waits for the runs:
// one that hangs would hold up a shutdown. Calls after the first do nothing.
func (h *Health) Stop() {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return
	}
	h.stopped, h.stoppedAt = true, h.clock()
	for _, c := range h.checks {
		if c.alarm != nil {
			c.alarm.Stop()
		}
	}
	h.update(h.stoppedAt)
	cancel := h.cancel
	h.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// SetDraining takes the replica out of rotation, for good: it is not ready when SetDraining
// returns, and lives as before. The checks go on until [Health.Stop], since a replica that
// drains may still have to be killed. Calls after the first do nothing.
func (h *Health) SetDraining() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	h.update(h.clock())
}

// Gate returns a function that opens the gate of that name: the replica is not ready before
// it was called. Calls after the first do nothing. If Config names no such gate, it does
// nothing: so a program can open all that it might have, and a configuration says which of
// them are waited for.
func (h *Health) Gate(name string) func() {
	i := slices.Index(h.cfg.Gates, name)
	if i < 0 {
		return func() {}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g := &h.gates[i]; !g.open {
			g.open, g.at = true, h.clock()
			h.update(g.at)
		}
	}
}

// Live reports whether the process should be left running. Live, Ready and Started are an
// atomic load each, whatever the checks are at, and allocate nothing.
func (h *Health) Live() bool { return h.now.Load().Live }

// Ready reports whether the replica should be sent requests.
func (h *Health) Ready() bool { return h.now.Load().Ready }

// Started reports whether start-up is over.
func (h *Health) Started() bool { return h.now.Load().Started }

// Report returns all that is known, at the price of a copy of its outermost part.
func (h *Health) Report() Report { return h.now.Load().Report }

// Watch yields a report at once, and another one whenever a status, the phase or a note has
// changed. Who is slow gets the latest and misses some. It ends with ctx, or when the Health
// has stopped, after a report of that. It has no goroutine and nothing to close.
func (h *Health) Watch(ctx context.Context) iter.Seq[Report] {
	return func(yield func(Report) bool) {
		for {
			s := h.now.Load()
			if !yield(s.Report) || s.Phase == phaseStopped {
				return
			}
			select {
			case <-s.changed:
			case <-ctx.Done():
				return
			}
		}
	}
}
