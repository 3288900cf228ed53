package throttle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Config says how much a throttle sends. The zero Config is one for a server that nobody
// has measured yet.
type Config struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique.
	Name string

	// K is how many times what the other side accepts is sent at most, above 1. What is
	// above 1 is how the throttle learns that there is room again; it is also what the
	// other side still has to turn away. If zero, 2: calls are refused only when the other
	// side turns away more than half, and a server spends little on turning away as many
	// as it serves. Where rejecting is dear, or the server knows no classes, 1.1 to 1.5.
	K float64

	// Window is the time over which calls are counted. It slides in ten steps. Longer is
	// steadier, and slower to see an overload. If zero, 30s: the two minutes of the book
	// let an overload of a minute pass before anything is done.
	Window time.Duration

	// Classify tells what the error of a call, nil included, means for the throttle. It
	// runs on the goroutine of the call, under no lock. If nil, [Classify].
	Classify func(ctx context.Context, err error) Outcome
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
	check(c.K == 0 || c.K > 1 && c.K <= math.MaxFloat64, "K", c.K, "be above 1 and finite")
	check(c.Window == 0 || c.Window >= buckets*minBucket, "Window", c.Window,
		"be at least 10ms, ten buckets of 1ms")
	if bad == nil {
		return nil
	}
	return errors.New("throttle: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// settings is a Config made ready: defaults filled in, times as nanoseconds. A Group's
// throttles share one.
type settings struct {
	base     time.Time // what the throttle's times count from
	k        float64
	width    int64 // of a bucket
	classify func(context.Context, error) Outcome
}

func (c Config) settings() *settings {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	s := &settings{
		base:     time.Now(),
		k:        cmp.Or(c.K, 2),
		width:    int64(cmp.Or(c.Window, 30*time.Second)) / buckets,
		classify: c.Classify,
	}
	if s.classify == nil {
		s.classify = Classify
	}
	return s
}
