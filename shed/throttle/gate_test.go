package throttle_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

const (
	second = time.Second
	window = 30 * second // of a zero Config
)

func TestProbability(t *testing.T) {
	for _, test := range []struct {
		name     string
		k        float64
		requests [5]uint64 // class 1 first
		accepted uint64
		want     [5]float64
	}{
		// With one class, the formula of the book.
		{"nothing", 2, [5]uint64{}, 0, [5]float64{}},
		{"all accepted", 2, [5]uint64{3: 100}, 100, [5]float64{}},
		{"half accepted", 2, [5]uint64{3: 100}, 50, [5]float64{}},
		{"a quarter accepted", 2, [5]uint64{3: 99}, 25, [5]float64{1, 1, 1, .49, 0}},
		{"none accepted", 2, [5]uint64{3: 99}, 0, [5]float64{1, 1, 1, .99, 0}},
		{"another K", 1.5, [5]uint64{3: 99}, 26, [5]float64{1, 1, 1, .6, 0}},
		{"more accepted than known of", 2, [5]uint64{3: 1}, 9, [5]float64{}},

		// With more, what is above K × accepts is borne from below.
		{
			"the lowest is refused in part", 2,
			[5]uint64{49, 10, 10, 10, 10},
			32,
			[5]float64{.5, 0, 0, 0, 0},
		},
		{
			"the lowest is refused whole, the next in part", 2,
			[5]uint64{49, 9, 10, 10, 10},
			17,
			[5]float64{1, .5, 0, 0, 0},
		},
		{
			"only the highest is left", 2,
			[5]uint64{10, 10, 10, 10, 19},
			5,
			[5]float64{1, 1, 1, 1, .45},
		},
		{
			"a class that has nothing left and sends nothing", 2,
			[5]uint64{0, 0, 0, 10, 10},
			5,
			[5]float64{1, 1, 1, 10. / 11, 0},
		},
	} {
		for i, want := range test.want {
			got := throttle.Probability(test.k, test.requests, test.accepted, i+1)
			if math.Abs(got-want) > 1e-9 {
				t.Errorf("%s: class %d: %v, want %v", test.name, i+1, got, want)
			}
		}
	}
}

// Whatever was counted: it is a probability, a class is refused no more than one below it,
// and what goes through is K × accepts in all, but for the 1 that is added so that a
// class alone never comes to 1.
func FuzzProbability(f *testing.F) {
	f.Add(uint32(2000), uint32(0), uint32(1), uint32(2), uint32(3), uint32(4), uint32(5))
	f.Add(uint32(1100), uint32(100), uint32(1000), uint32(0), uint32(30), uint32(0), uint32(5))
	f.Add(uint32(2000), uint32(50), uint32(0), uint32(0), uint32(0), uint32(1000), uint32(0))
	f.Fuzz(func(t *testing.T, k, accepted, a, b, c, d, e uint32) {
		n := [5]uint64{uint64(a), uint64(b), uint64(c), uint64(d), uint64(e)}
		factor := 1 + float64(k)/1000
		sent, all, below := 0., 0., 1.
		for i := range n {
			p := throttle.Probability(factor, n, uint64(accepted), i+1)
			if !(p >= 0 && p <= below) { // also NaN
				t.Errorf("class %d: %v, and the one below %v", i+1, p, below)
			}
			below = p
			sent += float64(n[i]) * (1 - p)
			all += float64(n[i])
		}
		want := min(all, factor*float64(accepted))
		if sent < want-1e-3 || sent > want+5 {
			t.Errorf("%v of %v are sent, want %v", sent, all, want)
		}
	})
}

// A gateStep is one thing that happens to a gate. What is checked comes after it.
type gateStep struct {
	at      time.Duration
	class   int // 0: critical
	n       int // 0: 1
	outcome throttle.Outcome
	counted bool // by its outcome; otherwise a call asks, with the worst lot there is
	passes  bool
	want    float64 // the class's probability then
}

