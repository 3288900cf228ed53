package shed

import (
	"cmp"
	"container/list"
	"math"
	"time"
)

// The queue is short, and ordered by who may go first: by class; within a class fair
// between tenants; and of one tenant's calls the oldest first, until the class has had
// somebody waiting for a while. From then on the newest goes first. In a queue that does
// not empty, the oldest have waited for so long that most of them are of no use any more,
// and first come, first served would make all of them so.

const (
	flows    = 256                           // tenants of a class, hashed
	standing = int64(100 * time.Millisecond) // a queue that was not empty for so long stands
	everyNth = 64                            // grant goes to the lowest class that waits
	resalt   = int64(5 * time.Minute)        // how long two tenants share a flow at most
	never    = int64(math.MaxInt64)
)

// waiter is a call that waits. The Shedder's lock is held around what follows ready.
type waiter struct {
	call
	ready chan struct{} // closed when it has its answer

	element *list.Element // its place; nil: it has left it
	refused denial        // it will have none
	line    *line
	flow    *flow
	since   int64 // when it came
	started int64 // when it had its slot
	charged int64 // of its flow, until it is known how long the call took
}

// flow is what waits for a tenant, or for several who share the hash.
type flow struct {
	waiters list.List
	served  int64 // time that its calls have had, in the line's reckoning
}

// line is what waits of a class.
type line struct {
	flows  [flows]flow
	active []*flow // those with waiters
	length int
	since  int64 // from when on it was not empty
	base   int64 // served of the flow served last: newcomers begin there

	expected int64 // how long a call takes that had to wait, lately
	doubted  int64 // when this was lowered for want of calls
}

type queue struct {
	patience int64 // Config.MaxWait

	lines  [classes + 1]*line // by class; made when first needed
	length int
	since  int64 // from when on it was not empty
	grants int
	salt   uint64
	salted int64
	shares shares
}

// line returns the line of a class.
func (q *queue) line(c Criticality) *line {
	if q.lines[c] == nil {
		q.lines[c] = new(line)
	}
	return q.lines[c]
}

// flow returns the flow of a call in its line. Two tenants who share one by bad luck do
// so for five minutes at most, if the queue is ever empty.
func (q *queue) flow(l *line, c call) *flow {
	h := (c.tenant ^ q.salt) * 0x9e3779b97f4a7c15
	return &l.flows[h>>(64-8)]
}

// push has a call wait.
func (q *queue) push(now int64, c call) *waiter {
	if q.length == 0 && now-q.salted > resalt {
		q.salt, q.salted = q.salt+0xd1b54a32d192ed03, now
	}
	l := q.line(c.class)
	if q.length == 0 {
		q.since = now
	}
	f := q.flow(l, c)
	if f.waiters.Len() == 0 {
		// Who was away has no claim to what it did not use then.
		f.served = max(f.served, l.base)
		l.active = append(l.active, f)
	}
	if l.length == 0 {
		l.since = now
	}
	w := &waiter{call: c, ready: make(chan struct{}), line: l, flow: f, since: now}
	w.element = f.waiters.PushBack(w)
	l.length++
	q.length++
	return w
}

// remove takes w out of its line.
func (q *queue) remove(now int64, w *waiter) {
	l, f := w.line, w.flow
	q.shares.waited(now, w.class, now-w.since)
	f.waiters.Remove(w.element)
	w.element = nil
	l.length--
	q.length--
	if f.waiters.Len() != 0 {
		return
	}
	for i, other := range l.active {
		if other == f {
			last := len(l.active) - 1
			l.active[i], l.active[last] = l.active[last], nil
			l.active = l.active[:last]
			return
		}
	}
}

// next returns who goes next, without taking it out.
func (q *queue) next(now int64) *waiter {
	l := q.highest()
	if (q.grants+1)%everyNth == 0 {
		l = cmp.Or(q.lowestAllowed(), l) // or it could wait for ever
	}
	if l == nil {
		return nil
	}
	f := l.active[0]
	for _, other := range l.active[1:] {
		if other.served < f.served {
			f = other
		}
	}
	e := f.waiters.Front()
	if q.overloaded(l) && now-l.since > standing {
		e = f.waiters.Back()
	}
	return e.Value.(*waiter) //nolint:errcheck // there is nothing else
}

