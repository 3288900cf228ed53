package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The test binary plays the roles too, as the program does: os.Executable is
// the binary that runs the tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == roleArgument {
		os.Exit(act(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	// Under the race detector a process sleeps for a second before it exits.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// squall is a storm short enough for a test. Its actors find it by name.
var squall = register(&Scenario{
	Name:  "squall",
	Shows: "that the processes find each other",
	Topology: Topology{
		Transport: "http", Slots: 4, Service: 2 * time.Millisecond,
		Patience: 300 * time.Millisecond, InFlight: 1000,
		Kinds: []Kind{
			{Name: kindDependent, Share: 0.5},
			{Name: kindLocal, Share: 0.5, Local: true, Work: time.Millisecond},
		},
	},
	Calibration: 100 * time.Millisecond,
	Warmup:      100 * time.Millisecond,
	Duration:    800 * time.Millisecond,
	Needs:       800 * time.Millisecond,
	Tick:        100 * time.Millisecond,
	Load:        []Load{{Multiple: 0.5}},
	Faults: []Fault{
		{Mode: Hang, From: 200 * time.Millisecond, Until: 400 * time.Millisecond},
		{Mode: Unavailable, From: 400 * time.Millisecond, Until: 500 * time.Millisecond},
	},
	Variants: []Variant{
		{"bare", "", bareOutage},
		{"stormjib", "", stormjibOutage},
	},
	Promises: []Promise{{
		Text: "requests that failed", Unit: "%", AtMost: 100,
		Value: func(own, _ *Record) float64 {
			t := own.span(0, own.Length)
			return percent(t.errors(), t.Offered)
		},
	}},
})

// How requests end here is up to the machine; that each has ended and was
// counted once is not.
func TestPlay(t *testing.T) {
	var shown []Tick
	trial := &trial{
		scenario: squall, capacity: 400, length: squall.Duration, seed: 7,
		show: func(t Tick) { shown = append(shown, t) },
	}
	records, err := trial.play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(shown), 8*len(squall.Variants); got != want {
		t.Errorf("%d ticks were shown, want %d", got, want)
	}
	for _, r := range records {
		if r.Through != r.Length {
			t.Errorf("%s: settled through %v, want %v", r.Variant, r.Through, r.Length)
		}
		for i, o := range r.Outcomes {
			if o.Result == "" || o.Index != i {
				t.Errorf("%s: arrival %d of %d: %+v", r.Variant, i, len(r.Plan), o)
			}
		}
		if r.Served == nil || r.Served.Finished == 0 || r.Served.Reached < r.Served.Finished {
			t.Errorf("%s: the dependency served %+v", r.Variant, r.Served)
		}
		if calls := r.calls(); calls == 0 || int64(calls) > r.Served.Reached {
			t.Errorf("%s: %d calls reached the dependency, of %d", r.Variant, calls,
				r.Served.Reached)
		}
		if r.goroutines() == 0 || r.conns() == 0 {
			t.Errorf("%s: no samples of the front service", r.Variant)
		}
		if r.Variant == mainName && r.Stats == nil {
			t.Errorf("%s: no breaker stats", r.Variant)
		}
	}
}

// gust is a storm of kinds and clients, one of whom is turned away.
var gust = register(&Scenario{
	Name:  "gust",
	Shows: "that kinds, clients and refusals find their way",
	Topology: Topology{
		Transport: "http", Slots: 4, Service: time.Millisecond, Steady: true,
		Patience: 10 * time.Second, InFlight: 1000, Apart: true, Room: 50,
		Kinds: []Kind{
			{Name: "polite", Share: 0.75, Clients: 3},
			{Name: "busy", Share: 0.25},
		},
	},
	Warmup:   100 * time.Millisecond,
	Duration: 400 * time.Millisecond,
	Tick:     100 * time.Millisecond,
	Load:     []Load{{Multiple: 0.5}},
	Faults: []Fault{
		{Mode: Surge, Kind: "busy", Until: 200 * time.Millisecond, Times: 4},
		{Mode: Slow, Kind: "polite", From: 200 * time.Millisecond, Until: time.Second, Times: 2},
	},
	Variants: []Variant{{"bare", "", outcast}, {"stormjib", "", outcast}},
})

// outcast turns one client away, and counts that; the dependency turns another away.
func outcast(Topology) Protection {
	var rejected atomic.Int64
	return Protection{
		Behind: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get(clientField) == "polite-2" {
					turnAway(w)
					return
				}
				next.ServeHTTP(w, r)
			})
		},
		Stats: func() any { return struct{ Rejected int64 }{rejected.Load()} },
		Server: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get(clientField) != "polite-1" {
					next.ServeHTTP(w, r)
					return
				}
				rejected.Add(1)
				w.Header().Set("RateLimit", `"client";r=0;t=1`)
				w.Header().Set("RateLimit-Policy", `"client";q=1;w=1`)
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			})
		},
	}
}

