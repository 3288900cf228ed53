package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/hashring/hashringhttp"
)

// A fleet of caches lets a store of 50 requests a second do for 150, as long as each
// client's page is looked for where it is. One of ten nodes dies, and later another one
// joins.
//
// By a hash modulo the number of nodes, nine of ten pages are looked for elsewhere when
// there is a node less, and again when there is one more: 135 of 150 requests a second
// then wait for a store that does 50, and it takes 750 x 0.9 / 50 = 13.5 s until all
// pages are there again. On a ring only the pages of the node that died are lost, a tenth
// of them: the store gets 15 requests a second for the five seconds in which all clients
// come once.
//
// Then half of all requests are for one page. Its node can do 100 a second, and gets 165:
// no placement of keys helps against that. With a bound to the load of each node, what is
// too much for one goes to the next in the order of the page.
const (
	fleetNodes = 10
	fleetPages = 750
	fleetDies  = 3 * time.Second
	fleetJoins = 9500 * time.Millisecond
	fleetHot   = 16 * time.Second
	fleetCools = 21 * time.Second

	// What a Balancer lets a node have by default.
	fleetFactor = 1.25
	fleetLeast  = 8
)

// ringName is the variant that has the library's ring, and no bound.
const ringName = "ring"

var _ = register(&Scenario{
	Name: "cachefleet",
	Shows: "ten cache nodes before a slow store: one dies, another one joins, and then half " +
		"of all\n  requests are for one page",
	Note: "tuned does nearly as well until a page is hot; with few points, it is chance how " +
		"much one\nnode has",

	Topology: Topology{
		Transport: "http",
		Slots:     6,
		Service:   120 * time.Millisecond,
		Patience:  time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: "page", Share: 0.98, Clients: fleetPages},
			{Name: "hot", Share: 0.02},
		},
		Nodes:  fleetNodes,
		Places: fleetLeast,
		Keeps:  true,
		Hit:    80 * time.Millisecond,
	},
	Calibration: 2 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    22 * time.Second,
	Needs:       fleetCools,
	Tick:        500 * time.Millisecond,

	Load:   []Load{{Multiple: 3}},
	Faults: []Fault{{Mode: Surge, Kind: "hot", From: fleetHot, Until: fleetCools, Times: 51}},
	Turnover: []Turnover{
		{At: fleetDies, Node: 3},
		{At: fleetJoins, Node: fleetNodes, Joins: true},
	},

	Variants: []Variant{
		{"bare", "a hash modulo the number of nodes", bareFleet},
		{"tuned", "a ring of 20 points for each node, and the next if a node is gone", tunedFleet},
		{ringName, "hashringhttp.Transport with a Ring, and no bound", ringFleet},
		{"stormjib", "hashringhttp.Transport with a Table, bounded by default", stormjibFleet},
	},
	Promises: []Promise{{
		Text: "pages that the store is asked for again when a node dies, and when one joins, of " +
			"a tenth\n     of all (the greater of the two)",
		Unit:   "times",
		AtMost: 1.2,
		Also:   []string{ringName},
		Value: func(own, _ *Record) float64 {
			died, joined := own.seen(fleetDies, fleetJoins), own.seen(fleetJoins, fleetHot)
			return float64(max(died.Calls, joined.Calls)) * fleetNodes / fleetPages
		},
	}, {
		Text:   "calls of the store in its busiest second, of its capacity",
		Unit:   "%",
		AtMost: 100,
		Also:   []string{ringName},
		Value: func(own, _ *Record) float64 {
			return 100 * ratio(float64(own.busiest(time.Second)), own.Capacity)
		},
	}, {
		Text: fmt.Sprintf("requests under way at the busiest node while one page is hot, of its "+
			"cap:\n     %v of its share, or %d", fleetFactor, fleetLeast),
		Unit:   "%",
		AtMost: 100,
		Value:  func(own, _ *Record) float64 { return own.overCap(fleetHot, fleetCools) },
	}, {
		Text:    "answered in time, from when the node dies to the end",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(fleetDies, own.Length)
			return percent(t.Good, t.Offered)
		},
	}},
})

