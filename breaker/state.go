package breaker

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
)

// State is what a breaker does with calls.
type State uint8

// The states of a breaker.
const (
	Closed   State = iota // every call is let through
	Open                  // every call is refused
	HalfOpen              // a few calls are let through as probes, the others refused
	Ramp                  // a growing share of calls is let through
	off                   // Disabled: let through and not counted. Shown as Closed.
)

// String returns "closed", "open", "half-open" or "ramp".
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	case Ramp:
		return "ramp"
	}
	return "closed"
}

// shown returns s as users know it.
func (s State) shown() State {
	if s == off {
		return Closed
	}
	return s
}

// mode is who decides on the state.
type mode uint8

const (
	auto mode = iota
	forced
	disabled
	shadow
)

func (m mode) String() string {
	return [...]string{"auto", "forced open", "disabled", "shadow"}[m]
}

// ErrOpen is what every [OpenError] matches.
var ErrOpen = errors.New("breaker: open")

// OpenError is the refusal of a call that the breaker did not let through. It
// matches [ErrOpen]. All refusals in one state share one OpenError: don't change it.
type OpenError struct {
	Name  string // Config.Name
	State State  // Open, HalfOpen or Ramp

	// Until is when an open breaker lets a probe through. It is zero where that
	// is not known: half-open, in the ramp, or forced open.
	Until time.Time
}

// Error names the breaker and its state, but no time: the text stays the same for
// as long as the state does.
func (e *OpenError) Error() string {
	if e.Name == "" {
		return "breaker: " + e.State.String()
	}
	return "breaker: " + e.Name + ": " + e.State.String()
}

// Is reports whether target is [ErrOpen].
func (*OpenError) Is(target error) bool { return target == ErrOpen }

// NotAttempted returns true: the call was not made.
func (*OpenError) NotAttempted() bool { return true }

// RetryAfter returns how long it is, now, until Until, or 0 if Until is zero or past.
func (e *OpenError) RetryAfter() time.Duration {
	if e.Until.IsZero() {
		return 0
	}
	return max(0, time.Until(e.Until))
}

// An epoch is the time between two changes of state, with all that belongs to it.
// What is not atomic is written before the epoch is published and then stays; a
// permit keeps its epoch, and so tells by itself when it has become late.
type epoch struct {
	plain bool // Closed, and a call without an error is a Success and needs no start
	state State
	mode  mode
	steps int32 // how often the open time grows when the breaker opens next
	since int64
	until int64 // Open: probes from then on. Ramp: its end.
	err   *OpenError

	streak    streak       // Closed, Ramp
	window    window       // Closed, Ramp; HalfOpen uses its tally only
	busyUntil atomic.Int64 // HalfOpen: no probe can be admitted before
	probes    *probes      // HalfOpen; the breaker's lock is held
}

// acquire decides on a call that may be let through with conditions, or not. The
// permit has the current epoch; it is the zero Permit again if the call is not
// to be counted.
func (p *Permit) acquire() error {
	b, e := p.b, p.epoch
	if e.state == off {
		*p = Permit{}
		return nil
	}
	if e.state == Closed && b.set.slowCall == 0 {
		return nil
	}
	p.start = b.clock()
	switch {
	case e.state == Closed:
		return nil
	case e.state == Ramp && p.start >= e.until:
		b.endRamp(e, p.start)
		return p.again()
	case e.state == Ramp && e.admits(p.start):
		return nil
	case e.state == Ramp, e.state == Open && p.start < e.until, p.start < e.busyUntil.Load():
		return p.refuse()
	}
	return p.acquireProbe()
}

// again decides anew, since the epoch that the permit had is over.
func (p *Permit) again() error {
	p.epoch = p.b.now.Load()
	return p.acquire()
}

// admits decides on a call in the ramp: a tenth of the calls at its beginning, and
// later the share of its time that has passed.
func (e *epoch) admits(now int64) bool {
	all := e.until - e.since
	return rand.Int64N(all) < max(now-e.since, all/10)
}

// refuse refuses the call, unless the breaker only watches. The permit is no
// probe's then.
func (p *Permit) refuse() error {
	b, e := p.b, p.epoch
	if e.mode == shadow {
		b.unrefused.Add(1)
		return nil
	}
	b.refused.Add(1)
	*p = Permit{}
	return e.err
}

// acquireProbe makes the breaker half-open if its open time is over, and takes a
// probe's place if there is one. The caller that ends the open time is the first
// of the probes.
func (p *Permit) acquireProbe() error {
	b := p.b
	b.mu.Lock()
	e := b.now.Load()
	if e.state == Open && p.start >= e.until {
		half := b.newEpoch(HalfOpen, e.mode, p.start, e.steps)
		half.probes = &probes{want: b.set.probes, length: b.set.probeTimeout}
		b.change(e, half, "open time over")
		e = half
	}
	if e.state != HalfOpen { // another caller was faster
		b.mu.Unlock()
		return p.again()
	}
	var ok bool
	p.epoch = e
	p.probe, ok = e.probes.admit(p.start)
	e.busyUntil.Store(e.probes.busyUntil())
	b.mu.Unlock()
	if !ok {
		return p.refuse()
	}
	reported := false
	defer func() {
		if !reported {
			p.Record(Ignored) // OnChange has panicked: nobody else knows of the place
		}
	}()
	b.report()
	reported = true
	p.start = b.clock() // what OnChange took is not the probe's time
	return nil
}

