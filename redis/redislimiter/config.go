package redislimiter

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Fail is what a [Store] does while Redis can't be asked.
type Fail int

// The ways to fail.
const (
	// FailLocal holds each replica to its share of the limit, in its own memory: Rate and
	// Burst divided by Config.Replicas, and at least one token of Burst.
	FailLocal Fail = iota

	// FailOpen lets everything through.
	FailOpen

	// FailClosed returns an [*UnavailableError].
	FailClosed
)

// Config configures a [Store].
type Config struct {
	// Name is carried in errors, results and Stats. It is for people, and need not be
	// unique.
	Name string

	// Client is how Redis is asked: a *redis.Client, also one by Sentinel, or a
	// *redis.ClusterClient. It is the caller's to close, after the Store. It must have
	// ContextTimeoutEnabled, or it would wait for a Redis that hangs beyond any Budget;
	// and a *redis.Client needs MaxRetries -1. Give the Store a client of its own:
	// behind other commands in a pool, decisions wait. It is required.
	Client redis.Scripter

	// Prefix is put before each key. Two limits with the same keys need different ones.
	// If zero, "limiter:", since Redis may hold other things too.
	Prefix string

	// Budget is the longest that a decision may wait for Redis. If zero, 20ms: many times
	// what Redis takes within a zone, and little of what a caller waits for.
	Budget time.Duration

	// Gap has tokens leased: a replica takes as many as it needs for about this long at
	// once, and asks again after that, in the background. See the package documentation.
	// If zero, each decision asks Redis, which is exact at any rate. 50ms is a good
	// value.
	Gap time.Duration

	// Fail is what happens while Redis can't be asked. If zero, [FailLocal]: a limit that
	// is off by a little is nearer to what was meant than all or nothing.
	Fail Fail

	// Replicas returns how many replicas share the limits now. It is called on callers'
	// goroutines, so it should look up and not ask; less than 1 counts as 1. It is
	// required by FailLocal, and only there: a number that is wrong makes the limit wrong
	// by as much, and nobody can guess it.
	Replicas func() int

	// MaxKeys is how many keys may have a lease, or a share while Redis can't be asked.
	// More than those are each asked for one by one, and share shares as [limiter.Keyed]
	// says. If zero, 65536: 1.4 MB, and with leases 300 bytes for each key in use.
	MaxKeys int
}

const (
	defaultBudget = 20 * time.Millisecond
	defaultKeys   = 1 << 16
	maxKeys       = 1 << 24
	maxGap        = time.Minute
	defaultPrefix = "limiter:"
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	must(c.Client != nil, "Client is nil, but is required")
	must(c.Budget >= 0, "Budget is %v, but must not be negative", c.Budget)
	must(c.Gap >= 0 && c.Gap <= maxGap, "Gap is %v, but must be from 0 to %v", c.Gap, maxGap)
	must(c.Fail >= FailLocal && c.Fail <= FailClosed,
		"Fail is %d, but must be FailLocal, FailOpen or FailClosed", c.Fail)
	must(c.Fail != FailLocal || c.Replicas != nil,
		"Replicas is nil, but FailLocal must know how many share the limit")
	must(c.MaxKeys >= 0 && c.MaxKeys <= maxKeys,
		"MaxKeys is %d, but must be at least 1 and at most %d", c.MaxKeys, maxKeys)
	bad = append(bad, unfit(c.Client)...)
	if bad == nil {
		return nil
	}
	return errors.New("redislimiter: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// unfit names what makes a client wait longer than it is told to. Of a type that it does
// not know it says nothing.
func unfit(client redis.Scripter) (bad []string) {
	var obeys, retries bool
	switch client := client.(type) {
	case *redis.Client:
		o := client.Options()
		obeys, retries = o.ContextTimeoutEnabled, o.MaxRetries > 0
	case *redis.ClusterClient: // which retries to follow keys that have moved
		obeys = client.Options().ContextTimeoutEnabled
	default:
		return nil
	}
	if !obeys {
		bad = append(bad, "Client has ContextTimeoutEnabled false, but must have it true")
	}
	if retries {
		bad = append(bad, "Client has MaxRetries above 0, but must have -1, which means none")
	}
	return bad
}

func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, defaultPrefix)
	c.Budget = cmp.Or(c.Budget, defaultBudget)
	c.MaxKeys = cmp.Or(c.MaxKeys, defaultKeys)
	return c
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}