// overCap returns what the busiest node had under way in [from, until), in percent of
// what a bound of loads allows for the load that there was. That is the front service's,
// which knows of a request before the node does and until after: and a tick of its own
// may begin a little earlier or later.
func (r *Record) overCap(from, until time.Duration) float64 {
	worst := 0.
	for i, s := range r.Samples {
		at := time.Duration(i) * r.Scenario.Tick
		if at < from || at >= until {
			continue
		}
		load := s.AtOnce
		for _, next := range r.Samples[max(0, i-1):min(i+2, len(r.Samples))] {
			load = max(load, next.AtOnce)
		}
		share := float64(load) / float64(len(r.Scenario.registered(at)))
		most := max(math.Ceil(fleetFactor*share), fleetLeast)
		worst = max(worst, 100*float64(s.Busiest)/most)
	}
	return worst
}

// toNode returns the request for a node.
func toNode(r *http.Request, name string) *http.Request {
	sent := r.Clone(r.Context())
	sent.URL.Host = name
	return sent
}

// hashOf is what the variants by hand have in common, and a good one: that a fleet
// suffers from a bad hash is another story.
func hashOf(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// modulo is the transport that everybody writes first.
type modulo struct {
	base  http.RoundTripper
	names atomic.Pointer[[]string]
}

func (m *modulo) RoundTrip(r *http.Request) (*http.Response, error) {
	names := *m.names.Load()
	h := hashOf(r.Header.Get(clientField))
	return m.base.RoundTrip(toNode(r, names[h%uint64(len(names))]))
}

func bareFleet(Topology) Protection {
	var m modulo
	return Protection{
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			m.base = base
			return &m
		},
		Nodes: func(names []string) error {
			m.names.Store(&names)
			return nil
		},
	}
}

// circle is the transport of one who has read about consistent hashing: the points of all
// nodes, sorted, and a binary search. Who is not there any more is passed over before the
// registry says so.
type circle struct {
	base   http.RoundTripper
	points atomic.Pointer[[]point]
}

type point struct {
	at   uint64
	name string
}

const circlePoints = 20

func (c *circle) set(names []string) error {
	var points []point
	for _, name := range names {
		for i := range circlePoints {
			points = append(points, point{hashOf(fmt.Sprintf("%s#%d", name, i)), name})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	c.points.Store(&points)
	return nil
}

func (c *circle) RoundTrip(r *http.Request) (*http.Response, error) {
	points := *c.points.Load()
	h := hashOf(r.Header.Get(clientField))
	first, _ := slices.BinarySearchFunc(points, h, func(p point, h uint64) int {
		return cmp.Compare(p.at, h)
	})
	owner := points[first%len(points)].name
	resp, err := c.base.RoundTrip(toNode(r, owner))
	dial, ok := errors.AsType[*net.OpError](err)
	if !ok || dial.Op != "dial" {
		return resp, err
	}
	for i := range points {
		if next := points[(first+i)%len(points)].name; next != owner {
			again := toNode(r, next)
			if again.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
			return c.base.RoundTrip(again)
		}
	}
	return resp, err
}

func tunedFleet(Topology) Protection {
	var c circle
	return Protection{
		Nodes: c.set,
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			c.base = base
			return &c
		},
	}
}

// ringFleet counts loads and bounds none.
func ringFleet(Topology) Protection {
	return hashed(hashring.BalancerConfig{Name: "caches", Factor: -1},
		func(nodes []hashring.Node) (hashring.Placement, error) {
			return hashring.NewRing(nodes, hashring.RingConfig{})
		})
}

func stormjibFleet(Topology) Protection {
	return hashed(hashring.BalancerConfig{Name: "caches"},
		func(nodes []hashring.Node) (hashring.Placement, error) {
			return hashring.NewTable(nodes, hashring.TableConfig{})
		})
}

// hashed has requests go where the placement says that the registry's list comes to.
func hashed(
	cfg hashring.BalancerConfig, place func([]hashring.Node) (hashring.Placement, error),
) Protection {
	caches := hashring.NewBalancer(nil, cfg)
	return Protection{
		Stats: func() any { return caches.Stats() },
		Nodes: func(names []string) error {
			var nodes []hashring.Node
			for _, name := range names {
				nodes = append(nodes, hashring.Node{ID: name})
			}
			placement, err := place(nodes)
			return cmp.Or(err, caches.Set(placement))
		},
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			return &hashringhttp.Transport{
				Base:     base,
				Balancer: func(*http.Request) *hashring.Balancer { return caches },
				Key:      hashringhttp.Header(clientField),
			}
		},
	}
}
