package breaker

import "time"

// Counts are numbers of calls.
type Counts struct {
	Succeeded uint64 // calls that were a Success
	Failed    uint64 // calls that were a Failure
	Slow      uint64 // also among the others, or ignored
}

func (c counts) shown() Counts {
	return Counts{Succeeded: c.succeeded, Failed: c.failed, Slow: c.slow + c.slowIgnored}
}

// Stats is what a breaker knows of itself at one moment.
type Stats struct {
	Name  string // Config.Name
	State State  // see [Breaker.State]

	// Mode is "auto", "forced open", "disabled" or "shadow".
	Mode string

	// Until is when an open breaker lets probes through, or when a ramp ends; else
	// zero.
	Until time.Time

	// Recent is what the window holds, or in half-open what became of the probes.
	// It falls as calls leave the window, traffic or not.
	Recent Counts

	// Total, Ignored, Refused, Unrefused and Opened only grow, from New on. Total
	// counts late calls too, and may miss one that ends in the very instant of a
	// change of state. Where no rate is a rule, the successes of a closed breaker
	// are not counted, since counting them would double the cost of a call.
	Total   Counts
	Ignored uint64 // calls that said nothing of the dependency
	Refused uint64 // calls refused

	// Unrefused are the calls that would have been refused but for Shadow.
	Unrefused uint64

	// Opened is how often the breaker opened, from any state.
	Opened uint64
}

// Stats returns a snapshot. It takes the lock that changes of state take, and is
// for exporters and tests.
func (b *Breaker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, now := b.now.Load(), b.clock()
	total := b.past.total().plus(e.window.total())
	return Stats{
		Name:      b.name,
		State:     e.effective(now),
		Mode:      e.mode.String(),
		Until:     b.until(e),
		Recent:    b.recent(e, now),
		Total:     total.shown(),
		Ignored:   b.ignored.Load(),
		Refused:   b.refused.Load(),
		Unrefused: b.unrefused.Load(),
		Opened:    b.opened,
	}
}

// State returns the state that the next call will meet: an open breaker whose time
// is over is half-open, a ramp whose time is over closed, though no call has come
// yet to make it so.
func (b *Breaker) State() State {
	return b.now.Load().effective(b.clock())
}

func (e *epoch) effective(now int64) State {
	switch {
	case e.state == Open && now >= e.until:
		return HalfOpen
	case e.state == Ramp && now >= e.until:
		return Closed
	}
	return e.state.shown()
}
