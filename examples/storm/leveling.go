package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/limiter"
)

// A store that can do 200 a second should get no more than 140, since others need it too;
// the orders that it is to take come at some 38 a second, and ten times as fast at times.
// Nobody waits for what becomes of an order: the service accepts it, or does not.
//
// A burst of 2 s leaves (376 - 140) x 2 = 472 orders to be kept, which a queue of 600 can;
// the calm that follows works them off in 472 / (140 - 38) = 4.6 s. A burst of 6 s brings
// 1416, and what is more than 600 has to be refused. An order that is accepted waits for
// 600 / 140 = 4.3 s at most.
//
// The queue is memory, and lost with the process. So what is accepted here is nothing that
// somebody has been promised.
const (
	levelRate    = 140 // a second
	levelQueue   = 600
	levelWorkers = 16 // 140 a second for 20 ms are three at a time, and up to 16 seldom
	firstBurst   = 3 * time.Second
	firstEnds    = 5 * time.Second
	secondBurst  = 11 * time.Second
	secondEnds   = 17 * time.Second
)

var _ = register(&Scenario{
	Name: "leveling",
	Shows: "ten times as many orders for 2 s, and again for 6 s, and a store that should get " +
		"no\n  more than 140 a second; nobody waits for an order to be done",
	Note: "tuned keeps it too, and accepts some 2 % more of all orders: where many wait,\n" +
		"rate.Limiter makes up for a timer that is late, and limiter.Limiter with a Burst of 1 " +
		"does not",

	Topology: Topology{
		Transport: "http",
		Slots:     4,
		Service:   20 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds:     []Kind{{Name: "order", Share: 1}},
	},
	Calibration: 2 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    24 * time.Second,
	Needs:       secondEnds + 3*time.Second,
	Tick:        250 * time.Millisecond,

	Load: []Load{{Multiple: 0.2}},
	Faults: []Fault{
		{Mode: Surge, From: firstBurst, Until: firstEnds, Times: 10},
		{Mode: Surge, From: secondBurst, Until: secondEnds, Times: 10},
	},

	Variants: []Variant{
		{"bare", "an order is accepted when the store has it, within 2 s", bareLeveling},
		{"tuned", "a channel of 600, 16 workers and a rate.Limiter", tunedLeveling},
		{"stormjib", "a bulkhead.Queue of 600, 16 workers and a limiter.Limiter", stormjibLeveling},
	},
	Promises: []Promise{{
		Text:   "calls of the store in its busiest second, of the 140 that it should get",
		Unit:   "%",
		AtMost: 105, // the way there is not as even as the pace
		Value: func(own, _ *Record) float64 {
			return percent(own.busiest(time.Second), levelRate)
		},
	}, {
		Text:    "accepted, of the burst that the queue has room for",
		Unit:    "%",
		AtLeast: 99.9,
		Value: func(own, _ *Record) float64 {
			t := own.span(firstBurst, firstEnds)
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:    "done by the store in the end, of all that were accepted",
		Unit:    "%",
		AtLeast: 100,
		Value:   func(own, _ *Record) float64 { return own.kept() },
	}, {
		Text:   "p99 of the time until those who were not accepted know",
		Unit:   "ms",
		AtMost: 50,
		Value: func(own, _ *Record) float64 {
			return float64(own.toldNo()) / float64(time.Millisecond)
		},
	}, {
		Text:    "refusals counted by the queue, of those that users saw",
		Unit:    "%",
		AtLeast: 100,
		Value:   func(own, _ *Record) float64 { return own.counted() },
	}},
})

// kept returns how many percent of the accepted requests the dependency has finished,
// those of the warm-up included.
func (r *Record) kept() float64 {
	accepted, done := 0, 0
	for i, o := range r.Outcomes {
		if o.Result != Live {
			continue
		}
		accepted++
		if r.Done.has(uint64(i)) {
			done++
		}
	}
	return percent(done, accepted)
}

// toldNo returns the p99 of the time until those whose request was not accepted knew.
func (r *Record) toldNo() time.Duration {
	var latencies []time.Duration
	for _, o := range r.settled(0, r.Length) {
		if o.Result != Live {
			latencies = append(latencies, o.Latency)
		}
	}
	slices.Sort(latencies)
	return percentile(latencies, 0.99)
}

// counted returns how many of the refusals that users saw the variant has counted, in
// percent; less than 100 if it has counted more, too.
func (r *Record) counted() float64 {
	saw, counts := r.span(-r.Scenario.Warmup, r.Length).Refused, rejected(r.Stats)
	return percent(min(saw, counts), max(saw, counts))
}

// rejected is the figure of that name among a variant's own; zero if there is none.
func rejected(stats json.RawMessage) int {
	var own struct{ Rejected int }
	_ = json.Unmarshal(stats, &own)
	return own.Rejected
}

func bareLeveling(Topology) Protection { return Protection{Timeout: 2 * time.Second} }

// tunedLeveling has all that it takes: a bound, a pace, and an end at which nothing is
// lost.
func tunedLeveling(Topology) Protection {
	q := &backlog{waiting: make(chan request, levelQueue)}
	return Protection{
		Stats: func() any { return struct{ Rejected int64 }{q.rejected.Load()} },
		Drain: q.drain,
		Around: func(next call) call {
			pace := rate.NewLimiter(levelRate, 1)
			for range levelWorkers {
				q.workers.Go(func() { q.work(pace, next) })
			}
			return func(_ context.Context, r request) (string, error) {
				return sourceLive, q.put(r)
			}
		},
	}
}

// backlog is a bounded queue and its workers.
type backlog struct {
	waiting  chan request
	workers  sync.WaitGroup
	rejected atomic.Int64

	mu     sync.Mutex // held to put, and to close
	closed bool
}

func (q *backlog) put(r request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errFull
	}
	select {
	case q.waiting <- r:
		return nil
	default:
		q.rejected.Add(1)
		return errFull
	}
}

// work has nobody to tell when it fails.
func (q *backlog) work(pace *rate.Limiter, next call) {
	for r := range q.waiting {
		_ = pace.Wait(context.Background()) // It has no deadline to miss.
		_, _ = next(context.Background(), r)
	}
}

// drain takes no more orders, and waits until those that are there are done.
func (q *backlog) drain(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.waiting)
	}
	q.mu.Unlock()
	done := make(chan struct{})
	go func() {
		q.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d orders are lost: %w", len(q.waiting), context.Cause(ctx))
	}
}

// stormjibLeveling puts an order into the queue and answers. The handler gets a context that
// does not end with the user's request, but with the time that there is for Drain.
func stormjibLeveling(Topology) Protection {
	pace := limiter.New(limiter.Config{
		Name: "store", Limit: limiter.Limit{Rate: levelRate, Burst: 1}, MaxQueue: levelWorkers,
	})
	var q *bulkhead.Queue[request]
	return Protection{
		Stats: func() any { return q.Stats() },
		Drain: func(ctx context.Context) error {
			_, err := q.Drain(ctx)
			return err
		},
		Around: func(next call) call {
			q = bulkhead.NewQueue(bulkhead.QueueConfig[request]{
				Name: "orders", Capacity: levelQueue, Workers: levelWorkers,
				Handle: func(ctx context.Context, r request) error {
					return pace.Do(ctx, func(ctx context.Context) error {
						_, err := next(ctx, r)
						return err
					})
				},
			})
			return func(ctx context.Context, r request) (string, error) {
				return sourceLive, q.Put(ctx, r)
			}
		},
	}
}