func accepted(at time.Duration, n int) gateStep {
	return gateStep{at: at, n: n, outcome: throttle.Accepted, counted: true}
}

func rejected(at time.Duration, n int, want float64) gateStep {
	return gateStep{at: at, n: n, outcome: throttle.Rejected, counted: true, want: want}
}

func passes(at time.Duration, want float64) gateStep {
	return gateStep{at: at, passes: true, want: want}
}

func stopped(at time.Duration, want float64) gateStep { return gateStep{at: at, want: want} }

func (s gateStep) of(class int) gateStep {
	s.class = class
	return s
}

func TestGate(t *testing.T) {
	ignored := func(at time.Duration, want float64) gateStep {
		return gateStep{at: at, n: 1000, outcome: throttle.Ignored, counted: true, want: want}
	}
	for _, test := range []struct {
		name  string
		steps []gateStep
	}{
		{"a new one lets through", []gateStep{passes(0, 0), passes(0, 0)}},
		{"half may be rejected", []gateStep{
			accepted(0, 50), rejected(0, 50, 0), passes(second, 0), passes(second, 0),
		}},
		{"more may not", []gateStep{
			accepted(0, 50), rejected(0, 149, .495),
			passes(second, .495), // a probe
			stopped(second, .495), stopped(second, 100./201),
		}},
		{"what is refused counts too", []gateStep{
			rejected(second, 1, 1./2), passes(second, 1./2),
			stopped(second, 1./2), stopped(second, 2./3), stopped(second, 3./4),
		}},
		{"what is ignored does not", []gateStep{
			rejected(0, 1, .5), ignored(0, .5), ignored(100*second, 0),
		}},
		{"one that is not known is ignored", []gateStep{
			{n: 9, outcome: 77, counted: true}, rejected(0, 1, .5),
		}},
		{"a probe a second", []gateStep{
			rejected(0, 9, .9), passes(second, .9), stopped(second, .9),
			stopped(2*second-1, 10./11), passes(2*second, 11./12), stopped(2*second, 11./12),
			passes(10*second, 12./13), stopped(10*second, 12./13),
			passes(12*second, 1./2), stopped(12*second, 1./2), // the newest buckets
		}},
		{"no probe for a class below one that has had it", []gateStep{
			rejected(0, 9, .9), passes(second, .9),
			stopped(second, 1).of(3), stopped(2*second-1, 1).of(1), passes(2*second, 1).of(1),
			passes(2*second, .9), stopped(2*second+1, 1).of(1),
		}},
		{"a probe of a class above one that has had it", []gateStep{
			rejected(0, 9, .9).of(2), rejected(0, 9, .9), passes(second, 1).of(2),
			passes(second, .9), stopped(second, 1).of(2), stopped(second, .9),
		}},
		{"a rejection leaves with the window", []gateStep{
			rejected(2*second, 9, .9), passes(29*second, .9), stopped(29*second, .9),
			stopped(29*second, 10./11), passes(32*second-1, 2./3),
			passes(32*second, 0), passes(32*second, 0),
			rejected(32*second, 1, .75), // what was refused is there for longer
		}},
		{"after an idle window nothing is known", []gateStep{
			rejected(0, 1000, 1000./1001), rejected(1000*second, 1, .5),
		}},
		// 30 are rejected and the probes accepted: by the window, .9 and more.
		{"the newest buckets may say less", []gateStep{
			rejected(0, 30, 30./31), accepted(3*second, 1).with(29. / 32),
			accepted(6*second, 1).with(0), passes(6*second, 0),
		}},
		{"but not more", []gateStep{
			accepted(0, 100), rejected(3*second, 20, 0), rejected(6*second, 20, 0),
			rejected(6*second, 60, 0), rejected(6*second, 1, 1./202),
		}},
		{"the newest but one is still looked at", []gateStep{
			rejected(0, 30, 30./31), accepted(20*second, 2).with(28. / 33),
			rejected(21*second, 2, 0), rejected(21*second, 1, 1./6),
		}},
		{"time that goes backwards", []gateStep{
			accepted(40*second, 1), rejected(5*second, 4, .5), passes(39*second, 0),
		}},
		{"a rejection that is reported late", []gateStep{
			rejected(40*second, 3, .75), rejected(5*second, 1, .8), passes(45*second, .8),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := throttle.NewGate(2, window)
			for i, s := range test.steps {
				s.run(t, g, i)
			}
		})
	}
}

