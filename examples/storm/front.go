package main

import (
	"context"
	"encoding/json"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
)

// front is the service under test. Its handler is the same for all variants: some
// of its requests are work of its own, the others need the dependency and, where
// the scenario has one, make do with a stale copy when they cannot have it.
type front struct {
	local   time.Duration
	stale   bool
	seed    uint64
	ask     call // the dependency, through the variant's protection
	breaker *breaker.Breaker
	in, out atomic.Int64 // open connections
}

// serveFront plays the front service.
func serveFront(ctx context.Context, a *actor) error {
	l, err := listen(a.Host, &a.trouble)
	if err != nil {
		return err
	}
	topology := a.scenario.Topology
	protection := a.variant.Protect(topology)
	f := &front{
		local: topology.Local, stale: topology.Stale, seed: a.Seed, breaker: protection.Breaker,
	}
	f.ask = a.wire.dial(a.Peer, protection, dialer{topology.InFlight, &f.out, &a.trouble})
	if protection.Around != nil {
		f.ask = protection.Around(f.ask)
	}
	stop := a.wire.serve(l, f.handle, &f.in)
	a.emit(event{Ready: l.Addr().String()})
	if zero, ok := a.await(ctx); ok {
		f.watch(ctx, a, zero)
	}
	if f.breaker != nil {
		if a.final.Stats, err = json.Marshal(f.breaker.Stats()); err != nil {
			return err
		}
	}
	return stop()
}

// handle serves one request. Fallback is the one policy all variants share, so
// that what they differ in is the protection and not the stale copy.
func (f *front) handle(ctx context.Context, r request) (source string, err error) {
	if r.Kind == kindLocal {
		return sourceLive, sleep(ctx, work(f.seed, streamLocal, r.ID, f.local))
	}
	if !f.stale {
		return f.ask(ctx, r)
	}
	return stormjib.Fallback(ctx,
		func(ctx context.Context) (string, error) { return f.ask(ctx, r) },
		func(context.Context, error) (string, error) { return sourceStale, nil })
}

// watch samples the process until ctx ends and reports the peaks of each tick.
// Twenty samples a second see whatever lasts as long as a single timeout.
func (f *front) watch(ctx context.Context, a *actor, zero time.Time) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var tick Sample
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		since := time.Since(zero)
		if since < 0 {
			continue
		}
		if now := int(since / a.scenario.Tick); now != tick.Tick {
			a.emit(event{Sample: &tick})
			tick = Sample{Tick: now}
		}
		f.sample(&tick)
	}
}

// sample raises the peaks of a tick to what is there now.
func (f *front) sample(tick *Sample) {
	tick.Goroutines = max(tick.Goroutines, runtime.NumGoroutine())
	tick.ConnsIn = max(tick.ConnsIn, int(f.in.Load()))
	tick.ConnsOut = max(tick.ConnsOut, int(f.out.Load()))
	if f.breaker == nil {
		return
	}
	if s := f.breaker.State().String(); !slices.Contains(tick.Breaker, s) {
		tick.Breaker = append(tick.Breaker, s)
	}
}

// sleep waits for d; it returns the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