// Whoever is slow here, it is known who is turned away and who is served.
func TestPlayKinds(t *testing.T) {
	trial := &trial{
		scenario: gust, capacity: 400, length: gust.Duration, seed: 7, show: func(Tick) {},
	}
	records, err := trial.play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for i, o := range r.Outcomes {
			want, told := Live, false
			switch r.kind(i).client(uint64(i)) {
			case "polite-1":
				want, told = Refused, true
			case "polite-2":
				want = Refused
			}
			served := want == Live
			if o.Result != want || o.Told != told || r.Done.has(uint64(i)) != served ||
				(r.took(i) > 0) != served || r.took(i) > o.Latency {
				t.Errorf("%s: request %d of %s: %+v, done %t, took %v", r.Variant, i,
					r.kind(i).Name, o, r.Done.has(uint64(i)), r.took(i))
			}
		}
		if r.Capacity != 400 {
			t.Errorf("%s: the capacity is %v", r.Variant, r.Capacity)
		}
		all := r.span(-gust.Warmup, r.Length)
		columns := r.requests()
		told := rejected(r.Stats)
		if told == 0 || all.Refused <= told || strings.Count(columns.Told, "y") != told ||
			strings.Count(columns.Done, "y") != all.Live || r.kept() != 100 {
			t.Errorf("%s: %+v; its own figures are %s; told %s, done %s", r.Variant, all, r.Stats,
				columns.Told, columns.Done)
		}
		if r.atOnce() == 0 || r.busiest(gust.Duration) != r.calls() {
			t.Errorf("%s: %d calls at once, %d of %d in the busiest stretch", r.Variant, r.atOnce(),
				r.busiest(gust.Duration), r.calls())
		}
	}
}

func TestResult(t *testing.T) {
	g := &generator{patience: time.Second}
	tests := []struct {
		source  string
		err     error
		latency time.Duration
		want    Result
	}{
		{sourceLive, nil, 0, Live},
		{sourceStale, nil, 0, Stale},
		{sourceDimmed, nil, 0, Dimmed},
		{sourceDimmed, nil, 2 * time.Second, Late},
		{"", context.DeadlineExceeded, 0, Late},
		{"", &refusal{}, 0, Refused},
		{"", errDropped, 0, Failed},
	}
	for _, tt := range tests {
		got := g.result(tt.source, tt.err, tt.latency)
		if got != tt.want || got.good() != (got == Live || got == Stale || got == Dimmed) {
			t.Errorf("%q, %v after %v is %q, want %q", tt.source, tt.err, tt.latency, got, tt.want)
		}
	}
}

func TestPlayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	apart := *squall
	apart.OneByOne = true
	trial := &trial{
		scenario: &apart, capacity: 400, length: time.Minute, seed: 7,
		show: func(Tick) { cancel() },
	}
	records, err := trial.play(ctx) // Returns when every process has ended.
	if err == nil {
		t.Error("no error from an interrupted run")
	}
	if len(records) != 1 {
		t.Fatalf("%d variants ran, want only the first", len(records))
	}
	if len(records[0].ticks()) == 0 {
		t.Error("nothing is left of an interrupted run")
	}
}

func TestPlayActorFails(t *testing.T) {
	broken := *squall
	broken.Name = "nameless" // Its actors cannot find it.
	trial := &trial{
		scenario: &broken, capacity: 400, length: squall.Duration, show: func(Tick) {},
	}
	_, err := trial.play(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nameless") {
		t.Errorf("got error %v, want the actor's", err)
	}
}

// An actor ends with its stdin, or a parent that was killed would leave it.
func TestActEndsWithStdin(t *testing.T) {
	for _, role := range []string{roleDependency, roleFleet, roleFront, roleGenerator} {
		scenario := squall
		if role == roleFleet {
			scenario = flotilla
		}
		lines, err := json.Marshal(orders{
			Scenario: scenario.Name, Variant: "bare", Host: "127.0.0.1", Peer: "127.0.0.1:1",
			Capacity: 400, Length: squall.Duration,
		})
		if err != nil {
			t.Fatal(err)
		}
		var out, complaints bytes.Buffer
		code := act(role, bytes.NewReader(lines), &out, &complaints)
		if code != exitKept || complaints.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", role, code, &complaints)
		}
		for _, word := range []string{`"ready"`, `"final"`} {
			if !strings.Contains(out.String(), word) {
				t.Errorf("%s: no %s in\n%s", role, word, &out)
			}
		}
	}
}

