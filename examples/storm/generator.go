package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// capReached is the trouble of a generator with more requests in flight than
// its scenario allows.
const capReached = "in-flight cap reached"

// generator sends the schedule: each request at its time, whatever became of
// those before it. A closed loop would slow down with the service and hide
// exactly what a storm is to show.
type generator struct {
	plan     []Arrival
	kinds    []Kind
	zero     time.Time
	patience time.Duration
	limit    int64
	call     call
	trouble  *trouble
	open     atomic.Int64 // connections
	inFlight atomic.Int64

	mu      sync.Mutex
	settled []bool    // by arrival
	first   int       // the first arrival that is not settled
	news    []Outcome // since the last report
}

// generate plays the generator.
func generate(ctx context.Context, a *actor) error {
	t := a.scenario.Topology
	g := &generator{
		plan:     schedule(a.scenario, a.Capacity, a.Length, a.Seed),
		kinds:    t.kinds(),
		patience: t.Patience,
		limit:    int64(t.InFlight),
		trouble:  &a.trouble,
	}
	g.settled = make([]bool, len(g.plan))
	g.call = a.wire.dial(a.Peer, Protection{}, dialer{t.InFlight, &g.open, &a.trouble, nil})
	a.emit(event{Ready: a.Peer})
	zero, ok := a.await(ctx)
	if !ok {
		return nil
	}
	g.zero = zero
	go g.drive(ctx)
	g.report(ctx, a)
	return nil
}

// drive starts every request at its time.
func (g *generator) drive(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, arrival := range g.plan {
		timer.Reset(time.Until(g.zero.Add(arrival.At)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if g.inFlight.Add(1) > g.limit {
			g.inFlight.Add(-1)
			g.trouble.note(capReached)
			g.settle(Outcome{Index: i, Result: Failed})
			continue
		}
		go g.send(ctx, i)
	}
}

// send is one user: gone when patience is over, counted from the time the
// request was to start, and taking the connection along.
func (g *generator) send(ctx context.Context, i int) {
	defer g.inFlight.Add(-1)
	intended := g.zero.Add(g.plan[i].At)
	lag := time.Since(intended)
	user, leave := context.WithDeadline(ctx, intended.Add(g.patience))
	defer leave()
	id, kind := uint64(i), g.kinds[g.plan[i].Kind]
	source, err := g.call(user, request{ID: id, Kind: kind.Name, Client: kind.client(id)})
	latency := time.Since(intended)
	if ctx.Err() != nil {
		return // The run is over; nobody knows how this one would have ended.
	}
	result := g.result(source, err, latency)
	refused, _ := errors.AsType[*refusal](err)
	g.settle(Outcome{i, latency, lag, result, result == Refused && refused.told})
}

func (g *generator) result(source string, err error, latency time.Duration) Result {
	switch {
	case latency > g.patience || errors.Is(err, context.DeadlineExceeded):
		return Late
	case isRefusal(err):
		return Refused
	case err != nil:
		return Failed
	case source == sourceStale:
		return Stale
	case source == sourceDimmed:
		return Dimmed
	default:
		return Live
	}
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

func (g *generator) settle(o Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.news = append(g.news, o)
	g.settled[o.Index] = true
	for g.first < len(g.plan) && g.settled[g.first] {
		g.first++
	}
}

// report sends the news four times a second until all arrivals are settled.
func (g *generator) report(ctx context.Context, a *actor) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		news, through, done := g.take(a.Length)
		a.emit(event{Outcomes: news, Through: &through, Done: done})
		if done {
			<-ctx.Done() // The parent ends the run.
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// take returns the outcomes not yet reported and the time before which every
// arrival is settled.
func (g *generator) take(length time.Duration) (news []Outcome, through time.Duration, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	news, g.news = g.news, nil
	if g.first == len(g.plan) {
		return news, length, true
	}
	return news, g.plan[g.first].At, false
}
