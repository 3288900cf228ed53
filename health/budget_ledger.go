package health

import (
	"sync/atomic"
	"time"
)

// A ledger counts good and bad events by time. It has no lock, no clock and no context;
// its times are nanoseconds since it was made. Counting is safe for concurrent use, all
// else is for one caller at a time.
//
// Its counters only grow. What slides are the readings of them that each span keeps. So
// an event is one addition, however many windows it falls into; and one that is counted
// while the spans are rolled is never lost, as it would be from a bucket that is cleared.
type ledger struct {
	allowed float64 // the share of all events that may be bad
	window  int64

	rollAt atomic.Int64 // when the first bucket of any span ends
	spans  []span       // one for each pair in use, and that of the window
	names  atomic.Pointer[map[string]*culprit]

	_    [64]byte // what is written for every event, apart from what is read for it
	good atomic.Uint64
	bad  atomic.Uint64
}

// perSpan is how many buckets a span has. The short window of a pair is a twelfth of the
// long one, so that ten of the same buckets are the short one.
const (
	perSpan  = 120
	perShort = perSpan / 12
)

// A span is a stretch of time in buckets. It reaches back between 119 and 120 of them.
type span struct {
	width  int64
	newest int64            // bucket: time divided by the width
	marks  [perSpan]reading // by bucket: what the counters read when it began
}

type reading struct{ good, bad uint64 }

// A culprit is a name that bad events are counted for, with the marks of the window.
type culprit struct {
	bad   atomic.Uint64
	marks [perSpan]uint64
}

// A pair is two windows whose burn rates raise an alert together. The long one says that
// it is worth it, the short one that it is still so.
type pair struct {
	long  time.Duration
	spent float64 // the share of the budget that is spent in long at the threshold
	page  bool
}

// burnPairs returns those of The Site Reliability Workbook (2018), chapter 5, section 6.
func burnPairs() [4]pair {
	return [...]pair{
		{time.Hour, 0.02, true},
		{6 * time.Hour, 0.05, true},
		{24 * time.Hour, 0.1, false},
		{72 * time.Hour, 0.1, false},
	}
}

func newLedger(objective float64, window time.Duration) *ledger {
	l := &ledger{allowed: float64(lacking(objective)) / trillion, window: int64(window)}
	pairs := burnPairs()
	l.spans = make([]span, 0, len(pairs)+1)
	for _, p := range pairs {
		if p.long <= window {
			l.spans = append(l.spans, span{width: int64(p.long) / perSpan})
		}
	}
	l.spans = append(l.spans, span{width: int64(window) / perSpan})
	l.names.Store(&map[string]*culprit{})
	l.roll(0)
	return l
}

// roll begins the buckets that are due at now. It comes before counting. A time that
// is behind, that of a caller who was held up, does nothing.
func (l *ledger) roll(now int64) {
	at := reading{l.good.Load(), l.bad.Load()}
	for i := range l.spans {
		s := &l.spans[i]
		bucket := now / s.width
		for b := s.first(bucket); b <= bucket; b++ {
			s.marks[b%perSpan] = at
			if i == len(l.spans)-1 {
				l.mark(b)
			}
		}
		s.newest = max(s.newest, bucket)
	}
	next := l.spans[0].end()
	for i := range l.spans {
		next = min(next, l.spans[i].end())
	}
	l.rollAt.Store(next)
}

// first returns the first bucket to mark on the way to bucket. After a long time without
// events only those that can still be looked at are.
func (s *span) first(bucket int64) int64 { return max(s.newest+1, bucket-perSpan+1) }

func (s *span) end() int64 { return (s.newest + 1) * s.width }

// mark notes what is counted for each culprit when a bucket of the window begins.
func (l *ledger) mark(bucket int64) {
	for _, c := range *l.names.Load() {
		c.marks[bucket%perSpan] = c.bad.Load()
	}
}

// since returns the bucket whose mark begins the newest n buckets, and false if there was
// none: then everything counts.
func (s *span) since(n int64) (index int64, ok bool) {
	bucket := s.newest - n + 1
	return max(bucket, 0) % perSpan, bucket >= 0
}

// recent returns what was counted in the newest n buckets of a span. The ledger must have
// been rolled.
func (l *ledger) recent(s *span, n int64) reading {
	// Bad ones first: a good one too many makes less of an alarm than a bad one.
	bad := l.bad.Load()
	total := reading{l.good.Load(), bad}
	i, ok := s.since(n)
	if !ok {
		return total
	}
	return reading{total.good - s.marks[i].good, total.bad - s.marks[i].bad}
}

func (l *ledger) whole() *span { return &l.spans[len(l.spans)-1] }

// burn returns how many times as fast as the budget allows it is spent: 1 spends all of it
// in the window.
func (l *ledger) burn(r reading) float64 {
	if r.bad == 0 {
		return 0
	}
	return float64(r.bad) / float64(r.good+r.bad) / l.allowed
}

// threshold returns the burn rate at which a pair raises its alert. At less than 1 the
// budget lasts, whatever part of it is spent in an hour of so short a window. And where the
// objective is low, even an outage does not burn fast enough for some pairs; they should
// see it all the same.
func (l *ledger) threshold(p pair) float64 {
	most := 1 / l.allowed
	return min(max(1, p.spent*float64(l.window)/float64(p.long)), 0.9*most)
}

// spent returns the share of the budget that so many bad events are. Until the ledger is as
// old as its window, the rest of it is taken to bring as many events as there were so
// far: of a hundred requests none may fail, but of those of a month some hundred.
func (l *ledger) spent(now int64, bad uint64) float64 {
	if bad == 0 {
		return 0
	}
	r := l.recent(l.whole(), perSpan)
	age := max(now, int64(time.Minute))
	scale := max(1, float64(l.window)/float64(age))
	return float64(bad) / (float64(max(r.good+r.bad, bad)) * l.allowed * scale)
}

// blamed returns what was counted for a culprit within the window.
func (l *ledger) blamed(c *culprit) uint64 {
	bad := c.bad.Load()
	i, ok := l.whole().since(perSpan)
	if !ok {
		return bad
	}
	return bad - c.marks[i]
}
