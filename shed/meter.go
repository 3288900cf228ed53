package shed

import (
	"math"
	"sync/atomic"
	"time"
)

// meter measures windows. What a call does to it is one addition when it begins and one
// when it ends: the starts of all calls less the ends of those that have ended are, with
// the number of calls under way, the time that calls have been under way for, and with
// Little's law that is how long they took, without a word about any of them. There is no
// histogram to fill and nothing to lock.
type meter struct {
	// calls is in its low 16 bits how many calls are under way, and above these the sum of
	// all starts less that of all ends, in units, of which only differences count: it wraps
	// around. Both in one word, since a sum with one start more than the count
	// knows of would be off by as long as the process has been running.
	calls atomic.Uint64

	due   atomic.Int64 // when the window may end
	begun atomic.Int64 // when it began

	overloaded, ignored, waited atomic.Uint64 // calls

	// Of every fourth call, in microseconds.
	squares, lengths, sampled atomic.Uint64

	// What follows is the updater's alone.
	last      reading
	settling  bool    // the window is not to be used
	latency   float64 // smoothed, ns
	variation float64 // smoothed
	mean      float64 // of the sample, smoothed, ns
}

// mostCalls is how many calls a meter can tell from none.
const mostCalls = 1<<16 - 1

const (
	shortest  = int64(50 * time.Millisecond)
	longest   = int64(5 * time.Second)
	patience  = int64(2 * time.Second) // then a window ends with however few calls
	suspended = int64(time.Minute)     // a window so long was none: nobody came
	settled   = int64(500 * time.Millisecond)
)

// reading is what the counters were when the window began.
type reading struct {
	ended, refused, waited, overloaded, ignored uint64

	underWay int64
	area     uint64 // time of all calls, in units, wrapping around at 48 bits
}

func (m *meter) init() { m.due.Store(shortest) }

func (m *meter) begin(now int64) { m.calls.Add(inUnits(now)<<16 + 1) }

// A unit is 64 ns, so that 39 hours of calls in a window are no limit. What is cut off
// comes out the same for starts and ends.
const unit = 64

func inUnits(t int64) uint64 { return uint64(t) / unit }

// end counts the end of a call.
func (m *meter) end(start, now int64, o Outcome) {
	switch o {
	case OK:
	case Overloaded:
		m.overloaded.Add(1)
	default:
		// As if it had ended with the last window, so that this one knows nothing of it.
		now = max(start, m.begun.Load())
		m.ignored.Add(1)
	}
	m.calls.Add(-(inUnits(now)<<16 + 1))
}

// area returns for how long calls have been under way, all together and in units, and how
// many are.
func (m *meter) area(now int64) (area uint64, underWay int64) {
	calls := m.calls.Load()
	return calls&mostCalls*inUnits(now) - calls>>16, int64(calls & mostCalls)
}

// sample notes how long a call took.
func (m *meter) sample(took int64) {
	us := uint64(max(0, min(took, int64(time.Minute)))) / 1000 // the squares of a million fit
	m.squares.Add(us * us)
	m.lengths.Add(us)
	m.sampled.Add(1)
}

// enough is how many calls make a window: the more they differ, the more.
func (m *meter) enough() int64 { return int64(50 * min(max(m.variation, 1), 4)) }

// window ends the window at now and returns it, but for its Limit, or false if it should
// go on, or says nothing. The calls that have ended and those that were refused are
// counted elsewhere.
func (m *meter) window(now int64, hasEnded, refused uint64) (Window, bool) {
	length := now - m.begun.Load()
	r := reading{
		ended:      hasEnded,
		refused:    refused,
		waited:     m.waited.Load(),
		overloaded: m.overloaded.Load(),
		ignored:    m.ignored.Load(),
	}
	over := r.overloaded - m.last.overloaded
	ended := int64((r.ended-m.last.ended)&mostEnded) - int64(r.ignored-m.last.ignored)
	if length <= 0 || length < patience && ended < m.enough() && !m.settling {
		return Window{}, false
	}
	r.area, r.underWay = m.area(now)
	const signed = 64 - 48 // what a call that ended in between is ahead of us by is negative
	area := max(0, int64((r.area-m.last.area)<<signed)>>signed)
	w := Window{
		Length:     time.Duration(length),
		Mean:       unit * float64(area) / float64(length),
		Completed:  int(max(0, ended-int64(over))),
		Overloaded: int(over),
		Refused:    int(r.refused - m.last.refused),
		Waited:     int(r.waited - m.last.waited),
	}
	w.Arrived = int(max(0, ended+r.underWay-m.last.underWay)) + w.Refused
	w.Variation = m.vary()
	// As of times that are distributed log-normally, which those of most services are.
	w.Median = time.Duration(m.mean / math.Sqrt(1+w.Variation))
	m.last = r
	m.begun.Store(now)
	if length >= suspended || m.settling {
		m.settling = false
		m.due.Store(now + m.next(0))
		return Window{}, false
	}
	m.due.Store(now + m.next(w.Latency()))
	return w, true
}

// settle leaves out what follows, for as long as a call takes: the limit was raised, and who
// was let in before that, when there were fewer, still shows.
func (m *meter) settle(now int64, latency time.Duration) {
	m.settling = true
	m.due.Store(now + min(max(int64(m.latency), int64(latency)), settled))
}

// next is how long the next window is at least. Three times what a call takes lets the
// answer to an update show that was not a raise.
func (m *meter) next(latency time.Duration) int64 {
	if latency > 0 {
		if m.latency == 0 {
			m.latency = float64(latency)
		}
		m.latency += 0.3 * (float64(latency) - m.latency)
	}
	return max(shortest, int64(min(3*m.latency, float64(longest))))
}

// vary returns the squared coefficient of variation of how long calls take.
func (m *meter) vary() float64 {
	n := float64(m.sampled.Swap(0))
	lengths, squares := float64(m.lengths.Swap(0)), float64(m.squares.Swap(0))
	if n > 0 {
		mean := 1000 * lengths / n
		if m.mean == 0 {
			m.mean = mean
		}
		m.mean += 0.3 * (mean - m.mean)
	}
	if n > 1 && lengths > 0 {
		v := squares*n/(lengths*lengths) - 1
		m.variation += 0.1 * (max(0, min(v, 100)) - m.variation)
	}
	return m.variation
}
