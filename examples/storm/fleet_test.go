package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/hashring"
)

func TestRegistered(t *testing.T) {
	s := &Scenario{
		Topology: Topology{Nodes: 3},
		Turnover: []Turnover{
			{At: time.Second, Node: 1}, {At: 2 * time.Second, Node: 3, Joins: true},
		},
	}
	for at, want := range map[time.Duration]string{
		-time.Second:                "[node-0 node-1 node-2]",
		time.Second + newsAfter - 1: "[node-0 node-1 node-2]",
		time.Second + newsAfter:     "[node-0 node-2]",
		time.Minute:                 "[node-0 node-2 node-3]",
	} {
		if got := fmt.Sprint(s.registered(at)); got != want {
			t.Errorf("at %v there are %s, want %s", at, got, want)
		}
	}
	if n := s.nodes(); n != 4 {
		t.Errorf("%d nodes in all, want 4", n)
	}
}

// The variant is told in time, and no more when the run is over.
func TestTell(t *testing.T) {
	s := find("cachefleet")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), fleetJoins)
		defer cancel()
		var told []string
		zero := time.Now()
		p := Protection{Nodes: func(names []string) error {
			told = append(told, fmt.Sprint(time.Since(zero), len(names)))
			return nil
		}}
		if err := s.tell(ctx, zero, p); err != nil || fmt.Sprint(told) != "[3.5s 9]" {
			t.Errorf("told %s, %v", told, err)
		}
		broken := errors.New("broken")
		p.Nodes = func([]string) error { return broken }
		if err := s.tell(t.Context(), zero, p); err != broken {
			t.Errorf("got %v, want that of the variant", err)
		}
	})
}

func TestTurnoverPhases(t *testing.T) {
	s := find("cachefleet")
	var phases []string
	for _, at := range s.changes() {
		phases = append(phases, fmt.Sprintf("%v %s", at, s.phase(at)))
	}
	if got := fmt.Sprint(phases); got != "[0s calm 3s dies 9.5s joins 16s surge 21s after]" {
		t.Errorf("the phases are %s", got)
	}
	if got := s.phase(-1); got != "warm-up" {
		t.Errorf("before them it is %s", got)
	}
}

