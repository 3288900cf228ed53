package shed_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

func TestStats(t *testing.T) {
	cfg := fixed(2)
	cfg.Name, cfg.Queue = "api", 2
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		if got, want := s.Stats(), (shed.Stats{Name: "api", Limit: 2}); got != want {
			t.Errorf("of a new one: %+v", got)
		}
		first, second := take(t, s), take(t, s)
		l := stand(s)
		l.join(of(t, shed.Sheddable), "evicted")
		l.join(t.Context(), "waits")
		l.join(of(t, shed.CriticalPlus), "higher")
		l.join(of(t, shed.BestEffort), "refused")
		s.TryAcquire(of(t, shed.BestEffort))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		s.Acquire(gone)
		want := shed.Stats{
			Name: "api", Limit: 2, InUse: 2, Waiting: 2,
			Offered: 8, Admitted: 2, GaveUp: 1,
			Refused: [...]uint64{shed.Sheddable: 1, shed.BestEffort: 2, shed.CriticalPlus: 0},
		}
		if got := s.Stats(); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		first.Record(shed.Overloaded)
		second.Done(t.Context(), errBoom)
		synctest.Wait()
		want.Waiting, want.Admitted, want.Ignored, want.Overloaded = 0, 4, 1, 1
		if got := s.Stats(); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		l.end("higher", "waits")
		want.InUse = 0
		if got := s.Stats(); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

// Latency and Throughput are of the last window.
func TestStatsOfAWindow(t *testing.T) {
	bubble(t, fixed(10), func(t *testing.T, s *shed.Shedder) {
		for range 100 {
			p, q := take(t, s), take(t, s)
			time.Sleep(10 * time.Millisecond)
			p.Record(shed.OK)
			q.Record(shed.OK)
		}
		got := s.Stats()
		if off := (got.Latency - 10*time.Millisecond).Abs(); off > time.Millisecond ||
			math.Abs(got.Throughput-200) > 8 {
			t.Errorf("%v and %v calls a second", got.Latency, got.Throughput)
		}
	})
}

// The counts are right also when the word that counts ended calls has wrapped around, and
// however many windows there were.
func TestCountsDoNotWrap(t *testing.T) {
	bubble(t, fixed(10), func(t *testing.T, s *shed.Shedder) {
		const before = shed.MostEnded - 10
		s.Age(before)
		for i := range uint64(2000) {
			p := take(t, s)
			time.Sleep(time.Millisecond)
			p.Record(shed.OK)
			if got := s.Stats(); got.Admitted != before+i+1 || got.Offered != before+i+1 {
				// Between the wrap and the end of the window it can't be known.
				t.Fatalf("%+v, want %d", got, before+i+1)
			}
			if i == 0 {
				time.Sleep(2 * time.Second) // so end the window before
			}
		}
	})
}

// A window during which the machine was suspended, or nobody came, is no window.
func TestSuspendedWindowIsDropped(t *testing.T) {
	cfg := fixed(10)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		endWindow(t, s)
		_, before := a.last()
		p := take(t, s)
		time.Sleep(time.Hour)
		p.Record(shed.OK)
		if w, n := a.last(); n != before {
			t.Errorf("there was a window: %+v", w)
		}
		time.Sleep(8 * time.Second)
		take(t, s).Record(shed.OK)
		w, n := a.last()
		if n != before+1 || w.Length != 8*time.Second || w.Completed != 1 || w.Mean != 0 {
			t.Errorf("window %d: %+v", n-before, w)
		}
	})
}

// The limit is looked at too when nothing goes well, or nothing ends at all.
func TestUpdatesWithoutSuccess(t *testing.T) {
	t.Run("all run out of time", func(t *testing.T) {
		cfg := without(10)
		a := steer(&cfg)
		bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
			for range 200 {
				p := take(t, s)
				time.Sleep(10 * time.Millisecond)
				p.Record(shed.Overloaded)
			}
			if w, n := a.last(); n < 3 || w.Overloaded < 40 || w.Completed != 0 {
				t.Errorf("%d windows, the last was %+v", n, w)
			}
		})
	})
	t.Run("all are ignored", func(t *testing.T) {
		cfg := without(10)
		a := steer(&cfg)
		bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
			for range 1000 {
				p := take(t, s)
				time.Sleep(10 * time.Millisecond)
				p.Record(shed.Ignored)
			}
			if w, n := a.last(); n < 3 || w.Completed != 0 || w.Mean != 0 {
				t.Errorf("%d windows, the last was %+v", n, w)
			}
		})
	})
	for name, ask := range verbs {
		t.Run("all hang, and "+name, func(t *testing.T) {
			cfg := without(10)
			a := steer(&cfg)
			bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
				takeAll(t, s)
				for range 1000 {
					time.Sleep(10 * time.Millisecond)
					ask(s, t.Context())
				}
				if w, n := a.last(); n < 3 || w.Refused < 190 || w.Mean < 10 || w.Mean > 20 {
					t.Errorf("%d windows, the last was %+v", n, w)
				}
			})
		})
	}
}

