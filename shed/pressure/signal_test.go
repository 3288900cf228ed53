package pressure_test

import (
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/pressure"
)

// near reports whether two numbers are the same but for rounding.
func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func wantStats(t *testing.T, s *pressure.Signal, want pressure.Stats) {
	t.Helper()
	got := s.Stats()
	if got.Name != want.Name || !near(got.Level, want.Level) ||
		!near(got.Value, want.Value) || got.Off != want.Off {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if level := s.Level(); level != got.Level {
		t.Errorf("level %v, beside %+v", level, got)
	}
}

func TestMemory(t *testing.T) {
	const (
		unset   = "no memory limit is set"
		unknown = "the runtime has no such metric"
	)
	nan := math.NaN()
	tests := []struct {
		name         string
		cfg          pressure.Config
		limit, live  float64
		stacks       float64
		value, level float64
		off          string
	}{
		{"calm", pressure.Config{}, 1000, 100, 50, 0.15, 0, ""},
		{"at the start", pressure.Config{}, 1000, 800, 0, 0.8, 0, ""},
		{"half way", pressure.Config{}, 1000, 800, 75, 0.875, 0.5, ""},
		{"full", pressure.Config{}, 1000, 900, 50, 0.95, 1, ""},
		{"over", pressure.Config{}, 1000, 5000, 0, 5, 1, ""},
		{"thresholds", pressure.Config{Start: 0.1, Full: 0.5}, 1000, 200, 0, 0.2, 0.25, ""},
		{"no stacks", pressure.Config{}, 1000, 875, nan, 0.875, 0.5, ""},
		{"no limit", pressure.Config{}, math.MaxInt64, 1e9, 0, 0, 0, unset},
		{"a limit of nothing", pressure.Config{}, 0, 1e9, 0, 0, 0, unset},
		{"no metric of the limit", pressure.Config{}, nan, 1e9, 0, 0, 0, unknown},
		{"nor of the heap", pressure.Config{}, 1000, nan, 0, 0, 0, unknown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := pressure.NewMemory(test.cfg, func(values []float64) {
				clear(values)
				values[0], values[1], values[2] = test.limit, test.live, test.stacks
			})
			wantStats(t, s, pressure.Stats{
				Name: "memory", Level: test.level, Value: test.value, Off: test.off,
			})
		})
	}
}

// The real metrics: what is live is seen, and what is garbage is not.
func TestMemoryOfProcess(t *testing.T) {
	const limit = 1 << 30
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	debug.SetMemoryLimit(math.MaxInt64)
	if off := pressure.Memory(pressure.Config{}).Stats().Off; off != "no memory limit is set" {
		t.Errorf("off: %q", off)
	}
	debug.SetMemoryLimit(limit)
	value := func() float64 {
		runtime.GC()
		s := pressure.Memory(pressure.Config{Name: "heap"}).Stats()
		if s.Off != "" || s.Name != "heap" {
			t.Fatalf("%+v", s)
		}
		return s.Value * limit
	}
	const size = 32 << 20
	before := value()
	if before <= 0 || before > 200<<20 {
		t.Errorf("%v bytes in use, of a test", before)
	}
	block := make([]byte, size)
	with := value()
	runtime.KeepAlive(block)
	block = nil
	_ = block
	if after := value(); with < before+size/2 || after > with-size/2 {
		t.Errorf("%v bytes, with %d more %v, without them %v", before, size, with, after)
	}
}

func TestRuntimeReader(t *testing.T) {
	read := pressure.RuntimeReader("/sched/gomaxprocs:threads", "/no/such:metric",
		"/sched/goroutines/runnable:goroutines", "/sched/latencies:seconds")
	values := make([]float64, 4)
	read(values)
	if values[0] != float64(runtime.GOMAXPROCS(0)) || !(values[2] >= 0) {
		t.Errorf("read %v", values)
	}
	if !math.IsNaN(values[1]) || !math.IsNaN(values[3]) {
		t.Errorf("read %v, where there is no number", values)
	}
	if off := pressure.Scheduler(pressure.Config{}).Stats().Off; off != "" {
		t.Errorf("the scheduler's signal is off: %s", off)
	}
}

