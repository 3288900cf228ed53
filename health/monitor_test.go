package health_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stormjib/stormjib/health"
)

const (
	fail = health.Fail
	warn = health.Warn
	pass = health.Pass
)

func nothing(context.Context) error { return nil }

// A step of a table is something that happens at a time in seconds, and what the check says
// after it.
type step struct {
	at   float64
	what string
	want health.Status
}

// play takes a monitor through the steps. Runs that pass or fail take no time; a run that
// begins takes until it ends.
func play(t *testing.T, m *health.Monitor, steps []step) {
	t.Helper()
	m.Start(0)
	for i, s := range steps {
		now := time.Duration(s.at * float64(time.Second))
		m.Tick(now)
		switch s.what {
		case "pass", "fail":
			m.Begin(now)
			m.End(now, s.what == "pass")
		case "begin":
			m.Begin(now)
		case "ends well":
			m.End(now, true)
		case "ends badly":
			m.End(now, false)
		case "leave":
			if !m.WantsOut(now) {
				t.Fatalf("step %d at %vs: does not want to leave", i, s.at)
			}
			m.Leave(now, 30, 0)
		case "refused":
			if !m.WantsOut(now) {
				t.Fatalf("step %d at %vs: does not want to leave", i, s.at)
			}
			m.Leave(now, 30, 10)
		case "stays":
			if m.WantsOut(now) {
				t.Fatalf("step %d at %vs: wants to leave", i, s.at)
			}
		}
		if got := m.Status(now); got != s.want {
			t.Fatalf("step %d, %q at %vs: %v, want %v", i, s.what, s.at, got, s.want)
		}
	}
}

func half() float64 { return 0.5 }

