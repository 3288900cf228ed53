package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what a replica's health consists of. The zero Config is one for a replica
// that is ready as soon as it has started.
type Config struct {
	// Name is carried in reports and changes. It is for people, and need not be unique.
	Name string

	// Checks are run in the background from [Health.Start] on. If empty, there are none,
	// and readiness is a matter of gates and of draining: nothing that could be guessed
	// is worth to be taken out of rotation for.
	Checks []Check

	// Gates are the names of what has to be done before the replica is ready first, such
	// as to fill a cache; see [Health.Gate]. They share the names of the checks. If empty,
	// there are none.
	Gates []string

	// StartupTimeout is for how long, from Start on, checks of class [Shared] that have not
	// passed yet keep the replica from being ready. After that it is ready, with a warning:
	// or what is restarted while a database is down would not come back before it, and what
	// can be served without it would be down too. If zero, 60s: longer than a failover
	// takes, shorter than people do. If negative, they do for as long as it takes.
	StartupTimeout time.Duration

	// HoldDown bounds the random time for which a replica stays in rotation though a check
	// with Shed is down. It tells a blip from an outage, and spreads over time what all
	// replicas see at once. If zero, twice the Interval of the check. If negative, there is
	// none.
	HoldDown time.Duration

	// Peers returns how many replicas there are, this one included, and how many of them
	// are not ready. It is asked when this one is about to leave for a check with Shed,
	// under no lock, and should be quick; what it knows may be some seconds old. One that
	// panics, or that knows of no replica, keeps this one in rotation. If nil, nobody can
	// tell, and a replica leaves with the chance of MaxUnready.
	Peers func() (total, unready int)

	// MaxUnready is the share of all replicas that may be out of rotation when this one
	// leaves for a check with Shed, above 0 and at most 1. The closer it is the smaller is
	// the chance that this one leaves, since the others are asking too. If zero, a third:
	// what remains has then half as much again to do, and most services have that. If 1,
	// there is no bound.
	MaxUnready float64

	// MaxUnreadyFor is for how long one outage of a check with Shed keeps the replica out
	// of rotation. If zero, 2m: the others have been found able to serve by then, or not.
	// If negative, for as long as the outage is.
	MaxUnreadyFor time.Duration

	// Ramp says how the replica takes up its work when it is ready first. If zero, over a
	// minute, as its fields say, for whoever asks [Health.Share].
	Ramp Ramp

	// OnChange is called with each change, in order, one at a time, under no lock, on a
	// goroutine that is there for as long as there are changes to report. It may call any
	// method. One that panics misses that change, and a note in the report says so. While
	// one hangs the changes behind it wait, up to 256; then the oldest are forgotten, and
	// a note says how many. If nil, changes are not reported.
	OnChange func(Change)
}

// Check is one thing to look at, again and again.
type Check struct {
	// Name names the check in reports and in the addresses of probes. It is required, and
	// may be there only once.
	Name string

	// Func returns what is wrong, or nil. Its context ends after Timeout, when the Health
	// stops, and when Func returns; it has the values of Start's. It runs on a goroutine
	// that is there for this check alone, never twice at a time. A panic, and an end of
	// its goroutine, is a failure. It is required.
	Func func(context.Context) error

	// Class is the reach of a failure. If zero, [Shared]: a check whose reach nobody has
	// thought about should not take a fleet out of rotation.
	Class Class

	// Interval is the time from the end of one run to the beginning of the next, give or
	// take a fifth at random, so that the checks of a fleet do not come in step. While the
	// check fails it is a quarter of that, but for class [Liveness]. From 10ms to 24h. If
	// zero, 10s: a failure is noticed while a balancer with usual settings would be about
	// to notice too, and a hundred replicas are ten calls a second.
	Interval time.Duration

	// Timeout is after what time a run has failed, whatever it returns. It must not be
	// longer than Interval. If zero, 1s, or Interval if that is shorter: for a request,
	// what takes longer to answer a ping is as good as gone.
	Timeout time.Duration

	// Failures is how many runs in a row fail before the check is down. If zero, 3: one is
	// a packet.
	Failures int

	// Successes is how many runs in a row pass before a check that is down is up again.
	// The first time one will do. If zero, 2: what passes every other time is not up.
	Successes int

	// StaleAfter is the age from which on a result says nothing, and counts as a check that
	// is down. A run that hangs has failed long before that. It must be at least twice the
	// Interval and the Timeout. If zero, three Intervals, or as many as Failures if that is
	// more, and the Timeout. If negative, never.
	StaleAfter time.Duration

	// Shed takes the replica out of rotation while a check of class [Shared] is down, within
	// the bounds that Config has: for where others can serve, such as those of another
	// region with a database of its own. If zero, it stays and warns: where nobody else can
	// serve, an error is no worse from this replica than from a balancer.
	Shed bool
}

// Class is the reach of a check: what happens while it is down.
type Class int

