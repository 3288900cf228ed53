package main

import (
	"context"
	"time"

	"github.com/stormjib/stormjib/retry/hedge"
)

// A tail is where a service waits for the few answers that take many times as long
// as the others. It is not a fault, and there is nothing to recover from: it is there
// from the warm-up on, in which the library has to learn what is slow.
//
// An answer takes 10 ms on average, spread exponentially, and 3 % of them take 20
// times as long, whatever was asked. So the share that takes longer than t is
//
//	S(t) = 0.97 exp(-t / 10 ms) + 0.03 exp(-t / 200 ms)
//
// and bare's p99 is where S is 0.01: at 200 ms x ln 3 = 220 ms. A second request beside
// the first after d, which is a draw of its own, leaves S(t) x S(t - d). At the cost of
// 5 % more calls d is where S is 0.05, at 37 ms, and the p99 is where S(t - d) is about
// 0.2, some 16 ms later: 53 ms, a quarter of bare's.
//
// It takes a dependency with capacity for the extra calls, and one that is slow by
// chance. Where the load is what makes it slow, or the request, hedging only adds to it.
const (
	tailService = 10 * time.Millisecond
	tailDelay   = 40 * time.Millisecond // the p95 of a dashboard, rounded up
	tailTimeout = 2 * time.Second
)

var _ = register(&Scenario{
	Name:  "tail",
	Shows: "3 % of a dependency's answers take 20 times as long, by chance",
	Note: "tuned, which was told the delay, does as well at p99, and better beyond it, since\n" +
		"nothing bounds the calls it adds",
	Tour: true,

	Topology: Topology{
		Transport:  "http",
		Slots:      16,
		Service:    tailService,
		Patience:   2 * time.Second,
		InFlight:   1500,
		SlowShare:  0.03,
		SlowFactor: 20,
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      3 * time.Second, // some 900 calls to learn from
	Duration:    30 * time.Second,
	Needs:       20 * time.Second, // a p99 from fewer than 60 requests above it is luck
	Tick:        500 * time.Millisecond,

	// Five of the 16 slots are busy on average. So nobody queues, losers included: they
	// are cancelled, but what has begun is finished, which nobody is spared who hedges.
	Load: []Load{{Multiple: 0.3}},

	Variants: []Variant{
		{"bare", "http.Client with a timeout of 2 s", bareTail},
		{"tuned", "a second request by hand after 40 ms, the p95 of the dashboard", tunedTail},
		{"stormjib", "hedge.Do on its defaults, which has to find the delay", stormjibTail},
	},
	Promises: []Promise{{
		Text:    "p99 of bare, of one's own",
		Unit:    "times",
		AtLeast: 3,
		Value: func(own, bare *Record) float64 {
			own99, bare99 := own.span(0, own.Length).P99, bare.span(0, bare.Length).P99
			return ratio(float64(bare99), float64(own99))
		},
	}, {
		Text:   "calls that reached the dependency beyond one for each request",
		Unit:   "%",
		AtMost: 6,
		Value: func(own, _ *Record) float64 {
			requests := own.span(0, own.Length).Dependent
			return percent(own.calls()-requests, requests)
		},
	}},
})

func bareTail(Topology) Protection { return Protection{Timeout: tailTimeout} }

// tunedTail is as good as the library for as long as the delay is the right one. It is
// that here, since whoever wrote it knew the latencies and they stay what they were.
// The calls it adds have no bound: let the dependency get slower, and it is every call
// that is made twice. The library's have one, and when slow answers come close together
// some of them go without a second call: there, beyond the p99, tuned does better.
func tunedTail(Topology) Protection {
	return Protection{Timeout: tailTimeout, Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			return twice(ctx, next, r)
		}
	}}
}

// answered is what became of a call.
type answered struct {
	source string
	err    error
}

// twice calls next, and again beside it if there is no answer after the delay. The
// first answer counts.
func twice(ctx context.Context, next call, r request) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answered, 2)
	ask := func() {
		source, err := next(ctx, r)
		answers <- answered{source, err}
	}
	go ask()
	timer := time.NewTimer(tailDelay)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.source, a.err
	case <-timer.C:
		go ask()
	}
	a := <-answers
	return a.source, a.err
}

// stormjibTail has nothing to discard: an answer is a word.
func stormjibTail(Topology) Protection {
	var policy hedge.Policy
	return Protection{Timeout: tailTimeout, Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			return hedge.Do(ctx, &policy, func(ctx context.Context) (string, error) {
				return next(ctx, r)
			}, nil)
		}
	}}
}