func TestMonitor(t *testing.T) {
	shared, local := health.Check{}, health.Check{Class: health.Local}
	liveness, info := health.Check{Class: health.Liveness}, health.Check{Class: health.Info}
	shed := health.Check{Shed: true}
	tests := []struct {
		name  string
		check health.Check
		steps []step
	}{
		{"shared gates the start, then warns", shared, []step{
			{0, "", fail},
			{0, "fail", fail},
			{3, "pass", pass},
			{13, "fail", pass},
			{15, "fail", pass},
			{18, "fail", warn},
			{20, "pass", warn},
			{23, "pass", pass},
		}},
		{"shared, not for ever", shared, []step{
			{0, "fail", fail},
			{59.9, "fail", fail},
			{60, "", warn},
			{61, "fail", warn},
			{70, "pass", pass},
		}},
		{"shared that was never looked at", shared, []step{{59, "", fail}, {60, "", warn}}},
		{"local gates the start for ever", local, []step{
			{0, "", fail}, {0, "fail", fail}, {3600, "fail", fail}, {3603, "pass", pass},
		}},
		{"local", local, []step{
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", fail},
			{15, "pass", fail},
			{17, "fail", fail},
			{19, "pass", fail},
			{21, "pass", pass},
		}},
		{"flapping never flips", local, []step{
			{0, "pass", pass},
			{1, "fail", pass},
			{2, "pass", pass},
			{3, "fail", pass},
			{4, "fail", pass},
			{5, "pass", pass},
			{6, "fail", pass},
			{7, "fail", pass},
			{8, "pass", pass},
		}},
		{"flapping does not come up either", local, []step{
			{0, "pass", pass},
			{1, "fail", pass},
			{2, "fail", pass},
			{3, "fail", fail},
			{4, "pass", fail},
			{5, "fail", fail},
			{6, "pass", fail},
			{7, "fail", fail},
		}},
		{"liveness takes its time", liveness, []step{
			{0, "", pass},
			{0, "fail", pass},
			{1, "fail", pass},
			{2, "fail", pass},
			{29, "fail", pass},
			{30, "fail", fail},
			{40, "pass", pass},
			{50, "pass", pass},
			{60, "fail", pass},
			{70, "fail", pass},
			{80, "fail", fail},
			{90, "pass", fail},
			{100, "pass", pass},
		}},
		{"info only warns", info, []step{
			{0, "", warn},
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", warn},
			{15, "pass", warn},
			{17, "pass", pass},
		}},
		{"late is failed, once", health.Check{Class: health.Local, Failures: 2}, []step{
			{0, "pass", pass},
			{10, "begin", pass},
			{11, "ends well", pass},
			{13, "begin", pass},
			{13.9, "ends well", pass},
			{23, "begin", pass},
			{24, "", pass},
			{24.5, "ends badly", pass},
			{27, "fail", fail},
		}},
		{"late without anybody noticing", health.Check{Class: health.Local, Failures: 1}, []step{
			{0, "pass", pass}, {10, "begin", pass}, {11, "ends well", fail},
		}},
		{"stuck counts on", local, []step{
			{0, "pass", pass},
			{10, "begin", pass},
			{11, "", pass},
			{14.4, "", pass},
			{14.5, "", pass},
			{17.9, "", pass},
			{18, "", fail},
			{30, "ends well", fail},
			{31, "pass", fail},
			{32, "pass", pass},
		}},
		{"stuck liveness counts slowly", health.Check{
			Class: health.Liveness, StaleAfter: -1,
		}, []step{
			{0, "pass", pass},
			{10, "begin", pass},
			{11, "", pass},
			{21, "", pass},
			{22, "", pass},
			{32, "", pass},
			{33, "", fail},
		}},
		{"a suspended machine is one failure", local, []step{
			{0, "pass", pass},
			{10, "begin", pass},
			{10.5, "ends well", pass},
			{20, "begin", pass},
			{20.5, "", pass},
			{7200, "", fail},
			{7200, "ends well", pass},
		}},
		{"and no more of them", health.Check{Class: health.Local, StaleAfter: -1}, []step{
			{0, "pass", pass},
			{20, "begin", pass},
			{7200, "", pass},
			{7200.1, "", pass},
			{7200.2, "", pass},
			{7200.3, "ends well", pass},
		}},
		{"stale", local, []step{
			{0, "pass", pass}, {30.9, "", pass}, {31, "", fail}, {32, "pass", pass},
		}},
		{"stale only warns", shared, []step{{0, "pass", pass}, {31, "", warn}}},
		{"stale liveness", liveness, []step{{0, "pass", pass}, {30, "", pass}, {31, "", fail}}},
		{"more failures make stale later", health.Check{Class: health.Local, Failures: 5}, []step{
			{0, "pass", pass}, {50.9, "", pass}, {51, "", fail},
		}},
		{"never stale", health.Check{Class: health.Local, StaleAfter: -1}, []step{
			{0, "pass", pass}, {86400, "", pass},
		}},
		{"shed after a hold-down", shed, []step{
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", warn},
			{22.9, "stays", warn},
			{23, "leave", fail},
			{30, "fail", fail},
			{40, "pass", fail},
			{42, "pass", pass},
		}},
		{"a blip is over before", shed, []step{
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", warn},
			{20, "pass", warn},
			{23, "stays", warn},
			{24, "pass", pass},
			{30, "stays", pass},
		}},
		{"not while it comes up", shed, []step{
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", warn},
			{22, "pass", warn},
			{24, "stays", warn},
			{25, "fail", warn},
			{25, "leave", fail},
		}},
		{"refused is for the whole outage", shed, []step{
			{0, "pass", pass},
			{9, "fail", pass},
			{11, "fail", pass},
			{13, "fail", warn},
			{23, "refused", warn},
			{30, "stays", warn},
			{900, "fail", warn},
			{900, "stays", warn},
			{901, "pass", warn},
			{902, "pass", pass},
			{903, "fail", pass},
			{904, "fail", pass},
			{905, "fail", warn},
			{915, "leave", fail},
		}},
		{"out for so long, and not again", shed, []step{
			{0, "pass", pass},
			{1, "fail", pass},
			{2, "fail", pass},
			{3, "fail", warn},
			{13, "leave", fail},
			{132, "fail", fail},
			{132.9, "", fail},
			{133, "", warn},
			{140, "fail", warn},
			{140, "stays", warn},
			{150, "fail", warn},
			{150, "stays", warn},
		}},
		{"shed waits for the start to be over", shed, []step{
			{0, "fail", fail},
			{2, "fail", fail},
			{4, "fail", fail},
			{20, "stays", fail},
			{59, "fail", fail},
			{60, "", warn},
			{69.9, "stays", warn},
			{70, "leave", fail},
			{75, "pass", pass},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.check.Name, test.check.Func = "it", nothing
			play(t, health.NewMonitor(health.Config{}, test.check, half), test.steps)
		})
	}
}

