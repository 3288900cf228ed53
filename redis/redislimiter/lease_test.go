package redislimiter_test

import (
	"testing"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

const ms = time.Millisecond

// newLease returns a lease of 1000/s with a Burst of 200 and a gap of 50 ms: 50 tokens come
// in during a gap, and 100 can be had at once.
func newLease(t *testing.T) *redislimiter.Lease {
	t.Helper()
	l, ok := redislimiter.NewLease(of(1000, 200), 50*ms)
	if !ok {
		t.Fatal("there is nothing to lease")
	}
	return l
}

// give lets l ask and have so many tokens.
func give(l *redislimiter.Lease, now time.Duration, n int64) {
	wanted := l.Ask(now)
	l.Answer(now, now, min(wanted, n), n, 0, 0)
}

func TestTerms(t *testing.T) {
	for _, test := range []struct {
		limit       limiter.Limit
		gap         time.Duration
		want, life  time.Duration
		most, leave int64
		ok          bool
	}{
		{of(1000, 1000), 50 * ms, 50 * ms, 100 * ms, 900, 100, true},
		{of(1000, 20), 50 * ms, 5 * ms, 10 * ms, 10, 10, true},
		{of(1000, 4), 50 * ms, 1 * ms, 2 * ms, 2, 2, true},
		{of(20, 1000), 50 * ms, 50 * ms, 100 * ms, 998, 2, true},
		{of(19, 1000), 50 * ms, 0, 0, 0, 0, false}, // less than a token in a gap
		{of(1000, 3), 50 * ms, 0, 0, 0, 0, false},
		{of(1000, 1000), 0, 0, 0, 0, 0, false},
		{of(0, 0), 50 * ms, 0, 0, 0, 0, false},
	} {
		l, ok := redislimiter.NewLease(test.limit, test.gap)
		if ok != test.ok {
			t.Errorf("%v, gap %v: %v", test.limit, test.gap, ok)
		}
		if !ok {
			continue
		}
		gap, life, most, leave := l.Terms()
		if gap != test.want || life != test.life || most != test.most || leave != test.leave {
			t.Errorf("%v, gap %v: %v, %v, %v, %v", test.limit, test.gap, gap, life, most, leave)
		}
	}
}

// Tokens are void by either clock: the monotonic one stands still while a machine is
// suspended, and the wall clock can be set back.
func TestTokensAreVoid(t *testing.T) {
	for _, test := range []struct {
		name       string
		mono, wall time.Duration
		want       int64
	}{
		{"at once", 0, 0, 10},
		{"shortly before", 100*ms - 1, 100*ms - 1, 10},
		{"when they are", 100 * ms, 100 * ms, 0},
		{"after a suspend", 1 * ms, time.Hour, 0},
		{"after one that was just as long", 1 * ms, 100 * ms, 0},
		{"with the wall clock set back", 100 * ms, -time.Hour, 0},
		{"before that is over", 99 * ms, -time.Hour, 10},
	} {
		l := newLease(t)
		give(l, 0, 10)
		if got := l.HasAt(test.mono, test.wall); got != test.want {
			t.Errorf("%s: %d tokens, want %d", test.name, got, test.want)
		}
	}
}

// The life begins when they are asked for, and not when the answer comes.
func TestTokensOfALateAnswer(t *testing.T) {
	l := newLease(t)
	l.Answer(0, 90*ms, 10, 10, 0, 0)
	if l.Has(99*ms) != 10 || l.Has(100*ms) != 0 {
		t.Errorf("%+v", l)
	}
	l.Answer(200*ms, 300*ms, 10, 10, 0, 0)
	if l.Has(300*ms) != 0 {
		t.Errorf("%+v", l)
	}
}

func TestTakeTheOldFirst(t *testing.T) {
	l := newLease(t)
	give(l, 0, 10)
	give(l, 50*ms, 10)
	if n, ok := l.Take(60*ms, 12, 1); n != 12 || !ok {
		t.Errorf("%d, %v", n, ok)
	}
	if has := l.Has(100 * ms); has != 8 {
		t.Errorf("%d are left, want the 8 young ones", has)
	}
	if n, ok := l.Take(100*ms, 20, 9); n != 0 || ok {
		t.Errorf("%d, %v", n, ok)
	}
	if n, ok := l.Take(100*ms, 20, 8); n != 8 || !ok {
		t.Errorf("%d, %v", n, ok)
	}
	// A third batch while there are two has the life of the second.
	give(l, 200*ms, 5)
	give(l, 220*ms, 5)
	give(l, 240*ms, 5)
	if l.Has(299*ms) != 15 || l.Has(300*ms) != 10 || l.Has(320*ms) != 0 {
		t.Errorf("%+v", l)
	}
}

// A key in steady demand is asked for once a gap, before its tokens are used up, and has as
// many as came in the last gaps and their square root more.
func TestSteadyDemand(t *testing.T) {
	l := newLease(t)
	asked := 0
	for now := time.Duration(0); now < time.Second; now += ms { // 1000/s
		_, ok := l.Take(now, 1, 1)
		if ok && !l.Due(now) {
			continue
		}
		if !ok {
			l.Want(1)
		}
		if asked++; now > 400*ms && now < l.Next() {
			t.Errorf("asked early, at %v", now)
		}
		n := l.Ask(now)
		l.Answer(now, now, n, n, 0, 0)
	}
	if asked > 20+8 || l.Size() < 54 || l.Size() > 60 {
		t.Errorf("asked %d times, and had %d for a gap", asked, l.Size())
	}
}

// A demand that rises all at once is found out in a few questions.
func TestRise(t *testing.T) {
	l := newLease(t)
	asked := 0
	for range 100 {
		if _, ok := l.Take(0, 1, 1); ok {
			continue
		}
		asked++
		l.Want(1)
		n := l.Ask(0)
		l.Answer(0, 0, n-1, n-1, 0, 0)
	}
	if asked > 9 {
		t.Errorf("asked %d times for 100 tokens", asked)
	}
}

// Questions that came early put off the next, but not for longer than tokens live.
func TestEarlyQuestions(t *testing.T) {
	l := newLease(t)
	for i, next := range []time.Duration{50 * ms, 100 * ms, 120 * ms, 130 * ms, 180 * ms} {
		now := time.Duration(i) * 10 * ms
		if i == 4 {
			now = 130 * ms // when it may be again
		}
		if give(l, now, 100); l.Next() != next {
			t.Errorf("asked at %v: next at %v, want %v", now, l.Next(), next)
		}
	}
}

// Where there was less than was asked for nobody asks for a gap, and a fifth more at random;
// or until there can be a token.
func TestDry(t *testing.T) {
	for _, test := range []struct {
		owes   int64
		jitter float64
		want   time.Duration
	}{
		{100, 0, 50 * ms},
		{100, 1, 60 * ms},
		{100, .5, 55 * ms},
		{200, 0, 101 * ms},
		{160, 1, 61 * ms},
	} {
		l := newLease(t)
		l.Ask(0)
		l.Answer(0, ms, 10, 3, test.owes, test.jitter)
		if !l.Refuses(test.want-1) || l.Refuses(test.want) {
			t.Errorf("%+v: refuses until %v", test, l.Next())
		}
		if l.Due(ms) || l.Idle(ms) {
			t.Errorf("%+v: due, or idle", test)
		}
	}
}

func TestIdle(t *testing.T) {
	l := newLease(t)
	if !l.Idle(0) {
		t.Error("a new one is not idle")
	}
	n := l.Ask(0)
	if l.Idle(time.Hour) {
		t.Error("idle while asking")
	}
	l.Answer(0, 0, n, n, 0, 0)
	if l.Idle(99*ms) || !l.Idle(100*ms) {
		t.Error("idle with tokens, or not without")
	}
}

func TestGuard(t *testing.T) {
	var g redislimiter.Guard
	if !g.Failed(0) || g.Failed(ms) || g.Until() != 100*ms {
		t.Errorf("%+v", g)
	}
	if g.Due(100*ms-1) || !g.Due(100*ms) || g.Due(100*ms) {
		t.Errorf("not one probe when the pause is over: %+v", g)
	}
	now := 100 * ms
	for _, pause := range []time.Duration{
		200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3000 * ms, 3000 * ms,
	} {
		g.Probed(now, false)
		if g.Until() != now+pause || g.Due(g.Until()-1) || !g.Due(g.Until()) {
			t.Errorf("%v: %+v", pause, g)
		}
		now = g.Until()
	}
	if g.Probed(now, true); g.Until() != 0 {
		t.Errorf("%+v", g)
	}
	// In doubt, while it is closed: a probe that fails opens it.
	if !g.Due(now) || g.Due(now) || g.Until() != 0 {
		t.Errorf("%+v", g)
	}
	if g.Probed(now, false); g.Until() != now+100*ms {
		t.Errorf("%+v", g)
	}
}
