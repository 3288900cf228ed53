package shed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Config configures a [Shedder]. The zero Config is one for a server that nobody has
// measured.
type Config struct {
	// Name is carried in errors, changes and Stats. It is for people, and need not be
	// unique.
	Name string

	// Min and Max bound the limit, Max at most 65535. If zero, 1 and 1000. A guard is worth
	// having where it is known that more is never right: a server with 8 cores that computes
	// is well guarded by 160.
	Min, Max int

	// Initial is the limit to begin with. If zero, 20, within Min and Max: enough to learn
	// from, and not enough to hurt most servers while it does. [Fixed] stays with it.
	Initial int

	// MaxLatency is how long calls may take on average before the limit is lowered, whatever
	// is known of better times: above it an answer is worth nothing. It turns off claims. If
	// zero, there is none, and there should be none unless you know one: a dependency that
	// gets slower than this is taken for overload.
	MaxLatency time.Duration

	// Queue is how many calls may wait. If zero, as many as the limit, 8 at least, and twice
	// as many in a burst: enough for what comes by chance, or after a pause of the process.
	// If negative, none.
	Queue int

	// MaxWait is how long a call waits at most. If zero, 100ms: longer than a pause of the
	// garbage collector or of the scheduler, short of what a user notices. Where calls of
	// the same class have been waiting at all times for that long, half of it is the most: a
	// queue that does not empty is only a delay.
	MaxWait time.Duration

	// Algorithm makes the algorithm that finds the limit, from the Config with its defaults
	// filled in. If nil, [RateVegas].
	Algorithm func(Config) Algorithm

	// Classify tells what the error of a call, nil included, means for the limit. It runs on
	// the goroutine of the call, under no lock. If nil, [Classify].
	Classify func(ctx context.Context, err error) Outcome

	// Pressure returns from 0, all is well, to 1, nothing is left: of the processor, or of
	// memory. It takes as much from the limit, though not all. It is asked at most ten times
	// a second, on the goroutine of a call, under no lock. If nil, there is none: what a
	// process measures of its machine misleads as often as not.
	Pressure func() float64

	// OnChange is called when the limit has changed, in order, one at a time, under no lock,
	// on the goroutine of a call. It may call any method of the Shedder. A panic goes to that
	// caller. If nil, changes are not reported.
	OnChange func(Change)

	// Learned is what another Shedder had learned, from its Snapshot. If zero, nothing: the
	// Shedder takes what it sees first for normal.
	Learned Snapshot
}

// Change is a change of the limit, as [Config].OnChange gets it.
type Change struct {
	Name     string // Config.Name
	From, To int    // never the same
	Window   Window // after which it was changed
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	filled := c.filled()
	check(c.Min >= 0 && c.Min <= mostCalls, "Min", c.Min, "be from 1 to 65535")
	check(c.Max >= 0 && c.Max <= mostCalls, "Max", c.Max, "be from 1 to 65535")
	check(filled.Min <= filled.Max, "Min", filled.Min,
		fmt.Sprintf("not be above Max, which is %d", filled.Max))
	check(c.Initial == 0 || c.Initial >= filled.Min && c.Initial <= filled.Max,
		"Initial", c.Initial, "be from Min to Max")
	check(c.MaxLatency >= 0, "MaxLatency", c.MaxLatency, "not be negative")
	check(c.MaxWait >= 0, "MaxWait", c.MaxWait, "not be negative")
	check(c.Learned.Latency >= 0, "Learned.Latency", c.Learned.Latency, "not be negative")
	check(c.Learned.Rate >= 0 && c.Learned.Rate <= math.MaxFloat64, "Learned.Rate", c.Learned.Rate,
		"be a number that is not negative")
	if bad == nil {
		return nil
	}
	return errors.New("shed: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// filled returns c with its defaults filled in.
func (c Config) filled() Config {
	c.Min = cmp.Or(c.Min, 1)
	c.Max = cmp.Or(c.Max, max(1000, c.Min))
	c.Initial = cmp.Or(c.Initial, max(c.Min, min(20, c.Max)))
	c.MaxWait = cmp.Or(c.MaxWait, 100*time.Millisecond)
	if c.Algorithm == nil {
		c.Algorithm = RateVegas
	}
	if c.Classify == nil {
		c.Classify = Classify
	}
	return c
}
