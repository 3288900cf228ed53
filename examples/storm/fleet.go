package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Turnover is a node that leaves the fleet, or comes to it.
type Turnover struct {
	At    time.Duration
	Node  int
	Joins bool // with nothing; otherwise it dies
}

// turn names what a node did last before t for people; "" if none did anything.
func (s *Scenario) turn(t time.Duration) string {
	name := ""
	for _, c := range s.Turnover {
		switch {
		case t < c.At:
		case c.Joins:
			name = "joins"
		default:
			name = "dies"
		}
	}
	return name
}

// newsAfter is how long it takes until who asks the nodes knows that one has died or
// come. It is the same in every variant, as if all of them read one registry.
const newsAfter = 500 * time.Millisecond

// nodeName is what a node is called by those who ask it. Where it listens, their dialer
// knows.
func nodeName(i int) string { return "node-" + strconv.Itoa(i) }

// nodes returns how many nodes there are in all, those that are yet to come included.
func (s *Scenario) nodes() int {
	n := s.Topology.Nodes
	for _, c := range s.Turnover {
		n = max(n, c.Node+1)
	}
	return n
}

// registered returns the names of the nodes that the registry has at t.
func (s *Scenario) registered(t time.Duration) []string {
	there := make([]bool, s.nodes())
	for i := range s.Topology.Nodes {
		there[i] = true
	}
	for _, c := range s.Turnover {
		if t >= c.At+newsAfter {
			there[c.Node] = c.Joins
		}
	}
	var names []string
	for i, is := range there {
		if is {
			names = append(names, nodeName(i))
		}
	}
	return names
}

// fleet is the nodes between the front service and the dependency. One process plays all
// of them, and each has a listener of its own.
type fleet struct {
	scenario *Scenario
	nodes    []*node
	zero     atomic.Pointer[time.Time] // nil until the run starts
	out      atomic.Int64              // open connections to the dependency
}

// serveFleet plays the nodes. One that is yet to join is there from the beginning: nobody
// knows of it.
func serveFleet(ctx context.Context, a *actor) error {
	f := &fleet{scenario: a.scenario}
	d := dialer{a.scenario.Topology.InFlight, &f.out, &a.trouble, nil}
	f.build(a.Seed, a.wire.dial(a.Peer, Protection{}, d))
	var addresses []string
	var stops []func() error
	for _, n := range f.nodes {
		l, err := listen(a.Host, &a.trouble)
		if err != nil {
			return err
		}
		addresses = append(addresses, l.Addr().String())
		stops = append(stops, a.wire.serve(l, n.handle, Protection{}, new(atomic.Int64)))
	}
	a.emit(event{Ready: strings.Join(addresses, ",")})
	if zero, ok := a.await(ctx); ok {
		f.zero.Store(&zero)
		for _, c := range a.scenario.Turnover {
			if !c.Joins {
				time.AfterFunc(time.Until(zero.Add(c.At)), func() { _ = stops[c.Node]() })
			}
		}
		everyTick(ctx, a.scenario.Tick, zero, f.sample, a.emit)
	}
	var errs []error
	for _, stop := range stops {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// build makes the nodes, which ask the store.
func (f *fleet) build(seed uint64, store call) {
	t := f.scenario.Topology
	for range f.scenario.nodes() {
		n, places := &node{}, make(chan struct{}, t.Places)
		n.serve = (&worker{places: places, store: store, poison: f.poison}).serve
		if t.Keeps {
			n.serve = (&keeper{
				node: n, seed: seed, hit: t.Hit, places: places, store: store,
				pages: make(map[string]*copied),
			}).serve
		}
		f.nodes = append(f.nodes, n)
	}
}

// poison reports whether requests of a kind hang the worker that gets them.
func (f *fleet) poison(kind string) bool {
	zero := f.zero.Load()
	return zero != nil && f.scenario.fault(kind, time.Since(*zero)).Mode == Poison
}

// sample returns what the nodes have seen since it was last asked.
func (f *fleet) sample() Sample {
	var v Visits
	for _, n := range f.nodes {
		v.Hits += int(n.hits.Swap(0))
		v.Misses += int(n.misses.Swap(0))
		v.Busiest = max(v.Busiest, n.underway.peak())
	}
	return Sample{Visits: v}
}

// everyTick emits a sample at the end of each tick until ctx ends. What was before the
// first one began is not for the report.
func everyTick(
	ctx context.Context, tick time.Duration, zero time.Time, sample func() Sample, emit func(event),
) {
	_ = sleep(ctx, time.Until(zero))
	sample()
	for i := 0; ctx.Err() == nil; i++ {
		_ = sleep(ctx, time.Until(zero.Add(time.Duration(i+1)*tick)))
		s := sample()
		s.Tick = i
		emit(event{Sample: &s})
	}
}

// seen sums up the calls of the dependency and the visits of the nodes in the ticks that
// begin in [from, until).
func (r *Record) seen(from, until time.Duration) Sample {
	var sum Sample
	for i, s := range r.Samples {
		if at := time.Duration(i) * r.Scenario.Tick; at >= from && at < until {
			sum.Calls += s.Calls
			sum.Hits += s.Hits
			sum.Misses += s.Misses
			sum.Busiest = max(sum.Busiest, s.Busiest)
		}
	}
	return sum
}

// fleetHost is the host of a request for which no node has been chosen yet.
const fleetHost = "fleet"

// host returns what the front service has for the host of its requests, and the dialer's
// names if it is nodes that it asks.
func (a *actor) host() (host string, names map[string]string) {
	if a.scenario.Topology.Nodes == 0 {
		return a.Peer, nil
	}
	names = make(map[string]string)
	for i, address := range strings.Split(a.Peer, ",") {
		names[net.JoinHostPort(nodeName(i), "80")] = address
	}
	return fleetHost, names
}

// meet tells the variant of the nodes that there are before the run, and asks them for
// all that clients will ask for, once, as if they had been there for long: the store
// answers at once.
func (f *front) meet(ctx context.Context, s *Scenario, p Protection) error {
	if p.Nodes == nil {
		return nil
	}
	if err := p.Nodes(s.registered(-s.Warmup)); err != nil {
		return err
	}
	for _, k := range s.Topology.kinds() {
		for i := range uint64(max(1, k.Clients)) {
			_, err := f.ask(ctx, request{ID: i, Kind: kindFill, Client: k.client(i)})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// tell tells the variant what the registry has, whenever that changes, until ctx ends.
func (s *Scenario) tell(ctx context.Context, zero time.Time, p Protection) error {
	for _, c := range s.Turnover {
		at := c.At + newsAfter
		if p.Nodes == nil || sleep(ctx, time.Until(zero.Add(at))) != nil {
			return nil //nolint:nilerr // The run is over.
		}
		if err := p.Nodes(s.registered(at)); err != nil {
			return err
		}
	}
	return nil
}
