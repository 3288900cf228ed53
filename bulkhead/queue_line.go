package bulkhead

import (
	"math"
	"time"
)

// line is a list in the order of arrival, from any place of which one may leave. A ring
// would do for those who are served in order; one who leaves its middle would keep a slot
// of it until all before have been served. Its memory grows with its length, and is used
// again.
type line[E any] struct {
	places []place[E] // linked by index; places[0] stands before the first and after the last
	free   int        // the first of those not in use, linked by next; 0: none
	len    int
}

type place[E any] struct {
	value      E
	prev, next int
}

// push puts v at the end, and returns its place.
func (l *line[E]) push(v E) int {
	if l.places == nil {
		l.places = make([]place[E], 1)
	}
	at := l.free
	if at != 0 {
		l.free = l.places[at].next
	} else {
		at = len(l.places)
		l.places = append(l.places, place[E]{})
	}
	last := l.places[0].prev
	l.places[at] = place[E]{v, last, 0}
	l.places[last].next, l.places[0].prev = at, at
	l.len++
	return at
}

// remove takes out what is at a place, and keeps no reference to it.
func (l *line[E]) remove(at int) E {
	p := l.places[at]
	l.places[p.prev].next, l.places[p.next].prev = p.next, p.prev
	l.places[at] = place[E]{next: l.free}
	l.free = at
	l.len--
	return p.value
}

// at returns what is at a place, to look at or change before the next push.
func (l *line[E]) at(at int) *E { return &l.places[at].value }

// first returns the first place of a line that is not empty.
func (l *line[E]) first() int { return l.next(0) }

// next returns the place after another.
func (l *line[E]) next(at int) int { return l.places[at].next }

// meter measures how often something happens, as an average over the past in which the
// weight of each moment falls by 1/e in memory. A count for each of ten seconds would
// forget an event at once, and so jump whenever a burst leaves it.
type meter struct {
	weight float64 // of all events, as of last
	last   int64
}

const (
	memory = float64(10 * time.Second)
	young  = float64(time.Second) // a shorter life is no measure
)

// add counts an event at now, which is nanoseconds since the meter was made.
func (m *meter) add(now int64) {
	// Of two goroutines the later may have read the clock earlier.
	if now > m.last {
		m.weight *= math.Exp(-float64(now-m.last) / memory)
		m.last = now
	}
	m.weight++
}

// rate returns events a second. The weight of the events is divided by that of the time
// that there was for them, so that a life shorter than memory is no bias.
func (m *meter) rate(now int64) float64 {
	weight := m.weight * math.Exp(-float64(max(0, now-m.last))/memory)
	age := max(float64(now), young)
	return weight / (memory * -math.Expm1(-age/memory)) * float64(time.Second)
}