// What Config says for all checks.
func TestMonitorConfig(t *testing.T) {
	down := []step{{0, "pass", pass}, {1, "fail", pass}, {2, "fail", pass}, {3, "fail", warn}}
	shed := health.Check{Name: "it", Func: nothing, Shed: true}
	tests := []struct {
		name  string
		cfg   health.Config
		check health.Check
		steps []step
	}{
		{
			"for ever at the start",
			health.Config{StartupTimeout: -1},
			health.Check{Name: "it", Func: nothing},
			[]step{{0, "fail", fail}, {86400, "fail", fail}, {86401, "pass", pass}},
		},
		{
			"no hold-down",
			health.Config{HoldDown: -1},
			shed,
			append(down[:4:4], step{3, "leave", fail}),
		},
		{
			"a hold-down",
			health.Config{HoldDown: time.Minute},
			shed,
			append(down[:4:4], step{32.9, "stays", warn}, step{33, "leave", fail}),
		},
		{
			"no hold-down at the start",
			health.Config{HoldDown: -time.Hour},
			shed,
			[]step{
				{0, "fail", fail},
				{1, "fail", fail},
				{2, "fail", fail},
				{50, "stays", fail},
				{60, "leave", fail},
			},
		},
		{
			"out for as long as it is",
			health.Config{HoldDown: -1, MaxUnreadyFor: -1},
			shed,
			append(down[:4:4], step{3, "leave", fail}, step{86400, "fail", fail}),
		},
		{
			"out for an hour",
			health.Config{HoldDown: -1, MaxUnreadyFor: time.Hour},
			shed,
			append(down[:4:4], step{3, "leave", fail}, step{3602, "fail", fail},
				step{3603, "fail", warn}),
		},
		{
			"no bound",
			health.Config{HoldDown: -1, MaxUnready: 1},
			shed,
			append(down[:4:4], step{3, "refused", fail}), // there is none who could
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			play(t, health.NewMonitor(test.cfg, test.check, half), test.steps)
		})
	}
}

// The chance to be let go, by what is known of the others.
func TestLeaveChance(t *testing.T) {
	tests := []struct {
		maxUnready     float64
		total, unready int
		want           float64
	}{
		{0, 100, 0, 1},
		{0, 99, 11, 0.67},
		{0, 99, 30, 0.09},
		{0, 99, 32, 0.03},
		{0, 99, 33, 0},
		{0, 99, 99, 0},
		{0, 3, 0, 1},
		{0, 3, 1, 0},
		{0, 2, 0, 0}, // half of all would be gone
		{0, 1, 0, 0},
		{0, 0, 0, 0},
		{0, 10, -1, 0},
		{0.5, 2, 0, 1},
		{0.5, 10, 2, 0.6},
		{0, -1, 0, 0.33}, // there are no Peers to ask
		{0.1, -1, 0, 0.1},
		{1, 1, 1, 1},
		{1, 0, 0, 1},
	}
	for _, test := range tests {
		random := rand.New(rand.NewPCG(1, 2))
		left := 0.0
		const n = 10_000
		for range n {
			check := health.Check{Name: "it", Func: nothing, Shed: true}
			m := health.NewMonitor(health.Config{MaxUnready: test.maxUnready, HoldDown: -1},
				check, random.Float64)
			m.Start(0)
			for range 3 {
				m.Begin(health.Forever / 2)
				m.End(health.Forever/2, false)
			}
			m.Leave(health.Forever/2, test.total, test.unready)
			if m.Status(health.Forever/2) == fail {
				left++
			}
		}
		if got := left / n; got < test.want-0.02 || got > test.want+0.02 {
			t.Errorf("bound %v, %d of %d: left with a chance of %.2f, want %.2f",
				test.maxUnready, test.unready, test.total, got, test.want)
		}
	}
}

// The time to the next run, with a random number of a half.
func TestPause(t *testing.T) {
	seconds := func(m *health.Monitor) float64 { return m.Pause().Seconds() }
	run := func(m *health.Monitor, ok bool) {
		m.Begin(0)
		m.End(0, ok)
	}
	for _, class := range []health.Class{health.Shared, health.Local, health.Info} {
		m := health.NewMonitor(health.Config{}, health.Check{Class: class}, half)
		m.Start(0)
		var got []float64
		for _, ok := range []bool{false, true, true, false, true, false, false, false, true, true} {
			run(m, ok)
			got = append(got, seconds(m))
		}
		want := []float64{2.5, 5, 10, 2.5, 10, 2.5, 2.5, 2.5, 2.5, 10}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%v: pauses of %v, want %v", class, got, want)
			}
		}
	}
	m := health.NewMonitor(health.Config{}, health.Check{Class: health.Liveness}, half)
	m.Start(0)
	for i, want := range []float64{10, 5, 10, 10} {
		run(m, i == 1)
		if got := seconds(m); got != want {
			t.Fatalf("liveness, run %d: a pause of %v, want %v", i, got, want)
		}
	}
	for u, want := range map[float64]float64{0: 8, 0.5: 10, 0.999999: 12} {
		m := health.NewMonitor(health.Config{}, health.Check{}, func() float64 { return u })
		m.Start(0)
		run(m, true)
		m.Pause()
		run(m, true)
		if got := seconds(m); got < want-0.001 || got > want+0.001 {
			t.Errorf("random number %v: a pause of %v, want %v", u, got, want)
		}
	}
}