// Runnable goroutines for each P, for a time, and what the signal makes of them.
func TestScheduler(t *testing.T) {
	type phase struct {
		runnable float64
		length   time.Duration
		low, top float64 // of the value at the end
	}
	const second, minute, hour = time.Second, time.Minute, time.Hour
	tests := []struct {
		name   string
		phases []phase
		level  float64
	}{
		{"idle", []phase{{0, minute, 0, 0}}, 0},
		{"less than one is nothing", []phase{{0.01, hour, 0, 0.02}, {0.5, minute, 0.4, 0.5}}, 0},
		{"a burst is seen in seconds", []phase{{1, hour, 0.99, 1}, {32, 3 * second, 25, 32}}, 1},
		{"a moment is not", []phase{{1, hour, 0.99, 1}, {32, 100 * time.Millisecond, 3, 4}}, 0},
		{
			"over at once",
			[]phase{{1, hour, 0.99, 1}, {32, minute, 20, 32}, {1, 10 * second, 0, 1.1}},
			0,
		},
		{"much is usual", []phase{{3, hour, 0.99, 1.01}, {6, minute, 1.6, 2}}, 0},
		{"an overload of minutes is not", []phase{{1, hour, 0.99, 1}, {32, 5 * minute, 8, 20}}, -1},
		{"but of a day is", []phase{{1, hour, 0.99, 1}, {32, 24 * hour, 0.99, 1.01}}, 0},
		{
			"usual comes down",
			[]phase{{3, hour, 0.99, 1.01}, {1, hour, 0.99, 1}, {16, minute, 11, 16}},
			-1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runnable := 0.0
				s := pressure.NewScheduler(pressure.Config{}, func(values []float64) {
					values[0], values[1] = 8*runnable, 8
				})
				s.Level()
				for _, p := range test.phases {
					runnable = p.runnable
					step := 100 * time.Millisecond
					if p.length > minute {
						step = 2 * second // to be done sooner
					}
					for end := time.Now().Add(p.length); time.Now().Before(end); {
						time.Sleep(step)
						s.Level()
					}
					if got := s.Stats().Value; got < p.low || got > p.top {
						t.Errorf("%v for %v: value %v, want %v to %v",
							p.runnable, p.length, got, p.low, p.top)
					}
				}
				if got := s.Level(); got != test.level && (test.level >= 0 || got <= 0) {
					t.Errorf("level %v, want %v", got, test.level)
				}
			})
		})
	}
}

// Before Go 1.26 there is no such metric; and should it come back, it counts anew.
func TestSchedulerAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runnable, procs := math.NaN(), 2.0
		s := pressure.NewScheduler(pressure.Config{Name: "run queue"}, func(values []float64) {
			values[0], values[1] = runnable, procs
		})
		poll := func(after time.Duration) pressure.Stats {
			time.Sleep(after)
			return s.Stats()
		}
		const off = "the runtime has no such metric"
		wantStats(t, s, pressure.Stats{Name: "run queue", Off: off})
		runnable = 100
		if got := poll(time.Second); got.Off != "" || got.Value != 0 {
			t.Errorf("at first %+v", got)
		}
		if got := poll(time.Second); !near(got.Value, 25/(1+24./301)) && got.Level != 1 {
			t.Errorf("then %+v", got)
		}
		if got := poll(6 * time.Second); got.Value != 0 || got.Level != 0 {
			t.Errorf("after a pause %+v", got)
		}
		runnable = 0
		if got := poll(time.Second); got.Value != 0 {
			t.Errorf("calm after a pause: %+v", got)
		}
		runnable = 100
		if got := poll(5 * time.Second); !(got.Value > 16) {
			t.Errorf("five seconds are not a pause: %+v", got)
		}
		for _, procs = range []float64{0, math.NaN()} {
			if got := poll(time.Second); got.Off != off || got.Level != 0 {
				t.Errorf("%v processors: %+v", procs, got)
			}
		}
		procs = 2
		if got := poll(time.Second); got.Off != "" || got.Value != 0 {
			t.Errorf("back again: %+v", got)
		}
	})
}

// However many ask, it is ten times in a second that anything is read.
func TestPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var polls atomic.Int64
		s := pressure.NewMemory(pressure.Config{}, func(values []float64) {
			clear(values)
			polls.Add(1)
			values[0], values[1] = 1, float64(polls.Load())
		})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					s.Level()
					s.Stats()
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := polls.Load(); n != 10 {
			t.Errorf("read %d times in a second", n)
		}
	})
}

