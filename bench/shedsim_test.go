package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"

	"github.com/stormjib/stormjib/shed"
)

// The adaptive limiters under overload, in fake time: servers of some workers, first come,
// first served, requests at random, and each limiter by its exported methods. Package shed
// has more of these runs of its own code; these are for what can be driven from outside.

// An entry lets one request in, perhaps after a wait; leave says that it is done.
type entry func(ctx context.Context) (leave func(), ok bool)

// A storm is what limiters are put through.
type shedStorm struct {
	name    string
	gates   int // replicas, with a limiter each, before one backend
	workers int
	left    int // workers after change; 0: all of them
	change  time.Duration
	delay   time.Duration                        // after change, of something behind the server
	load    func(t time.Duration) (rate float64) // of what all workers can do
	length  time.Duration
	from    time.Duration // measured from here on
}

const (
	simService = 10 * time.Millisecond
	simSigma   = 0.5 // of the logarithm of a service time
	stuckDelay = 180 * time.Millisecond
)

func shedStorms() []shedStorm {
	step := func(at time.Duration, before, after float64) func(time.Duration) float64 {
		return func(t time.Duration) float64 {
			if t < at {
				return before
			}
			return after
		}
	}
	const s = time.Second
	return []shedStorm{
		{"2x", 1, 8, 0, 0, 0, step(20*s, .7, 2), 50 * s, 30 * s},
		{"10x, first 5 s", 1, 8, 0, 0, 0, step(20*s, .7, 10), 25 * s, 20 * s},
		{"1.3x", 1, 8, 0, 0, 0, step(20*s, .7, 1.3), 80 * s, 30 * s},
		{"six before 24 workers, 1.3x", 6, 24, 0, 0, 0, step(20*s, .7, 1.3), 80 * s, 30 * s},
		{
			"a dependency takes 70 ms more", 1, 8, 0, 20 * s, 70 * time.Millisecond,
			step(0, .7, .7), 80 * s, 50 * s,
		},
		// More than ten times as long as in health is stuck, to shed: a gap, and printed.
		{
			"a dependency takes 180 ms more", 1, 8, 0, 20 * s, stuckDelay,
			step(0, .7, .7), 80 * s, 50 * s,
		},
		{"8 workers, then 3", 1, 8, 3, 20 * s, 0, step(0, .7, .7), 60 * s, 30 * s},
	}
}

func shedEntries() []struct {
	name string
	make func() entry
} {
	ours := func() entry {
		s := shed.New(shed.Config{})
		return func(ctx context.Context) (func(), bool) {
			p, err := s.Acquire(ctx)
			return func() { p.Record(shed.OK) }, err == nil
		}
	}
	theirs := func(b adaptivelimiter.Builder[int], wait bool) entry {
		l := b.Build()
		return func(ctx context.Context) (func(), bool) {
			if wait {
				p, err := l.AcquirePermit(ctx)
				return func() { p.Record() }, err == nil
			}
			p, ok := l.TryAcquirePermit()
			return func() { p.Record() }, ok
		}
	}
	return []struct {
		name string
		make func() entry
	}{
		{"stormjib", ours},
		{"failsafe", func() entry { return theirs(adaptivelimiter.NewBuilder[int](), false) }},
		{"failsafe-queue", func() entry {
			return theirs(adaptivelimiter.NewBuilder[int]().WithQueueing(2, 3).
				WithMaxWaitTime(100*time.Millisecond), true)
		}},
	}
}

// backend is a server of some workers.
type backend struct {
	free chan struct{} // full when all work
	mu   sync.Mutex
	rnd  *rand.Rand
}

func (b *backend) service() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	mean := math.Exp(b.rnd.NormFloat64()*simSigma - simSigma*simSigma/2)
	return time.Duration(mean * float64(simService))
}

func (b *backend) serve(delay time.Duration) {
	b.free <- struct{}{}
	time.Sleep(b.service())
	<-b.free
	time.Sleep(delay)
}

// shedResult is what came out: of what could be served in time, how much was; the p99 in
// multiples of the service's own; and what was refused of what came.
type shedResult struct{ goodput, p99, refused float64 }

// run has the storm go over limiters of one kind.
func (st *shedStorm) run(t *testing.T, seed uint64, limiter func() entry) (r shedResult) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := &backend{
			free: make(chan struct{}, st.workers), rnd: rand.New(rand.NewPCG(seed, 2)),
		}
		gates := make([]entry, st.gates)
		for i := range gates {
			gates[i] = limiter()
		}
		start := time.Now()
		var mu sync.Mutex
		var all sync.WaitGroup
		var took []float64
		offered, refused, possible := 0, 0, 0.
		capacity := float64(st.workers) / simService.Seconds()
		delay, lost := time.Duration(0), 0
		for now := time.Duration(0); now < st.length; now = time.Since(start) {
			if st.change > 0 && now >= st.change && delay+time.Duration(lost) == 0 {
				delay = st.delay
				if st.left > 0 {
					lost = st.workers - st.left
				}
				for range lost {
					all.Go(func() { b.free <- struct{}{} }) // and is not given back
				}
			}
			rate := st.load(now) * capacity
			gap := time.Duration(rnd.ExpFloat64() / rate * float64(time.Second))
			measured := now >= st.from
			if measured {
				possible += gap.Seconds() *
					min(rate, capacity*float64(st.workers-lost)/float64(st.workers))
			}
			gate, behind := gates[rnd.IntN(len(gates))], delay
			all.Go(func() {
				arrived := time.Now()
				leave, ok := gate(t.Context())
				if ok {
					b.serve(behind)
					leave()
				}
				if !measured {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				offered++
				if !ok {
					refused++
					return
				}
				took = append(took, time.Since(arrived).Seconds())
			})
			time.Sleep(gap)
		}
		all.Wait()
		own := simService.Seconds()*math.Exp(2.326*simSigma-simSigma*simSigma/2) +
			st.delay.Seconds()
		slices.Sort(took)
		good, _ := slices.BinarySearch(took, 4*own)
		r = shedResult{float64(good) / possible, math.NaN(), float64(refused) / float64(offered)}
		if len(took) > 0 {
			r.p99 = took[len(took)*99/100] / own
		}
	})
	return r
}

// TestShedStorms prints what becomes of each storm if -table is set, the worst of three
// seeds, and asserts what shed promises of one.
func TestShedStorms(t *testing.T) {
	seeds := uint64(1)
	if *table {
		seeds = 3
	}
	var text strings.Builder
	fmt.Fprintf(&text, "| the worst of %d | goodput | p99, of the service's own | refused |\n"+
		"|---|--:|--:|--:|\n", seeds)
	for _, st := range shedStorms() {
		fmt.Fprintf(&text, "| **%s** | | | |\n", st.name)
		for _, e := range shedEntries() {
			worst := shedResult{goodput: math.Inf(1)}
			for seed := range seeds {
				r := st.run(t, seed+1, e.make)
				worst.goodput = min(worst.goodput, r.goodput)
				worst.p99, worst.refused = max(worst.p99, r.p99), max(worst.refused, r.refused)
			}
			fmt.Fprintf(&text, "| %s | %.3f | %.2f | %.1f %% |\n",
				e.name, worst.goodput, worst.p99, 100*worst.refused)
			asserted := e.name == "stormjib" && st.delay != stuckDelay
			if asserted && (worst.goodput < .9 || worst.p99 > 3) {
				t.Errorf("%s: %+v", st.name, worst)
			}
		}
	}
	if *table {
		fmt.Fprint(os.Stdout, text.String())
	}
}
