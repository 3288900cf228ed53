package cell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
)

// Config says where a [Router] has its map from, and what it believes.
type Config struct {
	// Name is carried in Stats and events. It is for people, and need not be unique.
	Name string

	// Source returns the whole map as it is now, in the encoding of [Snapshot.Encode]. It
	// is called on the goroutine of Run, with a context that ends after Timeout. Its
	// answer must be that of the store and not of a cache or of a follower that may lag:
	// an old answer would renew a lease that should end. It should read no more than
	// MaxBytes. It is required.
	Source func(context.Context) ([]byte, error)

	// Period is the time from one pull to the next, whether or not anything has changed.
	// So a change, and an outage, cost the control plane what every other moment costs.
	// If zero, 5s: well below a lease of 15s.
	Period time.Duration

	// Timeout ends a pull. If zero, Period.
	Timeout time.Duration

	// Path is a file that keeps the map over a restart, with the one before it in
	// Path.1. Each process should have its own. If empty, there is none, and a restart
	// during an outage begins with Seed.
	Path string

	// Seed is a map to begin with when there is none at Path, from the program itself or
	// from a mounted file. If nil, there is none.
	Seed []byte

	// AllowSeed lets Ready return nil on the Seed alone. If zero, it waits for a pull: a
	// seed is as old as what it came with, and tenants may have moved since.
	AllowSeed bool

	// Replica names this process in Cell.Replicas, where it is one of those that write;
	// see [Gate]. There must be one process of a name at a time, and no other may have
	// the Path. A new name for each start, such as that of a pod, is right; one that
	// stays, with a Path that stays, lets a replica write when it is restarted in an
	// outage. If empty, the process writes only in cells that list no replicas.
	Replica string

	// MaxAge is how long a map is not confirmed until it is called stale. That changes no
	// route. If zero, ten times Period.
	MaxAge time.Duration

	// MaxBytes bounds the encoding of a map. If zero, 16 MiB: ten times what a million
	// slots and ten thousand tenants would take.
	MaxBytes int

	// MaxSlots bounds which share of the slots may get another cell in an hour, or in
	// each hour without an answer. A map that moves more is rejected, unless an operator
	// has it Forced. If zero, 0.2: what a plan does takes days, and what a mistake does
	// is most often everything. If negative, there is no bound.
	MaxSlots float64

	// MaxTenants bounds how many tenants and prefixes may get another cell in an hour, in
	// the same way. If zero, 1000. If negative, there is no bound.
	MaxTenants int

	// OnEvent is called with what comes of the pulls, in order, one at a time, on the
	// goroutine of Run, under no lock. It may call any method of the router. If it panics
	// Run does; the map stays. If nil, events are not reported.
	OnEvent func(Event)
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [New] panics with the same text. It does not look at Path and Seed: what is
// wrong with those is for [Router.Stats] to say.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	check(c.Source != nil, "Source", nil, "be set")
	check(c.Period == 0 || c.Period >= time.Millisecond, "Period", c.Period, "be at least 1ms")
	check(c.Timeout >= 0, "Timeout", c.Timeout, "not be negative")
	check(c.MaxAge >= 0, "MaxAge", c.MaxAge, "not be negative")
	check(c.MaxBytes >= 0, "MaxBytes", c.MaxBytes, "not be negative")
	check(c.MaxSlots <= 1, "MaxSlots", c.MaxSlots, "be at most 1") // nor NaN
	check(len(c.Replica) <= hop.MaxTenant, "len(Replica)", len(c.Replica), "be at most 256")
	if bad == nil {
		return nil
	}
	return errors.New("cell: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

func (c Config) withDefaults() Config {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Period = cmp.Or(c.Period, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, c.Period)
	c.MaxAge = cmp.Or(c.MaxAge, 10*c.Period)
	c.MaxBytes = cmp.Or(c.MaxBytes, 16<<20)
	c.MaxSlots = cmp.Or(c.MaxSlots, 0.2)
	c.MaxTenants = cmp.Or(c.MaxTenants, 1000)
	return c
}