// asked is a base that notes who is asked, and at which some nodes cannot be reached.
type asked struct {
	gone string
	last string
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == a.gone {
		return nil, &net.OpError{Op: "dial", Err: errDropped}
	}
	a.last = r.URL.Host
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// owners returns the node that each of the pages is looked for at.
func owners(t *testing.T, transport http.RoundTripper, base *asked) []string {
	t.Helper()
	var nodes []string
	for i := range fleetPages {
		base.last = ""
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://fleet/page",
			strings.NewReader("7"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(clientField, fmt.Sprintf("page-%d", i))
		if res, err := transport.RoundTrip(r); err == nil {
			res.Body.Close()
		}
		nodes = append(nodes, base.last)
	}
	return nodes
}

// How many pages are looked for elsewhere when a node goes, or comes, is what the
// variants differ in; and whether they find another node for a page whose own is not
// there.
func TestCachefleetVariants(t *testing.T) {
	s := find("cachefleet")
	limits := map[string][2]int{ // of those that move in both cases, in times of a tenth
		bareName: {8, 10}, "tuned": {0, 2}, ringName: {0, 1}, mainName: {0, 1},
	}
	for _, v := range s.Variants {
		p, base := v.Protect(s.Topology), &asked{}
		transport := p.HTTP(base)
		var before []string
		for _, at := range []time.Duration{0, fleetJoins, fleetHot} {
			if err := p.Nodes(s.registered(at)); err != nil {
				t.Fatal(err)
			}
			now := owners(t, transport, base)
			moved, tenth := 0, fleetPages/fleetNodes
			for i, owner := range before {
				if owner != now[i] {
					moved++
				}
			}
			least, most := limits[v.Name][0]*tenth, limits[v.Name][1]*tenth*6/5
			if before != nil && (moved < least || moved > most) {
				t.Errorf("%s: %d pages have moved, want from %d to %d", v.Name, moved, least, most)
			}
			before = now
		}
		base.gone = "node-5"
		lost, its := 0, 0
		for i, owner := range owners(t, transport, base) {
			if before[i] == base.gone {
				its++
			}
			if owner == "" {
				lost++
			}
		}
		least, most := 0, its/2 // What is paid for is a tenth, and so it is a close thing.
		switch v.Name {
		case bareName:
			least, most = its, its
		case "tuned":
			most = 0
		}
		if its == 0 || lost < least || lost > most {
			t.Errorf("%s: %d of %d pages are nowhere while their node is gone, want from %d to %d",
				v.Name, lost, its, least, most)
		}
	}
}

// A hot page is more than the node's cap alone for those who know none.
func TestCachefleetBound(t *testing.T) {
	s := find("cachefleet")
	for _, v := range s.Variants {
		synctest.Test(t, func(t *testing.T) {
			p := v.Protect(s.Topology)
			nodes := &fleet{scenario: s}
			nodes.build(1, func(context.Context, request) (string, error) { return "", nil })
			ask := clientOf(inFleet{nodes, time.Now()}, fleetHost, p)
			if err := p.Nodes(s.registered(0)); err != nil {
				t.Fatal(err)
			}
			for id := range uint64(3 * fleetLeast) {
				go ask(t.Context(), request{ID: id, Kind: "hot", Client: "hot"})
			}
			synctest.Wait()
			want := 3 * fleetLeast
			if v.Name == mainName {
				want = fleetLeast
			}
			if got := nodes.sample().Busiest; got != want {
				t.Errorf("%s: %d under way at one node, want %d", v.Name, got, want)
			}
			time.Sleep(time.Minute)
		})
	}
}

func TestOverCap(t *testing.T) {
	s := *squall
	s.Topology.Nodes = 10
	r := example("bare")
	r.Scenario = &s
	for i, load := range []struct{ busiest, atOnce int }{
		{4, 10}, {8, 20}, {9, 80}, {30, 20}, {5, 20}, {51, 404}, {8, 20}, {8, 20},
	} {
		r.Samples[i].Busiest, r.Samples[i].AtOnce = load.busiest, load.atOnce
	}
	const tick = 100 * time.Millisecond
	for _, tt := range []struct {
		from, until int
		want        float64
	}{
		{0, 1, 50},            // the cap is never below 8
		{1, 2, 80},            // it is 10 with the load of the next tick
		{2, 3, 90},            // and with its own
		{3, 4, 300},           // of 10, with the load of the one before
		{0, 5, 300},           // the worst of them
		{5, 8, 100},           // 51 of 50.5, rounded up
		{6, 8, 100},           // 8 of 8, at the end
		{4, 5, 100. * 5 / 51}, // with the next
		{8, 9, 0},             // there is nothing any more
		{-1, 0, 0},            // nor is there before
	} {
		got := r.overCap(time.Duration(tt.from)*tick, time.Duration(tt.until)*tick)
		if got != tt.want {
			t.Errorf("from %d to %d it is %v %%, want %v %%", tt.from, tt.until, got, tt.want)
		}
	}
}

// Each tick has what it has seen, and the first one nothing of what was before.
func TestEveryTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{nodes: []*node{{}, {}}}
		ctx, cancel := context.WithCancel(t.Context())
		var got []Sample
		zero := time.Now().Add(time.Second)
		see := func(hits, misses int64, busiest int) {
			f.nodes[0].hits.Add(hits)
			f.nodes[1].misses.Add(misses)
			for range busiest {
				f.nodes[1].underway.enter()
			}
			for range busiest {
				f.nodes[1].underway.leave()
			}
		}
		see(10, 20, 30)
		go everyTick(ctx, time.Second, zero, f.sample, func(e event) {
			got = append(got, *e.Sample)
		})
		for i := range 3 {
			time.Sleep(time.Until(zero.Add(time.Duration(i)*time.Second + time.Millisecond)))
			see(int64(1+i), int64(2+i), 3+i)
		}
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		want := []Visits{{1, 2, 3}, {2, 3, 4}, {3, 4, 5}}
		for i, s := range got[:min(len(want), len(got))] {
			if s.Tick != i || s.Visits != want[i] {
				t.Errorf("tick %d is %+v, want %+v", i, s, want[i])
			}
		}
		if len(got) < len(want) {
			t.Errorf("%d ticks, want %d", len(got), len(want))
		}
	})
}

func TestSeen(t *testing.T) {
	r := example("bare")
	for i := range r.Samples {
		r.add(event{Sample: &Sample{Tick: i, Calls: i}})
		r.add(event{Sample: &Sample{Tick: i, Visits: Visits{Hits: 10, Misses: i, Busiest: 8 - i}}})
	}
	got := r.seen(200*time.Millisecond, 500*time.Millisecond)
	want := Visits{Hits: 30, Misses: 2 + 3 + 4, Busiest: 6}
	if got.Visits != want || got.Calls != 9 {
		t.Errorf("seen %+v, want %+v and 9 calls", got, want)
	}
	want = Visits{Hits: 10, Misses: 2, Busiest: 6}
	if tick := r.tick(2); tick.Visits != want || tick.Calls != 2 {
		t.Errorf("the tick is %+v", tick)
	}
}