func TestWindowCounts(t *testing.T) {
	cfg := fixed(10)
	cfg.Queue = 2
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		permits := takeAll(t, s)
		l := stand(s)
		time.Sleep(1900 * time.Millisecond)
		for _, name := range []string{"1", "2", "refused"} {
			l.join(t.Context(), name)
		}
		s.TryAcquire(t.Context())
		for i, p := range permits {
			p.Record([]shed.Outcome{shed.OK, shed.Overloaded, shed.Ignored, shed.OK, shed.OK}[i%5])
		}
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		l.end("1")
		w, _ := a.last()
		// The two that were ignored are as if they had not been.
		area := 8*1.9 + 2*.1
		if w.Length != 2*time.Second || w.Limit != 10 || w.Completed != 7 || w.Overloaded != 2 ||
			w.Refused != 2 || w.Waited != 3 || w.Arrived != 12 || math.Abs(w.Mean-area/2) > 1e-9 {
			t.Errorf("%+v", w)
		}
		if !w.Limited() {
			t.Error("the limit did not matter")
		}
	})
}

func TestWindowMethods(t *testing.T) {
	w := shed.Window{Length: 2 * time.Second, Limit: 10, Mean: 3, Completed: 60}
	if w.Throughput() != 30 || w.Latency() != 100*time.Millisecond || w.Limited() {
		t.Errorf("%v, %v, %v", w.Throughput(), w.Latency(), w.Limited())
	}
	if (shed.Window{Length: time.Second, Mean: 3}).Latency() != 0 {
		t.Error("there is a latency, and no call")
	}
	for _, w := range []shed.Window{
		{Limit: 10, Refused: 1}, {Limit: 10, Waited: 1}, {Limit: 10, Mean: 9.1},
	} {
		if !w.Limited() {
			t.Errorf("%+v was not limited", w)
		}
	}
}

// Variation tells calls that take the same from those that do not.
func TestVariation(t *testing.T) {
	for _, test := range []struct {
		name     string
		each     func(*rand.Rand) float64 // seconds
		low, top float64
	}{
		{"all the same", func(*rand.Rand) float64 { return .01 }, 0, .01},
		{"exponential", func(r *rand.Rand) float64 { return .01 * r.ExpFloat64() }, .7, 1.3},
		{"some very long", func(r *rand.Rand) float64 {
			if r.IntN(20) == 0 {
				return .1
			}
			return .001
		}, 6, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := fixed(10)
			a := steer(&cfg)
			bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
				rng := rand.New(rand.NewPCG(1, 2))
				for range 50_000 {
					p := take(t, s)
					time.Sleep(time.Duration(test.each(rng) * 1e9))
					p.Record(shed.OK)
				}
				if w, _ := a.last(); w.Variation < test.low || w.Variation > test.top {
					t.Errorf("%v, want %v to %v", w.Variation, test.low, test.top)
				}
			})
		})
	}
}

func TestSnapshot(t *testing.T) {
	learned := shed.Snapshot{Latency: 50 * time.Millisecond, Rate: 123}
	s := shed.New(shed.Config{Learned: learned})
	if got := s.Snapshot(); got != learned {
		t.Errorf("of a new one: %+v", got)
	}
	if got := shed.New(shed.Config{}).Snapshot(); got != (shed.Snapshot{}) {
		t.Errorf("of one that has learned nothing: %+v", got)
	}
	bubble(t, shed.Config{}, func(t *testing.T, s *shed.Shedder) {
		for range 2000 {
			permits := []*shed.Permit{take(t, s), take(t, s), take(t, s)}
			time.Sleep(20 * time.Millisecond)
			for _, p := range permits {
				p.Record(shed.OK)
			}
		}
		got := s.Snapshot()
		if got.Latency < 15*time.Millisecond || got.Latency > 25*time.Millisecond ||
			got.Rate < 100 || got.Rate > 200 {
			t.Errorf("%+v", got)
		}
		if err := (shed.Config{Learned: got}).Validate(); err != nil {
			t.Error(err)
		}
	})
	bubble(t, fixed(10), func(t *testing.T, s *shed.Shedder) {
		endWindow(t, s)
		if got := s.Snapshot(); got != (shed.Snapshot{}) {
			t.Errorf("of an algorithm that learns nothing: %+v", got)
		}
	})
}

