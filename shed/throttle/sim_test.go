package throttle_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

// sim is a client and a server in virtual time, in steps of a tenth of a second. The
// server takes so many calls a second, with room for one second's, and turns the others
// away: of the lowest classes if it knows classes, else any. How the calls of a step end
// is known at its end.
type sim struct {
	gate     *throttle.Gate
	rng      *rand.Rand
	demand   [5]float64                     // calls a second, class 1 first
	capacity func(at time.Duration) float64 // calls a second
	aware    bool

	now                     time.Duration
	owed                    [5]float64 // calls that are not yet whole
	room                    float64
	offered, sent, accepted [5]int
	longest, lastSent       time.Duration // between two calls sent
}

const step = 100 * time.Millisecond

func newSim(seed uint64, k float64, demand [5]float64, capacity float64) *sim {
	return &sim{
		gate:     throttle.NewGate(k, window),
		rng:      rand.New(rand.NewPCG(seed, 2016)),
		demand:   demand,
		capacity: func(time.Duration) float64 { return capacity },
		now:      time.Hour, // a process that has been up for long
	}
}

// run runs for some time, of which alone the numbers are.
func (s *sim) run(d time.Duration) {
	s.offered, s.sent, s.accepted = [5]int{}, [5]int{}, [5]int{}
	s.longest, s.lastSent = 0, s.now
	for end := s.now + d; s.now < end; s.now += step {
		s.serve(s.send())
	}
}

// send returns the classes of the calls that go through in this step.
func (s *sim) send() []int {
	var calls, through []int
	for i := range s.demand {
		s.owed[i] += s.demand[i] * step.Seconds()
		for ; s.owed[i] >= 1; s.owed[i]-- {
			calls = append(calls, i)
			s.offered[i]++
		}
	}
	s.rng.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	for n, class := range calls {
		at := s.now + step*time.Duration(n)/time.Duration(len(calls))
		if _, ok := s.gate.Admit(at, class+1, s.rng.Float64()); !ok {
			continue
		}
		through = append(through, class)
		s.sent[class]++
		s.longest = max(s.longest, at-s.lastSent)
		s.lastSent = at
	}
	return through
}

func (s *sim) serve(calls []int) {
	if s.aware {
		slices.SortFunc(calls, func(a, b int) int { return b - a })
	}
	perSecond := s.capacity(s.now)
	s.room = min(s.room+perSecond*step.Seconds(), max(perSecond, 1))
	for _, class := range calls {
		if s.room < 1 {
			s.gate.Count(s.now+step, class+1, throttle.Rejected)
			continue
		}
		s.room--
		s.accepted[class]++
		s.gate.Count(s.now+step, class+1, throttle.Accepted)
	}
}

func sum(n [5]int) float64 { return float64(n[0] + n[1] + n[2] + n[3] + n[4]) }

// share returns which share of a class's calls succeeded.
func (s *sim) share(class int) float64 {
	return float64(s.accepted[class-1]) / float64(s.offered[class-1])
}

func within(t *testing.T, what string, got, least, most float64) {
	t.Helper()
	if !(got >= least && got <= most) {
		t.Errorf("%s: %.3f, want %.3f to %.3f", what, got, least, most)
	}
}

// What is sent is K times the capacity, whatever the demand: without the calls refused
// here among the requests it would be √(K × demand × capacity).
func TestSimSentIsBounded(t *testing.T) {
	for _, k := range []float64{1.2, 2} {
		for _, capacity := range []float64{10, 40} {
			for _, factor := range []float64{2, 5, 10, 100} {
				s := newSim(1, k, [5]float64{3: factor * capacity}, capacity)
				s.run(60 * second) // to settle
				s.run(60 * second)
				sent := sum(s.sent) / 60 / capacity
				t.Logf("K %.1f, capacity %3v/s, demand %3v times that: %.2f times is sent",
					k, capacity, factor, sent)
				within(t, "sent", sent/k, .9, 1.1)
				within(t, "accepted", sum(s.accepted)/60/capacity, .98, 1.02)
			}
		}
	}
}

// A probe a second is all that a server which takes nothing gets to see, and it gets it.
func TestSimOutage(t *testing.T) {
	for _, demand := range []float64{20, 1000} {
		s := newSim(2, 2, [5]float64{3: demand}, 0)
		s.run(60 * second)
		s.run(60 * second)
		within(t, "sent in a second", sum(s.sent)/60, .9, 1.5)
		within(t, "the longest pause in seconds", s.longest.Seconds(), 0, 1.1)
	}
}

