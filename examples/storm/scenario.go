package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/stormjib/stormjib/breaker"
)

// A Scenario is one storm: what runs, what is sent, what breaks, who is
// compared, and the promise as numbers. Times count from the start of
// measuring; the warm-up runs before zero.
type Scenario struct {
	Name  string
	Shows string // one line, for -list and the head of the run
	Note  string // what else its figures say, above all where the library is not the best
	Tour  bool   // part of what runs when nobody asks for a scenario
	GRPC  bool   // its variants know how to protect calls over gRPC too

	Topology    Topology
	Calibration time.Duration // how long the closed loop measures the capacity
	Warmup      time.Duration
	Duration    time.Duration // measured
	Needs       time.Duration // the shortest Duration that can show the promise
	Tick        time.Duration

	Load     []Load
	Faults   []Fault
	Turnover []Turnover // of the nodes, by time

	// OneByOne runs the variants one after another. Side by side is the
	// default, since noise on the machine then meets all of them alike; a
	// scenario whose load is a good part of the machine cannot have that.
	OneByOne bool
	Variants []Variant
	Promises []Promise
}

// Topology is what the scenario's processes are made of.
type Topology struct {
	Transport string        `json:"transport"` // see wireOf
	Slots     int           `json:"slots"`     // the dependency serves so many at once
	Service   time.Duration `json:"-"`         // mean time in a slot
	Patience  time.Duration `json:"-"`         // how long a user waits
	InFlight  int           `json:"in_flight"` // the generator's cap; reaching it is invalid

	// Kinds are what the traffic consists of; none: all requests are alike, and need
	// the dependency.
	Kinds []Kind `json:"-"`

	// Apart gives each kind a dependency of its own, with Slots for it alone. One process
	// plays all of them.
	Apart bool `json:"apart"`

	// Room bounds how many requests the front service has in service at a time, as a pool
	// of workers would; the others wait for their turn. It is a property of the service,
	// so the same in every variant; zero: no bound.
	Room int `json:"room"`

	// Nodes is how many nodes there are at the beginning between the front service and the
	// dependency, which is their store; zero: there are none. Each serves Places requests at
	// a time. They are the same in every variant, which decides whom of them to ask.
	Nodes  int `json:"nodes"`
	Places int `json:"places"`

	// Keeps has nodes keep what they have had from the store. Work with it takes Hit, on
	// average. Otherwise they ask the store each time.
	Keeps bool          `json:"keeps"`
	Hit   time.Duration `json:"-"`

	// Stale has the handler answer with a stale copy where it has no live answer:
	// a property of the service, so the same in every variant.
	Stale bool `json:"stale_copy"`

	// Panel has each request that needs the dependency ask it twice: for what is needed,
	// and then for a panel that is optional. The capacity is that with the panel.
	Panel bool `json:"panel"`

	// Finishes is the rule for work whose caller has left before it got a slot: it
	// is done all the same. Without it such work is skipped. In a slot, work is
	// always finished.
	Finishes bool `json:"finishes_abandoned_work"`

	// SlowShare of the dependency's answers take SlowFactor times as long, by chance
	// and not by what is asked: who asks again draws again.
	SlowShare  float64 `json:"slow_share"`
	SlowFactor float64 `json:"slow_factor"`

	// Steady work takes Service each time. Otherwise times are spread exponentially
	// around it.
	Steady bool `json:"steady"`

	// Redis is the address of one, where a variant needs it. If empty, it makes do with one
	// in memory.
	Redis string `json:"redis,omitempty"`
}

// Kind is a part of the traffic that is told apart: a route, a key, or all clients of
// a sort. What a fault does to one of them, the others should not feel.
type Kind struct {
	Name    string        `json:"name"`
	Share   float64       `json:"share"`   // of the load, while there is no surge
	Clients int           `json:"clients"` // who take turns to send it; zero: it is one
	Local   bool          `json:"local"`   // needs no dependency
	Work    time.Duration `json:"-"`       // of the front service itself, on average
}

// kinds returns the kinds, of which there is one at least.
func (t Topology) kinds() []Kind {
	if len(t.Kinds) == 0 {
		return []Kind{{Name: kindDependent, Share: 1}}
	}
	return t.Kinds
}

