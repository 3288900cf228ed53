package breaker

import (
	"math"
	"time"
)

// Change is a change of state, as [Config].OnChange gets it.
type Change struct {
	Name     string    // Config.Name
	From, To State     // never the same
	At       time.Time // when

	// Reason is what made the change, for people and labels: "failure rate", "slow
	// rate", "consecutive failures" or "failing for" when a rule opened the
	// breaker; "open time over", "probe failed", "probes succeeded" and "ramp over"
	// on the way back; "manual".
	Reason string

	// Until is when an open breaker lets probes through, or when a ramp ends; else
	// zero.
	Until time.Time

	// Recent is what the window held when the state changed.
	Recent Counts
}

// changes are the changes not yet reported. The breaker's lock is held around
// them.
type changes struct {
	queue   []Change
	running bool // a goroutine is in OnChange
}

// change makes next the current epoch. The lock is held; the caller reports when
// it has let go of it.
func (b *Breaker) change(from, next *epoch, reason string) {
	recent := b.recent(from, next.since)
	b.now.Store(next)
	b.past.add(from.window.total())
	if next.state == Open && from.state != Open {
		b.opened++
	}
	if b.changes == nil || from.state.shown() == next.state.shown() {
		return
	}
	b.changes.queue = append(b.changes.queue, Change{
		Name:   b.name,
		From:   from.state.shown(),
		To:     next.state.shown(),
		At:     b.wall(next.since),
		Reason: reason,
		Until:  b.until(next),
		Recent: recent,
	})
}

// recent returns what the window of e holds at now, or what became of the probes.
func (b *Breaker) recent(e *epoch, now int64) Counts {
	switch {
	case e.state == HalfOpen:
		return e.window.total().shown()
	case e.window.width == 0:
		return Counts{}
	}
	return e.window.recent(now).shown()
}

// until returns when e ends by itself, or the zero time.
func (b *Breaker) until(e *epoch) time.Time {
	if e.until == 0 || e.mode == forced {
		return time.Time{}
	}
	return b.wall(e.until)
}

func (b *Breaker) wall(t int64) time.Time { return b.set.base.Add(time.Duration(t)) }

// report calls OnChange with the changes that are queued, unless a goroutine is at
// that already: that one goes on with them. So the order holds without a lock, and
// a hook that makes changes itself does not run inside itself.
func (b *Breaker) report() {
	if b.changes == nil {
		return
	}
	for {
		b.mu.Lock()
		if b.changes.running || len(b.changes.queue) == 0 {
			b.mu.Unlock()
			return
		}
		next := b.changes.queue[0]
		b.changes.queue = b.changes.queue[1:]
		b.changes.running = true
		b.mu.Unlock()
		b.tell(next)
	}
}

// tell calls OnChange with c. If it panics or exits its goroutine, the changes
// behind c are reported on the way out.
func (b *Breaker) tell(c Change) {
	returned := false
	defer func() {
		b.mu.Lock()
		b.changes.running = false
		b.mu.Unlock()
		if !returned {
			b.report()
		}
	}()
	b.set.onChange(c)
	returned = true
}

const manual = "manual"

// ForceOpen refuses every call, without end and without probes, until [Breaker.Auto],
// [Breaker.Disable] or [Breaker.Shadow].
func (b *Breaker) ForceOpen() {
	b.control(func(now int64) *epoch {
		e := b.newEpoch(Open, forced, now, 0)
		e.until = math.MaxInt64
		return e
	})
}

// Disable lets every call through and counts none.
func (b *Breaker) Disable() {
	b.control(func(now int64) *epoch {
		return b.newEpoch(off, disabled, now, 0)
	})
}

// Shadow lets every call through but goes on counting, and changing state, as if
// it did not: for finding out what a breaker would do. What it would have refused
// is in [Stats]. It starts closed.
func (b *Breaker) Shadow() {
	b.control(func(now int64) *epoch {
		return b.newEpoch(Closed, shadow, now, 0)
	})
}

// Auto ends what ForceOpen, Disable or Shadow began: the breaker is closed, as new.
// Without one of them it does nothing.
func (b *Breaker) Auto() {
	b.control(func(now int64) *epoch {
		if b.now.Load().mode == auto {
			return nil
		}
		return b.newEpoch(Closed, auto, now, 0)
	})
}

// Reset forgets all that the breaker has learned, the growth of its open time
// included, and closes it. Calls under way no longer count. A breaker that is forced
// open or disabled stays so, and Stats go on counting.
func (b *Breaker) Reset() {
	b.control(func(now int64) *epoch {
		m := b.now.Load().mode
		if m == forced || m == disabled {
			return nil
		}
		return b.newEpoch(Closed, m, now, 0)
	})
}

// control makes what next returns the current epoch. The lock is held around next.
func (b *Breaker) control(next func(now int64) *epoch) {
	if b.fixed {
		return
	}
	now := b.clock()
	b.mu.Lock()
	if e := next(now); e != nil {
		b.change(b.now.Load(), e, manual)
	}
	b.mu.Unlock()
	b.report()
}