// When the server takes everything again, everything is sent within a window, and not only
// because nothing was rejected for as long.
func TestSimRecovery(t *testing.T) {
	for _, test := range []struct{ demand, capacity float64 }{
		{80, 40}, {200, 40}, {400, 40}, {4000, 40}, // 2 to 100 times too much
		{10, 0}, {1000, 0}, // an outage
	} {
		s := newSim(3, 2, [5]float64{3: test.demand}, test.capacity)
		s.run(60 * second)
		s.capacity = func(time.Duration) float64 { return 1e9 }
		began := s.now
		for s.gate.Probability(s.now, 4) > .01 && s.now < began+10*window {
			s.run(second)
		}
		t.Logf("demand %v/s of a server that took %v/s: all is sent after %v",
			test.demand, test.capacity, s.now-began)
		if s.now-began > window*5/6 {
			t.Errorf("%v to recover", s.now-began)
		}
		s.run(10 * second)
		within(t, "sent thereafter", sum(s.sent)/sum(s.offered), .99, 1)
	}
}

// The server takes a half of a mix. By a server that knows classes the higher ones lose
// nothing at all; by any, the throttle refuses them nothing.
func TestSimClasses(t *testing.T) {
	mix := [5]float64{400, 200, 200, 150, 50} // 200 a second are critical or more
	for _, test := range []struct {
		name     string
		k        float64
		aware    bool
		capacity float64
		sent     [5]float64 // shares
		least    float64    // of critical calls accepted
	}{
		{"half, aware", 1.5, true, 500, [5]float64{.375, 1, 1, 1, 1}, .999},
		{"half, blind", 1.5, false, 500, [5]float64{.375, 1, 1, 1, 1}, .65},
		{"a quarter, aware", 2, true, 250, [5]float64{0, .5, 1, 1, 1}, .999},
		{"a quarter, blind", 2, false, 250, [5]float64{0, .5, 1, 1, 1}, .48},
		{"a quarter, blind, a lower K", 1.1, false, 250, [5]float64{0, 0, .375, 1, 1}, .88},
		{"a tenth, aware", 2, true, 100, [5]float64{0, 0, 0, 1, 1}, .32},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(4, test.k, mix, test.capacity)
			s.aware = test.aware
			s.run(60 * second)
			s.run(60 * second)
			within(t, "sent", sum(s.sent)/60/test.capacity/test.k, .9, 1.1)
			for i, want := range test.sent {
				got := float64(s.sent[i]) / float64(s.offered[i])
				within(t, "share sent of "+string(rune('1'+i)), got, want-.06, want+.06)
			}
			within(t, "critical accepted", s.share(4), test.least, 1)
			t.Logf("accepted: %.2f %.2f %.2f %.2f %.2f",
				s.share(1), s.share(2), s.share(3), s.share(4), s.share(5))
		})
	}
}

// A lower class that was refused whole comes back as soon as there is room, though none of
// its calls was accepted for long.
func TestSimLowerClassComesBack(t *testing.T) {
	s := newSim(5, 2, [5]float64{1000, 0, 0, 100, 0}, 40)
	s.aware = true
	s.run(120 * second)
	within(t, "best-effort sent", sum(s.sent)-float64(s.sent[3]), 0, 120)
	s.capacity = func(time.Duration) float64 { return 2000 }
	s.run(window)
	s.run(second)
	within(t, "best-effort accepted", s.share(1), .99, 1)
}

// What doc.go says of how soon an overload is answered.
func TestSimOnset(t *testing.T) {
	until := func(s *sim) float64 {
		began := s.now
		for s.gate.Probability(s.now, 4) == 0 && s.now < began+window {
			s.run(step)
		}
		return (s.now - began).Seconds()
	}
	s := newSim(6, 2, [5]float64{3: 100}, 100)
	s.run(60 * second)
	s.demand[3] = 1000
	within(t, "seconds until ten times the demand is answered", until(s), 2, 4)

	s = newSim(7, 2, [5]float64{3: 100}, 100)
	s.run(60 * second)
	s.capacity = func(time.Duration) float64 { return 0 }
	within(t, "seconds until an outage is answered", until(s), 10, 16)
}

// A process that was idle for long knows nothing: the first burst goes through, the
// second does not.
func TestSimBurstAfterIdle(t *testing.T) {
	s := newSim(8, 2, [5]float64{3: 1000}, 10)
	s.run(60 * second)
	s.now += window
	s.run(step)
	within(t, "of the first burst", float64(s.sent[3]), 100, 100)
	s.run(step)
	within(t, "of the second", float64(s.sent[3]), 1, 30)
}