func TestActRefuses(t *testing.T) {
	for role, lines := range map[string]string{
		"admiral":      `{}`,
		roleFront:      `{"scenario": "sunshine"}`,
		roleGenerator:  `{"scenario": "squall", "variant": "bold"}`,
		roleDependency: `nonsense`,
	} {
		var out, complaints bytes.Buffer
		if code := act(role, strings.NewReader(lines), &out, &complaints); code != exitUsage {
			t.Errorf("%s with %s: exit code %d, want %d", role, lines, code, exitUsage)
		}
		if !strings.Contains(out.String(), `"error"`) {
			t.Errorf("%s with %s: the parent is not told: %s", role, lines, &out)
		}
	}
}

// Only what the machine lacks makes a run invalid; what a dependency does to
// its callers is the very thing to measure.
func TestTrouble(t *testing.T) {
	var tr trouble
	tr.see(&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)})
	tr.see(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)})
	tr.see(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
	tr.see(context.DeadlineExceeded)
	if got := tr.all(); len(got) != 2 || got[syscall.EMFILE.Error()] != 1 {
		t.Errorf("trouble is %v, want one of files and one of ports", got)
	}
}

func TestUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing", "report.json")
	tests := []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-list"}, exitKept, "outage      tour  a dependency"},
		{[]string{"-list"}, exitKept, "retrystorm        a dependency"},
		{[]string{"-h"}, exitKept, "-scenario"},
		{[]string{"-nonsense"}, exitUsage, "not defined"},
		{[]string{"outage"}, exitUsage, "unexpected argument"},
		{[]string{"-scenario", "sunshine"}, exitUsage, `no scenario "sunshine"`},
		{[]string{"-duration", "10s"}, exitUsage, "outage needs 24s"},
		{[]string{"-duration", "-1s"}, exitUsage, "negative"},
		{[]string{"-scenario", "squall", "-duration", "700ms"}, exitUsage, "too short"},
		{
			[]string{"-scenario", "squall", "-transport", "grpc"},
			exitUsage,
			"squall does not run over",
		},
		{[]string{"-json", missing}, exitUsage, "missing"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		if code := run(tt.args, &out, &out); code != tt.code {
			t.Errorf("%q: exit code %d, want %d", tt.args, code, tt.code)
		}
		if !strings.Contains(out.String(), tt.says) {
			t.Errorf("%q: %q does not say %q", tt.args, &out, tt.says)
		}
	}
}

func TestSchedule(t *testing.T) {
	s := *squall
	s.Load = []Load{{From: 0, Multiple: 0.5}, {From: 10 * time.Second, Multiple: 1}}
	length := 20 * time.Second
	one, same := schedule(&s, 400, length, 1), schedule(&s, 400, length, 1)
	if len(one) != len(same) {
		t.Fatalf("the same seed gave %d and %d arrivals", len(one), len(same))
	}
	early, late, dependent := 0, 0, 0
	for i, a := range one {
		if a != same[i] {
			t.Fatalf("the same seed gave %v and %v", a, same[i])
		}
		if i > 0 && a.At < one[i-1].At {
			t.Fatalf("arrival %d comes before the one before it", i)
		}
		if a.At >= 10*time.Second {
			late++
		} else {
			early++
		}
		if a.Kind == 0 {
			dependent++
		}
	}
	// Seeded, so these are facts and not chances: 200 a second, then 400.
	if early < 1900 || early > 2150 || late < 3850 || late > 4150 {
		t.Errorf("%d arrivals before the step and %d after it, want about 2020 and 4000",
			early, late)
	}
	if dependent < len(one)*9/20 || dependent > len(one)*11/20 {
		t.Errorf("%d of %d arrivals are dependent, want half", dependent, len(one))
	}
	if other := schedule(&s, 400, length, 2); other[0] == one[0] {
		t.Error("another seed gave the same first arrival")
	}
}

