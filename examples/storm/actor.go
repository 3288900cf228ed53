package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// roleArgument is the hidden first argument of the processes a run starts; the
// role is the second.
const roleArgument = "storm-role"

// The roles. Every variant of a run has one process of each, a fleet only where there are
// nodes.
const (
	roleGenerator  = "generator"
	roleFront      = "front"
	roleFleet      = "fleet"
	roleDependency = "dependency"
)

// part returns what an actor of the role does, nil if there is no such role.
func part(role string) func(context.Context, *actor) error {
	switch role {
	case roleGenerator:
		return generate
	case roleFront:
		return serveFront
	case roleFleet:
		return serveFleet
	case roleDependency:
		return serveDependency
	}
	return nil
}

// orders is the first line an actor reads: its part. Everything else, such as
// the fault curve, it finds in the scenario of that name.
type orders struct {
	Scenario  string        `json:"scenario"`
	Variant   string        `json:"variant"`
	Transport string        `json:"transport"` // the scenario's own if it is ""
	Host      string        `json:"host"`      // where to listen
	Peer      string        `json:"peer"`      // whom to call; nodes, with commas in between
	Seed      uint64        `json:"seed"`
	Capacity  float64       `json:"capacity"`
	Length    time.Duration `json:"length"`
	Redis     string        `json:"redis"` // see Topology
}

// start is the second line: the instant, on the clock that the processes of
// one machine share, at which measuring starts.
type start struct {
	Zero time.Time `json:"zero"`
}

// event is a line an actor writes.
type event struct {
	Ready    string         `json:"ready,omitempty"` // as a Peer; it waits for the start
	Outcomes []Outcome      `json:"outcomes,omitempty"`
	Through  *time.Duration `json:"through,omitempty"` // all arrivals before it are settled
	Done     bool           `json:"done,omitempty"`    // the generator has nothing left to do
	Sample   *Sample        `json:"sample,omitempty"`
	Final    *Final         `json:"final,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// Outcome is what became of one arrival.
type Outcome struct {
	Index   int           `json:"i"` // in the schedule
	Latency time.Duration `json:"l"` // from the intended start
	Lag     time.Duration `json:"g"` // from the intended start to the actual one
	Result  Result        `json:"r"`
	Told    bool          `json:"h,omitempty"` // refused, and told when to come back
}

// Result is how a request ended for the user who sent it.
type Result string

// The results. Live, Stale and Dimmed are goodput.
const (
	Live   Result = "l" // answered within patience
	Stale  Result = "s" // answered within patience, from the stale copy
	Dimmed Result = "d" // answered within patience, without what is optional
	Late   Result = "t" // no answer within patience
	Failed Result = "e" // an error

	// Refused is an error too, though nothing failed: a 429 or 503, at whatever speed.
	Refused Result = "r"
)

// Sample is the state of a front service over one tick: peaks, and the breaker
// states seen, in order. The calls are the dependency's and the visits the fleet's, which
// send them in Samples of their own.
type Sample struct {
	Tick       int      `json:"tick"`
	Goroutines int      `json:"goroutines,omitempty"`
	ConnsIn    int      `json:"conns_in,omitempty"`
	ConnsOut   int      `json:"conns_out,omitempty"`
	Breaker    []string `json:"breaker,omitempty"`
	AtOnce     int      `json:"at_once,omitempty"` // calls under way
	Calls      int      `json:"calls,omitempty"`   // that reached the dependency
	Visits
}

// Visits is what the nodes of a fleet have seen over one tick.
type Visits struct {
	Hits    int `json:"hits,omitempty"`    // requests that a node had the page for
	Misses  int `json:"misses,omitempty"`  // those that had to wait for the store
	Busiest int `json:"busiest,omitempty"` // the most requests under way at one node
}

// merge adds what another process has seen of the same tick.
func (s *Sample) merge(o Sample) {
	s.Tick = o.Tick
	s.Goroutines = max(s.Goroutines, o.Goroutines)
	s.ConnsIn = max(s.ConnsIn, o.ConnsIn)
	s.ConnsOut = max(s.ConnsOut, o.ConnsOut)
	s.AtOnce = max(s.AtOnce, o.AtOnce)
	s.Calls = max(s.Calls, o.Calls)
	if o.Visits != (Visits{}) {
		s.Visits = o.Visits
	}
	if o.Breaker != nil {
		s.Breaker = o.Breaker
	}
}

// Final is an actor's last line.
type Final struct {
	Trouble map[string]int  `json:"trouble,omitempty"`
	Stats   json.RawMessage `json:"stats,omitempty"` // the protection's, from the front
	Served  *Served         `json:"served,omitempty"`
	Done    bitmap          `json:"done,omitempty"` // what the dependency has finished

	// Took is how long the front service's handler took, in microseconds by the number
	// of the request; 0: it has not answered.
	Took []int `json:"took,omitempty"`
}

// actor is what every role has: its orders, its scenario and a voice.
type actor struct {
	orders
	scenario *Scenario
	variant  Variant
	wire     wire
	started  <-chan time.Time // measuring starts then
	trouble  trouble
	final    Final

	mu  sync.Mutex // held while writing a line
	out *json.Encoder
}

// emit writes a line. An error means that the parent is gone, and then stdin
// ends too, which is what actors watch.
func (a *actor) emit(e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.out.Encode(e)
}

// complain does what is done on the side, and tells the parent if that fails.
func (a *actor) complain(do func() error) {
	if err := do(); err != nil {
		a.emit(event{Error: err.Error()})
	}
}

// await returns the start of measuring, false if ctx ended first.
func (a *actor) await(ctx context.Context) (zero time.Time, ok bool) {
	select {
	case zero = <-a.started:
		return zero, true
	case <-ctx.Done():
		return zero, false
	}
}

// act plays a role until stdin ends: a parent that dies, however it dies,
// leaves no process behind.
func act(role string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &actor{out: json.NewEncoder(stdout)}
	if err := a.play(role, stdin); err != nil {
		a.emit(event{Error: err.Error()})
		_, _ = fmt.Fprintf(stderr, "storm %s: %v\n", role, err)
		return exitUsage
	}
	a.final.Trouble = a.trouble.all()
	a.emit(event{Final: &a.final})
	return exitKept
}

func (a *actor) play(role string, stdin io.Reader) error {
	perform := part(role)
	if perform == nil {
		return fmt.Errorf("no role %q", role)
	}
	lines := json.NewDecoder(stdin)
	if err := lines.Decode(&a.orders); err != nil {
		return fmt.Errorf("reading orders: %w", err)
	}
	a.scenario = find(a.Scenario)
	if a.scenario == nil {
		return fmt.Errorf("no scenario %q", a.Scenario)
	}
	var err error
	if a.scenario, err = a.scenario.over(a.Transport); err != nil {
		return err
	}
	a.scenario = a.scenario.with(a.Redis)
	if a.variant, err = a.scenario.variant(a.Variant); err != nil {
		return err
	}
	if a.wire, err = wireOf(a.scenario.Topology); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.started = listenForStart(lines, cancel)
	return perform(ctx, a)
}

// listenForStart delivers the start when it is announced, and cancels when
// the lines end.
func listenForStart(lines *json.Decoder, cancel context.CancelFunc) <-chan time.Time {
	started := make(chan time.Time, 1)
	go func() {
		defer cancel()
		var s start
		if lines.Decode(&s) != nil {
			return
		}
		// Of the two clocks only the monotonic one is good for measuring.
		started <- time.Now().Add(time.Until(s.Zero))
		_ = lines.Decode(&s)
	}()
	return started
}
