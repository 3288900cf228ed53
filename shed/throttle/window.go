package throttle

import "sync/atomic"

// classes is how many classes of criticality there are. Here they are counted from 0,
// the least critical.
const classes = 5

// buckets is how many parts a window is cut into. With ten, a window reaches back
// between nine and ten tenths of its length.
const buckets = 10

// counts are what the throttle goes by.
type counts struct {
	requests [classes]uint64 // accepted, rejected or refused here, by class
	accepted uint64          // of all classes
}

func (c *counts) minus(d *counts) counts {
	less := counts{accepted: c.accepted - d.accepted}
	for i := range less.requests {
		less.requests[i] = c.requests[i] - d.requests[i]
	}
	return less
}

// probability returns how likely a call of a class must be refused, so that what is sent
// is no more than k times what was accepted, and goes to the higher classes first. Of
// one class alone this is the formula of the book.
func (c *counts) probability(k float64, class int) float64 {
	upTo := uint64(0)
	for _, n := range c.requests[class:] {
		upTo += n
	}
	excess := float64(upTo) - k*float64(c.accepted)
	return min(1, max(0, excess/float64(c.requests[class]+1)))
}

// tally are the calls of one class. They only grow.
type tally struct {
	accepted, rejected, refused, ignored atomic.Uint64
}

// window counts calls over a sliding span of time. Its counters only grow; what slides
// is a short list of marks, each of them what the counters read when a bucket began. So
// to count a call is one atomic addition, and nothing is lost between the choice of a
// bucket and its clearing, as it is where buckets are cleared.
//
// Times are nanoseconds since any fixed moment, never negative.
type window struct {
	width  int64 // of a bucket
	rollAt atomic.Int64
	newest atomic.Pointer[mark]
	class  [classes]tally
}

// A mark begins a bucket.
type mark struct {
	bucket int64  // time divided by the width
	at     counts // what was counted before it
	older  atomic.Pointer[mark]
}

func (w *window) total() counts {
	var c counts
	for i := range w.class {
		t := &w.class[i]
		accepted := t.accepted.Load()
		c.accepted += accepted
		c.requests[i] = accepted + t.rejected.Load() + t.refused.Load()
	}
	return c
}

// roll begins a new bucket if now is beyond the newest one. It comes before counting.
func (w *window) roll(now int64) {
	if now >= w.rollAt.Load() {
		w.rollSlow(now)
	}
}

// rollSlow allocates 64 bytes once per bucket. Racing callers make one mark each and
// throw away all but one.
func (w *window) rollSlow(now int64) {
	newest := w.newest.Load()
	if bucket := now / w.width; newest == nil || newest.bucket < bucket {
		m := &mark{bucket: bucket, at: w.total()}
		m.older.Store(newest)
		if w.newest.CompareAndSwap(newest, m) {
			m.trim()
		}
		newest = w.newest.Load()
	}
	// A racing caller with an earlier bucket may store last. Then the next call comes
	// here once more and puts it right.
	w.rollAt.Store((newest.bucket + 1) * w.width)
}

// trim cuts off the marks that have left the window by the time m is the newest.
func (m *mark) trim() {
	inside := m
	for {
		older := inside.older.Load()
		if older == nil {
			return
		}
		if older.bucket <= m.bucket-buckets {
			inside.older.Store(nil)
			return
		}
		inside = older
	}
}

// marks returns the oldest mark that is inside the window at now, and that of the last
// bucket before now's in which there was a call, or nils where there is none.
func (w *window) marks(now int64) (oldest, recent *mark) {
	bucket := now / w.width
	for m := w.newest.Load(); m != nil && m.bucket > bucket-buckets; m = m.older.Load() {
		if recent == nil || recent.bucket >= bucket {
			recent = m
		}
		oldest = m
	}
	return oldest, recent
}

// probability returns how likely a call of a class must be refused at now: the lesser of
// what the window says and what its two newest buckets say alone. The two agree while
// things stay as they are. When the other side takes more again, the window as a whole
// would have what is sent double in a third of its length, if K is 2, and so not come to
// much before the window is over; the newest buckets have it double in a second or two. To
// refuse more it takes the whole window: a moment is no overload.
func (w *window) probability(now int64, k float64, class int) float64 {
	oldest, recent := w.marks(now)
	if oldest == nil {
		return 0
	}
	total := w.total()
	since := total.minus(&oldest.at)
	p := since.probability(k, class)
	if p == 0 || recent == oldest {
		return p
	}
	since = total.minus(&recent.at)
	return min(p, since.probability(k, class))
}
