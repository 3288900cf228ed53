package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// Record is everything one variant's run left behind.
type Record struct {
	Scenario *Scenario
	Variant  string
	Capacity float64       // requests a second, as calibrated
	Length   time.Duration // measured
	Through  time.Duration // settled so far; Length when the run is complete
	Plan     []Arrival
	Outcomes []Outcome // by arrival; no Result: not settled
	Samples  []Sample  // by tick
	Trouble  map[string]int
	Stats    json.RawMessage
	Served   *Served
	Done     bitmap // the requests whose work the dependency has finished
	Took     []int  // as in Final
}

// Tick is one line of the stream that a run is: whoever shows a storm, be it
// the terminal or a page, reads nothing else while it lasts.
type Tick struct {
	Scenario string `json:"scenario"`
	Variant  string `json:"variant"`
	At       Millis `json:"at_ms"` // its start
	Phase    string `json:"phase"`
	Span
	Goroutines int      `json:"goroutines"` // peaks of the front service
	ConnsIn    int      `json:"conns_in"`
	ConnsOut   int      `json:"conns_out"`
	Breaker    []string `json:"breaker,omitempty"` // states seen, in order
	AtOnce     int      `json:"at_once"`           // calls under way, at peak
	Calls      int      `json:"calls"`             // that reached the dependency
	Visits
}

// Span sums up the requests that were to start within a stretch of time.
type Span struct {
	Offered   int    `json:"offered"`
	Good      int    `json:"goodput"` // live, stale or dimmed
	Live      int    `json:"live"`
	Stale     int    `json:"stale"`
	Dimmed    int    `json:"dimmed"`
	Late      int    `json:"late"`
	Failed    int    `json:"failed"`
	Refused   int    `json:"refused"`
	Dependent int    `json:"dependent"`      // offered and in need of the dependency
	Served    int    `json:"dependent_live"` // of these, answered live
	P50       Millis `json:"p50_ms"`         // over all that were offered
	P99       Millis `json:"p99_ms"`
	Max       Millis `json:"max_ms"`

	// What is refused at once makes the figures over all look good. So these are apart.
	AnsweredP99 Millis `json:"answered_p99_ms"` // over goodput
	HandlerP99  Millis `json:"handler_p99_ms"`  // the same, of the handler's own time
	RefusedP50  Millis `json:"refused_p50_ms"`  // until those who were refused knew

	UnansweredP50 Millis `json:"unanswered_p50_ms"` // until all knew who got no answer
}

// errors counts the requests that were not answered, and not refused either.
func (s *Span) errors() int { return s.Late + s.Failed }

// Millis is a duration that reads as milliseconds in JSON.
type Millis time.Duration

// MarshalJSON writes the milliseconds with microseconds as their fraction.
func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

func newRecord(s *Scenario, variant string, plan []Arrival, length time.Duration) *Record {
	return &Record{
		Scenario: s,
		Variant:  variant,
		Length:   length,
		Plan:     plan,
		Outcomes: make([]Outcome, len(plan)),
		Samples:  make([]Sample, (length+s.Tick-1)/s.Tick),
		Trouble:  make(map[string]int),
	}
}

// add takes what an actor wrote.
func (r *Record) add(e event) {
	for _, o := range e.Outcomes {
		r.Outcomes[o.Index] = o
	}
	if e.Through != nil {
		r.Through = max(r.Through, *e.Through)
	}
	if s := e.Sample; s != nil && s.Tick < len(r.Samples) {
		r.Samples[s.Tick].merge(*s)
	}
	if e.Final == nil {
		return
	}
	for what, n := range e.Final.Trouble {
		r.Trouble[what] += n
	}
	if e.Final.Stats != nil {
		r.Stats = e.Final.Stats
	}
	if e.Final.Took != nil {
		r.Took = e.Final.Took
	}
	if e.Final.Served != nil {
		r.Served = e.Final.Served
		r.Done = e.Final.Done
	}
}

// settled returns the outcomes of the requests that were to start in [from, until),
// of all kinds unless some are named.
func (r *Record) settled(from, until time.Duration, kinds ...string) []Outcome {
	var found []Outcome
	for i, o := range r.Outcomes {
		at := r.Plan[i].At
		if at < from || at >= until || o.Result == "" {
			continue
		}
		if len(kinds) == 0 || slices.Contains(kinds, r.kind(i).Name) {
			found = append(found, o)
		}
	}
	return found
}

// kind returns the kind of arrival i.
func (r *Record) kind(i int) Kind { return r.Scenario.Topology.kinds()[r.Plan[i].Kind] }

// tick sums up the requests that were to start in tick i.
func (r *Record) tick(i int) Tick {
	from := time.Duration(i) * r.Scenario.Tick
	s := r.Samples[i]
	return Tick{
		Scenario:   r.Scenario.Name,
		Variant:    r.Variant,
		At:         Millis(from),
		Phase:      r.Scenario.phase(from),
		Span:       r.span(from, min(from+r.Scenario.Tick, r.Length)),
		Goroutines: s.Goroutines,
		ConnsIn:    s.ConnsIn,
		ConnsOut:   s.ConnsOut,
		Breaker:    s.Breaker,
		AtOnce:     s.AtOnce,
		Calls:      s.Calls,
		Visits:     s.Visits,
	}
}

// complete reports whether every request of tick i is settled.
func (r *Record) complete(i int) bool {
	return min(time.Duration(i+1)*r.Scenario.Tick, r.Length) <= r.Through
}

// ticks returns all that are complete.
func (r *Record) ticks() []Tick {
	var all []Tick
	for i := range r.Samples {
		if r.complete(i) {
			all = append(all, r.tick(i))
		}
	}
	return all
}

