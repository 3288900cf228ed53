package hedge

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

const ms = time.Millisecond

// known returns a latency that has begun, at d.
func known(d time.Duration) *latency {
	l := &latency{}
	l.bits.Store(math.Float64bits(float64(d)))
	return l
}

func TestLatencyBegins(t *testing.T) {
	l := &latency{}
	for i := range warmup {
		if d := l.delay(); d != 0 {
			t.Fatalf("after %d calls the delay is %v already", i, d)
		}
		l.observe(time.Hour, false, 0.05, ms) // takes at least an hour: no call to begin with
		l.observe(time.Duration(warmup-i)*ms, true, 0.05, ms)
	}
	if d := l.delay(); d != 58*ms || l.first != nil {
		t.Errorf("began at %v with %d calls kept, want 58ms, which 6 of 64 exceed, and none",
			d, len(l.first))
	}
}

func TestLatencySteps(t *testing.T) {
	const up, down, same = 1, -1, 0
	for _, test := range []struct {
		name    string
		took    time.Duration
		exactly bool
		want    int
	}{
		{"a late call", 101 * ms, true, up},
		{"one that has no end", math.MaxInt64, true, up},
		{"in time", 99 * ms, true, down},
		{"just in time", 100 * ms, true, down},
		{"no time at all", 0, true, down},
		{"cancelled when it was late", 101 * ms, false, up},
		{"cancelled before: who knows", 99 * ms, false, same},
		{"cancelled at once", 0, false, same},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := known(100 * ms)
			l.observe(test.took, test.exactly, 0.05, ms)
			d := l.delay()
			factor := map[int][2]float64{up: {1.03, 1.07}, down: {0.99, 0.9999}, same: {1, 1}}
			if f, got := factor[test.want], float64(d)/float64(100*ms); got < f[0] || got > f[1] {
				t.Errorf("100ms became %v", d)
			}
		})
	}
}

func TestLatencyStaysAboveTheLeast(t *testing.T) {
	l := known(2 * ms)
	for range 10_000 {
		l.observe(time.Microsecond, true, 0.05, ms)
	}
	if d := l.delay(); d != ms {
		t.Errorf("the delay is %v, want 1ms", d)
	}
	for range 15 { // it is there, not far below
		l.observe(time.Second, true, 0.05, ms)
	}
	if d := l.delay(); d < 19*ms/10 {
		t.Errorf("the delay is %v after 15 late calls, want it doubled", d)
	}
}

// As the package says: a tenfold change takes about 50 calls up and 900 down.
func TestLatencyFollows(t *testing.T) {
	calls := func(from, to time.Duration) int {
		l, n := known(from), 0
		for ; (l.delay() < to) == (from < to) && n < 10_000; n++ {
			l.observe(to, true, 0.05, ms)
		}
		return n
	}
	if up, down := calls(100*ms, time.Second), calls(time.Second, 100*ms); up < 40 || up > 60 ||
		down < 850 || down > 950 {
		t.Errorf("%d calls up, %d down", up, down)
	}
}

// When a thousand calls are under way and a pause holds all of them up, they say a
// thousand times that the delay is too short. It must not become longer than the pause.
func TestLatencyDoesNotWindUp(t *testing.T) {
	l := known(10 * ms)
	for range 1000 {
		l.observe(time.Second, true, 0.05, ms)
	}
	if d := l.delay(); d < 900*ms || d > 1070*ms {
		t.Errorf("a pause of a second has made it %v", d)
	}
}

// Whatever the latencies are, the share of late calls is off the target by no more than
// the way of the delay over step and calls. Here they are made up to mislead.
func TestLatencyBalances(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		share := []float64{0.01, 0.05, 0.2, 0.5}[seed%4]
		l := known(time.Second)
		began, late, calls := l.bits.Load(), 0, 10_000
		for i := range calls {
			took := time.Duration(math.Exp(random.Float64()*15) * float64(ms))
			if i/1000%2 == 0 { // and now they flee from it
				took = min(time.Duration(float64(l.delay())*(0.5+random.Float64())), time.Hour)
			}
			if took > l.delay() {
				late++
			}
			l.observe(took, true, share, time.Nanosecond)
		}
		moved := math.Abs(float64(int64(l.bits.Load()-began))) / gain
		got, bound := float64(late)/float64(calls), (moved+1)/float64(calls)
		if math.Abs(got-share) > bound {
			t.Errorf("seed %d: %.4f late, want %.4f ± %.4f", seed, got, share, bound)
		}
	}
}

func TestLatencyConcurrent(t *testing.T) {
	l := &latency{}
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(i, 1))
			for range 5000 {
				l.observe(time.Duration(random.ExpFloat64()*float64(20*ms)), true, 0.05, ms)
			}
		})
	}
	wg.Wait()
	if d := l.delay(); d < 40*ms || d > 90*ms {
		t.Errorf("%v, want about 60ms", d)
	}
}

func TestLatencyAllocatesNothing(t *testing.T) {
	l := known(100 * ms)
	if n := testing.AllocsPerRun(100, func() { l.observe(ms, true, 0.05, ms) }); n != 0 {
		t.Errorf("an observation allocates %v times", n)
	}
}
