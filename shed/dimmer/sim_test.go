package dimmer_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/dimmer"
)

// A plant is a server under a dimmer, simulated in the time of a bubble: requests come at
// random, wait in one queue for one of the servers, and have an optional part.
type plant struct {
	servers  int
	optional float64       // of the work
	target   time.Duration // and all other fields of the Config as they are if zero
	period   time.Duration
	load     func(time.Duration) float64 // with everything lit, of what there is
	length   time.Duration
	features []string
	seed     uint64
}

const service = 10 * time.Millisecond // with everything lit, on the mean

// A trace has what was at the end of each half second.
type trace struct {
	share []float64
	wait  []time.Duration // the longest since the one before
}

// from returns the part from one time to another.
func (tr trace) from(start, end time.Duration) trace {
	i, j := int(start/(500*time.Millisecond)), int(end/(500*time.Millisecond))
	j = min(j, len(tr.share))
	return trace{tr.share[i:j], tr.wait[i:j]}
}

func (tr trace) mean() float64 {
	sum := 0.0
	for _, share := range tr.share {
		sum += share
	}
	return sum / float64(len(tr.share))
}

func (tr trace) deviation() float64 {
	mean, sum := tr.mean(), 0.0
	for _, share := range tr.share {
		sum += (share - mean) * (share - mean)
	}
	return math.Sqrt(sum / float64(len(tr.share)))
}

// run serves requests first come, first served. Their waits only grow later one by one, so
// one goroutine that goes from start to start is all it takes.
func (p plant) run(t *testing.T) trace {
	t.Helper()
	var tr trace
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{
			Target: p.target, Period: p.period, Features: p.features,
		})
		var features []*dimmer.Feature
		for _, f := range d.Stats().Features {
			features = append(features, d.Feature(f.Name))
		}
		r := rand.New(rand.NewPCG(p.seed, 17))
		free := make(times, p.servers)
		base, arrival, longest := time.Now(), time.Duration(0), time.Duration(0)
		for arrival < p.length {
			gap := float64(service) / float64(p.servers) / p.load(arrival)
			arrival += time.Duration(r.ExpFloat64() * gap)
			start := max(arrival, free[0])
			for end := time.Duration(len(tr.share)+1) * 500 * time.Millisecond; end <= start; {
				tr.share = append(tr.share, d.Stats().Share)
				tr.wait = append(tr.wait, longest)
				longest, end = 0, end+500*time.Millisecond
			}
			time.Sleep(start - time.Since(base))
			longest = max(longest, start-arrival)
			d.Observe(start - arrival)
			work := r.ExpFloat64() * (1 - p.optional)
			ctx := dimmer.WithSeed(t.Context(), r.Uint64())
			for _, f := range features {
				if f.Allow(ctx) {
					work += r.ExpFloat64() * p.optional / float64(len(features))
				}
			}
			free[0] = start + time.Duration(work*float64(service))
			heap.Fix(&free, 0)
		}
	})
	return tr
}

// times is a heap of when each server is free.
type times []time.Duration

func (h *times) Len() int           { return len(*h) }
func (h *times) Less(i, j int) bool { return (*h)[i] < (*h)[j] }
func (h *times) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }
func (h *times) Push(any)           {}
func (h *times) Pop() any           { return nil }

// wave is a load that goes from one half to high, after half a minute and for a minute.
func wave(high float64) func(time.Duration) float64 {
	return func(now time.Duration) float64 {
		if now >= 30*time.Second && now < 90*time.Second {
			return high
		}
		return 0.5
	}
}

