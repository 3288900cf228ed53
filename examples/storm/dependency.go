package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Served is what the dependency did with the requests that reached it.
type Served struct {
	Reached   int64 `json:"reached"`   // all of them, those of the warm-up included
	Finished  int64 `json:"finished"`  // the work is done
	Wasted    int64 `json:"wasted"`    // of the finished: the caller had left
	Abandoned int64 `json:"abandoned"` // left while they queued, and were skipped
	Hung      int64 `json:"hung"`
	Refused   int64 `json:"refused"` // with a 503
}

// dependency serves in a fixed number of slots. A slot is a sleep: burning the
// time instead would take the two or four cores of an ordinary machine away
// from the very processes that are measured.
type dependency struct {
	scenario *Scenario
	seed     uint64
	slots    map[string]chan struct{}  // by kind if they are apart, and else of ""
	zero     atomic.Pointer[time.Time] // nil until the run starts, and in calibration
	open     atomic.Int64

	mu    sync.Mutex
	tries map[uint64]uint64 // how often each request has come so far
	done  bitmap            // the requests that are finished

	calls                                               atomic.Int64 // since the last tick
	reached, finished, wasted, abandoned, hung, refused atomic.Int64
}

var errUnavailable = errors.New("unavailable")

// serveDependency plays the dependency.
func serveDependency(ctx context.Context, a *actor) error {
	l, err := listen(a.Host, &a.trouble)
	if err != nil {
		return err
	}
	d := newDependency(a.scenario, a.Seed)
	behind := a.variant.Protect(a.scenario.Topology).Behind
	stop := a.wire.serve(l, d.handle, Protection{Server: behind}, &d.open)
	a.emit(event{Ready: l.Addr().String()})
	if zero, ok := a.await(ctx); ok {
		d.zero.Store(&zero)
		d.weaken(ctx, zero)
		everyTick(ctx, a.scenario.Tick, zero, d.sample, a.emit)
	}
	a.final.Served = &Served{
		Reached:   d.reached.Load(),
		Finished:  d.finished.Load(),
		Wasted:    d.wasted.Load(),
		Abandoned: d.abandoned.Load(),
		Hung:      d.hung.Load(),
		Refused:   d.refused.Load(),
	}
	d.mu.Lock()
	a.final.Done = slices.Clone(d.done)
	d.mu.Unlock()
	return stop()
}

func newDependency(s *Scenario, seed uint64) *dependency {
	d := &dependency{
		scenario: s,
		seed:     seed,
		slots:    make(map[string]chan struct{}),
		tries:    make(map[uint64]uint64),
	}
	for _, k := range s.Topology.kinds() {
		d.slots[d.pool(k.Name)] = make(chan struct{}, s.Topology.Slots)
	}
	return d
}

// pool returns the key of the slots that requests of the kind are served in.
func (d *dependency) pool(kind string) string {
	if d.scenario.Topology.Apart {
		return kind
	}
	return ""
}

// handle serves one request as the fault curve says for the time it arrives:
// what is already in a slot when a fault begins is finished.
func (d *dependency) handle(ctx context.Context, r request) (source string, err error) {
	if r.Kind == kindFill {
		return sourceLive, nil
	}
	d.reached.Add(1)
	d.calls.Add(1)
	fault, left := d.fault(r.Kind)
	switch fault.Mode {
	case Hang:
		d.hung.Add(1)
		_ = sleep(ctx, left)
		return "", errDropped
	case Unavailable:
		d.refused.Add(1)
		return "", errUnavailable
	}
	if r.Kind == kindPing {
		return sourceLive, nil
	}
	took := d.length(r.ID)
	if d.scenario.Topology.Finishes {
		return d.queue(ctx, r, took)
	}
	select {
	case d.slots[d.pool(r.Kind)] <- struct{}{}:
	case <-ctx.Done():
		d.abandoned.Add(1)
		return "", context.Cause(ctx)
	}
	d.work(ctx, r, took)
	return sourceLive, nil
}

// queue takes the work over from the request: it is done when its turn comes,
// whoever still waits for it. The queue has no bound but memory, and is first
// come, first served, as those who wait to send to a channel are.
func (d *dependency) queue(
	ctx context.Context, r request, took time.Duration,
) (source string, err error) {
	done := make(chan struct{})
	go func() {
		d.slots[d.pool(r.Kind)] <- struct{}{}
		d.work(ctx, r, took)
		close(done)
	}()
	select {
	case <-done:
		return sourceLive, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// work spends the time in a slot, and frees it. What has begun is finished.
func (d *dependency) work(ctx context.Context, r request, took time.Duration) {
	time.Sleep(d.slowed(r.Kind, took))
	<-d.slots[d.pool(r.Kind)]
	d.finished.Add(1)
	if ctx.Err() != nil {
		d.wasted.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done.set(r.ID)
}

// length draws how long a request works. Calibration is not for the luck of a few
// hundred draws: there, all are as long as the mean.
func (d *dependency) length(id uint64) time.Duration {
	if d.zero.Load() == nil {
		return d.scenario.Topology.mean()
	}
	d.mu.Lock()
	again := d.tries[id]
	d.tries[id]++
	d.mu.Unlock()
	return d.scenario.Topology.service(d.seed, id, again)
}

// slowed returns how long work takes that begins now. A fault makes it longer, but not
// longer than the fault lasts: it is as if all waited for one lock.
func (d *dependency) slowed(kind string, took time.Duration) time.Duration {
	fault, left := d.fault(kind)
	if fault.Mode != Slow {
		return took
	}
	return min(time.Duration(fault.Times*float64(took)), left+took)
}

// weaken takes slots away for as long as a fault says. It waits in line for them:
// what is in a slot is finished first.
func (d *dependency) weaken(ctx context.Context, zero time.Time) {
	for _, f := range d.scenario.Faults {
		if f.Mode != Weak {
			continue
		}
		for range d.scenario.Topology.Slots - f.Slots {
			go func() {
				if sleep(ctx, time.Until(zero.Add(f.From))) == nil {
					slots := d.slots[d.pool(f.Kind)]
					slots <- struct{}{}
					_ = sleep(ctx, time.Until(zero.Add(f.Until)))
					<-slots
				}
			}()
		}
	}
}

// sample returns how many calls have come since it was last asked.
func (d *dependency) sample() Sample { return Sample{Calls: int(d.calls.Swap(0))} }

// fault returns what requests of a kind suffer from at this moment, and for how long.
func (d *dependency) fault(kind string) (f Fault, left time.Duration) {
	zero := d.zero.Load()
	if zero == nil {
		return Fault{Mode: OK}, 0
	}
	since := time.Since(*zero)
	f = d.scenario.fault(kind, since)
	return f, f.Until - since
}
