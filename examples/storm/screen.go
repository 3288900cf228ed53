package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// screen shows a storm in a terminal, or as plain text where its output goes
// anywhere else: no escape codes, no line written twice.
type screen struct {
	out      io.Writer
	terminal bool
	scenario *Scenario
	ticks    map[Millis][]Tick // by time, until every variant has reached it
}

// newScreen finds out whether out is a terminal.
func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

func (s *screen) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format, args...)
}

// open says what is about to be shown and what is promised.
func (s *screen) open(r *ScenarioReport) {
	s.scenario, s.ticks = r.scenario, make(map[Millis][]Tick)
	t := r.scenario.Topology
	s.printf("%s: %s\n\n", r.Name, r.Shows)
	for _, v := range r.scenario.Variants {
		s.printf("  %-9s %s\n", v.Name, v.About)
	}
	fallback := "without a fallback"
	if t.Stale {
		fallback = "a stale copy as fallback included"
	}
	s.printf("\nThe handler is the same for all, %s. Users wait %v.\n%s promises:\n",
		fallback, t.Patience, mainName)
	for i, p := range r.scenario.Promises {
		text := p.Text
		if p.Premise {
			text = "and it shows that of " + bareName + ", " + text
		}
		s.printf("  %d. %s: %s\n", i+1, text, p.target())
	}
	if r.Note != "" {
		s.printf("Note: %s.\n", r.Note)
	}
	s.printf("\n")
}

func (p Promise) target() string {
	if p.AtLeast != 0 {
		return fmt.Sprintf("at least %g %s", p.AtLeast, p.Unit)
	}
	return fmt.Sprintf("at most %g %s", p.AtMost, p.Unit)
}

// calibrated says what was measured before the run and what is sent in it.
func (s *screen) calibrated(r *ScenarioReport) {
	t := r.scenario.Topology
	slots := fmt.Sprintf("%d slots", t.Slots)
	if t.Apart {
		slots += " for each of " + strings.Join(t.asked(), ", ")
	}
	s.printf("capacity %.0f req/s measured (%s, %v each on average); offered:",
		r.Capacity, slots, t.Service)
	for _, l := range r.Load {
		s.printf(" %.2f of it, %.0f req/s", l.Multiple, l.PerS)
	}
	for _, f := range r.scenario.Faults {
		if f.Mode == Surge {
			s.printf("\nfrom %v to %v it is %g times as much of %s",
				f.From, f.Until, f.Times, cmp.Or(f.Kind, "all"))
		}
	}
	s.printf("\nwarming up for %v, then measuring %v; %d processes for each variant\n",
		r.scenario.Warmup, time.Duration(r.Duration), len(r.scenario.roles()))
}

// progressEvery is how much of the run a plain-text line of progress covers.
const progressEvery = 2 * time.Second

// tick shows progress: in a terminal in one line, elsewhere a line now and
// then. Variants that run side by side share it, once all have got there.
func (s *screen) tick(t Tick) {
	ticks := append(s.ticks[t.At], t)
	s.ticks[t.At] = ticks
	if len(ticks) < len(s.scenario.Variants) && !s.scenario.OneByOne {
		return
	}
	delete(s.ticks, t.At)
	at := time.Duration(t.At)
	if !s.terminal && at%progressEvery != 0 {
		return
	}
	slices.SortFunc(ticks, func(a, b Tick) int {
		return s.scenario.order(a.Variant) - s.scenario.order(b.Variant)
	})
	var line strings.Builder
	fmt.Fprintf(&line, "%5.1f s  %-7s answered in time:", at.Seconds(), t.Phase)
	for _, t := range ticks {
		fmt.Fprintf(&line, "  %s %3.0f %%", t.Variant, percent(t.Good, t.Offered))
	}
	if s.terminal {
		s.printf("\r\x1b[K%s", &line)
	} else {
		s.printf("%s\n", &line)
	}
}

// endProgress leaves the line of progress behind.
func (s *screen) endProgress() {
	if s.terminal {
		s.printf("\r\x1b[K")
	}
}

func (s *screen) repeat(reasons []string) {
	s.endProgress()
	s.printf("this run is invalid and does not count:\n")
	for _, reason := range reasons {
		s.printf("  %s\n", reason)
	}
}

func (s *screen) interrupted(r *ScenarioReport) {
	s.endProgress()
	s.printf("\nPARTIAL: the run was cut short")
	if len(r.records) == 0 {
		s.printf(" before anything was measured\n")
		return
	}
	s.printf("; what was measured until then:\n")
	s.timelines(r.records)
	s.table(r)
}

