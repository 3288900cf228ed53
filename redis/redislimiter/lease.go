package redislimiter

import (
	"math"
	"time"
)

// terms are how tokens of a limit are leased.
type terms struct {
	gap  time.Duration // between two questions for a key
	life time.Duration // of a token, from before it was asked for
	most int64         // tokens in a batch

	// leave is what a question leaves in the bucket, in ticks: as much as comes in
	// during a life. Tokens that are used in a stretch of time were taken in one that is
	// longer by a life, and so the Burst is kept all the same.
	leave int64
}

// newTerms reports whether leasing is of any use: there has to be more than a token in a
// gap, and the bucket must have room for what is left in it.
func newTerms(p *plan, gap time.Duration) (terms, bool) {
	if gap <= 0 || p.burst < 4 || p.cost == 0 {
		return terms{}, false
	}
	gap = min(gap, time.Duration(p.full/ticksPerNano/4))
	t := terms{gap: gap, life: 2 * gap, leave: int64(2*gap) * ticksPerNano}
	t.most = (p.full - t.leave) / p.cost
	return t, int64(gap)*ticksPerNano >= p.cost
}

// moment is a time on two clocks. The monotonic one does not step, but on most systems it
// stands still while the machine is suspended; the wall clock steps, but knows of that.
type moment struct {
	mono time.Duration
	wall int64 // nanoseconds
}

// batch is tokens that were taken together, and when they are void.
type batch struct {
	n   int64
	end moment
}

// at is how many of them there still are. Either clock can end them: by one alone tokens
// would live through a suspend, or a step back of the wall clock.
func (b *batch) at(now moment) int64 {
	if now.mono >= b.end.mono || now.wall >= b.end.wall {
		b.n = 0
	}
	return b.n
}

// lease is the tokens that are here of one key. It has no lock and no clock.
type lease struct {
	plan  plan
	old   batch // of the question before the last, used first
	young batch

	size   int64         // of the batch that Redis was asked for last; 0: never yet
	next   time.Duration // until when it should not be asked again
	last   moment        // when the count began
	demand int64         // of tokens that callers wanted
	perGap float64       // how many that are in a gap

	dry  bool          // there were fewer tokens than were asked for
	rest int           // tokens left there
	full time.Duration // when the bucket there will be

	asking bool
	wait   chan struct{} // closed when asking ends, if anybody waits for it
}

// has is how many tokens there are.
func (l *lease) has(now moment) int64 { return l.old.at(now) + l.young.at(now) }

// take takes from least to most.
func (l *lease) take(now moment, most, least int64) (int64, bool) {
	has := l.has(now)
	if has < least {
		return 0, false
	}
	n := min(most, has)
	old := min(n, l.old.n)
	l.old.n -= old
	l.young.n -= n - old
	l.demand += n
	return n, true
}

// refuses reports whether Redis need not be asked, since it had nothing left a moment
// ago. Without that a key in demand would be asked for by each call, for the token that
// has just come in.
func (l *lease) refuses(now moment) bool { return l.dry && now.mono < l.next }

// due reports whether it is time to ask for more before these are used up.
func (l *lease) due(now moment) bool {
	return !l.asking && l.size > 1 && now.mono >= l.next && 2*l.has(now) <= l.size
}

// ask begins a question, and returns how many tokens to ask for: what will be wanted
// until the next, less what there is. It may come early, because so many calls came at
// once; then the next is put off by as much.
func (l *lease) ask(now moment, most int64, t *terms) int64 {
	gaps := float64(now.mono-l.last.mono) / float64(t.gap)
	if now.mono >= l.next {
		l.learn(gaps)
		l.last, l.demand, gaps = now, 0, 0
	}
	l.next = min(max(now.mono, l.next)+t.gap, now.mono+t.life)
	l.asking = true
	size := (l.perGap + l.room(t)) * float64(l.next-now.mono) / float64(t.gap)
	if l.rises(gaps) { // ask for as many as came, and so for twice as many each time
		size = max(size, float64(l.demand))
	}
	l.size = max(most, int64(min(size, float64(t.most))))
	return max(most, l.size-l.has(now))
}

// learn draws on what came within some gaps.
func (l *lease) learn(gaps float64) {
	lately := float64(l.demand) / max(1, gaps)
	if l.size == 0 || gaps >= 4 || l.rises(gaps) {
		l.perGap = lately
	}
	l.perGap = (l.perGap + lately) / 2
}

// rises reports whether within some gaps there came more than it can be by chance: calls
// that do not know of each other come in numbers that differ by their square root.
func (l *lease) rises(gaps float64) bool {
	usual := l.perGap * max(1, gaps)
	return float64(l.demand) > usual+3*math.Sqrt(usual)+1
}

// room is how many tokens more to have than are wanted in a usual gap, so that seldom a
// question comes early: the square root again. But where there is little left there is
// little to spare: what is void here would have been of use elsewhere.
func (l *lease) room(t *terms) float64 {
	left := float64(l.rest) - float64(t.leave)/float64(l.plan.cost)
	return min(math.Sqrt(l.perGap)+1, max(0, left)/20)
}

// answered ends a question that was begun at a time, with what Redis said to it.
func (l *lease) answered(begun, now moment, wanted int64, a answer, t *terms, jitter float64) {
	end := moment{begun.mono + t.life, begun.wall + int64(t.life)}
	switch {
	case l.young.at(now) == 0:
		l.young = batch{a.n, end}
	case l.old.at(now) == 0:
		l.old, l.young = l.young, batch{a.n, end}
	default:
		l.young.n += a.n // and are void a little before they need be
	}
	l.rest, l.full = l.plan.remaining(a.debt), begun.mono+duration(a.debt)
	if l.dry = a.n < wanted; l.dry {
		// A fifth more at random, or replicas that found it dry together would ask
		// together, and the first would have it all, for ever.
		gap := time.Duration(float64(t.gap) * (1 + .2*jitter))
		l.next = begun.mono + max(gap, l.plan.wait(a.debt, t.leave, 1))
	}
}

// ended says that a question is over, whatever came of it, and returns the channel on
// which others wait for that, if any do.
func (l *lease) ended() chan struct{} {
	wait := l.wait
	l.asking, l.wait = false, nil
	return wait
}

// idle reports whether nothing is lost if l is forgotten.
func (l *lease) idle(now moment) bool {
	return !l.asking && !l.refuses(now) && l.has(now) == 0
}