// span sums up the requests that were to start in [from, until), of all kinds unless
// some are named.
func (r *Record) span(from, until time.Duration, kinds ...string) Span {
	var s Span
	var latencies, answered, handler, refused, unanswered []time.Duration
	for _, o := range r.settled(from, until, kinds...) {
		latencies = append(latencies, o.Latency)
		s.count(o.Result)
		switch {
		case o.Result.good():
			answered = append(answered, o.Latency)
			handler = append(handler, r.took(o.Index))
		case o.Result == Refused:
			refused = append(refused, o.Latency)
			fallthrough
		default:
			unanswered = append(unanswered, o.Latency)
		}
		if !r.kind(o.Index).Local {
			s.Dependent++
			if o.Result == Live {
				s.Served++
			}
		}
	}
	for _, sorted := range [][]time.Duration{latencies, answered, handler, refused, unanswered} {
		slices.Sort(sorted)
	}
	s.P50 = Millis(percentile(latencies, 0.50))
	s.P99 = Millis(percentile(latencies, 0.99))
	s.Max = Millis(percentile(latencies, 1))
	s.AnsweredP99 = Millis(percentile(answered, 0.99))
	s.HandlerP99 = Millis(percentile(handler, 0.99))
	s.RefusedP50 = Millis(percentile(refused, 0.50))
	s.UnansweredP50 = Millis(percentile(unanswered, 0.50))
	return s
}

// took returns how long the handler took for arrival i, zero if it did not answer.
func (r *Record) took(i int) time.Duration {
	if i >= len(r.Took) {
		return 0
	}
	return time.Duration(r.Took[i]) * time.Microsecond
}

func (s *Span) count(r Result) {
	s.Offered++
	switch r {
	case Live:
		s.Live++
	case Stale:
		s.Stale++
	case Dimmed:
		s.Dimmed++
	case Late:
		s.Late++
	case Failed:
		s.Failed++
	case Refused:
		s.Refused++
	}
	s.Good = s.Live + s.Stale + s.Dimmed
}

// good reports whether r is goodput.
func (r Result) good() bool { return r == Live || r == Stale || r == Dimmed }

// rate returns how many of the requests of a stretch were answered in time, a second, in
// percent of the capacity.
func (r *Record) rate(from, until time.Duration, kinds ...string) float64 {
	good := float64(r.span(from, until, kinds...).Good)
	return 100 * ratio(good, r.Capacity*(until-from).Seconds())
}

// goroutines returns the front service's peak.
func (r *Record) goroutines() int {
	peak := 0
	for _, s := range r.Samples {
		peak = max(peak, s.Goroutines)
	}
	return peak
}

// conns returns the peak of the front service's connections, in and out.
func (r *Record) conns() int {
	peak := 0
	for _, s := range r.Samples {
		peak = max(peak, s.ConnsIn+s.ConnsOut)
	}
	return peak
}

// atOnce returns the most calls of the dependency that were under way together.
func (r *Record) atOnce() int {
	peak := 0
	for _, s := range r.Samples {
		peak = max(peak, s.AtOnce)
	}
	return peak
}

// busiest returns how many calls reached the dependency in the busiest stretch of the
// run that is as long as window, to the next tick.
func (r *Record) busiest(window time.Duration) int {
	most, sum, ticks := 0, 0, int((window+r.Scenario.Tick-1)/r.Scenario.Tick)
	for i, s := range r.Samples {
		if sum += s.Calls; i >= ticks {
			sum -= r.Samples[i-ticks].Calls
		}
		most = max(most, sum)
	}
	return most
}

// calls returns how many calls reached the dependency in the ticks that are
// complete.
func (r *Record) calls() int {
	calls := 0
	for i, s := range r.Samples {
		if r.complete(i) {
			calls += s.Calls
		}
	}
	return calls
}

// lag returns the p99 of how far the generator fell behind its schedule,
// warm-up included.
func (r *Record) lag() time.Duration {
	var lags []time.Duration
	for _, o := range r.settled(-r.Scenario.Warmup, r.Length) {
		lags = append(lags, o.Lag)
	}
	slices.Sort(lags)
	return percentile(lags, 0.99)
}

// fullService is the share of dependent requests answered live that counts as
// recovered.
const fullService = 0.99

// recovery returns the time from the instant a fault ended to the first tick
// since which service has been full: at least 99 % over that tick and the next
// one, and over every later pair. Pairs, since a single tick holds too few
// requests to tell 99 % from one slow answer. False: not within this run.
func (r *Record) recovery(ended time.Duration) (took time.Duration, ok bool) {
	ticks := r.ticks()
	recovered := len(ticks)
	for i := len(ticks) - 2; i >= 0 && time.Duration(ticks[i].At) >= ended; i-- {
		offered := ticks[i].Dependent + ticks[i+1].Dependent
		live := ticks[i].Served + ticks[i+1].Served
		if float64(live) < fullService*float64(offered) {
			break
		}
		recovered = i
	}
	if recovered == len(ticks) {
		return 0, false
	}
	return time.Duration(ticks[recovered].At) - ended, true
}

// percentile returns the nearest-rank percentile of sorted values: one that was
// measured, never one between two. It is zero when there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// lagLimit is the generator's p99 lag above which a run is invalid.
const lagLimit = 5 * time.Millisecond

// invalid returns why the run must not count; nothing if it may.
func (r *Record) invalid() []string {
	var reasons []string
	for what, n := range r.Trouble {
		reasons = append(reasons, r.Variant+": "+what+" ("+plural(n, "time")+")")
	}
	if lag := r.lag(); lag > lagLimit {
		reasons = append(reasons, r.Variant+": the generator lagged "+short(lag)+" at p99")
	}
	slices.SortFunc(reasons, strings.Compare)
	return reasons
}
