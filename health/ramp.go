package health

import (
	"cmp"
	"context"
	"time"
)

// Ramp is the way from a small share of the work to all of it. It begins when the replica
// is ready first, and never again: one that was out of rotation for a while has kept its
// caches, and would make an outage of a blip if it then refused most of its part.
type Ramp struct {
	// Over is how long it takes. From 10ms to 24h. If zero, 1m: most caches and pools are
	// warm by then. If negative, there is no ramp, and the share is always 1.
	Over time.Duration

	// From is the share to begin with, above 0 and at most 1. If zero, 0.1: enough to warm
	// anything, and what most can do cold.
	From float64

	// Apply is called with From at the start, and on the way with each of twenty even steps
	// up to 1: to resize a bulkhead, for example. It runs on a goroutine that ends with the
	// ramp, under no lock. If it panics it has missed that share; the next one comes all the
	// same, and a note in the report says so. If nil, there is no goroutine, and the share
	// is for who asks [Health.Share].
	Apply func(share float64)
}

const rampSteps = 20

func (r Ramp) validate(bad *problems) {
	bad.check(r.Over <= 0 || r.Over >= minInterval && r.Over <= maxInterval, "Ramp.Over", r.Over,
		"be from 10ms to 24h")
	bad.check(r.From == 0 || r.From > 0 && r.From <= 1, "Ramp.From", r.From,
		"be above 0 and at most 1")
}

func (r Ramp) filled() Ramp {
	r.Over = cmp.Or(r.Over, time.Minute)
	r.From = cmp.Or(r.From, 0.1)
	if r.Over < 0 {
		r.From = 1
	}
	return r
}

// share returns the share at a time after the replica was ready first.
func (r Ramp) share(since time.Duration) float64 {
	if since >= r.Over {
		return 1 // also without a ramp
	}
	return r.From + (1-r.From)*float64(since)/float64(r.Over)
}

// Share returns the part of its usual work that the replica should be given: Ramp.From until
// it is ready first, and 1 when the ramp is over. It costs a reading of the clock.
func (h *Health) Share() float64 {
	since := h.readyAt.Load()
	if since == never {
		return h.cfg.Ramp.From
	}
	return h.cfg.Ramp.share(max(0, h.clock()-time.Duration(since)))
}

// ramp returns a function that waits for the next step, calls Apply, and reports whether
// there are more.
func (h *Health) ramp(ctx context.Context) func() bool {
	next := 0
	r := h.cfg.Ramp
	return func() bool {
		step := next
		next++ // here, since Apply may not return
		if step > rampSteps || r.From == 1 && step > 0 || !h.awaitStep(ctx, step) {
			return false
		}
		r.Apply(r.share(r.Over * time.Duration(step) / rampSteps))
		return true
	}
}

// awaitStep reports whether it is time for a step of the ramp, and not all over.
func (h *Health) awaitStep(ctx context.Context, step int) bool {
	if step == 0 {
		return true
	}
	for range h.Watch(ctx) {
		if h.readyAt.Load() != never {
			break
		}
	}
	ready := h.readyAt.Load()
	if ready == never {
		return false
	}
	at := time.Duration(ready) + h.cfg.Ramp.Over*time.Duration(step)/rampSteps
	return wait(ctx, at-h.clock())
}
