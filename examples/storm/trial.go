package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// trial is one run of a scenario: every variant once, under one schedule.
type trial struct {
	scenario *Scenario
	capacity float64
	length   time.Duration
	seed     uint64

	mu   sync.Mutex // held while an event is added to a record and shown
	show func(Tick)
}

// stage is one variant's processes and what they have said.
type stage struct {
	record *Record
	actors []*process
	shown  int           // ticks
	done   chan struct{} // closed when the generator has nothing left to do
	fell   chan error    // an actor failed, or ended before it was told to
}

// play runs the variants and returns their records, the partial ones of an
// interrupted or failed run included.
func (t *trial) play(ctx context.Context) ([]*Record, error) {
	plan := schedule(t.scenario, t.capacity, t.length, t.seed)
	together := len(t.scenario.Variants)
	if t.scenario.OneByOne {
		together = 1
	}
	var records []*Record
	for group := range slices.Chunk(t.scenario.Variants, together) {
		var stages []*stage
		for _, v := range group {
			record := newRecord(t.scenario, v.Name, plan, t.length)
			record.Capacity = t.capacity
			records = append(records, record)
			stages = append(stages, &stage{
				record: record, done: make(chan struct{}), fell: make(chan error, 8),
			})
		}
		if err := t.perform(ctx, stages); err != nil {
			return records, err
		}
	}
	return records, nil
}

// perform sets the stages up, starts them at the same instant, and follows
// them to their end. Whatever happens, no process outlives it.
func (t *trial) perform(ctx context.Context, stages []*stage) error {
	defer func() {
		for _, st := range stages {
			st.end()
		}
	}()
	for i, st := range stages {
		if err := t.setUp(ctx, i, st); err != nil {
			return err
		}
	}
	zero := time.Now().Add(300*time.Millisecond + t.scenario.Warmup)
	for _, st := range stages {
		for _, a := range st.actors {
			if err := a.begin(zero); err != nil {
				return err
			}
		}
	}
	for _, st := range stages {
		if err := st.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// setUp launches a variant's processes, the one that is called first.
func (t *trial) setUp(ctx context.Context, number int, st *stage) error {
	o := orders{
		Scenario:  t.scenario.Name,
		Variant:   st.record.Variant,
		Transport: t.scenario.Topology.Transport,
		Seed:      t.seed,
		Capacity:  t.capacity,
		Length:    t.length,
		Redis:     t.scenario.Topology.Redis,
	}
	for i, role := range t.scenario.roles() {
		o.Host = fmt.Sprintf("127.0.%d.%d", number+1, i+1)
		p, address, err := launch(ctx, role, o)
		if err != nil {
			return err
		}
		o.Peer = address
		st.actors = append(st.actors, p)
		go t.follow(st, p)
	}
	return nil
}

// roles returns those that a variant has a process of, the one that is called first.
func (s *Scenario) roles() []string {
	if s.Topology.Nodes == 0 {
		return []string{roleDependency, roleFront, roleGenerator}
	}
	return []string{roleDependency, roleFleet, roleFront, roleGenerator}
}

// follow takes an actor's events until it ends.
func (t *trial) follow(st *stage, p *process) {
	defer close(p.read)
	for e := range p.events {
		if e.Error != "" {
			st.fail(fmt.Errorf("%s of %s: %s", p.role, st.record.Variant, e.Error))
		}
		t.take(st, e)
	}
	st.fail(fmt.Errorf("%s of %s ended early: %s", p.role, st.record.Variant, p.words.String()))
}

// take adds an event to the record and shows the ticks it completes.
func (t *trial) take(st *stage, e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st.record.add(e)
	for st.shown < len(st.record.Samples) && st.record.complete(st.shown) {
		t.show(st.record.tick(st.shown))
		st.shown++
	}
	if e.Done {
		close(st.done)
	}
}

// fail notes the first failures; later ones are consequences.
func (st *stage) fail(err error) {
	select {
	case st.fell <- err:
	default:
	}
}

func (st *stage) wait(ctx context.Context) error {
	select {
	case <-st.done:
		return nil
	case err := <-st.fell:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end ends the stage's processes, those that call first, and returns when
// their last events are in the record.
func (st *stage) end() {
	for _, p := range slices.Backward(st.actors) {
		if err := p.end(); err != nil {
			st.fail(err)
		}
	}
}

// calibrate measures what the dependency can serve a second: a closed loop of
// twice as many callers as there are slots keeps all of them busy. The first
// quarter of the time is left to connections and caches.
func calibrate(ctx context.Context, s *Scenario, seed uint64) (capacity float64, err error) {
	o := orders{
		Scenario: s.Name, Variant: s.Variants[0].Name, Transport: s.Topology.Transport,
		Host: "127.0.0.1", Seed: seed,
	}
	p, address, err := launch(ctx, roleDependency, o)
	if err != nil {
		return 0, err
	}
	go p.ignore()
	defer func() { err = errors.Join(err, p.end()) }()

	wire, err := wireOf(s.Topology)
	if err != nil {
		return 0, err
	}
	var open atomic.Int64
	var limits trouble
	kinds := s.Topology.asked()
	callers := 2 * s.Topology.Slots * len(kinds)
	ask := wire.dial(address, Protection{}, dialer{callers, &open, &limits, nil})
	loop, stop := context.WithTimeout(ctx, s.Calibration)
	defer stop()
	finished, err := closedLoop(loop, ask, kinds, callers, time.Now().Add(s.Calibration/4))
	switch met := limits.all(); {
	case len(met) > 0:
		return 0, fmt.Errorf("calibration met a limit of this machine: %v", met)
	case finished == 0 && ctx.Err() == nil:
		return 0, errors.Join(errors.New("calibration: the dependency answered nothing"), err)
	}
	return float64(finished) / s.Topology.calls() / (s.Calibration * 3 / 4).Seconds(), nil
}

// closedLoop has callers ask again and again until ctx ends, as many for each of the
// kinds. It returns how many answers came after the time from and, if a call failed
// before the end, one of the errors.
func closedLoop(
	ctx context.Context, ask call, kinds []string, callers int, from time.Time,
) (int64, error) {
	var number, finished atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for ctx.Err() == nil {
				r := request{ID: uint64(number.Add(1)), Kind: kinds[i%len(kinds)]}
				_, err := ask(ctx, r)
				switch {
				case err == nil && time.Now().After(from):
					finished.Add(1)
				case err != nil && ctx.Err() == nil:
					failed.Store(&err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return finished.Load(), *err
	}
	return finished.Load(), nil
}
