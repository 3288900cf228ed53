package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/shed/dimmer"
)

// A page is what was asked for and a panel beside it that nobody has asked for. Each takes
// one call of the dependency, of 50 ms on average. So the pages that can be served a
// second are half as many without the panels as with them, and one and a half times as many
// as there is capacity for can all be served, if two of three go without.
//
// With C for the capacity, pages and panels together are 2 C calls a second. The 1.5 C pages
// leave 0.5 C for panels, which are a third of 1.5 C.
const (
	brownMost = 1.5
	brownRoom = 0.5 // for panels, then
	brownFull = 10 * time.Second
	brownOver = 20 * time.Second
	brownLit  = 26 * time.Second // to light everything again takes ten periods, or more
	brownEnds = 29 * time.Second
)

var _ = register(&Scenario{
	Name: "brownout",
	Shows: "a page and an optional panel, from half of what the service can do of both to " +
		"one and\n  a half times as much, and back",
	Note: "tuned does better, for it sees a queue begin where the dimmer sees that calls have " +
		"waited;\nboth were told how many slots there are",

	Topology: Topology{
		Transport: "http",
		Slots:     20,
		Service:   50 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds:     []Kind{{Name: "page", Share: 1}},
		Panel:     true,
	},
	Calibration: 4 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    brownEnds,
	Needs:       brownEnds,
	Tick:        500 * time.Millisecond,

	Load: []Load{
		{Multiple: 0.5},
		{From: 4 * time.Second, Multiple: 0.9},
		{From: 6 * time.Second, Multiple: 1.1},
		{From: 8 * time.Second, Multiple: 1.3},
		{From: brownFull, Multiple: brownMost},
		{From: brownOver, Multiple: 0.5},
	},

	Variants: []Variant{
		{"bare", "every page has its panel", func(Topology) Protection { return Protection{} }},
		{"tuned", "no panel while more calls are under way than there are slots", tunedBrownout},
		{"stormjib", "a dimmer.Dimmer on its defaults, and a bulkhead", stormjibBrownout},
	},
	Promises: []Promise{{
		Text:    "answered in time, of all pages",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			t := own.span(0, own.Length)
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:   "p99 of these at the most that is offered",
		Unit:   "ms",
		AtMost: 1000, // half of what users wait
		Value: func(own, _ *Record) float64 {
			t := own.span(brownFull+time.Second, brownOver)
			return float64(t.P99) / float64(time.Millisecond)
		},
	}, {
		Text:    "panels then, of those that there is room for",
		Unit:    "%",
		AtLeast: 50,
		Value: func(own, _ *Record) float64 {
			t := own.span(brownFull+2*time.Second, brownOver)
			return percent(t.Live, t.Offered) * brownMost / brownRoom
		},
	}, {
		Text:    "pages with a panel, when all is over",
		Unit:    "%",
		AtLeast: 95,
		Value: func(own, _ *Record) float64 {
			t := own.span(brownLit, own.Length)
			return percent(t.Live, t.Offered)
		},
	}},
})

// tunedBrownout leaves panels out by a number that it has to know, as a semaphore has.
func tunedBrownout(t Topology) Protection {
	var underway atomic.Int64
	return Protection{
		Panel: func(context.Context) bool { return underway.Load() < int64(t.Slots) },
		Around: func(next call) call {
			return func(ctx context.Context, r request) (string, error) {
				underway.Add(1)
				defer underway.Add(-1)
				return next(ctx, r)
			}
		},
	}
}

// stormjibBrownout has a bulkhead with as many slots as the dependency, so that the queue is
// where it can be measured, and a dimmer on its defaults that goes by how long calls wait in
// it. Observing how long pages take would do as well, but later: what waits in the queue of
// somebody else is known when it has waited.
func stormjibBrownout(t Topology) Protection {
	dims := dimmer.New(dimmer.Config{Name: "shop", Features: []string{kindPanel}})
	room := bulkhead.New(bulkhead.Config{
		Name: "dependency", MaxConcurrent: t.Slots, MaxQueue: t.InFlight, MaxWait: t.Patience,
	})
	return Protection{
		Panel: dims.Feature(kindPanel).Allow,
		Stats: func() any { return dims.Stats() },
		Around: func(next call) call {
			return func(ctx context.Context, r request) (string, error) {
				began := time.Now()
				return bulkhead.Do(ctx, room, func(ctx context.Context) (string, error) {
					dims.Observe(time.Since(began))
					return next(ctx, r)
				})
			}
		},
	}
}
