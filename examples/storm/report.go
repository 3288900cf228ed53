package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// Report is what -json writes: all that was configured and measured, down to
// every request, so that a promise can be judged without trusting the judge.
type Report struct {
	Go        string           `json:"go"`
	Platform  string           `json:"platform"`
	CPUs      int              `json:"cpus"`
	Started   time.Time        `json:"started"`
	Seed      uint64           `json:"seed"`
	Scenarios []ScenarioReport `json:"scenarios"`
	Partial   bool             `json:"partial"` // interrupted
	Error     string           `json:"error,omitempty"`
	Exit      int              `json:"exit"`
}

// ScenarioReport is one scenario's part of the report.
type ScenarioReport struct {
	Name     string          `json:"name"`
	Shows    string          `json:"shows"`
	Note     string          `json:"note,omitempty"`
	Topology Topology        `json:"topology"`
	Service  Millis          `json:"service_ms"`
	Kinds    []KindReport    `json:"kinds"`
	Patience Millis          `json:"patience_ms"`
	Warmup   Millis          `json:"warmup_ms"`
	Duration Millis          `json:"duration_ms"`
	Tick     Millis          `json:"tick_ms"`
	Capacity float64         `json:"capacity_per_s"`
	Load     []LoadReport    `json:"load"`
	Faults   []FaultReport   `json:"faults"`
	Invalid  [][]string      `json:"invalid"` // the reasons of each attempt that did not count
	Valid    bool            `json:"valid"`
	Variants []VariantReport `json:"variants"`
	Promises []Verdict       `json:"promises,omitempty"`
	Verdict  string          `json:"verdict"`

	scenario *Scenario
	records  []*Record
	exit     int
}

// KindReport is a kind of request.
type KindReport struct {
	Kind
	Work Millis `json:"work_ms"`
}

// LoadReport is a step of the load curve.
type LoadReport struct {
	From     Millis  `json:"from_ms"`
	Multiple float64 `json:"multiple"`
	PerS     float64 `json:"per_s"`
}

// FaultReport is a stretch of the fault curve.
type FaultReport struct {
	Mode  Mode    `json:"mode"`
	From  Millis  `json:"from_ms"`
	Until Millis  `json:"until_ms"`
	Kind  string  `json:"kind,omitempty"` // all, if it is missing
	Slots int     `json:"slots,omitempty"`
	Times float64 `json:"times,omitempty"`
}

// VariantReport is one variant's part.
type VariantReport struct {
	Name       string          `json:"name"`
	About      string          `json:"about"`
	Measured   Millis          `json:"measured_ms"` // the duration, unless cut short
	Total      Span            `json:"total"`
	Kinds      []Span          `json:"kinds"` // the total of each
	Phases     []PhaseReport   `json:"phases"`
	Shards     []ShardReport   `json:"shards,omitempty"`
	LagP99     Millis          `json:"lag_p99_ms"`
	Goroutines int             `json:"goroutines_peak"`
	Conns      int             `json:"conns_peak"`
	AtOnce     int             `json:"at_once_peak"` // calls under way
	Recovery   *float64        `json:"recovery_s"`   // null: not within the run, or no fault
	Trouble    map[string]int  `json:"trouble"`
	Calls      int             `json:"calls"` // that reached the dependency while measuring
	Dependency *Served         `json:"dependency"`
	Stats      json.RawMessage `json:"stats,omitempty"` // the protection's own
	Ticks      []Tick          `json:"ticks"`
	Requests   Requests        `json:"requests"`
}

// PhaseReport sums up a stretch of the run between two changes of the fault.
type PhaseReport struct {
	Phase string `json:"phase"`
	From  Millis `json:"from_ms"`
	Until Millis `json:"until_ms"`
	Span
	Calls int `json:"calls"` // of the dependency, and visits of the nodes: of whole ticks
	Visits
}

// Requests are the settled requests of a run in the order of the schedule, a
// column each; the letters of Result are l live, s stale, d dimmed, t timed out, e error
// and r refused.
type Requests struct {
	At      []int64 `json:"at_us"`
	Latency []int64 `json:"latency_us"`
	Lag     []int64 `json:"lag_us"`
	Kind    []int   `json:"kind"` // in the scenario's
	Result  string  `json:"result"`
	Handler []int64 `json:"handler_us"` // its own time, 0 if it did not answer
	Told    string  `json:"told"`       // y or n: refused, and told when to come back
	Done    string  `json:"done"`       // y or n: the dependency has finished its work
}

func newReport(seed uint64) *Report {
	return &Report{
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Started:  time.Now(),
		Seed:     seed,
	}
}

func newScenarioReport(s *Scenario, length time.Duration) *ScenarioReport {
	r := &ScenarioReport{
		Name:     s.Name,
		Shows:    s.Shows,
		Note:     s.Note,
		Topology: s.Topology,
		Service:  Millis(s.Topology.Service),
		Patience: Millis(s.Topology.Patience),
		Warmup:   Millis(s.Warmup),
		Duration: Millis(length),
		Tick:     Millis(s.Tick),
		Invalid:  [][]string{},
		scenario: s,
	}
	for _, f := range s.Faults {
		r.Faults = append(r.Faults, FaultReport{
			f.Mode, Millis(f.From), Millis(f.Until), f.Kind, f.Slots, f.Times,
		})
	}
	for _, k := range s.Topology.kinds() {
		r.Kinds = append(r.Kinds, KindReport{k, Millis(k.Work)})
	}
	return r
}