// grant takes w out with a slot. Its flow is charged what calls of its class take.
func (q *queue) grant(now int64, w *waiter) {
	w.line.base = w.flow.served
	w.charged = max(1, w.line.expected)
	w.flow.served += w.charged
	q.grants++
	q.shares.held[w.class]++
	q.remove(now, w)
}

// settle notes how long a call took that had waited: for its tenant, in place of what was
// expected, and for what is expected of its class.
func (q *queue) settle(w *waiter, took int64, o Outcome) {
	q.shares.held[w.class]--
	w.flow.served += took - w.charged
	switch l := w.line; {
	case o != OK:
	case l.expected == 0:
		l.expected = took
	default:
		l.expected += (took - l.expected) / 16
	}
}

// late reports whether a call would hardly be done by its deadline.
func (q *queue) late(now int64, c *call) bool {
	l := q.lines[c.class]
	if l == nil || c.deadline-now >= l.expected {
		return false
	}
	// What is not let through teaches nothing of how long it would take. So it becomes a
	// little more likely that the next is.
	if now-l.doubted > standing {
		l.expected, l.doubted = l.expected-l.expected/64, now
	}
	return true
}

// stale reports whether w has waited for too long to be of use in a queue that stands.
// Without this, a lull would bring up the oldest, whose clients have mostly left.
func (q *queue) stale(now int64, w *waiter) bool {
	return q.overloaded(w.line) && now-w.line.since > q.patience && now-w.since > q.patience/2
}

// overloaded reports whether it is this line that has too many: the lowest that waits. Those
// above it only have to wait for a moment, however long it seems to them.
func (q *queue) overloaded(l *line) bool { return l == q.lowest() }

// stands reports whether somebody has been waiting for a while without a break.
func (q *queue) stands(now int64) bool { return q.length > 0 && now-q.since > standing }

// victim returns who must make room for a call: the oldest of the most crowded flow in
// the lowest class, if that is below the call's, or more crowded than its own would be.
// If it is nil, the call itself has to go.
func (q *queue) victim(now int64, c call) *waiter {
	l := q.lowest()
	crowded := l.active[0]
	for _, f := range l.active[1:] {
		if f.waiters.Len() > crowded.waiters.Len() {
			crowded = f
		}
	}
	oldest := crowded.waiters.Front().Value.(*waiter) //nolint:errcheck // as in next
	if oldest.class <= c.class && q.stale(now, oldest) {
		return oldest
	}
	if oldest.class > c.class ||
		oldest.class == c.class && q.flow(l, c).waiters.Len()+1 >= crowded.waiters.Len() {
		return nil
	}
	return oldest
}

// overShare reports whether a call has to go since more of its tenant wait than of others in
// the class, on average. Who has said nothing of its tenant shares with nobody. It is one
// more than wait, or none.
func (q *queue) overShare(c call, more int) bool {
	l := q.lines[c.class]
	if c.tenant == 0 || l == nil || l != q.lowest() {
		return false
	}
	return (q.flow(l, c).waiters.Len()+more)*len(l.active) > l.length+more
}

// highest returns the line of the highest class that waits and may have another slot.
func (q *queue) highest() *line {
	for c := CriticalPlus; c >= BestEffort; c-- {
		if l := q.lines[c]; l != nil && l.length > 0 && q.shares.allow(c) {
			return l
		}
	}
	return nil
}

// lowestAllowed returns that of the lowest.
func (q *queue) lowestAllowed() *line {
	for c := BestEffort; c <= CriticalPlus; c++ {
		if l := q.lines[c]; l != nil && l.length > 0 && q.shares.allow(c) {
			return l
		}
	}
	return nil
}

func (q *queue) lowest() *line {
	for c := BestEffort; c <= CriticalPlus; c++ {
		if l := q.lines[c]; l != nil && l.length > 0 {
			return l
		}
	}
	return nil
}
