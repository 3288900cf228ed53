package pressure

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Config says what a signal calls much. It means the same for [Memory], [CPU] and
// [Scheduler], each of which has defaults of its own.
type Config struct {
	// Name is carried in Stats. If empty, "memory", "cpu" or "scheduler": more than one
	// of a kind is hardly of use.
	Name string

	// Start is the value above which the level is more than 0. If zero, what the function
	// says that makes the signal; Full must be zero too, since half a ramp of one's own
	// fits no other half.
	Start float64

	// Full is the value from which on the level is 1, above Start. If zero, what the
	// function says, as for Start.
	Full float64
}

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [Memory], [CPU] and [Scheduler] panic with the same text.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value float64, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	check(c.Start >= 0 && c.Start <= math.MaxFloat64, "Start", c.Start, "be above 0 and finite")
	check(c.Full >= 0 && c.Full <= math.MaxFloat64, "Full", c.Full, "be above 0 and finite")
	if bad == nil {
		check((c.Start == 0) == (c.Full == 0), "Start", c.Start,
			fmt.Sprintf("be set if Full, %v, is, and only then", c.Full))
		check(c.Start == 0 || c.Full == 0 || c.Start < c.Full, "Full", c.Full, "be above Start")
	}
	if bad == nil {
		return nil
	}
	return errors.New("pressure: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// filled returns c with these defaults.
func (c Config) filled(name string, start, full float64) Config {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Name = cmp.Or(c.Name, name)
	c.Start = cmp.Or(c.Start, start)
	c.Full = cmp.Or(c.Full, full)
	return c
}