// close shows what came out; of a scenario without a valid run, only that.
func (s *screen) close(r *ScenarioReport) {
	s.endProgress()
	if !r.Valid {
		s.printf("\n%s\n\n", r.Verdict)
		return
	}
	s.timelines(r.records)
	s.table(r)
	for i, v := range r.Promises {
		s.printf("%d. %s: %s\n", i+1, v.Text, r.scenario.Promises[i].target())
		var line strings.Builder
		for _, variant := range r.scenario.Variants {
			if v.Premise && variant.Name != bareName {
				continue
			}
			verdict := "broken"
			if v.Kept[variant.Name] {
				verdict = "kept"
			}
			fmt.Fprintf(&line, "   %-8s %8s %-6s", variant.Name, v.Values[variant.Name], verdict)
		}
		s.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
	s.printf("\n%s\n\n", r.Verdict)
}

// table prints a line of figures for each variant.
func (s *screen) table(r *ScenarioReport) {
	s.printf("%-9s %9s %8s %7s %7s %7s %7s %8s %6s %7s %11s %6s %7s\n", "", "goodput/s",
		"success", "live", "p50", "p99", "max", "recovery", "calls", "at once", "goroutines",
		"conns", "lag p99")
	for _, v := range r.Variants {
		t := v.Total
		recovery := "never"
		switch {
		case v.Recovery != nil:
			recovery = fmt.Sprintf("%.1f s", *v.Recovery)
		case v.Measured < r.Duration, r.scenario.lastFault() == 0:
			recovery = "-"
		}
		seconds := time.Duration(v.Measured).Seconds()
		s.printf("%-9s %9.1f %6.2f %% %5.1f %% %7s %7s %7s %8s %6.2f %7d %11d %6d %7s\n",
			v.Name, ratio(float64(t.Good), seconds), percent(t.Good, t.Offered),
			percent(t.Live, t.Offered), short(time.Duration(t.P50)), short(time.Duration(t.P99)),
			short(time.Duration(t.Max)), recovery,
			ratio(float64(v.Calls), float64(t.Dependent)), v.AtOnce, v.Goroutines, v.Conns,
			short(time.Duration(v.LagP99)))
	}
	s.printf("\n")
	s.kinds(r)
	s.phases(r)
	s.fleet(r)
	s.shards(r)
}

// kinds prints a line for each kind of request in each variant, where there is more to
// tell than the line of the variant does.
func (s *screen) kinds(r *ScenarioReport) {
	more := slices.ContainsFunc(r.Variants, func(v VariantReport) bool {
		return v.Total.Refused > 0 || v.Total.Dimmed > 0
	})
	if len(r.Kinds) == 1 && !more {
		return
	}
	s.printf("%-9s %-10s %9s %8s %8s %8s %8s %8s %7s %7s %7s\n", "", "kind", "offered",
		"success", "dimmed", "refused", "late", "failed", "p50", "p99", "max")
	for _, v := range r.Variants {
		name := v.Name
		for i, t := range v.Kinds {
			s.printf("%-9s %-10s %9d %6.2f %% %6.2f %% %6.2f %% %6.2f %% %6.2f %% %7s %7s %7s\n",
				name, r.Kinds[i].Name, t.Offered, percent(t.Good, t.Offered),
				percent(t.Dimmed, t.Offered), percent(t.Refused, t.Offered),
				percent(t.Late, t.Offered),
				percent(t.Failed, t.Offered), short(time.Duration(t.P50)),
				short(time.Duration(t.P99)), short(time.Duration(t.Max)))
			name = ""
		}
	}
	s.printf("\n")
}

// phases prints a line for each stretch of the run in each variant, where the load changes.
// What the users see of a server is beside what its handler sees: a wait before the handler
// is nothing that a bound inside of it would know of.
func (s *screen) phases(r *ScenarioReport) {
	if len(r.scenario.Load) < 2 {
		return
	}
	s.printf("%-9s %-10s %10s %9s %8s %11s %11s %11s\n", "", "stretch", "offered/s",
		"goodput/s", "success", "p99 of good", "handler's", "p50 refused")
	for _, v := range r.Variants {
		name := v.Name
		for _, p := range v.Phases {
			seconds := time.Duration(p.Until - p.From).Seconds()
			s.printf("%-9s %-10s %10.1f %9.1f %6.2f %% %11s %11s %11s\n", name, p.Phase,
				float64(p.Offered)/seconds, float64(p.Good)/seconds, percent(p.Good, p.Offered),
				short(time.Duration(p.AnsweredP99)), short(time.Duration(p.HandlerP99)),
				short(time.Duration(p.RefusedP50)))
			name = ""
		}
	}
	s.printf("\n")
}

// fleet prints a line for each stretch of the run in each variant, where nodes keep pages.
func (s *screen) fleet(r *ScenarioReport) {
	if !r.scenario.Topology.Keeps {
		return
	}
	s.printf("%-9s %-10s %9s %9s %8s %14s %14s\n", "", "stretch", "offered/s", "success",
		"hits", "store calls/s", "busiest node")
	for _, v := range r.Variants {
		name := v.Name
		for _, p := range v.Phases {
			seconds := time.Duration(p.Until - p.From).Seconds()
			s.printf("%-9s %-10s %9.1f %7.2f %% %6.2f %% %14.1f %14d\n", name, p.Phase,
				float64(p.Offered)/seconds, percent(p.Good, p.Offered),
				percent(p.Hits, p.Hits+p.Misses), float64(p.Calls)/seconds, p.Busiest)
			name = ""
		}
	}
	s.printf("\n")
}

// shards prints a line for the tenants of each variant that have as many workers in common
// with the poison, where there is one.
func (s *screen) shards(r *ScenarioReport) {
	if !slices.ContainsFunc(r.Variants, func(v VariantReport) bool { return v.Shards != nil }) {
		return
	}
	s.printf("%-9s %-22s %8s %8s %13s %9s\n", "", "workers in common with", "tenants", "share",
		"below 99 %", "success")
	for _, v := range r.Variants {
		name, all := v.Name, 0
		for _, t := range v.Shards {
			all += t.Tenants
		}
		for _, t := range v.Shards {
			s.printf("%-9s the poison: %-10d %8d %6.1f %% %6d %4.0f %% %7.2f %%\n", name, t.Common,
				t.Tenants, percent(t.Tenants, all), t.Below, percent(t.Below, t.Tenants),
				percent(t.Good, t.Offered))
			name = ""
		}
	}
	s.printf("\n")
}

// short writes a duration with the digits that matter.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

func percent(n, of int) float64 { return 100 * ratio(float64(n), float64(of)) }

// ratio is zero where there is nothing to divide by.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
