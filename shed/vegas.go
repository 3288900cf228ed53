package shed

import "math"

// Vegas is the algorithm of TCP Vegas over windows: the limit has the queue, as estimated
// from the lowest latency seen lately, be of a few calls. It takes a dependency that gets
// slower for overload, and forgets what it has seen every few dozen windows, so that its
// limit rises in an overload that lasts. It is here to be compared with, and for who
// trusts nothing newer.
func Vegas(c Config) Algorithm {
	return &vegas{limit: float64(c.Initial), maxLatency: c.MaxLatency.Seconds()}
}

type vegas struct {
	limit, maxLatency float64
	lowest            float64 // latency, s
	windows           int
}

func (v *vegas) Update(w Window) int {
	const memory = 600 // windows
	r := w.Latency().Seconds()
	step := max(1, math.Floor(math.Log10(v.limit)))
	if v.windows++; r > 0 && (v.lowest == 0 || r < v.lowest || v.windows > memory) {
		v.lowest, v.windows = r, 0
	}
	queue := 0.0
	if r > 0 {
		queue = math.Ceil(v.limit * (1 - v.lowest/r))
	}
	switch {
	case overloaded(w), v.maxLatency > 0 && r > v.maxLatency:
		v.limit = min(v.limit-step, .9*v.limit)
	case !w.Limited():
	case queue <= step:
		v.limit += 6 * step
	case queue < 3*step:
		v.limit += step
	case queue > 6*step:
		v.limit -= step
	}
	v.limit = max(1, min(v.limit, mostCalls))
	return int(v.limit)
}

// overloaded reports whether more than one call in a hundred was.
func overloaded(w Window) bool { return w.Overloaded*100 > w.Completed+w.Overloaded }

// Gradient is the algorithm of Netflix's Gradient2: the limit is multiplied by how much
// longer calls take than on the average of ten minutes, less a tolerance of a half, and
// has a few added. Like Vegas it takes a slow dependency for overload; and since what it
// compares with follows what it measures, its limit rises in an overload that lasts.
func Gradient(c Config) Algorithm {
	return &gradient{limit: float64(c.Initial), maxLatency: c.MaxLatency.Seconds()}
}

type gradient struct{ limit, maxLatency, average float64 }

func (g *gradient) Update(w Window) int {
	const tolerance, room, smoothing, memory = 1.5, 4, .2, 600 // s
	r := w.Latency().Seconds()
	if r > 0 {
		if g.average == 0 {
			g.average = r
		}
		g.average += over(w.Length.Seconds(), memory) * (r - g.average)
		if g.average > 2*r {
			g.average *= .95
		}
	}
	switch {
	case overloaded(w), g.maxLatency > 0 && r > g.maxLatency:
		g.limit *= .9
	case r > 0 && w.Mean >= g.limit/2:
		by := max(.5, min(1, tolerance*g.average/r))
		g.limit += smoothing * (g.limit*by + room - g.limit)
	}
	g.limit = max(1, min(g.limit, mostCalls))
	return int(g.limit)
}

// AIMD adds one to the limit when it is reached, and takes a tenth from it when calls are
// Overloaded or take longer than Config.MaxLatency. It knows nothing of queues, so it
// needs one of the two to find any limit but Config.Max.
func AIMD(c Config) Algorithm {
	return &aimd{limit: float64(c.Initial), maxLatency: c.MaxLatency.Seconds()}
}

type aimd struct{ limit, maxLatency float64 }

func (a *aimd) Update(w Window) int {
	switch {
	case overloaded(w), a.maxLatency > 0 && w.Latency().Seconds() > a.maxLatency:
		a.limit *= .9
	case w.Limited():
		a.limit++
	}
	a.limit = max(1, min(a.limit, mostCalls))
	return int(a.limit)
}
