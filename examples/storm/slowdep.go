package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
)

// One slow dependency takes a whole service down, though nothing about the others has
// changed. What they share is the front service: it has room for 64 requests at a time,
// as any does that has a pool of workers, a limit of connections, or just so much memory.
//
// In the calm each route has half a request under way, by Little's law: 50 a second, for
// 10 ms. When one of the dependencies takes 5 s its users wait until their patience is
// over, 2 s later: that is 100 requests of this route alone, and the room is full after
// 64 of them, 1.3 s into the fault. Then everybody waits for a place, the other routes'
// users too, and the longer the line is, the less of their patience do the slow route's
// have left when it is their turn: 64 places are enough for 50 a second if each is held
// for 1.3 s. So the line stays at about 0.7 s, and more when many come together. Nobody
// of the other routes fails, but a request of 10 ms takes up to a second and more.
//
// A bulkhead of 16 for each of the three lets 16 wait in vain, and 48 places are never
// more than there is room for: the other two routes do not notice.
const (
	slowRoom     = 64
	slowBulkhead = 16
	slowBegins   = 8 * time.Second
	slowEnds     = 18 * time.Second
	slowSettled  = slowBegins + 2*time.Second // the room is full by then

	// A request in service has a goroutine for its connection and one that watches it
	// for a user who leaves, and net/http has two for the connection to the dependency.
	slowGoroutines = 4
	slowOwn        = 50 // the server's own, and those of requests that are being refused
)

// slowAllowed is how many goroutines the bulkheads allow the front service.
const slowAllowed = slowGoroutines*3*slowBulkhead + slowOwn

var _ = register(&Scenario{
	Name: "slowdep",
	Shows: "one of three dependencies takes 5 s instead of 10 ms; each has a route, and the " +
		"routes\n  share a front service with room for 64 requests",
	Note: "tuned does as well: a semaphore for each dependency is all it takes, if none is " +
		"forgotten",

	Topology: Topology{
		Transport: "http",
		Slots:     8,
		Service:   10 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: "search", Share: 1. / 3},
			{Name: "prices", Share: 1. / 3},
			{Name: "reviews", Share: 1. / 3},
		},
		Apart: true,
		Room:  slowRoom,
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      2 * time.Second,
	Duration:    22 * time.Second,
	Needs:       slowEnds + 2*time.Second,
	Tick:        500 * time.Millisecond,

	Load:   []Load{{Multiple: 0.075}}, // of three dependencies that can do 700 a second each
	Faults: []Fault{{Mode: Slow, Kind: "search", From: slowBegins, Until: slowEnds, Times: 500}},

	Variants: []Variant{
		{"bare", "http.Client with a timeout of 2 s", bareSlow},
		{"tuned", "the same, and a semaphore of 16 for each dependency", tunedSlow},
		{"stormjib", "the same, and bulkheadhttp.Transport with 16 for each", stormjibSlow},
	},
	Promises: []Promise{{
		Text:    "answered in time of the other two routes, during the fault",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(slowBegins, slowEnds, "prices", "reviews")
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:   "their p99, of that in the calm",
		Unit:   "times",
		AtMost: 1.5,
		Value: func(own, _ *Record) float64 {
			calm := own.span(0, slowBegins, "prices", "reviews")
			storm := own.span(slowSettled, slowEnds, "prices", "reviews")
			return ratio(float64(storm.P99), float64(calm.P99))
		},
	}, {
		Text: fmt.Sprintf("goroutines of the front service at peak, of the %d that the bulkheads "+
			"allow:\n     %d for each of their 3 x %d slots, and %d", slowAllowed, slowGoroutines,
			slowBulkhead, slowOwn),
		Unit:   "%",
		AtMost: 100,
		Value: func(own, _ *Record) float64 {
			return percent(own.goroutines(), slowAllowed)
		},
	}},
})

const slowTimeout = 2 * time.Second

func bareSlow(Topology) Protection { return Protection{Timeout: slowTimeout} }

// tunedSlow has a semaphore for each dependency, made beforehand: a map that grows with
// what is asked for would need a lock, and a bound.
func tunedSlow(t Topology) Protection {
	rooms := make(map[string]chan struct{})
	for _, k := range t.kinds() {
		rooms[k.Name] = make(chan struct{}, slowBulkhead)
	}
	return Protection{Timeout: slowTimeout, Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			select {
			case rooms[r.Kind] <- struct{}{}:
				defer func() { <-rooms[r.Kind] }()
				return next(ctx, r)
			default:
				return "", errFull
			}
		}
	}}
}

// stormjibSlow lets nobody wait: who waits for a place in a bulkhead has one in the room.
// One process plays all dependencies, so it is the path that tells them apart, where it
// would be the host. The timeout is not that of the http.Client, see stormjibOutage.
func stormjibSlow(Topology) Protection {
	dependencies := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{Name: "dependency", MaxConcurrent: slowBulkhead},
	})
	return Protection{
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			return &bulkheadhttp.Transport{
				Base: base,
				Bulkhead: func(r *http.Request) *bulkhead.Bulkhead {
					return dependencies.Get(r.URL.Path)
				},
			}
		},
		Around: func(next call) call {
			return func(ctx context.Context, r request) (string, error) {
				return within(ctx, slowTimeout, next, r)
			}
		},
	}
}