// An overload that is feasible without the optional part is served whole, with as much of
// it as there is room for, and nothing is dimmed before or after.
func TestSimWave(t *testing.T) {
	const second = time.Second
	tests := []struct {
		name     string
		plant    plant
		high     float64
		off      float64       // how far the mean share may be from where the load is 1
		swing    float64       // how far the share may deviate, as a standard deviation
		wait     time.Duration // the longest of all
		settled  time.Duration // the longest from ten seconds on
		relights int           // periods, at most
	}{
		{"of half as much again", plant{optional: 0.6}, 1.5, 0.1, 0.1, second, second / 2, 10},
		{
			"a swing five times as steep",
			plant{optional: 0.6, target: 10 * time.Millisecond},
			1.5, 0.3, 0.1, second, second / 4, 15,
		},
		{
			"and five times as flat",
			plant{optional: 0.6, target: 250 * time.Millisecond},
			1.5, 0.1, 0.1, second, second, 15,
		},
		{"two servers", plant{optional: 0.6, servers: 2}, 1.5, 0.2, 0.12, second, second / 2, 15},
		{"thirty-two", plant{optional: 0.6, servers: 32}, 1.5, 0.1, 0.1, second, second / 2, 10},
		{
			"an optional part of an eighth",
			plant{optional: 0.12},
			1.04, 0.3, 0.3,
			second, second, 15,
		},
		{"of nine tenths", plant{optional: 0.9}, 1.5, 0.1, 0.12, second, second / 2, 10},
		{
			"of nine tenths, and four times the load",
			plant{optional: 0.9},
			4, 0.3, 0.1,
			10 * second, second / 2, 15,
		},
		{
			"three features",
			plant{optional: 0.6, features: []string{"a", "b", "c"}},
			1.5, 0.1, 0.1, second, second / 2, 10,
		},
		{
			"a short period",
			plant{optional: 0.6, period: 100 * time.Millisecond},
			1.5, 0.1, 0.15, second / 2, second / 2, 10,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := test.plant
			p.load, p.length, p.seed = wave(test.high), 110*second, 1
			if p.servers == 0 {
				p.servers = 8
			}
			tr := p.run(t)
			before, during := tr.from(5*second, 30*second), tr.from(40*second, 90*second)
			if got := slices.Min(before.share); got < 0.9 {
				t.Errorf("share %v before the overload", got)
			}
			want := (1/test.high - (1 - p.optional)) / p.optional
			got := during.mean()
			if math.Abs(got-want) > test.off*want {
				t.Errorf("share %.3f on the mean, want %.3f", got, want)
			}
			if got := during.deviation(); got > test.swing {
				t.Errorf("the share swings by %.3f", got)
			}
			if got := slices.Max(tr.wait); got > test.wait {
				t.Errorf("a request waited for %v", got)
			}
			if got := slices.Max(during.wait); got > test.settled {
				t.Errorf("a request waited for %v, long after the beginning", got)
			}
			after := tr.from(90*second, 110*second)
			if got := slices.Index(after.share, 1); got < 0 || got > test.relights {
				t.Errorf("all lit after %d periods", got)
			}
			t.Logf("share %.3f for %.3f, ± %.3f, wait %v, %v", got, want, during.deviation(),
				slices.Max(tr.wait), slices.Max(during.wait))
		})
	}
}

// Without what the paper lacks, a queue that is getting shorter would have its features
// dimmed on and on: after a step the share must not go down to nothing.
func TestSimUndershoot(t *testing.T) {
	p := plant{servers: 8, optional: 0.6, load: wave(1.5), length: 60 * time.Second, seed: 3}
	if got := slices.Min(p.run(t).share); got < 0.1 {
		t.Errorf("share %.3f, where 0.444 is what there is room for", got)
	}
}

// Where requests share the processors there is no queue to measure. How long they take
// will do, with a target of three times what is normal.
func TestSimSharing(t *testing.T) {
	type job struct{ arrival, left float64 }
	const servers, optional, step = 8, 0.6, 0.0005
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{Target: 3 * service})
		f := d.Feature("optional")
		load, r := wave(1.5), rand.New(rand.NewPCG(5, 17))
		var jobs []job
		var tr trace
		longest := 0.0
		for i := range int(110 / step) {
			now := float64(i) * step
			time.Sleep(time.Duration(step * float64(time.Second)))
			rate := min(1, servers/float64(len(jobs)))
			jobs = slices.DeleteFunc(jobs, func(j job) bool { return j.left <= 0 })
			for k := range jobs {
				if jobs[k].left -= step * rate; jobs[k].left <= 0 {
					took := now - jobs[k].arrival
					longest = max(longest, took)
					d.Observe(time.Duration(took * float64(time.Second)))
				}
			}
			arrivals := load(time.Duration(i)*time.Second/2000) * servers / service.Seconds()
			if r.Float64() < arrivals*step {
				work := r.ExpFloat64() * (1 - optional)
				if f.Allow(dimmer.WithSeed(t.Context(), r.Uint64())) {
					work += r.ExpFloat64() * optional
				}
				// Half a step less, since on the mean the last one is half in vain.
				jobs = append(jobs, job{now, work*service.Seconds() - step/2})
			}
			if i%1000 == 999 {
				tr.share = append(tr.share, f.Share())
				tr.wait = append(tr.wait, time.Duration(longest*float64(time.Second)))
				longest = 0
			}
		}
		const second = time.Second
		during := tr.from(40*second, 90*second)
		if got := during.mean(); math.Abs(got-0.444) > 0.1*0.444 || during.deviation() > 0.1 {
			t.Errorf("share %.3f ± %.3f, want 0.444", got, during.deviation())
		}
		if got := slices.Min(tr.from(5*second, 30*second).share); got < 0.9 {
			t.Errorf("share %v before the overload", got)
		}
		if got := slices.Max(during.wait); got > second {
			t.Errorf("a request took %v", got)
		}
		if got := slices.Index(tr.from(90*second, 110*second).share, 1); got < 0 || got > 20 {
			t.Errorf("all lit after %d periods", got)
		}
		t.Logf("share %.3f ± %.3f, %v", during.mean(), during.deviation(), slices.Max(during.wait))
	})
}
