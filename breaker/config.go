package breaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"
)

// Config says when a breaker opens, for how long, and how it comes back. The zero
// Config is one for a dependency that nobody has measured yet.
//
// FailureRate, SlowRate, Consecutive and FailingFor are the rules that open the
// breaker, any one of them. When none of them is set, FailureRate 0.5 and
// FailingFor 2s hold: the first sees a dependency that fails in part, the second
// one that is gone, whatever it did before. When any is set, those left zero are
// off.
type Config struct {
	// Name is carried in errors, changes and Stats. It is for people, and need
	// not be unique.
	Name string

	// Window is the time over which the rates are taken. It slides in ten steps.
	// Longer is steadier and slower. If zero, 30s: a dependency called once in a
	// second still brings together MinCalls in it.
	Window time.Duration

	// MinCalls is how many calls the window must hold before a rate opens the
	// breaker, and how many must fail before FailingFor does. If zero, 10: with
	// fewer, a rate of a half is chance.
	MinCalls int

	// FailureRate opens the breaker when at least this share of the calls in the
	// window failed, from above 0 to 1. It is compared in whole numbers, to a
	// billionth: 99 of 200 do not reach 0.5. If zero, see Config.
	FailureRate float64

	// SlowCall is how long a call takes that counts as slow, whatever came of it.
	// It costs a reading of the clock at the start of a call too. If zero, no
	// call does.
	SlowCall time.Duration

	// SlowRate opens the breaker when at least this share of the calls in the
	// window were slow. It needs SlowCall. If zero and SlowCall is set, 0.5; the
	// rate is then no rule set by itself, and the other defaults still hold.
	SlowRate float64

	// Consecutive opens the breaker after this many failures in a row. Alone, it
	// is the cheapest rule: a healthy call writes nothing and reads no clock. At
	// ten thousand calls a second, ten in a row are a millisecond. If zero, see
	// Config.
	Consecutive int

	// FailingFor opens the breaker when all calls that ended for this long have
	// failed, at least MinCalls of them. Unlike a rate it does not wait for the
	// successes of better times to leave the window; unlike Consecutive it sits
	// out a burst, such as the loss of one connection with a hundred calls on it.
	// If zero, see Config.
	FailingFor time.Duration

	// OpenFor is how long the breaker stays open before it lets probes through.
	// It grows by half each time that the breaker opens again, and goes back by one
	// step for every Window that it was closed. A random part of up to a fifth is taken
	// off, so that many clients do not probe in step. If zero, 5s: short enough
	// that a restart is not prolonged, long enough to let one happen; MaxOpenFor if
	// that is shorter.
	OpenFor time.Duration

	// MaxOpenFor bounds OpenFor as it grows, and what an error's RetryAfter can
	// ask for. If zero, 60s, or OpenFor if that is longer.
	MaxOpenFor time.Duration

	// Probes is how many calls are let through at a time when the breaker is
	// half-open, and how many must succeed to close it. One failure opens it
	// again. If zero, 3: one might be luck.
	Probes int

	// ProbeTimeout is for how long a probe holds its place. Then the place is given
	// to another call. A failure of the first still counts; its success does not, but
	// has the probes after it hold their places for twice as long as it took, at most
	// twice MaxOpenFor. If zero, OpenFor.
	ProbeTimeout time.Duration

	// RampUp is the time after the probes over which the share of calls that are
	// let through grows from a tenth to all: what has just come back often comes
	// back cold. If zero, half of OpenFor. If negative, there is no ramp.
	RampUp time.Duration

	// Classify tells what the error of a call, nil included, means for the
	// breaker. It runs on the goroutine of the call, under no lock. If nil,
	// [Classify], and a call whose context's deadline left it less than SlowCall is
	// Ignored where it ran into that deadline.
	Classify func(ctx context.Context, err error) Outcome

	// OnChange is called with each change of state, in order, one at a time, under
	// no lock, on the goroutine of one of the calls that caused changes. It may
	// call any method of the breaker; changes that it causes are reported after it
	// returns. A call that causes a change while OnChange runs for another does not
	// wait. A panic goes to the caller whose goroutine it is, after the remaining
	// changes were reported. If nil, changes are not reported.
	OnChange func(Change)
}

