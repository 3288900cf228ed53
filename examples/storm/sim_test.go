package main

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inMemory is a transport that asks a handler, as if there were a network of no length. The
// handler gets nothing of the client's context but its end.
type inMemory struct{ handler http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	w := httptest.NewRecorder()
	asked := httptest.NewRequestWithContext(ctx, r.Method, r.URL.Path, r.Body)
	asked.Header = r.Header.Clone()
	answered, dropped := make(chan struct{}), false
	go func() {
		defer close(answered)
		defer func() { dropped = recover() != nil }()
		m.handler.ServeHTTP(w, asked)
	}()
	select {
	case <-answered:
		if dropped {
			return nil, errDropped
		}
		res := w.Result()
		res.Request = r
		return res, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// inFleet is the nodes, and the way to them: one that has died is not to be reached.
type inFleet struct {
	*fleet
	began time.Time
}

func (f inFleet) RoundTrip(r *http.Request) (*http.Response, error) {
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Host, "node-"))
	if err != nil {
		return nil, err
	}
	for _, c := range f.scenario.Turnover {
		if c.Node == i && !c.Joins && time.Since(f.began) >= c.At {
			return nil, &net.OpError{Op: "dial", Err: errDropped}
		}
	}
	return inMemory{handlerOf(f.nodes[i].handle, Protection{})}.RoundTrip(r)
}

// calmly runs a variant in a bubble of fake time, in which no machine is too slow: what comes
// out is up to the code alone.
func calmly(
	t *testing.T, s *Scenario, variant string, seed uint64, length time.Duration,
) (r *Record) {
	t.Helper()
	v, err := s.variant(variant)
	if err != nil {
		t.Fatal(err)
	}
	topology := s.Topology
	capacity := float64(topology.Slots) / topology.calls() / topology.mean().Seconds()
	r = newRecord(s, variant, schedule(s, capacity, length, seed), length)
	r.Capacity, r.Through = capacity, length
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		p, zero := v.Protect(topology), time.Now().Add(s.Warmup)
		d, f := newDependency(s, seed), newFront(topology, seed, p)
		d.zero.Store(&zero)
		d.weaken(ctx, zero)
		behind := inMemory{handlerOf(d.handle, Protection{Server: p.Behind})}
		nodes := inFleet{&fleet{scenario: s}, zero}
		nodes.zero.Store(&zero)
		f.ask = f.counted(clientOf(behind, "dep", p))
		if topology.Nodes > 0 {
			nodes.build(seed, clientOf(behind, "store", Protection{}))
			f.ask = f.counted(clientOf(nodes, fleetHost, p))
		}
		if p.Around != nil {
			f.ask = p.Around(f.ask)
		}
		if err := f.meet(ctx, s, p); err != nil {
			t.Fatal(err)
		}
		go s.tell(ctx, zero, p)
		go everyTick(ctx, s.Tick, zero, func() Sample {
			sample := d.sample()
			sample.AtOnce, sample.Visits = f.asking.peak(), nodes.sample().Visits
			return sample
		}, r.add)
		g := &generator{
			plan: r.Plan, kinds: topology.kinds(), zero: zero, patience: topology.Patience,
			limit: math.MaxInt64, settled: make([]bool, len(r.Plan)),
			call: clientOf(inMemory{handlerOf(f.handle, p)}, "front", Protection{}),
		}
		g.drive(ctx)
		time.Sleep(topology.Patience + time.Second)
		stop()
		time.Sleep(time.Minute) // What nodes have begun to fetch, they fetch.
		synctest.Wait()
		var a actor
		if err := errors.Join(drain(p), a.keep(p)); err != nil {
			t.Error(err)
		}
		r.add(event{Outcomes: g.news, Final: &Final{Took: f.took.all(), Stats: a.final.Stats}})
	})
	return r
}

// What is promised of the server's side, in fake time: bare breaks each of these promises,
// and the library keeps it. Where the seed decides the bound here is wider than the promise,
// which is what runs on a real machine are for.
func TestStormsInFakeTime(t *testing.T) {
	tests := []struct {
		scenario string
		length   time.Duration
		promise  int
		bound    float64 // 0: that of the promise
	}{
		{"overload", overDouble, 0, 0},
		{"priority", 12 * time.Second, 0, 90},
		{"priority", 12 * time.Second, 1, 60},
		{"priority", 12 * time.Second, 2, 0},
		{"brownout", brownOver, 0, 0},
		{"brownout", brownOver, 1, 1500},
		{"composed", 12 * time.Second, 0, 90},
		{"composed", 12 * time.Second, 1, 60},
		{"composed", 12 * time.Second, 3, 0},
		{"cachefleet", fleetCools, 0, 0},
		{"cachefleet", fleetCools, 1, 0},
		{"cachefleet", fleetCools, 2, 0},
		{"cachefleet", fleetCools, 3, 0},
		{"poison", 12 * time.Second, 0, 0},
	}
	var bare, own *Record
	for i, tt := range tests {
		s := find(tt.scenario)
		if i == 0 || tests[i-1].scenario != tt.scenario {
			bare = calmly(t, s, bareName, 1, tt.length)
			own = calmly(t, s, mainName, 1, tt.length)
		}
		p := s.Promises[tt.promise]
		if value := p.Value(bare, bare); p.kept(value) {
			t.Errorf("%s: bare keeps %q: %v", tt.scenario, p.Text, value)
		}
		value := p.Value(own, bare)
		if tt.bound != 0 && p.AtLeast != 0 {
			p.AtLeast = tt.bound
		} else if tt.bound != 0 {
			p.AtMost = tt.bound
		}
		if !p.kept(value) {
			t.Errorf("%s: %q is %v, want %s", tt.scenario, p.Text, value, p.target())
		}
	}
}
