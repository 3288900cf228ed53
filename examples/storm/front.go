package main

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
)

// front is the service under test. Its handler is the same for all variants: some
// of its requests are work of its own, the others need the dependency and, where
// the scenario has one, make do with a stale copy when they cannot have it.
type front struct {
	kinds   map[string]Kind
	room    chan struct{} // a place for each request in service; nil: no bound
	stale   bool
	panel   bool
	lit     func(context.Context) bool // whether a request has its panel; nil: each has
	seed    uint64
	ask     call  // the dependency, through the variant's protection
	asking  gauge // calls of the dependency, by the variant
	took    times // of handle
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
	f := newFront(topology, a.Seed, protection)
	host, names := a.host()
	d := dialer{topology.InFlight, &f.out, &a.trouble, names}
	f.ask = f.counted(a.wire.dial(host, protection, d))
	if protection.Around != nil {
		f.ask = protection.Around(f.ask)
	}
	if err := f.meet(ctx, a.scenario, protection); err != nil {
		return err
	}
	stop := a.wire.serve(l, f.handle, protection, &f.in)
	a.emit(event{Ready: l.Addr().String()})
	if zero, ok := a.await(ctx); ok {
		go a.complain(func() error { return a.scenario.tell(ctx, zero, protection) })
		go a.complain(func() error {
			return protection.Replicas.follow(ctx, zero, a.scenario.Faults)
		})
		if protection.Start != nil {
			go a.complain(func() error { return protection.Start(ctx, zero) })
		}
		f.watch(ctx, a, zero)
		protection.Replicas.check(a.scenario.Faults, &a.trouble)
	}
	a.final.Took = f.took.all()
	return errors.Join(stop(), drain(protection), a.keep(protection))
}

func newFront(t Topology, seed uint64, p Protection) *front {
	f := &front{
		kinds:   make(map[string]Kind),
		stale:   t.Stale,
		panel:   t.Panel,
		lit:     p.Panel,
		seed:    seed,
		breaker: p.Breaker,
	}
	for _, k := range t.kinds() {
		f.kinds[k.Name] = k
	}
	if t.Room > 0 {
		f.room = make(chan struct{}, t.Room)
	}
	return f
}

// drain gives what was accepted the time to be done, in which the parent does not end
// the process.
func drain(p Protection) error {
	if p.Drain == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin-time.Second)
	defer cancel()
	return p.Drain(ctx)
}

// keep keeps the protection's own figures for the report.
func (a *actor) keep(p Protection) error {
	stats := p.Stats
	if stats == nil && p.Breaker != nil {
		stats = func() any { return p.Breaker.Stats() }
	}
	if stats == nil {
		return nil
	}
	var err error
	a.final.Stats, err = json.Marshal(stats())
	return err
}

// counted returns a call that is seen while it is under way.
func (f *front) counted(next call) call {
	return func(ctx context.Context, r request) (string, error) {
		f.asking.enter()
		defer f.asking.leave()
		return next(ctx, r)
	}
}

// gauge knows how many there are, and the most there were since it was last asked.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) leave() { g.now.Add(-1) }

func (g *gauge) enter() {
	n := g.now.Add(1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); {
		most = g.most.Load()
	}
}

func (g *gauge) peak() int { return int(max(g.most.Swap(0), g.now.Load())) }

// handle serves one request, and notes how long that takes: what is before it, such as the
// variant's own handler, is in what the user sees, and not in this.
func (f *front) handle(ctx context.Context, r request) (source string, err error) {
	began := time.Now()
	source, err = f.serve(ctx, r)
	if err == nil {
		f.took.note(r.ID, time.Since(began))
	}
	return source, err
}

// serve is what handle does. Fallback is the one policy all variants share, so
// that what they differ in is the protection and not the stale copy.
func (f *front) serve(ctx context.Context, r request) (source string, err error) {
	if f.room != nil {
		select {
		case f.room <- struct{}{}:
			defer func() { <-f.room }()
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	kind := f.kinds[r.Kind]
	if kind.Work > 0 {
		err := sleep(ctx, work(f.seed, streamLocal, r.ID, kind.Work))
		if err != nil {
			return "", err
		}
	}
	return f.answer(ctx, r)
}

// answer is the part of handle that needs the dependency, where any does.
func (f *front) answer(ctx context.Context, r request) (source string, err error) {
	if f.kinds[r.Kind].Local {
		return sourceLive, nil
	}
	if f.panel {
		return f.page(ctx, r)
	}
	if !f.stale {
		return f.ask(ctx, r)
	}
	return stormjib.Fallback(ctx,
		func(ctx context.Context) (string, error) { return f.ask(ctx, r) },
		func(context.Context, error) (string, error) { return sourceStale, nil })
}

// page is an answer in two parts, the second of which is optional. Where there is none,
// whatever the reason, the page goes without.
func (f *front) page(ctx context.Context, r request) (source string, err error) {
	if source, err = f.ask(ctx, r); err != nil {
		return "", err
	}
	if f.lit == nil || f.lit(ctx) {
		r.Kind = kindPanel
		if _, err := f.ask(ctx, r); err == nil {
			return source, nil
		}
	}
	return sourceDimmed, nil
}

// times are durations by the number of a request.
type times struct {
	mu     sync.Mutex
	micros []int
}

func (t *times) note(id uint64, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uint64(len(t.micros)) <= id {
		t.micros = append(t.micros, 0)
	}
	t.micros[id] = int(d.Microseconds())
}

func (t *times) all() []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.micros)
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
			f.asking.peak() // The warm-up's is not for the report.
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
	tick.AtOnce = max(tick.AtOnce, f.asking.peak())
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