// calibrated completes the load, which is known in multiples until then.
func (r *ScenarioReport) calibrated(capacity float64) {
	r.Capacity = capacity
	for _, l := range r.scenario.Load {
		r.Load = append(r.Load, LoadReport{Millis(l.From), l.Multiple, l.Multiple * capacity})
	}
}

// take replaces the variants with those of the latest attempt.
func (r *ScenarioReport) take(records []*Record) {
	r.records, r.Variants = records, nil
	for i, record := range records {
		r.Variants = append(r.Variants, newVariantReport(r.scenario.Variants[i], record))
	}
}

func newVariantReport(v Variant, r *Record) VariantReport {
	report := VariantReport{
		Name:       v.Name,
		About:      v.About,
		Measured:   Millis(r.Through),
		Total:      r.span(0, r.Through),
		Phases:     r.phases(),
		Shards:     r.shards(),
		LagP99:     Millis(r.lag()),
		Goroutines: r.goroutines(),
		Conns:      r.conns(),
		AtOnce:     r.atOnce(),
		Trouble:    r.Trouble,
		Calls:      r.calls(),
		Dependency: r.Served,
		Stats:      r.Stats,
		Ticks:      r.ticks(),
		Requests:   r.requests(),
	}
	for _, k := range r.Scenario.Topology.kinds() {
		report.Kinds = append(report.Kinds, r.span(0, r.Through, k.Name))
	}
	ended := r.Scenario.lastFault()
	if took, ok := r.recovery(ended); ok && ended != 0 {
		seconds := took.Seconds()
		report.Recovery = &seconds
	}
	return report
}

// phases sums up what is settled, phase by phase.
func (r *Record) phases() []PhaseReport {
	var phases []PhaseReport
	from := time.Duration(0)
	for _, until := range append(r.Scenario.changes(), r.Through) {
		if until = min(until, r.Through); until > from {
			seen := r.seen(from, until)
			phases = append(phases, PhaseReport{
				r.Scenario.phase(from), Millis(from), Millis(until), r.span(from, until),
				seen.Calls, seen.Visits,
			})
			from = until
		}
	}
	return phases
}

func (r *Record) requests() Requests {
	var columns Requests
	var result, told, done strings.Builder
	for i, o := range r.Outcomes {
		if o.Result == "" {
			continue
		}
		columns.At = append(columns.At, r.Plan[i].At.Microseconds())
		columns.Latency = append(columns.Latency, o.Latency.Microseconds())
		columns.Lag = append(columns.Lag, o.Lag.Microseconds())
		columns.Kind = append(columns.Kind, r.Plan[i].Kind)
		columns.Handler = append(columns.Handler, r.took(i).Microseconds())
		result.WriteString(string(o.Result))
		told.WriteByte(letter(o.Told))
		done.WriteByte(letter(r.Done.has(uint64(i))))
	}
	columns.Result, columns.Told, columns.Done = result.String(), told.String(), done.String()
	return columns
}

func letter(yes bool) byte {
	if yes {
		return 'y'
	}
	return 'n'
}

// openReport opens the file before anything runs: a minute of storm is not to
// be lost to a mistyped path. No name, no report: it is written to nowhere.
func openReport(name string, stdout io.Writer) (io.WriteCloser, error) {
	switch name {
	case "":
		return nopCloser{io.Discard}, nil
	case "-":
		return nopCloser{stdout}, nil
	}
	return os.Create(name)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// write ends the report's file with the report in it.
func (r *Report) write(file io.WriteCloser) error {
	err := json.NewEncoder(file).Encode(r)
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// attempts is how often a scenario may run until one of its runs is valid.
const attempts = 3

// tour runs the scenarios one after another. It stops at the first that could
// not run; a broken promise does not stop it.
func tour(ctx context.Context, set *settings, screen *screen) *Report {
	report := newReport(set.seed)
	for _, s := range set.scenarios {
		length := s.Duration
		if set.duration != 0 {
			length = set.duration
		}
		part := newScenarioReport(s, length)
		err := part.run(ctx, set.seed, screen)
		report.Scenarios = append(report.Scenarios, *part)
		switch {
		case ctx.Err() != nil:
			report.Partial, report.Exit = true, exitInterrupted
			return report
		case err != nil:
			report.Error, report.Exit = err.Error(), exitUsage
			return report
		}
		report.Exit = max(report.Exit, part.exit)
	}
	return report
}

// run measures one scenario, shows it and reaches its verdict.
func (r *ScenarioReport) run(ctx context.Context, seed uint64, screen *screen) error {
	screen.open(r)
	capacity, err := calibrate(ctx, r.scenario, seed)
	if ctx.Err() != nil {
		screen.interrupted(r)
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	r.calibrated(capacity)
	screen.calibrated(r)
	length := time.Duration(r.Duration)
	for range attempts {
		t := &trial{
			scenario: r.scenario, capacity: capacity, length: length, seed: seed, show: screen.tick,
		}
		records, err := t.play(ctx)
		r.take(records)
		if err != nil {
			screen.interrupted(r)
			return err
		}
		reasons := invalid(records)
		if len(reasons) == 0 {
			r.Valid = true
			r.Promises = judge(r.scenario, records)
			r.exit, r.Verdict = conclude(r.Promises)
			screen.close(r)
			return nil
		}
		r.Invalid = append(r.Invalid, reasons)
		screen.repeat(reasons)
	}
	r.exit, r.Verdict = exitInvalid, fmt.Sprintf("INVALID: no valid run in %d attempts", attempts)
	screen.close(r)
	return nil
}

// invalid returns why the run of these records must not count.
func invalid(records []*Record) []string {
	var reasons []string
	for _, r := range records {
		reasons = append(reasons, r.invalid()...)
	}
	return reasons
}
