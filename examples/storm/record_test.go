package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// example is a complete record of eight ticks of ten requests, half of them
// dependent, all live after 10 ms but for what spoil makes of them.
func example(variant string, spoil ...func(i int, at time.Duration, o *Outcome)) *Record {
	var plan []Arrival
	for i := range 80 {
		at := time.Duration(i) * 10 * time.Millisecond
		plan = append(plan, Arrival{At: at, Kind: i % 2})
	}
	r := newRecord(squall, variant, plan, squall.Duration)
	r.Through = r.Length
	for i := range plan {
		r.Outcomes[i] = Outcome{Index: i, Latency: 10 * time.Millisecond, Result: Live}
		for _, f := range spoil {
			f(i, plan[i].At, &r.Outcomes[i])
		}
	}
	return r
}

// staleBetween makes the dependent requests of [from, until) stale.
func staleBetween(from, until time.Duration) func(int, time.Duration, *Outcome) {
	return func(i int, at time.Duration, o *Outcome) {
		if i%2 == 0 && at >= from && at < until {
			o.Result = Stale
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	tests := []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 0.5, 0},
		{hundred[:1], 0.5, 1},
		{hundred[:1], 0.99, 1},
		{hundred[:2], 0.5, 1},
		{hundred[:3], 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
	}
	for _, tt := range tests {
		if got := percentile(tt.sorted, tt.p); got != tt.want {
			t.Errorf("percentile %v of %d values = %d, want %d", tt.p, len(tt.sorted), got, tt.want)
		}
	}
}

func TestTick(t *testing.T) {
	r := example("bare", func(i int, _ time.Duration, o *Outcome) {
		switch i { // All in the third tick.
		case 20:
			o.Result = Stale
		case 21:
			*o = Outcome{Index: i, Latency: 300 * time.Millisecond, Result: Late}
		case 22:
			*o = Outcome{Index: i, Latency: time.Millisecond, Result: Failed}
		}
	})
	// From two processes, in any order.
	r.add(event{Sample: &Sample{Tick: 2, Calls: 6}})
	r.add(event{Sample: &Sample{
		Tick: 2, Goroutines: 5, ConnsIn: 3, ConnsOut: 2, Breaker: []string{"open"},
	}})
	r.add(event{Sample: &Sample{Tick: 8, Calls: 1}}) // after the end
	got := fmt.Sprintf("%+v", r.tick(2))
	want := fmt.Sprintf("%+v", Tick{
		Scenario: "squall", Variant: "bare", At: Millis(200 * time.Millisecond), Phase: "hang",
		Span: Span{
			Offered: 10, Good: 8, Live: 7, Stale: 1, Late: 1, Failed: 1, Dependent: 5, Served: 3,
			P50: Millis(10 * time.Millisecond), P99: Millis(300 * time.Millisecond),
			Max: Millis(300 * time.Millisecond), AnsweredP99: Millis(10 * time.Millisecond),
			UnansweredP50: Millis(time.Millisecond),
		},
		Goroutines: 5, ConnsIn: 3, ConnsOut: 2, Breaker: []string{"open"}, Calls: 6,
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if calls := r.calls(); calls != 6 {
		t.Errorf("%d calls, want 6", calls)
	}
}

func TestKinds(t *testing.T) {
	r := example("bare", func(i int, _ time.Duration, o *Outcome) {
		switch {
		case i%2 == 0:
			o.Latency = time.Second
		case i < 10:
			o.Result, o.Told = Refused, i < 4
		}
	})
	all := r.span(0, r.Length)
	one, other := r.span(0, r.Length, kindDependent), r.span(0, r.Length, kindLocal)
	both := r.span(0, r.Length, kindDependent, kindLocal)
	if all != both || all.Offered != 80 || all.Good != 75 || all.Refused != 5 || all.errors() != 0 {
		t.Errorf("all are %+v, both are %+v", all, both)
	}
	if one.Offered != 40 || one.Dependent != 40 || one.Good != 40 ||
		one.P99 != Millis(time.Second) {
		t.Errorf("the one kind is %+v", one)
	}
	if other.Dependent != 0 || other.Refused != 5 || other.P99 != Millis(10*time.Millisecond) {
		t.Errorf("the other kind is %+v", other)
	}
	if told := r.told(0, r.Length, kindLocal); told != 40 {
		t.Errorf("%v %% of the refused were told, want 2 of 5", told)
	}
	if told := r.toldNo(); told != 10*time.Millisecond {
		t.Errorf("they knew after %v", told)
	}
}

// Quick refusals hide neither how long answers take, nor what of that is the handler's.
func TestSpanApart(t *testing.T) {
	r := example("bare", func(i int, _ time.Duration, o *Outcome) {
		o.Latency = 100 * time.Millisecond
		switch i % 4 {
		case 0:
			o.Result, o.Latency = Refused, 2*time.Millisecond
		case 1:
			o.Result = Dimmed
		case 2:
			o.Result, o.Latency = Late, time.Second
		}
	})
	took := make([]int, 78) // The last two are not among them.
	for i := range took {
		took[i] = 80_000
	}
	r.Capacity = 100
	r.add(event{Final: &Final{Took: took}})
	got := r.span(0, r.Length)
	if got.Good != 40 || got.Dimmed != 20 || got.Live != 20 || got.Refused != 20 ||
		got.AnsweredP99 != Millis(100*time.Millisecond) ||
		got.HandlerP99 != Millis(80*time.Millisecond) ||
		got.RefusedP50 != Millis(2*time.Millisecond) ||
		got.UnansweredP50 != Millis(2*time.Millisecond) {
		t.Errorf("got %+v", got)
	}
	if rate := r.rate(0, r.Length); rate != 50 {
		t.Errorf("goodput is %v %% of the capacity, want 40 in 0.8 s of 100 a second", rate)
	}
	if local := r.rate(0, r.Length, kindLocal); local != 50 {
		t.Errorf("that of a kind is %v %%", local)
	}
}

func TestClosed(t *testing.T) {
	r := example("bare")
	if got := r.closed(); got != 100 {
		t.Errorf("without a breaker %v %% are closed", got)
	}
	for i, states := range [][]string{{"closed"}, {"closed", "open"}, {"open"}, {"half-open"}} {
		r.Samples[i].Breaker = states
	}
	if got := r.closed(); got != 62.5 {
		t.Errorf("%v %% are closed, want 5 of 8", got)
	}
}

func TestAttemptsOf(t *testing.T) {
	if got := attemptsOf([]byte(`{"Calls": 20, "Attempts": 23}`)); got != 1.15 {
		t.Errorf("%v attempts for each call, want 1.15", got)
	}
	if got := attemptsOf(nil); !math.IsNaN(got) {
		t.Errorf("nobody has counted, and it is %v", got)
	}
}

// Who answers nothing is not quick.
func TestOfCalm(t *testing.T) {
	for _, figure := range []func(storm, calm Span) float64{ofCalm, ofHandler} {
		if got := figure(Span{}, Span{Good: 1, AnsweredP99: 1}); !math.IsInf(got, 1) {
			t.Errorf("without an answer it is %v", got)
		}
	}
	storm := Span{Good: 1, AnsweredP99: 60, HandlerP99: 40}
	if got := ofCalm(storm, Span{AnsweredP99: 20, HandlerP99: 10}); got != 3 {
		t.Errorf("%v times that of the calm, want 3", got)
	}
	if got := ofHandler(storm, Span{}); got != 1.5 {
		t.Errorf("%v times that of the handler, want 1.5", got)
	}
}

func TestBusiest(t *testing.T) {
	r := example("bare")
	for i, calls := range []int{3, 1, 4, 1, 5, 9, 2, 6} {
		r.add(event{Sample: &Sample{Tick: i, Calls: calls, AtOnce: calls / 2}})
	}
	for window, want := range map[time.Duration]int{
		time.Millisecond: 9, 100 * time.Millisecond: 9, 150 * time.Millisecond: 14,
		300 * time.Millisecond: 17, 400 * time.Millisecond: 22, time.Minute: 31,
	} {
		if got := r.busiest(window); got != want {
			t.Errorf("%d calls in the busiest %v, want %d", got, window, want)
		}
	}
	if got := r.atOnce(); got != 4 {
		t.Errorf("%d calls at once, want 4", got)
	}
}

// Accepted and done are looked at request by request: one that is done twice does not
// make up for one that is lost.
func TestKept(t *testing.T) {
	r := example("bare", func(i int, _ time.Duration, o *Outcome) {
		if i < 40 {
			o.Result = Refused
		}
	})
	var done bitmap
	for i := range uint64(76) {
		done.set(i)
	}
	stats := []byte(`{"Rejected": 50}`)
	r.add(event{Final: &Final{Done: done, Served: &Served{}, Stats: stats}})
	if kept := r.kept(); kept != 90 {
		t.Errorf("%v %% were kept, want 36 of 40", kept)
	}
	if counted := r.counted(); counted != 80 {
		t.Errorf("%v %% were counted, want 40 for 50", counted)
	}
}

func TestTicksOfPartialRun(t *testing.T) {
	r := example("bare")
	r.Through = 350 * time.Millisecond
	if got := len(r.ticks()); got != 3 {
		t.Errorf("%d ticks are complete, want 3", got)
	}
}

func TestRecovery(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name  string
		spoil func(int, time.Duration, *Outcome)
		took  time.Duration
		never bool
	}{
		{"at once", staleBetween(200*ms, 500*ms), 0, false},
		{"one tick later", staleBetween(200*ms, 600*ms), 100 * ms, false},
		{"in the middle of a tick", staleBetween(200*ms, 550*ms), 100 * ms, false},
		{"a relapse", staleBetween(700*ms, 710*ms), 0, true},
		{"never", staleBetween(200*ms, 800*ms), 0, true},
	}
	for _, tt := range tests {
		took, ok := example("bare", tt.spoil).recovery(500 * ms)
		if took != tt.took || ok == tt.never {
			t.Errorf("%s: %v, %t; want %v, %t", tt.name, took, ok, tt.took, !tt.never)
		}
	}
}

func TestInvalid(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Record)
		want  string
	}{
		{"as it should be", func(*Record) {}, ""},
		{"a few laggards", func(r *Record) { r.Outcomes[0].Lag = time.Second }, "lagged"},
		{"lag within the limit", func(r *Record) {
			for i := range r.Outcomes {
				r.Outcomes[i].Lag = lagLimit
			}
		}, ""},
		{"files", func(r *Record) {
			r.add(event{Final: &Final{Trouble: map[string]int{"too many open files": 2}}})
		}, "bare: too many open files (2 times)"},
		{"cap", func(r *Record) {
			r.add(event{Final: &Final{Trouble: map[string]int{capReached: 1}}})
		}, "bare: in-flight cap reached (1 time)"},
	}
	for _, tt := range tests {
		r := example("bare")
		tt.spoil(r)
		got := strings.Join(invalid([]*Record{example("tuned"), r}), ", ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestConclude(t *testing.T) {
	late := func(_ int, _ time.Duration, o *Outcome) { o.Result = Late }
	s := *squall
	s.Promises = []Promise{{
		Text: "answered", Unit: "%", AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(0, own.Length)
			return percent(t.Good, t.Offered)
		},
	}, {
		Text: "errors, of bare's", Unit: "%", AtMost: 100,
		Value: func(own, bare *Record) float64 {
			own1, bare1 := own.span(0, own.Length), bare.span(0, bare.Length)
			return 100 * float64(own1.errors()) / max(float64(bare1.errors()), 1)
		},
	}}
	tests := []struct {
		name        string
		bare, guard *Record
		code        int
		says        string
	}{
		{"kept", example("bare", late), example("stormjib"), exitKept, "KEPT"},
		{"broken", example("bare", late), example("stormjib", late), exitBroken, "BROKEN"},
		{"shows nothing", example("bare"), example("stormjib"), exitBroken, "SHOWS NOTHING"},
	}
	for _, tt := range tests {
		code, why := conclude(judge(&s, []*Record{tt.bare, tt.guard}))
		if code != tt.code || !strings.HasPrefix(why, tt.says) {
			t.Errorf("%s: %d, %q", tt.name, code, why)
		}
	}
}

// A premise is about bare, and no promise of anybody else.
func TestPremise(t *testing.T) {
	late := func(_ int, _ time.Duration, o *Outcome) { o.Result = Late }
	good := func(own, _ *Record) float64 {
		t := own.span(0, own.Length)
		return percent(t.Good, t.Offered)
	}
	s := *squall
	s.Promises = []Promise{
		{Text: "answered", Unit: "%", AtLeast: 99, Value: good},
		{Text: "answered", Unit: "%", AtMost: 20, Value: good, Premise: true},
	}
	half := func(i int, at time.Duration, o *Outcome) {
		if i%4 < 2 {
			late(i, at, o)
		}
	}
	tests := []struct {
		name string
		bare *Record
		code int
		says string
	}{
		{"bare suffers", example("bare", late), exitKept, "KEPT"},
		{"bare suffers too little", example("bare", half), exitBroken, "SHOWS NOTHING"},
	}
	for _, tt := range tests {
		verdicts := judge(&s, []*Record{tt.bare, example("stormjib")})
		if code, why := conclude(verdicts); code != tt.code || !strings.HasPrefix(why, tt.says) {
			t.Errorf("%s: %d, %q", tt.name, code, why)
		}
		if _, judged := verdicts[1].Values["stormjib"]; judged || !verdicts[1].Premise {
			t.Errorf("%s: the premise is held against others: %+v", tt.name, verdicts[1])
		}
	}
}

func TestPromiseNever(t *testing.T) {
	for _, p := range []Promise{{AtMost: 7}, {AtLeast: 7}} {
		if p.kept(math.NaN()) {
			t.Errorf("%s is kept by what is no number", p.target())
		}
	}
	if (Promise{AtMost: 7}).kept(math.Inf(1)) {
		t.Error("never is within 7")
	}
	if text, err := Number(math.Inf(1)).MarshalJSON(); string(text) != "null" || err != nil {
		t.Errorf("never is %s, %v in JSON, want null", text, err)
	}
}

// What is piped is plain: letters, digits, lines, nothing that moves a cursor.
func TestPlainText(t *testing.T) {
	var out bytes.Buffer
	r := newScenarioReport(squall, squall.Duration)
	stale := staleBetween(0, 100*time.Millisecond)
	refuse := func(i int, _ time.Duration, o *Outcome) {
		if i%2 == 1 {
			o.Result = Refused
		}
	}
	records := []*Record{example("bare"), example("stormjib", stale, refuse)}
	for i := range records[1].Samples {
		records[1].Samples[i].Breaker = []string{"open", "half-open"}
	}
	show := newScreen(&out)
	show.open(r)
	r.calibrated(400)
	show.calibrated(r)
	for _, record := range records {
		for _, tick := range record.ticks() {
			show.tick(tick)
		}
	}
	r.take(records)
	r.Valid, r.Promises = true, judge(squall, records)
	show.repeat([]string{"bare: a reason"})
	show.close(r)
	show.interrupted(r)
	for _, c := range out.String() {
		if c != '\n' && (c < ' ' || c > '~') {
			t.Fatalf("%q in\n%s", c, &out)
		}
	}
	for _, want := range []string{
		"|c|h||after", "HHHHHHHH", "88888888", "a reason", "PARTIAL",
		"stormjib  goodput   44444444", "refused   44444444",
		"local             40   0.00 %   0.00 % 100.00 %",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

// The kinds have lines of their own where that is more than the variants' say.
func TestScreenKinds(t *testing.T) {
	refuse := func(_ int, _ time.Duration, o *Outcome) { o.Result = Refused }
	single := *squall
	single.Topology.Kinds = nil
	surging := *squall
	surging.Faults = []Fault{{Mode: Surge, Kind: kindLocal, Until: time.Second, Times: 10}}
	tests := []struct {
		scenario *Scenario
		record   *Record
		lines    int
		surge    bool
	}{
		{squall, example("bare"), 2, false},
		{&surging, example("bare"), 2, true},
		{&single, example("bare"), 0, false},
		{&single, example("bare", refuse), 1, false},
	}
	for i, tt := range tests {
		var out bytes.Buffer
		tt.record.Scenario = tt.scenario
		for i := range tt.record.Plan {
			tt.record.Plan[i].Kind %= len(tt.scenario.Topology.kinds())
		}
		show := newScreen(&out)
		r := newScenarioReport(tt.scenario, squall.Duration)
		show.scenario = tt.scenario
		show.calibrated(r)
		if surge := strings.Contains(out.String(), "10 times as much of local"); surge != tt.surge {
			t.Errorf("%d: the surge is told: %t; want %t", i, surge, tt.surge)
		}
		out.Reset()
		r.take([]*Record{tt.record})
		show.kinds(r)
		if lines := max(0, strings.Count(out.String(), "\n")-2); lines != tt.lines {
			t.Errorf("%d: %d lines, want %d:\n%s", i, lines, tt.lines, &out)
		}
		if n := len(r.Variants[0].Kinds); tt.lines == 2 && r.Variants[0].Kinds[n-1].Offered != 40 {
			t.Errorf("%d: the kinds are %+v", i, r.Variants[0].Kinds)
		}
	}
}

// A load in steps has a line for each stretch.
func TestScreenPhases(t *testing.T) {
	steps := *squall
	steps.Faults = nil
	steps.Load = []Load{{Multiple: 0.5}, {From: 200 * time.Millisecond, Multiple: 2}}
	for s, want := range map[*Scenario]int{squall: 0, &steps: 2} {
		var out bytes.Buffer
		show, r := newScreen(&out), newScenarioReport(s, s.Duration)
		record := example("bare")
		record.Scenario, show.scenario = s, s
		r.take([]*Record{record})
		show.phases(r)
		if lines := max(0, strings.Count(out.String(), "\n")-2); lines != want {
			t.Errorf("%d lines, want %d:\n%s", lines, want, &out)
		}
		if want > 0 && !strings.Contains(out.String(), "2x              100.0     100.0") {
			t.Errorf("no line of the second stretch in\n%s", &out)
		}
	}
}

func TestLevels(t *testing.T) {
	if share(0, 100) != 0 || share(1, 100) != 1 || share(99, 100) != 7 || share(100, 100) != 8 {
		t.Error("a share of one in a hundred, and of all but one, must be told from none and all")
	}
	for _, tt := range []struct {
		d    time.Duration
		want int
	}{
		{0, 0},
		{time.Millisecond, 1},
		{100 * time.Millisecond, 5},
		{time.Second, 8},
		{time.Hour, 8},
	} {
		if got := magnitude(tt.d, time.Second); got != tt.want {
			t.Errorf("magnitude(%v) = %d, want %d", tt.d, got, tt.want)
		}
	}
}