// A surge is of its kind alone, and the others' arrivals are as many as before.
func TestScheduleSurge(t *testing.T) {
	s := *squall
	s.Topology.Kinds = []Kind{
		{Name: "polite", Share: 0.8, Clients: 4},
		{Name: "abuser", Share: 0.2},
	}
	s.Load = []Load{{Multiple: 0.25}}
	s.Faults = []Fault{{
		Mode: Surge, Kind: "abuser", From: 10 * time.Second, Until: 20 * time.Second, Times: 20,
	}}
	if peak := s.peak(); peak < 1.1999 || peak > 1.2001 {
		t.Errorf("the peak is %v, want 1.2", peak)
	}
	counts := map[string]int{}
	clients := map[string]int{}
	for i, a := range schedule(&s, 400, 30*time.Second, 1) {
		k := s.Topology.Kinds[a.Kind]
		counts[fmt.Sprint(k.Name, int(max(0, a.At)/(10*time.Second)))]++
		clients[k.client(uint64(i))]++
	}
	for what, want := range map[string]int{ // 100 a second, and 480
		"polite0": 800, "polite1": 800, "polite2": 800,
		"abuser0": 200, "abuser1": 4000, "abuser2": 200,
	} {
		if got := counts[what]; got < want*88/100 || got > want*112/100 {
			t.Errorf("%d of %s, want about %d", got, what, want)
		}
	}
	if len(clients) != 5 || clients["polite-3"] < 500 || clients["abuser"] < 4000 {
		t.Errorf("the clients are %v", clients)
	}
}

// In calibration all kinds that have slots are asked, and no others.
func TestClosedLoop(t *testing.T) {
	topology := Topology{Kinds: []Kind{{Name: "one"}, {Name: "own", Local: true}, {Name: "two"}}}
	if got := fmt.Sprint(topology.asked()); got != "[dependent]" {
		t.Errorf("with slots for all together it asks for %s", got)
	}
	topology.Apart = true
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		var one, two atomic.Int64
		ask := func(ctx context.Context, r request) (string, error) {
			switch r.Kind {
			case "one":
				one.Add(1)
			case "two":
				two.Add(1)
			default:
				t.Errorf("it asks for %q", r.Kind)
			}
			return sourceLive, sleep(ctx, time.Second)
		}
		from := time.Now().Add(4*time.Second + time.Millisecond)
		finished, err := closedLoop(ctx, ask, topology.asked(), 6, from)
		if finished != 36 || err != nil || one.Load() != two.Load() {
			t.Errorf("%d calls have finished, of %d for one and %d for the other, %v; want 36",
				finished, one.Load(), two.Load(), err)
		}
	})
}

func TestPick(t *testing.T) {
	weights := []float64{0.5, 0, 0.25}
	for x, want := range map[float64]int{0: 0, 0.49: 0, 0.5: 2, 0.74: 2, 0.75: 2} {
		if got := pick(weights, x); got != want {
			t.Errorf("%v is in %d, want %d", x, got, want)
		}
	}
}

func TestWork(t *testing.T) {
	const mean = 20 * time.Millisecond
	var sum, longest time.Duration
	for id := range uint64(10_000) {
		w := work(1, streamService, id, mean)
		if w != work(1, streamService, id, mean) {
			t.Fatalf("request %d is not the same work twice", id)
		}
		sum, longest = sum+w, max(longest, w)
	}
	if got := sum / 10_000; got < mean*95/100 || got > mean*105/100 {
		t.Errorf("the mean is %v, want about %v", got, mean)
	}
	if longest > 5*mean {
		t.Errorf("the longest is %v, above the cap", longest)
	}
	if work(1, streamService, 1, mean) == work(1, streamLocal, 1, mean) {
		t.Error("two streams gave the same work")
	}
}

// The report says the same as the run, and can be recomputed from its columns.
func TestReport(t *testing.T) {
	r := &ScenarioReport{scenario: squall}
	record := example("bare")
	r.take([]*Record{record})
	encoded, err := json.Marshal(r.Variants[0])
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Ticks  []struct{ Offered, Goodput int }
		Phases []struct {
			Phase   string
			Offered int
		}
		Requests struct {
			At      []int64 `json:"at_us"`
			Latency []int64 `json:"latency_us"`
			Kind    []int
			Handler []int64 `json:"handler_us"`
			Result  string
			Told    string
			Done    string
		}
	}
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	phases := fmt.Sprint(got.Phases)
	if want := "[{calm 20} {hang 20} {503 10} {after 30}]"; phases != want {
		t.Errorf("phases %s, want %s", phases, want)
	}
	columns := got.Requests
	if n := len(record.Plan); len(columns.At) != n || len(columns.Latency) != n ||
		len(columns.Kind) != n || len(columns.Result) != n || len(columns.Told) != n ||
		len(columns.Done) != n || len(columns.Handler) != n {
		t.Errorf("columns of %d, %d, %d, %d, %d, %d and %d, want %d each", len(columns.At),
			len(columns.Latency), len(columns.Kind), len(columns.Result), len(columns.Told),
			len(columns.Done), len(columns.Handler), n)
	}
	good, answered := 0, strings.Count(columns.Result, "l")+strings.Count(columns.Result, "s")
	for _, tick := range got.Ticks {
		good += tick.Goodput
	}
	if good != answered {
		t.Errorf("the ticks hold %d good requests, the columns %d", good, answered)
	}
}
