package pressure

import (
	"math"
	"runtime/metrics"
	"time"
)

// A reader fills in the values of some metrics, with NaN for those that are not there.
type reader func(values []float64)

// runtimeReader reads the metrics of these names, into memory that it keeps. The runtime
// marks a name that this release of Go does not know, and reads the others.
func runtimeReader(names ...string) reader {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	return func(values []float64) {
		metrics.Read(samples)
		for i, s := range samples {
			values[i] = math.NaN()
			if s.Value.Kind() == metrics.KindUint64 {
				values[i] = float64(s.Value.Uint64())
			}
		}
	}
}

// Memory returns a signal of the memory that is in use and no garbage, as a part of
// GOMEMLIMIT. It is off where no limit is set: then there is nothing to be a part of.
//
// Start is 0.8 and Full 0.95 if zero. When four fifths are live a garbage collection comes
// after each fifth, four times as often for the same heap as by default; at 0.95 nineteen
// times, and the collector takes up to half of the CPU.
func Memory(cfg Config) *Signal {
	return newMemory(cfg, runtimeReader(
		"/gc/gomemlimit:bytes",
		"/gc/heap/live:bytes",
		// What counts toward the limit and cannot be collected.
		"/memory/classes/heap/stacks:bytes",
		"/memory/classes/os-stacks:bytes",
		"/memory/classes/metadata/mcache/inuse:bytes",
		"/memory/classes/metadata/mspan/inuse:bytes",
		"/memory/classes/metadata/other:bytes",
		"/memory/classes/other:bytes",
		"/memory/classes/profiling/buckets:bytes",
	))
}

const memoryMetrics = 9

func newMemory(cfg Config, read reader) *Signal {
	m := &memory{read: read, values: make([]float64, memoryMetrics)}
	return newSignal(cfg.filled("memory", 0.8, 0.95), m)
}

// A memory looks at its metrics anew each time: the limit may be set, or moved, while the
// program runs.
type memory struct {
	read   reader
	values []float64 // the limit, the live heap, and the rest
}

func (m *memory) sample(time.Duration) (value float64, off string) {
	m.read(m.values)
	limit, live := m.values[0], m.values[1]
	switch {
	case math.IsNaN(limit) || math.IsNaN(live):
		return 0, "the runtime has no such metric"
	case limit >= math.MaxInt64 || limit <= 0:
		return 0, "no memory limit is set"
	}
	for _, rest := range m.values[2:] {
		if !math.IsNaN(rest) { // less precise without it, but no less useful
			live += rest
		}
	}
	return live / limit, ""
}

// Scheduler returns a signal of how many goroutines are ready to run and wait for their
// turn, in multiples of what is usual for this program. It needs Go 1.26, and is off
// before.
//
// Start is 4 and Full 16 if zero. Programs that are well swing by a factor of two or three.
// What waits in an overload has no bound but the number of requests, and soon is a factor
// of ten and more.
func Scheduler(cfg Config) *Signal {
	return newScheduler(cfg, runtimeReader(
		"/sched/goroutines/runnable:goroutines",
		"/sched/gomaxprocs:threads",
	))
}

func newScheduler(cfg Config, read reader) *Signal {
	cfg = cfg.filled("scheduler", 4, 16)
	return newSignal(cfg, &scheduler{
		read: read, values: make([]float64, 2), start: cfg.Start, usual: 1,
	})
}

// A scheduler compares two averages of one number. That number is a sample of a moment,
// in which it may be anything, so the fast one is an average too. The slow one is not a
// median, which would need the samples of minutes; that it keeps to its value while the
// other is far above makes up for that.
type scheduler struct {
	read   reader
	values []float64 // runnable goroutines, and GOMAXPROCS
	start  float64
	clock  clock
	recent float64 // runnable for each P, over a second
	usual  float64 // over minutes, at least 1
}

// What recent and usual are averages over.
const (
	recently   = time.Second
	usually    = 5 * time.Minute
	reluctance = time.Hour // usual, while there is pressure
)

func (s *scheduler) sample(now time.Duration) (value float64, off string) {
	s.read(s.values)
	runnable, procs := s.values[0], s.values[1]
	if math.IsNaN(runnable) || !(procs > 0) {
		s.clock.begun = false
		return 0, "the runtime has no such metric"
	}
	passed, ok := s.clock.since(now)
	if !ok {
		s.recent = 0 // usual stays: it is of hours, and a pause is of minutes
		return 0, ""
	}
	s.recent = toward(s.recent, runnable/procs, passed, recently)
	over := usually
	if s.recent > s.start*s.usual {
		over = reluctance
	}
	// Below one for each P nothing waits worth the name, however many times the usual.
	s.usual = max(1, toward(s.usual, s.recent, passed, over))
	return s.recent / s.usual, ""
}
