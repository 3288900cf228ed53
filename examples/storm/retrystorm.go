package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// A retry storm outlives its trigger. This is its arithmetic, in units of the
// capacity C, what the dependency can serve in a second.
//
// The calm offers 0.7 C. For the 5 s of the trigger only 0.25 C is left, so the
// queue grows by 0.45 C each second and holds 2.25 s of work at the end, although
// nobody has retried anything. From half a second of queue on every attempt times
// out, and its work is done all the same, for nobody. Now it depends on the clients:
//
//   - With three attempts for each request they offer 2.1 C. That is more than the
//     whole capacity: the queue grows by 1.1 C each second for as long as the calm
//     load lasts, every answer comes too late, and all capacity goes into answers
//     that nobody waits for. How long they wait between attempts, and how randomly,
//     changes when the attempts come, and not how many.
//   - With hardly any retries they offer 0.7 C, and 0.3 C is left to drain the
//     queue: after 2.25 / 0.3 = 7.5 s all is well. No policy that sends each request
//     once can do better, but for what the last half second of the queue gives it,
//     which is answered in time already.
const (
	retryLoad    = 0.7
	retrySlots   = 16
	retryLeft    = 4
	retryBegins  = 3 * time.Second
	retryEnds    = 8 * time.Second
	retryTimeout = 500 * time.Millisecond // of an attempt: the calm p99 is at 200 ms
	retryAfter   = 30 * time.Second       // from here on bare should have recovered
)

// retryDrain returns how long the backlog of the trigger needs to drain at full
// capacity if every request is sent once: what it holds, over what is spare.
func retryDrain() time.Duration {
	left := float64(retryLeft) / retrySlots
	seconds := (retryLoad - left) * (retryEnds - retryBegins).Seconds() / (1 - retryLoad)
	return time.Duration(seconds * float64(time.Second))
}

var _ = register(&Scenario{
	Name: "retrystorm",
	Shows: "a dependency that finishes abandoned work has a quarter of its capacity " +
		"for 5 s, and its clients retry",
	Note: "tuned does best, since a semaphore that knows the dependency's slots, and is its " +
		"only\nclient, lets no queue form; the retries alone would end as bare's do",

	Topology: Topology{
		Transport: "http",
		Slots:     retrySlots,
		Service:   40 * time.Millisecond,
		Patience:  2 * time.Second, // three attempts and the waits between them
		InFlight:  1500,

		// Requests that do not need it would be well in any case, and there is no
		// stale copy: what counts here is who gets the real answer, and when.
		Stale: false,

		// Or the storm heals itself at once: the queue would be swept each half second.
		Finishes: true,
	},
	Calibration: 2 * time.Second,
	Warmup:      3 * time.Second,
	Duration:    retryEnds + retryAfter + 6*time.Second,
	Needs:       retryEnds + retryAfter + 5*time.Second,
	Tick:        500 * time.Millisecond,

	Load:   []Load{{Multiple: retryLoad}},
	Faults: []Fault{{Mode: Weak, From: retryBegins, Until: retryEnds, Slots: retryLeft}},

	Variants: []Variant{
		{"bare", "3 attempts of 500 ms, exponential backoff with full jitter", bareRetry},
		{"tuned", "the same, behind a semaphore of twice the dependency's slots", tunedRetry},
		{"stormjib", "retry.Policy on its defaults, attempts of 500 ms", stormjibRetry},
	},
	Promises: []Promise{{
		Text: fmt.Sprintf("full service again after the trigger, in times of %.2g s, which its "+
			"backlog\n     needs to drain: (%.2g - %.2g) x %v / (1 - %.2g)", retryDrain().Seconds(),
			retryLoad, float64(retryLeft)/retrySlots, retryEnds-retryBegins, retryLoad),
		Unit:   "of it",
		AtMost: 1.2,
		Value: func(own, _ *Record) float64 {
			took, ok := own.recovery(retryEnds)
			if !ok {
				return math.Inf(1)
			}
			return took.Seconds() / retryDrain().Seconds()
		},
	}, {
		Text:    "answered in time, from 30 s after the trigger to the end",
		Unit:    "%",
		Premise: true,
		AtMost:  20,
		Value: func(own, _ *Record) float64 {
			t := own.span(retryEnds+retryAfter, own.Length)
			return percent(t.Good, t.Offered)
		},
	}},
})

// textbook calls next up to three times, with a timeout each, and waits in between
// anything up to 50 ms, then up to 100 ms: as the guides have it, and as good as
// retries get without looking at how the others fare.
func textbook(next call) call {
	return func(ctx context.Context, r request) (string, error) {
		for attempt := 0; ; attempt++ {
			source, err := within(ctx, retryTimeout, next, r)
			if err == nil || errors.Is(err, errFull) || attempt == 2 {
				return source, err
			}
			if err := sleep(ctx, rand.N(50*time.Millisecond<<attempt)); err != nil {
				return "", err
			}
		}
	}
}

// within calls next with a timeout.
func within(ctx context.Context, d time.Duration, next call, r request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return next(ctx, r)
}

func bareRetry(Topology) Protection { return Protection{Around: textbook} }

// tunedRetry does better than the library here. Never more than 32 attempts under way,
// of half a second at most, bound the load more tightly than any budget of retries
// could: no queue forms. What does not fit is refused, in the trigger and, about one
// in a thousand, when the calm has a burst: such a burst is where its recovery reads
// late. For that it has to know the dependency's slots, and to be its only client: it
// is a bulkhead that wins, not a retry.
func tunedRetry(t Topology) Protection {
	room := make(chan struct{}, 2*t.Slots)
	return Protection{Around: func(next call) call {
		return textbook(func(ctx context.Context, r request) (string, error) {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				return next(ctx, r)
			default:
				return "", errFull
			}
		})
	}}
}

// stormjibRetry has the attempts of the others, and the budget that is every policy's
// own: when the calls of the trigger fail, nothing pays for their retries. There is no
// breaker, so that it is the retries that are compared.
func stormjibRetry(Topology) Protection {
	policy := &retry.Policy{AttemptTimeout: retryTimeout}
	return Protection{Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			return retry.Do(ctx, policy, func(ctx context.Context) (string, error) {
				return next(ctx, r)
			})
		}
	}}
}
