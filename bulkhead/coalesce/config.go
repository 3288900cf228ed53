package coalesce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Config says how long results are kept and how long a call may take. The zero Config
// coalesces calls and keeps nothing.
type Config struct {
	// Name is carried in Stats, and in the error of a call that took too long. It is for
	// people, and need not be unique. If zero, there is none.
	Name string

	// TTL is how long a result is fresh, at most, from the end of its call on. If zero,
	// results go to those who wait for them and are not kept: how old an answer may be
	// only you know.
	TTL time.Duration

	// Jitter is the share of the TTL, below 1, of which a random part is taken off, for each
	// result anew, so that keys filled together do not expire together. If zero, 0.1: keys
	// filled within a moment are then asked for again over a tenth of the TTL, for one call
	// more in twenty. If negative, there is none.
	Jitter float64

	// Stale is for how long after its TTL a result is served on, at once, while one refresh
	// runs in the background. It is without use for keys asked for less often. If zero,
	// callers wait for the refresh: nobody is told old news unasked.
	Stale time.Duration

	// StaleOnError is for how long after its TTL a result is served when it can't be
	// refreshed: to those who waited for a refresh that failed, or until their deadline, and,
	// from the first failure until a refresh succeeds, to all at once. Refreshes then begin
	// a tenth of the TTL apart, at most 1s; or later, though not by more than a minute, where
	// the error asks for a delay. If
	// zero, no longer than Stale: an error is a more honest answer than an old one, unless
	// you say otherwise.
	StaleOnError time.Duration

	// ErrorTTL is for how long an error is kept and returned to all who ask, where there is
	// no stale result to serve. An error that says that the call was not attempted is never
	// kept: such a refusal costs nothing and may be over in the next moment. If zero, errors
	// go to those who wait for them only: one that is kept is one that a repair doesn't end.
	ErrorTTL time.Duration

	// MaxEntries is how many results, and errors, are kept at most. Calls under way are not
	// bounded by it: each has a caller that waits, or a result that it refreshes. If zero,
	// 10000: about 2 MB besides what is in them.
	MaxEntries int

	// Timeout bounds each call, for it runs apart from the deadline of any one caller. If
	// zero, 10s: a hot key always has somebody who waits, so it would wait for a call that
	// hangs as long as that does; and 10s is past what most callers wait. If negative, only
	// the callers bound it, by leaving; that can't be where refreshes go without a caller,
	// with Stale or StaleOnError.
	Timeout time.Duration
}

const (
	defaultJitter     = 0.1
	defaultMaxEntries = 10_000
	defaultTimeout    = 10 * time.Second
	maxRetryWait      = time.Second
	maxAskedWait      = int64(time.Minute) // that an error's RetryAfter asks for
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
	duration := func(field string, d time.Duration) {
		check(d >= 0, field, d, "not be negative")
		check(d <= 0 || c.TTL != 0, field, d, "have a TTL beside it")
	}
	duration("TTL", c.TTL)
	check(c.Jitter < 1, "Jitter", c.Jitter, "be below 1")
	duration("Stale", c.Stale)
	duration("StaleOnError", c.StaleOnError)
	duration("ErrorTTL", c.ErrorTTL)
	check(c.MaxEntries >= 0, "MaxEntries", c.MaxEntries, "be at least 1")
	check(c.Timeout >= 0 || c.Stale <= 0 && c.StaleOnError <= 0, "Timeout", c.Timeout,
		"not be off where refreshes run in the background")
	if bad == nil {
		return nil
	}
	return errors.New("coalesce: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// settings is a Config made ready: defaults filled in, times as nanoseconds.
type settings struct {
	base time.Time // what the group's times count from
	name string

	ttl, jitter     int64 // jitter is the most that is taken off
	stale, reserve  int64 // reserve is the longer one of Stale and StaleOnError
	errorTTL        int64
	retryWait       int64 // between refreshes that fail
	maxEntries      int
	timeout         time.Duration // negative: none
	timeoutExceeded error         // why a call has ended that took longer
	tookTooLong     error         // what its callers get
}

func (c Config) settings() settings {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	timeout := cmp.Or(c.Timeout, defaultTimeout)
	exceeded := fmt.Errorf("the call shared by those who wait%s took longer than %v",
		quoted(c.Name), timeout)
	over, cancel := context.WithTimeoutCause(context.Background(), -1, exceeded)
	defer cancel()
	return settings{
		base:            time.Now(),
		name:            c.Name,
		ttl:             int64(c.TTL),
		jitter:          int64(float64(c.TTL) * max(cmp.Or(c.Jitter, defaultJitter), 0)),
		stale:           int64(c.Stale),
		reserve:         int64(max(c.Stale, c.StaleOnError)),
		errorTTL:        int64(c.ErrorTTL),
		retryWait:       int64(min(c.TTL/10, maxRetryWait)),
		maxEntries:      cmp.Or(c.MaxEntries, defaultMaxEntries),
		timeout:         timeout,
		timeoutExceeded: exceeded,
		tookTooLong:     ended.New(over, "coalesce", false),
	}
}

// lifetime returns how long the next result is fresh.
func (s *settings) lifetime() int64 {
	if s.jitter == 0 {
		return s.ttl
	}
	return s.ttl - rand.Int64N(s.jitter+1)
}

// detach returns the context of a call: with the values of its first caller, not with
// its end.
func (s *settings) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	if s.timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, s.timeout, s.timeoutExceeded)
}

// end returns when the time of a call with such a context is up.
func (s *settings) end(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return math.MaxInt64
	}
	return int64(deadline.Sub(s.base))
}
