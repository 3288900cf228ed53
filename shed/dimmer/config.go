package dimmer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what a dimmer holds where, and what it dims. The zero Config is one for the
// wait in a queue that turns requests away after a tenth of a second.
type Config struct {
	// Name is carried in Stats. It is for people, and need not be unique.
	Name string

	// Target is what the mean of the observed delays is held at while there is more to do
	// than time for everything. Below it everything is lit. If zero, 50ms: half of the
	// tenth of a second that a request should wait at most, so that features go dark
	// before a request is turned away.
	Target time.Duration

	// Signal is another measure, from 0, calm, to 1, saturated: one of package pressure,
	// say, or the part of an error budget that is spent. It is read once in each period, on
	// the goroutine of one of the callers, under no lock, and should be quick. Beside
	// delays, what is further above where it is held counts. If nil, only delays do.
	Signal func() float64

	// SetPoint is what Signal is held at, above 0 and below 1. If zero and Signal is set,
	// 0.5: it leaves as much room above as below.
	SetPoint float64

	// Period is the time over which the mean is taken, and after which the shares change.
	// Longer is steadier and slower. If zero, 500ms, ten times the default of Target: in
	// that time a queue shows which way it goes, and everything is dark in six seconds if
	// need be. Where the queue is short, as before a shedder, take 100ms: it may fill and
	// empty within half a second, and the share would swing with it.
	Period time.Duration

	// Features are the names of what is dimmed, the first one first. The order should be
	// that of cost for what it is worth, the most expensive first. If empty, one, which is
	// named "optional": the order of several is nothing that could be guessed.
	Features []string
}

const (
	minPeriod = 10 * time.Millisecond
	maxPeriod = time.Hour
)

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	check(c.Target >= 0, "Target", c.Target, "not be negative")
	check(c.SetPoint == 0 || c.SetPoint > 0 && c.SetPoint < 1, "SetPoint", c.SetPoint,
		"be above 0 and below 1")
	check(c.SetPoint == 0 || c.Signal != nil, "SetPoint", c.SetPoint, "have a Signal beside it")
	check(c.Period == 0 || c.Period >= minPeriod && c.Period <= maxPeriod, "Period", c.Period,
		"be from 10ms to 1h")
	for i, name := range c.Features {
		field := fmt.Sprintf("Features[%d]", i)
		check(name != "", field, `""`, "have a name")
		first := slices.Index(c.Features, name)
		check(name == "" || first == i, field, fmt.Sprintf("%q", name), "not be there twice")
	}
	if bad == nil {
		return nil
	}
	return errors.New("dimmer: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// filled returns c with its defaults.
func (c Config) filled() Config {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Target = cmp.Or(c.Target, 50*time.Millisecond)
	c.SetPoint = cmp.Or(c.SetPoint, 0.5)
	c.Period = cmp.Or(c.Period, 500*time.Millisecond)
	if len(c.Features) == 0 {
		c.Features = []string{"optional"}
	}
	return c
}