func (s gateStep) with(want float64) gateStep {
	s.want = want
	return s
}

func (s gateStep) run(t *testing.T, g *throttle.Gate, i int) {
	t.Helper()
	if s.class == 0 {
		s.class = 4
	}
	if s.counted {
		for range max(s.n, 1) {
			g.Count(s.at, s.class, s.outcome)
		}
		if got := g.Probability(s.at, s.class); math.Abs(got-s.want) > 1e-9 {
			t.Errorf("step %d: probability %v, want %v", i, got, s.want)
		}
		return
	}
	if got := g.Probability(s.at, s.class); math.Abs(got-s.want) > 1e-9 {
		t.Errorf("step %d: before it, probability %v, want %v", i, got, s.want)
	}
	p, ok := g.Admit(s.at, s.class, 0)
	if math.Abs(p-s.want) > 1e-9 || ok != s.passes {
		t.Errorf("step %d: %v, %t; want %v, %t", i, p, ok, s.want, s.passes)
	}
}

// The lot decides, to the last bit: a call goes through if it is at least the probability.
func TestGateLot(t *testing.T) {
	g := throttle.NewGate(2, window)
	for range 3 {
		g.Count(0, 4, throttle.Rejected)
	}
	if _, ok := g.Admit(0, 4, .75); !ok {
		t.Error("refused with a lot of .75")
	}
	if _, ok := g.Admit(0, 4, math.Nextafter(.75, 0)); ok {
		t.Error("let through with a lot below .75")
	}
}

// What is kept is bounded, and when the last rejection has left, the next call sees to it
// that those after it need not look.
func TestGateForgets(t *testing.T) {
	g := throttle.NewGate(2, window)
	for at := time.Duration(0); at < time.Hour; at += second {
		g.Count(at, 4, throttle.Rejected)
		if n := g.Marks(); n > 11 {
			t.Fatalf("%d buckets are remembered", n)
		}
	}
	g.Admit(time.Hour, 4, .5)
	if g.Calm() {
		t.Error("calm with rejections in the window")
	}
	g.Admit(time.Hour+window, 4, .5)
	if !g.Calm() {
		t.Error("not calm after a window without a rejection")
	}
}

// Of callers that find a probe due at the same time, one makes it.
func TestGateProbeOnce(t *testing.T) {
	g := throttle.NewGate(2, window)
	for range 1000 {
		g.Count(0, 4, throttle.Rejected)
	}
	for at := second; at < 20*second; at += second {
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, ok := g.Admit(at, 4, .9); ok {
					passed.Add(1)
				}
			})
		}
		wg.Wait()
		if n := passed.Load(); n != 1 {
			t.Errorf("%d probes at %v", n, at)
		}
	}
}

// By many at a time, while buckets begin and end, a probability stays one: nothing is
// taken from the counts that was not in them before.
func TestGateConcurrently(t *testing.T) {
	g := throttle.NewGate(2, 10*time.Microsecond)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for now := range 20_000 * time.Nanosecond {
				outcome := throttle.Outcome(int(now) / (i + 1) % 2)
				g.Count(now, 1+i, outcome)
				if p, _ := g.Admit(now, 1+i, .5); !(p >= 0 && p <= 1) {
					t.Errorf("probability %v", p)
				}
			}
		})
	}
	wg.Wait()
	if p := g.Probability(time.Hour, 1); p != 0 {
		t.Errorf("an hour later: probability %v", p)
	}
}
