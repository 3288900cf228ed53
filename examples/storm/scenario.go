package main

import (
	"fmt"
	"net/http"
	"slices"
	"time"

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

	Topology    Topology
	Calibration time.Duration // how long the closed loop measures the capacity
	Warmup      time.Duration
	Duration    time.Duration // measured
	Needs       time.Duration // the shortest Duration that can show the promise
	Tick        time.Duration

	Load   []Load
	Faults []Fault

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
	Local     time.Duration `json:"-"`         // mean work of a request without dependency
	Patience  time.Duration `json:"-"`         // how long a user waits
	Dependent float64       `json:"dependent"` // share of the requests that need it
	InFlight  int           `json:"in_flight"` // the generator's cap; reaching it is invalid

	// Stale has the handler answer with a stale copy where it has no live answer:
	// a property of the service, so the same in every variant.
	Stale bool `json:"stale_copy"`

	// Finishes is the rule for work whose caller has left before it got a slot: it
	// is done all the same. Without it such work is skipped. In a slot, work is
	// always finished.
	Finishes bool `json:"finishes_abandoned_work"`

	// SlowShare of the dependency's answers take SlowFactor times as long, by chance
	// and not by what is asked: who asks again draws again.
	SlowShare  float64 `json:"slow_share"`
	SlowFactor float64 `json:"slow_factor"`
}

// Load is the offered rate from a time on, as a multiple of the capacity that
// was measured.
type Load struct {
	From     time.Duration
	Multiple float64
}

// Mode is how the dependency behaves.
type Mode string

// The modes of a fault curve.
const (
	OK          Mode = "ok"
	Hang        Mode = "hang" // accepts and says nothing; what waits at its end is dropped
	Unavailable Mode = "503"  // answers 503 at once
	Weak        Mode = "weak" // has only Fault.Slots of its slots
)

// Fault is one stretch of the fault curve; between the stretches it is OK.
type Fault struct {
	Mode  Mode
	From  time.Duration
	Until time.Duration
	Slots int // in mode Weak: how many are left
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
	Breaker *breaker.Breaker                          // observed, where there is one
}

// Promise is one number that the protected variant keeps and the bare one, in
// at least one of them, does not. Exactly one of AtLeast and AtMost is set.
type Promise struct {
	Text    string
	Unit    string
	AtLeast float64
	AtMost  float64
	Value   func(own, bare *Record) float64 // infinite: never

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

// mode returns how the dependency behaves at t, and until when.
func (s *Scenario) mode(t time.Duration) (mode Mode, until time.Duration) {
	for _, f := range s.Faults {
		if t >= f.From && t < f.Until {
			return f.Mode, f.Until
		}
	}
	return OK, 0
}

// phase names the time t for people.
func (s *Scenario) phase(t time.Duration) string {
	mode, _ := s.mode(t)
	switch {
	case mode != OK:
		return string(mode)
	case t < 0:
		return "warm-up"
	case len(s.Faults) == 0 || t < s.Faults[0].From:
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

// changes returns the times at which the fault curve changes.
func (s *Scenario) changes() []time.Duration {
	var times []time.Duration
	for _, f := range s.Faults {
		times = append(times, f.From, f.Until)
	}
	return times
}

// lastFault returns when the last fault ends, which is when recovery begins.
func (s *Scenario) lastFault() time.Duration {
	var end time.Duration
	for _, f := range s.Faults {
		end = max(end, f.Until)
	}
	return end
}