// finishProbe judges a probe: one that failed, or was slow, opens the breaker
// again; enough that succeeded close it; one that is ignored gives back its place
// and proves nothing. Of one whose lease is over a failure still counts, or a
// dependency that hangs for longer than a lease would never be seen to fail; a
// success does not, but the leases grow to its length.
func (b *Breaker) finishProbe(
	p *Permit, e *epoch, now int64, outcome Outcome, slow bool, err error,
) {
	after := verdict.RetryAfter(err) // a method of the user's, so not under the lock
	b.mu.Lock()
	if b.now.Load() != e || p.probe == 0 { // 0: let through by Shadow
		b.mu.Unlock()
		b.finishLate(now, outcome, slow, err)
		return
	}
	held := e.probes.release(p.probe, now)
	e.window.count(outcome, slow)
	switch {
	case outcome == Ignored && !slow:
	case outcome == Success && !slow && !held:
		e.probes.lengthen(now-p.start, later(b.set.maxOpenFor, b.set.maxOpenFor))
	case outcome != Success || slow:
		b.change(e, b.newOpen(e.mode, now, e.steps, after), "probe failed")
	default:
		e.probes.succeeded++
		if e.probes.succeeded == e.probes.want {
			b.change(e, b.newRamp(e.mode, now, e.steps), "probes succeeded")
		}
	}
	e.busyUntil.Store(e.probes.busyUntil())
	b.mu.Unlock()
	b.report()
}

// open opens the breaker because a rule was broken in e. Of callers who find that
// at the same time, the first does it.
func (b *Breaker) open(e *epoch, now int64, rule string, after time.Duration) {
	b.mu.Lock()
	if b.now.Load() == e {
		steps := int64(e.steps)
		if e.state == Closed {
			steps = max(0, steps-(now-e.since)/b.set.window)
		}
		b.change(e, b.newOpen(e.mode, now, int32(steps), after), rule)
	}
	b.mu.Unlock()
	b.report()
}

// prolong keeps an open breaker open for what a server has asked.
func (b *Breaker) prolong(now int64, after time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.now.Load()
	until := min(later(now, int64(after)), later(e.since, b.set.maxOpenFor))
	if e.state == Open && until > e.until {
		longer := b.newEpoch(Open, e.mode, e.since, e.steps)
		longer.until = until
		longer.err.Until = b.wall(until)
		b.change(e, longer, "")
	}
}

func (b *Breaker) endRamp(e *epoch, now int64) {
	b.mu.Lock()
	if b.now.Load() == e {
		b.change(e, b.newEpoch(Closed, e.mode, now, e.steps), "ramp over")
	}
	b.mu.Unlock()
	b.report()
}

func (b *Breaker) newEpoch(state State, mode mode, now int64, steps int32) *epoch {
	e := &epoch{state: state, mode: mode, since: now, steps: steps}
	e.window.width = b.set.width
	switch state {
	case Closed:
		e.plain = b.set.slowCall == 0 && b.set.classify == nil
	case Open, HalfOpen, Ramp:
		e.err = &OpenError{Name: b.name, State: state}
	}
	return e
}

// newOpen returns an open epoch whose time has grown as many times as steps says. It
// grows by half, and does not double, since a recovery waits for the last one: that
// is about a half of the outage so far, and would be all of it. The random part is
// taken off after the bound: else all clients that have reached it would probe in
// step.
func (b *Breaker) newOpen(m mode, now int64, steps int32, after time.Duration) *epoch {
	open, most, next := b.set.openFor, b.set.maxOpenFor, steps+1
	for range steps {
		open = later(open, open/2)
	}
	if open >= most {
		open, next = most, steps // there is nothing more to take back, later
	}
	open -= rand.Int64N(open/5 + 1)
	open = max(open, min(int64(after), most))

	e := b.newEpoch(Open, m, now, next)
	e.until = later(now, open)
	e.err.Until = b.wall(e.until)
	return e
}

func (b *Breaker) newRamp(m mode, now int64, steps int32) *epoch {
	if b.set.rampUp <= 0 {
		return b.newEpoch(Closed, m, now, steps)
	}
	e := b.newEpoch(Ramp, m, now, steps)
	e.until = later(now, b.set.rampUp)
	return e
}

// later returns now plus d, or the end of time.
func later(now, d int64) int64 {
	if d > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + d
}
