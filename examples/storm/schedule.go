package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// Arrival is one request of the schedule.
type Arrival struct {
	At   time.Duration // since the start of measuring; the warm-up is negative
	Kind int           // in the topology's
}

// The seeded streams. Each purpose has its own, so that drawing more from one
// does not shift another.
const (
	streamArrivals = iota + 1
	streamService
	streamLocal
	streamNode
)

// schedule draws the arrivals of a run: Poisson, as independent users are, at
// the scenario's multiples of the capacity in requests a second. A rate that
// changes is met by thinning: candidates come at the highest rate, and each is
// kept with the probability of its time. Generator and parent both draw it, so
// what crosses between them is an index.
func schedule(s *Scenario, capacity float64, length time.Duration, seed uint64) []Arrival {
	rng := rand.New(rand.NewPCG(seed, streamArrivals))
	highest := s.peak()
	mean := float64(time.Second) / (highest * capacity)
	var plan []Arrival
	t := -s.Warmup
	for {
		t += time.Duration(rng.ExpFloat64() * mean)
		if t >= length {
			return plan
		}
		weights, total := s.weights(t)
		keep := rng.Float64()*highest < s.multiple(t)*total
		kind := pick(weights, rng.Float64()*total)
		if keep {
			plan = append(plan, Arrival{At: t, Kind: kind})
		}
	}
}

// peak returns the highest load of the run, surges included, in multiples of the
// capacity.
func (s *Scenario) peak() float64 {
	highest := 0.0
	for _, t := range append(s.changes(), -s.Warmup) {
		_, total := s.weights(t)
		highest = max(highest, s.multiple(t)*total)
	}
	return highest
}

// pick returns the index of the weight within which x lies when they are put end to end.
func pick(weights []float64, x float64) int {
	for i, w := range weights {
		if x < w {
			return i
		}
		x -= w
	}
	return len(weights) - 1 // Their sum was rounded.
}

// work returns how long request id works: exponential around the mean, capped
// at five times it so that one draw cannot pass for a fault. It depends on the
// seed and the request alone: a request is as much work in every variant, in
// whatever order they are served.
func work(seed, stream, id uint64, mean time.Duration) time.Duration {
	return exponential(rand.New(rand.NewPCG(seed^stream<<56, id)), mean)
}

func exponential(rng *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(min(rng.ExpFloat64(), 5) * float64(mean))
}

// service returns how long the dependency works on request id when it gets it for
// the first time (0), the second (1) and so on. Each time is a draw of its own, and
// the same one in every variant.
func (t Topology) service(seed, id, again uint64) time.Duration {
	rng := rand.New(rand.NewPCG(seed^streamService<<56^again<<48, id))
	took := exponential(rng, t.Service)
	if t.Steady {
		took = t.Service
	}
	if rng.Float64() < t.SlowShare {
		took = time.Duration(t.SlowFactor * float64(took))
	}
	return took
}

// mean returns what service comes to on average, its cap included.
func (t Topology) mean() time.Duration {
	slow := 1 + t.SlowShare*(t.SlowFactor-1)
	if t.Steady {
		return time.Duration(slow * float64(t.Service))
	}
	return time.Duration((1 - math.Exp(-5)) * slow * float64(t.Service))
}