// Who asks while another reads has the last level, and does not wait.
func TestPollDoesNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := pressure.NewMemory(pressure.Config{}, func(values []float64) {
			clear(values)
			values[0], values[1] = 1, 1
			<-release
		})
		go s.Level()
		synctest.Wait()
		if got := s.Level(); got != 0 {
			t.Errorf("level %v before anything is known", got)
		}
		close(release)
		synctest.Wait()
		if got := s.Level(); got != 1 {
			t.Errorf("level %v", got)
		}
	})
}

func TestMax(t *testing.T) {
	level := func(x float64) func() float64 { return func() float64 { return x } }
	tests := []struct {
		levels []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{0.3}, 0.3},
		{[]float64{0.3, 0.7, 0.1}, 0.7},
		{[]float64{-5}, 0},
		{[]float64{0.2, 7}, 1},
		{[]float64{math.Inf(1)}, 1},
		{[]float64{math.NaN(), 0.2, math.NaN()}, 0.2},
	}
	for _, test := range tests {
		var levels []func() float64
		for _, x := range test.levels {
			levels = append(levels, level(x))
		}
		highest := pressure.Max(levels...)
		clear(levels) // they are the caller's
		if got := highest(); got != test.want {
			t.Errorf("%v: %v, want %v", test.levels, got, test.want)
		}
	}
	defer func() {
		if r := recover(); r != "pressure: Max: nil function" {
			t.Errorf("a nil function: %v", r)
		}
	}()
	pressure.Max(level(0), nil)
}

func TestAllocs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree, _, _ := fakeTree(t)
		highest := pressure.Max(
			pressure.Memory(pressure.Config{}).Level,
			pressure.Scheduler(pressure.Config{}).Level,
			pressure.NewCPU(pressure.Config{}, tree, 2).Level,
		)
		if got := testing.AllocsPerRun(100, func() {
			highest()
			time.Sleep(50 * time.Millisecond)
		}); got != 0 {
			t.Errorf("%v allocations", got)
		}
	})
}

func TestValidate(t *testing.T) {
	tests := []struct {
		cfg  pressure.Config
		want string // "" if valid
	}{
		{pressure.Config{}, ""},
		{pressure.Config{Start: 0.1, Full: 0.2}, ""},
		{
			pressure.Config{Start: 0.2, Full: 0.1},
			"pressure: Config: Full is 0.1, but must be above Start",
		},
		{
			pressure.Config{Start: 0.2, Full: 0.2},
			"pressure: Config: Full is 0.2, but must be above Start",
		},
		{
			pressure.Config{Start: 0.2},
			"pressure: Config: Start is 0.2, but must be set if Full, 0, is, and only then",
		},
		{
			pressure.Config{Name: "x", Full: 0.2},
			`pressure: Config "x": Start is 0, but must be set if Full, 0.2, is, and only then`,
		},
		{
			pressure.Config{Start: math.NaN(), Full: math.Inf(1)},
			"pressure: Config: Start is NaN, but must be above 0 and finite; " +
				"Full is +Inf, but must be above 0 and finite",
		},
		{
			pressure.Config{Start: -1, Full: -1},
			"pressure: Config: Start is -1, but must be above 0 and finite; " +
				"Full is -1, but must be above 0 and finite",
		},
	}
	for _, test := range tests {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
		for _, signal := range []func(pressure.Config) *pressure.Signal{
			pressure.Memory, pressure.CPU, pressure.Scheduler,
		} {
			func() {
				defer func() {
					r := recover()
					if test.want != "" && r != test.want || test.want == "" && r != nil {
						t.Errorf("panic: %v\nwant %s", r, test.want)
					}
				}()
				signal(test.cfg)
			}()
		}
	}
}

// Made in a bubble and used outside: the level stays.
func TestOutsideBubble(t *testing.T) {
	var s *pressure.Signal
	synctest.Test(t, func(*testing.T) { s = pressure.Scheduler(pressure.Config{}) })
	if got := s.Level(); got != 0 {
		t.Errorf("level %v", got)
	}
}