const (
	// Shared is for what other replicas depend on as well, such as a database. Until it
	// has passed once it keeps the replica from being ready, for at most StartupTimeout.
	// From then on it only warns, but see Check.Shed: it is down for all of them, and a
	// fleet that is not ready serves nobody.
	Shared Class = iota

	// Local is for what belongs to this replica alone, such as its disk. While it is
	// down the replica is not ready.
	Local

	// Liveness is for what only a restart mends, such as a deadlock. While it is down
	// the replica is neither live nor ready. It is down after Failures, and no sooner than
	// Failures times Interval after it has last passed. It must not do input or output:
	// a restart because of a slow network makes the network slower. Before the first result
	// it is up.
	Liveness

	// Info is for what people should know, such as a certificate that expires. It only
	// warns.
	Info

	gateClass // of the result of a gate; nothing that a check can have
)

// String returns the name of the class in lower case. That of a gate's result is "gate".
func (c Class) String() string {
	names := [...]string{"shared", "local", "liveness", "info", "gate"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("Class(%d)", int(c))
	}
	return names[c]
}

const (
	minInterval = 10 * time.Millisecond
	maxInterval = 24 * time.Hour
)

// problems collects what is wrong with the fields of a Config.
type problems []string

func (p *problems) check(ok bool, field string, value any, must string) {
	if !ok {
		*p = append(*p, fmt.Sprintf("%s is %v, but must %s", field, value, must))
	}
}

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad problems
	names := make([]string, 0, len(c.Checks)+len(c.Gates))
	unique := func(field, name string) {
		bad.check(name != "", field, `""`, "have a name")
		bad.check(name == "" || !slices.Contains(names, name), field, fmt.Sprintf("%q", name),
			"not be there twice")
		names = append(names, name)
	}
	for i, name := range c.Gates {
		unique(fmt.Sprintf("Gates[%d]", i), name)
	}
	for i, check := range c.Checks {
		field := fmt.Sprintf("Checks[%d].", i)
		unique(field+"Name", check.Name)
		check.validate(field, &bad)
	}
	bad.check(c.MaxUnready == 0 || c.MaxUnready > 0 && c.MaxUnready <= 1, "MaxUnready",
		c.MaxUnready, "be above 0 and at most 1")
	c.Ramp.validate(&bad)
	if bad == nil {
		return nil
	}
	return errors.New("health: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func (c Check) validate(field string, bad *problems) {
	interval := cmp.Or(c.Interval, 10*time.Second)
	bad.check(c.Func != nil, field+"Func", "nil", "be a function")
	bad.check(c.Class >= Shared && c.Class <= Info, field+"Class", c.Class, "be a class")
	bad.check(interval >= minInterval && interval <= maxInterval, field+"Interval", c.Interval,
		"be from 10ms to 24h")
	bad.check(c.Timeout >= 0, field+"Timeout", c.Timeout, "not be negative")
	bad.check(c.Timeout <= max(interval, 0), field+"Timeout", c.Timeout,
		"not be longer than the Interval, "+interval.String())
	bad.check(c.Failures >= 0 && c.Failures <= maxInARow, field+"Failures", c.Failures,
		"be from 1 to 1000")
	bad.check(c.Successes >= 0 && c.Successes <= maxInARow, field+"Successes", c.Successes,
		"be from 1 to 1000")
	least := 2*interval + c.timeout()
	bad.check(c.StaleAfter <= 0 || c.StaleAfter >= least, field+"StaleAfter", c.StaleAfter,
		"be at least "+least.String()+", two Intervals and the Timeout")
	bad.check(!c.Shed || c.Class == Shared, field+"Shed", c.Shed, "be of class shared")
}

// maxInARow bounds Failures and Successes, so that times an Interval they fit.
const maxInARow = 1000

func (c Check) timeout() time.Duration {
	return cmp.Or(c.Timeout, min(time.Second, cmp.Or(c.Interval, time.Second)))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// filled returns c with its defaults. It is a copy: the caller may go on with its slices.
func (c Config) filled() Config {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Checks, c.Gates = slices.Clone(c.Checks), slices.Clone(c.Gates)
	for i := range c.Checks {
		c.Checks[i] = c.Checks[i].filled()
	}
	c.StartupTimeout = cmp.Or(c.StartupTimeout, 60*time.Second)
	c.MaxUnready = cmp.Or(c.MaxUnready, 1.0/3)
	c.MaxUnreadyFor = cmp.Or(c.MaxUnreadyFor, 2*time.Minute)
	c.Ramp = c.Ramp.filled()
	return c
}

func (c Check) filled() Check {
	c.Timeout = c.timeout()
	c.Interval = cmp.Or(c.Interval, 10*time.Second)
	c.Failures = cmp.Or(c.Failures, 3)
	c.Successes = cmp.Or(c.Successes, 2)
	stale := time.Duration(max(3, c.Failures))*c.Interval + c.Timeout
	c.StaleAfter = cmp.Or(c.StaleAfter, stale)
	return c
}
