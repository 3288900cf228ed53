package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Served is what the dependency did with the requests that reached it.
type Served struct {
	Finished  int64 `json:"finished"`
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
	slots    chan struct{}
	zero     atomic.Pointer[time.Time] // nil until the run starts, and in calibration
	open     atomic.Int64

	finished, abandoned, hung, refused atomic.Int64
}

var errUnavailable = errors.New("unavailable")

// serveDependency plays the dependency.
func serveDependency(ctx context.Context, a *actor) error {
	l, err := listen(a.Host, &a.trouble)
	if err != nil {
		return err
	}
	d := &dependency{
		scenario: a.scenario,
		seed:     a.Seed,
		slots:    make(chan struct{}, a.scenario.Topology.Slots),
	}
	stop := a.wire.serve(l, d.handle, &d.open)
	a.emit(event{Ready: l.Addr().String()})
	if zero, ok := a.await(ctx); ok {
		d.zero.Store(&zero)
		<-ctx.Done()
	}
	a.final.Served = &Served{
		Finished:  d.finished.Load(),
		Abandoned: d.abandoned.Load(),
		Hung:      d.hung.Load(),
		Refused:   d.refused.Load(),
	}
	return stop()
}

// handle serves one request as the fault curve says for the time it arrives:
// what is already in a slot when a fault begins is finished.
func (d *dependency) handle(ctx context.Context, r request) (source string, err error) {
	mode, left := d.mode()
	switch mode {
	case Hang:
		d.hung.Add(1)
		_ = sleep(ctx, left)
		return "", errDropped
	case Unavailable:
		d.refused.Add(1)
		return "", errUnavailable
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		d.abandoned.Add(1)
		return "", context.Cause(ctx)
	}
	defer func() { <-d.slots }()
	// In a slot the work is finished, whoever still waits for it.
	time.Sleep(work(d.seed, streamService, r.ID, d.scenario.Topology.Service))
	d.finished.Add(1)
	return sourceLive, nil
}

// mode returns the mode of this moment and how long it lasts.
func (d *dependency) mode() (mode Mode, left time.Duration) {
	zero := d.zero.Load()
	if zero == nil {
		return OK, 0
	}
	since := time.Since(*zero)
	mode, until := d.scenario.mode(since)
	return mode, until - since
}
