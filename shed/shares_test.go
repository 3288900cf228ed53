package shed

import (
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// holding is what lower classes hold: two slots of BestEffort and three of Sheddable.
func holding() *shares {
	s := &shares{}
	s.held[BestEffort], s.held[Sheddable] = 2, 3
	return s
}

func (s *shares) want(t *testing.T, allowed ...Criticality) {
	t.Helper()
	for c := BestEffort; c <= CriticalPlus; c++ {
		want := false
		for _, a := range allowed {
			want = want || a == c
		}
		if s.allow(c) != want {
			t.Errorf("class %v is allowed: %v; %+v", c, !want, *s)
		}
	}
}

// Who has waited for long has those below do with one slot less than they hold, and nobody
// else with any.
func TestSharesAreCut(t *testing.T) {
	s := holding()
	s.waited(1000*ms, Critical, 50*ms-1)
	s.waited(1000*ms, BestEffort, 500*ms) // there is nobody below
	s.want(t, BestEffort, Sheddable, SheddablePlus, Critical, CriticalPlus)
	s.waited(1000*ms, Critical, 50*ms)
	s.want(t, Critical, CriticalPlus)
	s.held[Sheddable] = 1 // two have ended: now there is room for one of any
	s.want(t, BestEffort, Sheddable, SheddablePlus, Critical, CriticalPlus)
	s.held[SheddablePlus] = 1
	s.want(t, Critical, CriticalPlus)
}

// What happens within 50 ms has one reason; and a class that is kept from slots itself waits
// for no lower one.
func TestSharesAreNotCutTwice(t *testing.T) {
	s := holding()
	s.waited(1000*ms, Critical, 60*ms)
	s.waited(1049*ms, Critical, 60*ms)
	s.waited(1100*ms, Sheddable, 60*ms)
	if s.most != [classes + 1]int{SheddablePlus: 4} {
		t.Errorf("%+v", *s)
	}
	s.held[Sheddable] = 2
	s.waited(1150*ms, Critical, 60*ms)
	if s.most != [classes + 1]int{SheddablePlus: 3} {
		t.Errorf("%+v", *s)
	}
}

// One slot is left to the lower classes in any case, and all come back when nothing goes
// wrong.
func TestSharesComeBack(t *testing.T) {
	s := &shares{}
	s.held[Sheddable] = 1
	s.waited(1000*ms, CriticalPlus, time.Minute.Nanoseconds())
	if s.most[Critical] != 1 {
		t.Errorf("%+v", *s)
	}
	now := 1000 * ms
	s.grow(now+999*ms, 10)
	for _, want := range []int{2, 3, 4, 6, 8, 0} {
		if !s.kept {
			t.Fatalf("nothing is kept: %+v", *s)
		}
		now += 1000 * ms
		if s.grow(now, 10); s.most[Critical] != want {
			t.Errorf("got %d, want %d", s.most[Critical], want)
		}
	}
	if s.kept {
		t.Errorf("%+v", *s)
	}
}