// asked returns the kinds that share out the dependency's slots: those that have slots
// of their own, or one that stands for all.
func (t Topology) asked() []string {
	if !t.Apart {
		return []string{kindDependent}
	}
	var names []string
	for _, k := range t.kinds() {
		if !k.Local {
			names = append(names, k.Name)
		}
	}
	return names
}

// calls returns how often a request asks the dependency, when nothing is left out.
func (t Topology) calls() float64 {
	if t.Panel {
		return 2
	}
	return 1
}

// client returns who sends the request of this number.
func (k Kind) client(id uint64) string {
	if k.Clients == 0 {
		return k.Name
	}
	return k.Name + "-" + strconv.FormatUint(id%uint64(k.Clients), 10)
}

// Load is the offered rate from a time on, as a multiple of the capacity that
// was measured.
type Load struct {
	From     time.Duration
	Multiple float64
}

// Mode is what is out of the ordinary.
type Mode string

// The modes of a fault curve.
const (
	OK          Mode = "ok"
	Hang        Mode = "hang" // accepts and says nothing; what waits at its end is dropped
	Unavailable Mode = "503"  // answers 503 at once
	Weak        Mode = "weak" // has only Fault.Slots of its slots
	Slow        Mode = "slow" // takes Fault.Times as long, until the fault ends

	// Poison is what requests of a kind are, for the worker that gets them: see there.
	Poison Mode = "poison"

	// Surge is a fault of the traffic and not of the dependency: Fault.Times as much.
	Surge Mode = "surge"

	// Replace is none at all: a replica of the front service makes room for another.
	Replace Mode = "replace"
)

func (m Mode) ofDependency() bool { return m != Surge && m != Replace }

// Fault is one stretch of the fault curve; between the stretches it is OK.
type Fault struct {
	Mode  Mode
	Kind  string // the one that it meets; none: all
	From  time.Duration
	Until time.Duration
	Slots int     // in mode Weak: how many are left
	Times float64 // in modes Slow and Surge
}

// meets reports whether the fault lasts at t, and is one of the kind.
func (f Fault) meets(kind string, t time.Duration) bool {
	return t >= f.From && t < f.Until && (f.Kind == "" || f.Kind == kind)
}

// Variant is one way of calling the dependency.
type Variant struct {
	Name    string
	About   string
	Protect func(Topology) Protection // built anew in every front process
}

// The names the verdict looks for: what is compared, and with what.
const (
	bareName = "bare"
	mainName = "stormjib"
)

// Protection is what a variant puts between the handler and the dependency.
// Every field may be zero.
type Protection struct {
	Timeout time.Duration                             // http.Client.Timeout
	HTTP    func(http.RoundTripper) http.RoundTripper // inside the client
	Around  func(call) call                           // around the client and the body
	Server  func(http.Handler) http.Handler           // around the front's own handler
	Behind  func(http.Handler) http.Handler           // around the dependency's
	Dial    []grpc.DialOption                         // HTTP, over gRPC
	Serve   []grpc.ServerOption                       // Server, over gRPC
	Panel   func(context.Context) bool                // whether a request has its panel
	Breaker *breaker.Breaker                          // observed, where there is one
	Stats   func() any                                // for the report; the breaker's are in it
	Drain   func(context.Context) error               // what was accepted and is not yet done
	Nodes   func(names []string) error                // told who there is, and when that changes

	// Replicas has the front service in several of them, behind a balancer.
	Replicas *replicas

	// Start does what happens by the clock of the run, from its zero on.
	Start func(ctx context.Context, zero time.Time) error
}

// Promise is one number that the protected variant keeps and the bare one, in
// at least one of them, does not. Exactly one of AtLeast and AtMost is set.
type Promise struct {
	Text    string
	Unit    string
	AtLeast float64
	AtMost  float64
	Value   func(own, bare *Record) float64 // infinite: never

	// Also are other variants that are the library's too and have to keep it.
	Also []string

	// Premise makes it a number about the bare variant alone: what that one must
	// suffer, or the scenario does not show what it says.
	Premise bool
}

