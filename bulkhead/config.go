package bulkhead

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Config says how many calls a bulkhead lets through at a time, and how many may wait.
type Config struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique.
	Name string

	// MaxConcurrent is how many calls may be under way at a time, or what their weights
	// may add up to. It is required: no number is right for both a database with 20
	// connections and a service with 500. A good one is what the other side can do at
	// once; in doubt, twice the peak rate of calls times how long one takes.
	MaxConcurrent int

	// MaxQueue is how many calls may wait for a slot. If zero, none: a full bulkhead
	// refuses at once. A queue helps against bursts only. When calls come faster than
	// they are done it is full, and then every call pays for it with its time.
	MaxQueue int

	// MaxWait is how long a call waits at most, however long its context would let it.
	// If zero, 1s: more than a burst takes to pass, less than the patience of most
	// callers. If negative, the context alone ends the wait.
	MaxWait time.Duration
}

// maxWeight bounds MaxConcurrent, so that what is in use has room in half a word.
const maxWeight = math.MaxInt32

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	if c.MaxConcurrent < 1 || c.MaxConcurrent > maxWeight {
		bad = append(bad, fmt.Sprintf(
			"MaxConcurrent is %d, but must be from 1 to %d", c.MaxConcurrent, maxWeight))
	}
	if c.MaxQueue < 0 {
		bad = append(bad, fmt.Sprintf("MaxQueue is %d, but must not be negative", c.MaxQueue))
	}
	if bad == nil {
		return nil
	}
	return errors.New("bulkhead: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// settings is what the bulkheads of a group share.
type settings struct {
	base          time.Time // what times count from
	maxConcurrent uint64
	maxQueue      int
	maxWait       time.Duration // negative: no bound
}

func (c Config) settings() *settings {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	return &settings{
		base:          time.Now(),
		maxConcurrent: uint64(c.MaxConcurrent),
		maxQueue:      c.MaxQueue,
		maxWait:       cmp.Or(c.MaxWait, time.Second),
	}
}