const minBucket = time.Millisecond

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	duration := func(field string, d time.Duration) {
		check(d >= 0, field, d, "not be negative")
	}
	rate := func(field string, r float64) {
		check(r == 0 || r >= 1e-9 && r <= 1, field, r, "be above 0 and at most 1")
	}
	check(c.Window == 0 || c.Window >= buckets*minBucket, "Window", c.Window,
		"be at least 10ms, ten buckets of 1ms")
	check(c.MinCalls >= 0 && c.MinCalls <= maxLength, "MinCalls", c.MinCalls,
		"be at least 1 and below 16777216")
	rate("FailureRate", c.FailureRate)
	duration("SlowCall", c.SlowCall)
	rate("SlowRate", c.SlowRate)
	check(c.SlowRate == 0 || c.SlowCall != 0, "SlowRate", c.SlowRate, "have a SlowCall beside it")
	check(c.Consecutive >= 0 && c.Consecutive <= maxLength, "Consecutive", c.Consecutive,
		"be at least 1 and below 16777216")
	duration("FailingFor", c.FailingFor)
	duration("OpenFor", c.OpenFor)
	check(c.MaxOpenFor == 0 || c.MaxOpenFor >= max(c.OpenFor, 0), "MaxOpenFor", c.MaxOpenFor,
		"not be below OpenFor")
	check(c.Probes >= 0, "Probes", c.Probes, "be at least 1")
	duration("ProbeTimeout", c.ProbeTimeout)
	if bad == nil {
		return nil
	}
	return errors.New("breaker: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// settings is a Config made ready: defaults filled in, rates as whole numbers,
// times as nanoseconds. A Group's breakers share one.
type settings struct {
	base time.Time // what the breaker's times count from

	width       int64 // of a bucket; 0: no rate is a rule
	window      int64 // also the healthy time that takes back one growth
	minCalls    uint64
	failureRate uint64 // billionths; 0: off
	slowRate    uint64 // billionths; 0: off
	slowCall    int64
	consecutive int64
	failingFor  int64

	openFor, maxOpenFor, probeTimeout, rampUp int64

	probes   int
	classify func(context.Context, error) Outcome
	onChange func(Change)
}

func (c Config) settings() *settings {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	if c.FailureRate == 0 && c.SlowRate == 0 && c.Consecutive == 0 && c.FailingFor == 0 {
		c.FailureRate, c.FailingFor = 0.5, 2*time.Second
	}
	if c.SlowCall != 0 && c.SlowRate == 0 {
		c.SlowRate = 0.5
	}
	c.Window = cmp.Or(c.Window, 30*time.Second)
	c.MaxOpenFor = cmp.Or(c.MaxOpenFor, max(60*time.Second, c.OpenFor))
	c.OpenFor = cmp.Or(c.OpenFor, min(5*time.Second, c.MaxOpenFor))
	s := &settings{
		base:         time.Now(),
		window:       int64(c.Window),
		minCalls:     uint64(cmp.Or(c.MinCalls, 10)),
		failureRate:  billionths(c.FailureRate),
		slowRate:     billionths(c.SlowRate),
		slowCall:     int64(c.SlowCall),
		consecutive:  int64(c.Consecutive),
		failingFor:   int64(c.FailingFor),
		openFor:      int64(c.OpenFor),
		maxOpenFor:   int64(c.MaxOpenFor),
		probes:       cmp.Or(c.Probes, 3),
		probeTimeout: int64(cmp.Or(c.ProbeTimeout, c.OpenFor)),
		rampUp:       int64(cmp.Or(c.RampUp, c.OpenFor/2)),
		classify:     c.Classify,
		onChange:     c.OnChange,
	}
	if s.failureRate != 0 || s.slowRate != 0 {
		s.width = s.window / buckets
	}
	return s
}

// billionths returns rate as a whole number of billionths, rounded down: 2.0/3
// must be reached by two of three. The millionth of a billionth added is for
// rates that a float64 can't hold, so that 0.57 is not 569999999.
func billionths(rate float64) uint64 {
	return uint64(math.Floor(rate*1e9 + 1e-6))
}

// reaches reports whether part of all is at least rate, exactly. All products fit:
// they have 128 bits.
func reaches(part, all, rate uint64) bool {
	partHi, partLo := bits.Mul64(part, 1e9)
	allHi, allLo := bits.Mul64(all, rate)
	return partHi > allHi || partHi == allHi && partLo >= allLo
}
