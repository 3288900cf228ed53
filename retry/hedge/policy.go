package hedge

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// Policy says when a call gets a second attempt beside its first. It is used by
// pointer, from any number of goroutines, and must not be changed or copied once it is
// in use: it learns how long calls take, and keeps account of the extra ones. The zero
// Policy is one for production. Use one for each kind of call, since what it learns
// is of no use to calls of another.
//
// A field that means nothing, such as a negative duration, is read as zero.
type Policy struct {
	// Delay is how long an attempt has before another one is started beside it. If
	// zero, it is observed: such that the share of calls that take longer is Extra. So
	// nobody has to know it, and it follows when the calls get slower or faster.
	Delay time.Duration

	// Extra is the share of extra calls, from above 0 to 1. It is what an observed delay
	// aims at, and with either kind of delay it is a bound: whatever happens, extra calls
	// are no more than Extra and a fifth of it, and 4 at once. If zero, 0.05: the slowest
	// twentieth is where the tail is, and a load that grows by as much is no news.
	Extra float64

	// MinDelay is the least that an observed delay can be. If zero, 1ms: what is slow
	// there is this process, and another attempt from it is slow too.
	MinDelay time.Duration

	// MaxAttempts is how many attempts a call has at most, the first included. Each
	// further one waits for the delay again. If zero, 2: a third finds little left to
	// win. If 1, there is no hedging.
	MaxAttempts int

	// SharedBudget is asked too, for one token for each extra attempt, so that retries and
	// hedges of the same calls have one bound together. The [retry.Policy] that shares
	// it fills it; nothing here does. If nil, Extra is the only bound.
	SharedBudget *retry.Budget

	latency latency
	extra   allowance
	base    atomic.Pointer[time.Time] // what times count from; nil until the first call
	idle    sync.Pool                 // of *call[R], for whatever R it was used with

	calls, hedged, won, denied atomic.Uint64
}

const (
	defaultExtra       = 0.05
	defaultMinDelay    = time.Millisecond
	defaultMaxAttempts = 2
	headroom           = 1.2 // of the bound over Extra: else chance alone would run into it
)

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. Where it is not called such a field is read as zero.
func (p *Policy) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	check(p.Delay >= 0, "Delay", p.Delay, "not be negative")
	check(p.Extra >= 0 && p.Extra <= 1, "Extra", p.Extra, "be above 0 and at most 1")
	check(p.MinDelay >= 0, "MinDelay", p.MinDelay, "not be negative")
	check(p.MaxAttempts >= 0, "MaxAttempts", p.MaxAttempts, "be at least 1")
	if p.SharedBudget != nil {
		if err := p.SharedBudget.Validate(); err != nil {
			bad = append(bad, "Shared"+strings.TrimPrefix(err.Error(), "retry: "))
		}
	}
	if bad == nil {
		return nil
	}
	return errors.New("hedge: Policy: " + strings.Join(bad, "; "))
}

// Stats is what a policy has done, and what it has learned.
type Stats struct {
	Calls  uint64 // calls of Do that made an attempt
	Hedged uint64 // attempts beyond the first of a call: the extra load
	Won    uint64 // calls that an attempt beyond the first has answered
	Denied uint64 // attempts that were due, but for the budgets

	// Delay is what the next call will wait before its second attempt. It is 0 while too
	// few calls were observed: then only an error starts another attempt.
	Delay time.Duration
}

// Stats returns a snapshot. The counters only grow. It is for exporters and tests.
func (p *Policy) Stats() Stats {
	return Stats{
		Calls:  p.calls.Load(),
		Hedged: p.hedged.Load(),
		Won:    p.won.Load(),
		Denied: p.denied.Load(),
		Delay:  p.delay(),
	}
}

func (p *Policy) maxAttempts() int {
	if p.MaxAttempts <= 0 {
		return defaultMaxAttempts
	}
	return p.MaxAttempts
}

func (p *Policy) share() float64 {
	if p.Extra > 0 && p.Extra <= 1 {
		return p.Extra
	}
	return defaultExtra
}

func (p *Policy) minDelay() time.Duration {
	if p.MinDelay > 0 {
		return p.MinDelay
	}
	return defaultMinDelay
}

// delay returns how long to wait before the second attempt, 0 if that is not known.
func (p *Policy) delay() time.Duration {
	if p.Delay > 0 {
		return p.Delay
	}
	return p.latency.delay()
}

// observe learns from a first attempt that has taken so long: exactly, or at least.
func (p *Policy) observe(took time.Duration, exactly bool) {
	p.latency.observe(took, exactly, p.share(), p.minDelay())
}

// clock returns nanoseconds since it was first asked, and never 0. It is monotonic.
func (p *Policy) clock() int64 {
	base := p.base.Load()
	if base == nil {
		now := time.Now()
		if p.base.CompareAndSwap(nil, &now) {
			return 1
		}
		base = p.base.Load()
	}
	return max(int64(time.Since(*base)), 1)
}

// take pays for an extra attempt, and reports whether that could be paid.
func (p *Policy) take() bool {
	if !p.extra.take() {
		p.denied.Add(1)
		return false
	}
	if p.SharedBudget != nil && !p.SharedBudget.Take() {
		p.extra.add(token)
		p.denied.Add(1)
		return false
	}
	p.hedged.Add(1)
	return true
}

// allowance is a bucket of four tokens, full at first: each call adds a part of one,
// each extra attempt takes one. Unlike that of a [retry.Budget] its share is of calls,
// not of successes: it bounds the extra load, and is not there to tell an outage.
type allowance struct {
	spent atomic.Int64 // millionths of a token missing from a full bucket
}

const (
	token = 1_000_000
	burst = 4 * token // with three, chance alone would refuse one hedge in ten
)

func (a *allowance) add(n int64) {
	for {
		spent := a.spent.Load()
		if spent == 0 || a.spent.CompareAndSwap(spent, max(spent-n, 0)) {
			return
		}
	}
}

func (a *allowance) take() bool {
	for {
		spent := a.spent.Load()
		if spent+token > burst {
			return false
		}
		if a.spent.CompareAndSwap(spent, spent+token) {
			return true
		}
	}
}