// scenarios holds every scenario; the file of each adds its own.
var scenarios []*Scenario //nolint:gochecknoglobals // A new scenario is one new file, no edit.

// register adds a scenario. It is called from package variables:
//
//	var _ = register(&Scenario{...})
func register(s *Scenario) *Scenario {
	scenarios = append(scenarios, s)
	return s
}

// find returns the scenario of that name, nil if there is none.
func find(name string) *Scenario {
	for _, s := range scenarios {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// order returns the index of the variant of that name, -1 if there is none.
func (s *Scenario) order(variant string) int {
	return slices.IndexFunc(s.Variants, func(v Variant) bool { return v.Name == variant })
}

// variant returns the variant of that name.
func (s *Scenario) variant(name string) (Variant, error) {
	i := s.order(name)
	if i < 0 {
		return Variant{}, fmt.Errorf("scenario %s has no variant %q", s.Name, name)
	}
	return s.Variants[i], nil
}

// over returns the scenario as it is over a transport, its own if that is "".
func (s *Scenario) over(transport string) (*Scenario, error) {
	if transport == "" || transport == s.Topology.Transport {
		return s, nil
	}
	if transport != transportGRPC || !s.GRPC {
		return nil, fmt.Errorf("%s does not run over transport %q", s.Name, transport)
	}
	other := *s
	other.Topology.Transport = transport
	return &other, nil
}

// with returns the scenario as it is with a Redis at an address; none if that is "".
func (s *Scenario) with(redis string) *Scenario {
	other := *s
	other.Topology.Redis = redis
	return &other
}

// fault returns what the dependency suffers from at t for requests of a kind; its mode
// is OK if there is nothing.
func (s *Scenario) fault(kind string, t time.Duration) Fault {
	for _, f := range s.Faults {
		if f.Mode.ofDependency() && f.meets(kind, t) {
			return f
		}
	}
	return Fault{Mode: OK}
}

// phase names the time t for people.
func (s *Scenario) phase(t time.Duration) string {
	for _, f := range s.Faults {
		if f.meets(f.Kind, t) {
			return string(f.Mode)
		}
	}
	calm := len(s.Faults) == 0 || t < s.Faults[0].From
	switch turn := s.turn(t); {
	case t < 0:
		return "warm-up"
	case turn != "" && calm:
		return turn
	case len(s.Load) > 1 && t >= s.Load[1].From:
		return strconv.FormatFloat(s.multiple(t), 'g', 3, 64) + "x"
	case calm:
		return "calm"
	default:
		return "after"
	}
}

// multiple returns the load at t. Before the first step, which is the warm-up,
// it is that of the first step.
func (s *Scenario) multiple(t time.Duration) float64 {
	m := s.Load[0].Multiple
	for _, l := range s.Load {
		if t >= l.From {
			m = l.Multiple
		}
	}
	return m
}

// weights returns how much of each kind there is at t, and in total, when the load
// without a surge is 1.
func (s *Scenario) weights(t time.Duration) (each []float64, total float64) {
	for _, k := range s.Topology.kinds() {
		weight := k.Share
		for _, f := range s.Faults {
			if f.Mode == Surge && f.meets(k.Name, t) {
				weight *= f.Times
			}
		}
		each, total = append(each, weight), total+weight
	}
	return each, total
}

// changes returns the times at which the fault curve, the load or the fleet changes, in
// order.
func (s *Scenario) changes() []time.Duration {
	var times []time.Duration
	for _, f := range s.Faults {
		times = append(times, f.From, f.Until)
	}
	for _, l := range s.Load {
		times = append(times, l.From)
	}
	for _, c := range s.Turnover {
		times = append(times, c.At)
	}
	slices.Sort(times)
	return times
}

// lastFault returns when the dependency's last fault ends, which is when recovery begins;
// zero if it has none. A surge is not one: who was refused in it may be for a while.
func (s *Scenario) lastFault() time.Duration {
	var end time.Duration
	for _, f := range s.Faults {
		if f.Mode.ofDependency() {
			end = max(end, f.Until)
		}
	}
	return end
}