// scheduled is a call as it really was.
type scheduled struct {
	from, to time.Time // to is zero: under way
	outcome  shed.Outcome
}

// area returns for how long calls were under way in a window, all together. Those that were
// ignored in the end are in the windows before that one, where nobody knew of it.
func area(calls []scheduled, from, to time.Time) (sum time.Duration) {
	for _, c := range calls {
		end := to
		if !c.to.IsZero() {
			end = c.to
		}
		if c.to.IsZero() || c.outcome != shed.Ignored {
			sum += max(0, end.Sub(later(c.from, from)))
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// FuzzMeter plays a script of calls, and compares the windows that the algorithm gets with a
// straightforward computation: N from when each call began and ended, X from a count, and R
// by Little's law.
func FuzzMeter(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 20 {
		script := make([]byte, 3000)
		for k := range script {
			script[k] = byte(rng.Uint32())
		}
		f.Add(uint16(1)<<i%16, script)
	}
	f.Fuzz(func(t *testing.T, hours uint16, script []byte) {
		if len(script) > 10_000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { measure(t, time.Duration(hours)*time.Hour, script) })
	})
}

// meterTest is a Shedder, and what really happened since the last window.
type meterTest struct {
	*shed.Shedder
	algorithm *steered
	calls     []scheduled
	permits   []*shed.Permit
	from      time.Time
	seen      int
	count     [3]int // by outcome
}

// measure plays a script on a process that is as old, with a call that has been under way
// since its beginning and one since later.
func measure(t *testing.T, age time.Duration, script []byte) {
	t.Helper()
	cfg := without(5000)
	m := &meterTest{algorithm: steer(&cfg)}
	m.Shedder = shed.New(cfg)
	m.begin(t)
	time.Sleep(age)
	m.begin(t)
	time.Sleep(6 * time.Second)
	take(t, m.Shedder).Record(shed.Ignored) // ends the first window, of which we know nothing
	m.from = time.Now()
	_, m.seen = m.algorithm.last()
	for ; len(script) >= 2 && time.Since(m.from) < 50*time.Second; script = script[2:] {
		op, arg := script[0], int(script[1])
		switch {
		case op < 90:
			m.begin(t)
		case op >= 220:
			time.Sleep(time.Duration(arg*arg) * 12345 * time.Nanosecond)
		case len(m.permits) > 0:
			m.end(arg%8%len(m.permits), shed.Outcome(min(2, max(0, arg/32-5))))
		}
		m.check(t)
	}
}

func (m *meterTest) begin(t *testing.T) {
	t.Helper()
	m.permits = append(m.permits, take(t, m.Shedder))
	m.calls = slices.Insert(m.calls, len(m.permits)-1, scheduled{from: time.Now()})
}

// end ends the ith of the calls that are under way, which come first in calls.
func (m *meterTest) end(i int, o shed.Outcome) {
	p, c := m.permits[i], m.calls[i]
	c.to, c.outcome = time.Now(), o
	m.permits = slices.Delete(m.permits, i, i+1)
	m.calls = append(slices.Delete(m.calls, i, i+1), c)
	m.count[o]++
	p.Record(o)
}

// check compares the window, if one has ended.
func (m *meterTest) check(t *testing.T) {
	t.Helper()
	w, n := m.algorithm.last()
	if n == m.seen {
		return
	}
	length, area := time.Since(m.from), area(m.calls, m.from, time.Now()).Seconds()
	mean := area / length.Seconds()
	// What a meter cuts off of each reading of the clock.
	slack := 200e-9 * float64(len(m.calls)+1)
	if w.Length != length || w.Completed != m.count[shed.OK] ||
		w.Overloaded != m.count[shed.Overloaded] ||
		math.Abs(w.Mean-mean) > slack/length.Seconds()+1e-9*mean {
		t.Fatalf("window %d: %+v, want %v with a mean of %v and %v", n, w, length, mean, m.count)
	}
	x := float64(w.Completed) / length.Seconds()
	if math.Abs(w.Throughput()-x) > 1e-6*(1+x) {
		t.Fatalf("window %d: a throughput of %v, want %v", n, w.Throughput(), x)
	}
	if ended := w.Completed + w.Overloaded; ended > 0 {
		r := area / float64(ended)
		if math.Abs(w.Latency().Seconds()-r) > slack/float64(ended)+1e-9*r {
			t.Fatalf("window %d: a latency of %v, want %v s", n, w.Latency(), r)
		}
	}
	m.from, m.seen, m.count = time.Now(), n, [3]int{}
	m.calls = m.calls[:len(m.permits)] // what has ended is of no more interest
}