// The library's other variants have their part in a promise too.
func TestConcludeAlso(t *testing.T) {
	s := *squall
	s.Variants = []Variant{{Name: bareName}, {Name: ringName}, {Name: mainName}}
	s.Promises = []Promise{{
		Text: "answered", Unit: "%", AtLeast: 99, Also: []string{ringName},
		Value: func(own, _ *Record) float64 {
			t := own.span(0, own.Length)
			return percent(t.Good, t.Offered)
		},
	}}
	late := func(_ int, _ time.Duration, o *Outcome) { o.Result = Late }
	good, bad := example(ringName), example(ringName, late)
	for ring, want := range map[*Record]string{good: "KEPT", bad: "BROKEN: ring"} {
		records := []*Record{example(bareName, late), ring, example(mainName)}
		code, why := conclude(judge(&s, records))
		if !strings.HasPrefix(why, want) || (code == exitKept) != (ring == good) {
			t.Errorf("%d, %q; want %s", code, why, want)
		}
	}
}

// The timeline has the nodes' hits and the store's load where there are nodes.
func TestScreenFleet(t *testing.T) {
	s := *squall
	for _, keeps := range []bool{false, true} {
		s.Topology.Nodes, s.Topology.Keeps = 3, keeps
		var out bytes.Buffer
		show, r := newScreen(&out), newScenarioReport(&s, s.Duration)
		record := example("bare")
		record.Scenario, record.Capacity, show.scenario = &s, 100, &s
		for i := range record.Samples {
			record.Samples[i].Calls = []int{0, 5, 10, 11}[i/2]
			record.Samples[i].Visits = Visits{Hits: 10 - i, Misses: i, Busiest: i}
		}
		r.take([]*Record{record})
		show.timelines(r.records)
		show.fleet(r)
		for _, want := range []string{
			"hits      87655433", "store     ..4488!!", "hang           100.0  100.00 %  75.00 %",
		} {
			if strings.Contains(out.String(), want) != keeps {
				t.Errorf("nodes keep: %t, %q is there or not in\n%s", keeps, want, &out)
			}
		}
	}
}

// flotilla is a fleet that one joins, for a test.
var flotilla = register(&Scenario{
	Name:  "flotilla",
	Shows: "that requests find their nodes",
	Topology: Topology{
		Transport: "http", Slots: 4, Service: time.Millisecond, Steady: true,
		Patience: 20 * time.Second, InFlight: 1000,
		Kinds: []Kind{{Name: "page", Share: 1, Clients: 40}},
		Nodes: 3, Places: 4, Keeps: true, Hit: time.Millisecond,
	},
	Warmup:   100 * time.Millisecond,
	Duration: 1200 * time.Millisecond,
	Tick:     100 * time.Millisecond,
	Load:     []Load{{Multiple: 0.5}},
	Turnover: []Turnover{{At: 100 * time.Millisecond, Node: 3, Joins: true}},
	Variants: []Variant{{"bare", "", ringFleet}, {"stormjib", "", ringFleet}},
})

// What moves to the node that joins is fetched from the store, once, and nothing else is.
func TestPlayFleet(t *testing.T) {
	trial := &trial{
		scenario: flotilla, capacity: 400, length: flotilla.Duration, seed: 7, show: func(Tick) {},
	}
	records, err := trial.play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var nodes []hashring.Node
	for _, name := range flotilla.registered(time.Minute) {
		nodes = append(nodes, hashring.Node{ID: name})
	}
	ring, err := hashring.NewRing(nodes, hashring.RingConfig{})
	if err != nil {
		t.Fatal(err)
	}
	page, want := flotilla.Topology.Kinds[0], int64(0)
	for id := range uint64(page.Clients) {
		if owner, _ := ring.Owner(page.client(id)); owner.ID == nodeName(3) {
			want++
		}
	}
	if want == 0 {
		t.Fatal("nothing moves")
	}
	for _, r := range records {
		all := r.span(-flotilla.Warmup, r.Length)
		if r.Served.Reached != want || all.Good != len(r.Plan) {
			t.Errorf("%s: %d calls of the store, want %d; %d of %d answered", r.Variant,
				r.Served.Reached, want, all.Good, len(r.Plan))
		}
		seen := r.seen(0, r.Length)
		if seen.Hits == 0 || seen.Misses < seen.Calls || seen.Busiest == 0 {
			t.Errorf("%s: the nodes have seen %+v", r.Variant, seen)
		}
	}
}
