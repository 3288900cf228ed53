package breaker

import "sync/atomic"

// buckets is how many parts a window is cut into. With ten, a window reaches back
// between nine and ten tenths of its length.
const buckets = 10

// counts are numbers of calls by how they ended. Slow counts succeeded and failed
// calls again that were slow; slowIgnored counts ignored ones that were.
type counts struct {
	succeeded, failed, slow, slowIgnored uint64
}

func (c counts) minus(d counts) counts {
	return counts{
		succeeded:   c.succeeded - d.succeeded,
		failed:      c.failed - d.failed,
		slow:        c.slow - d.slow,
		slowIgnored: c.slowIgnored - d.slowIgnored,
	}
}

func (c counts) plus(d counts) counts {
	return counts{
		succeeded:   c.succeeded + d.succeeded,
		failed:      c.failed + d.failed,
		slow:        c.slow + d.slow,
		slowIgnored: c.slowIgnored + d.slowIgnored,
	}
}

// tally are counts that only grow, safe for concurrent use.
type tally struct {
	succeeded, failed, slow, slowIgnored atomic.Uint64
}

// count counts a call. An outcome that is none of the three is a failure.
func (t *tally) count(outcome Outcome, slow bool) {
	switch {
	case outcome == Ignored && slow:
		t.slowIgnored.Add(1)
		return
	case outcome == Ignored:
		return
	case outcome == Success:
		t.succeeded.Add(1)
	default:
		t.failed.Add(1)
	}
	if slow {
		t.slow.Add(1)
	}
}

func (t *tally) total() counts {
	return counts{
		succeeded:   t.succeeded.Load(),
		failed:      t.failed.Load(),
		slow:        t.slow.Load(),
		slowIgnored: t.slowIgnored.Load(),
	}
}

// add adds c.
func (t *tally) add(c counts) {
	t.succeeded.Add(c.succeeded)
	t.failed.Add(c.failed)
	t.slow.Add(c.slow)
	t.slowIgnored.Add(c.slowIgnored)
}

// window counts calls over a sliding span of time. Its counters only grow; what
// slides is a short list of marks, each of them what the counters read when a
// bucket began. Counting a call is one atomic addition, and what the window holds
// is the difference to the oldest mark that is still inside.
//
// The alternative, a ring of buckets that are cleared and counted into, loses what
// is counted between the choice of a bucket and its clearing.
//
// Times are nanoseconds since any fixed moment, never negative.
type window struct {
	tally
	width  int64        // of a bucket; 0: calls are not counted by time
	rollAt atomic.Int64 // the end of the newest bucket
	newest atomic.Pointer[mark]
}

// A mark begins a bucket.
type mark struct {
	bucket int64  // time divided by the width
	at     counts // what was counted before it
	older  atomic.Pointer[mark]
}

// roll begins a new bucket if now is beyond the newest one. It comes before
// counting.
func (w *window) roll(now int64) {
	if now >= w.rollAt.Load() {
		w.rollSlow(now)
	}
}

// rollSlow allocates 48 bytes once per bucket. Racing callers make one mark each
// and throw away all but one.
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
	// A racing caller with an earlier bucket may store last. Then the next call
	// comes here once more and puts it right.
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

// recent returns what was counted in the buckets that are inside the window at
// now. It changes nothing, so what it says of an idle breaker is never stale.
func (w *window) recent(now int64) counts {
	left := now/w.width - buckets // the newest bucket that has left
	var oldest *mark
	for m := w.newest.Load(); m != nil && m.bucket > left; m = m.older.Load() {
		oldest = m
	}
	if oldest == nil {
		return counts{}
	}
	return w.total().minus(oldest.at)
}

// streak is a run of failures without a success between them: how many, and since
// when. Both are in one word, so that they can't disagree: 40 bits of milliseconds,
// enough for thirty years, above 24 bits of length. The zero streak is none.
type streak struct {
	word atomic.Uint64
}

const (
	lengthBits = 24
	maxLength  = 1<<lengthBits - 1
)

// end ends the run. Where there is none it only reads.
func (s *streak) end() {
	if s.word.Load() != 0 {
		s.word.Store(0)
	}
}

// extend adds a failure at now and returns the length of the run, and how long
// before now its first failure was.
func (s *streak) extend(now int64) (length, lasting int64) {
	const ms = 1e6
	for {
		old := s.word.Load()
		since, n := old>>lengthBits, old&maxLength
		if n == 0 {
			since = uint64((now + ms - 1) / ms) // rounded up: never too long
		}
		n = min(n+1, maxLength)
		if s.word.CompareAndSwap(old, since<<lengthBits|n) {
			return int64(n), max(0, now-int64(since*ms))
		}
	}
}
