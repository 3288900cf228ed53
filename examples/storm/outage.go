package main

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
)

// The times of the outage.
const (
	outageBegins   = 4 * time.Second
	outageAnswers  = 12 * time.Second // with 503 from here on
	outageEnds     = 16 * time.Second
	outageSettled  = outageBegins + 3*time.Second // from here on the promise holds
	attemptTimeout = 250 * time.Millisecond
)

var _ = register(&Scenario{
	Name: "outage",
	Shows: "a dependency hangs for 8 s, answers 503 for 4 s and comes back; " +
		"half the requests need it",
	Tour: true,
	GRPC: true,

	Topology: Topology{
		Transport: "http",
		Slots:     8,
		Service:   20 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: kindDependent, Share: 0.5},
			{Name: kindLocal, Share: 0.5, Local: true, Work: 5 * time.Millisecond},
		},
		Stale: true,
	},
	Calibration: 2 * time.Second,
	Warmup:      3 * time.Second,
	Duration:    26 * time.Second,
	Needs:       outageEnds + 8*time.Second, // recovery within 7 s, and one more to see it last
	Tick:        500 * time.Millisecond,

	// Both halves together are 0.75 of what the dependency could serve, so it
	// is never short of capacity: only the fault is against it.
	Load: []Load{{Multiple: 0.75}},
	Faults: []Fault{
		{Mode: Hang, From: outageBegins, Until: outageAnswers},
		{Mode: Unavailable, From: outageAnswers, Until: outageEnds},
	},

	Variants: []Variant{
		{"bare", "a client with a timeout of 2 s", bareOutage},
		{"tuned", "a semaphore of twice the dependency's slots, attempts of 250 ms", tunedOutage},
		{"stormjib", "a breaker on its defaults, attempts of 250 ms", stormjibOutage},
	},
	Promises: []Promise{{
		Text:    "answered within patience, from 3 s into the fault to its end",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(outageSettled, outageEnds)
			return 100 * float64(t.Good) / float64(t.Offered)
		},
	}, {
		Text:   "p99 of these requests, above the p99 of the calm",
		Unit:   "ms",
		AtMost: 50,
		Value: func(own, _ *Record) float64 {
			calm, storm := own.span(0, outageBegins), own.span(outageSettled, outageEnds)
			return float64(storm.P99-calm.P99) / float64(time.Millisecond)
		},
	}, {
		Text:   "goroutines of the front service at peak, of bare's",
		Unit:   "%",
		AtMost: 25,
		Value: func(own, bare *Record) float64 {
			peak, barePeak := own.goroutines(), bare.goroutines()
			return 100 * float64(peak) / float64(barePeak)
		},
	}, {
		Text:   "full service again, after the recovery",
		Unit:   "s",
		AtMost: 7, // OpenFor and 2 s
		Value: func(own, _ *Record) float64 {
			took, ok := own.recovery(outageEnds)
			if !ok {
				return math.Inf(1)
			}
			return took.Seconds()
		},
	}},
})

// bareOutage is not careless: it has a timeout, as long as its users wait, and the
// handler passes on its context, so that a user who leaves ends the call as well.
func bareOutage(Topology) Protection {
	return Protection{Timeout: 2 * time.Second}
}

var errFull = errors.New("full")

// tunedOutage is what one writes without a library. The semaphore has room for
// a request in every slot and one waiting behind each, several times what the
// calm needs: it refuses nothing until the dependency is in trouble.
func tunedOutage(t Topology) Protection {
	room := make(chan struct{}, 2*t.Slots)
	return Protection{Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			default:
				return "", errFull
			}
			ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
			defer cancel()
			return next(ctx, r)
		}
	}}
}

// stormjibOutage has the attempts of tunedOutage. Their timeout is not that of the
// http.Client: around any RoundTripper but its own, that one starts a goroutine for
// each request. The breaker is inside of it, where a deadline that has passed counts
// against the dependency; the fallback is the handler's and outside of both.
func stormjibOutage(Topology) Protection {
	b := breaker.New(breaker.Config{Name: "dependency"})
	limit := stormjib.Timeout(attemptTimeout)
	return Protection{
		Breaker: b,
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			return &breakerhttp.Transport{
				Base:    base,
				Breaker: func(*http.Request) *breaker.Breaker { return b },
			}
		},
		Dial: []grpc.DialOption{grpc.WithChainUnaryInterceptor((&breakergrpc.Client{
			Breaker: func(context.Context, string, string) *breaker.Breaker { return b },
		}).Unary())},
		Around: func(next call) call {
			return func(ctx context.Context, r request) (string, error) {
				return stormjib.Do(ctx, limit, func(ctx context.Context) (string, error) {
					return next(ctx, r)
				})
			}
		},
	}
}
