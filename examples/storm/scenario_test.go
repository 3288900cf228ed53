package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The tour has to stay under 90 seconds, and a scenario that makes it longer has to
// stay out of it.
func TestTourIsShort(t *testing.T) {
	var takes time.Duration
	for _, s := range named(nameTour) {
		// Processes start in less than a second, and end with their last user.
		takes += s.Calibration + s.Warmup + s.Duration + s.Topology.Patience + time.Second
	}
	if takes == 0 || takes > 85*time.Second {
		t.Errorf("the tour takes %v", takes)
	}
}

func TestScenariosAreSound(t *testing.T) {
	for _, s := range scenarios {
		if s.Needs > s.Duration {
			t.Errorf("%s needs %v and has %v", s.Name, s.Needs, s.Duration)
		}
		if s.order(bareName) < 0 || s.order(mainName) < 0 {
			t.Errorf("%s does not compare %s with %s", s.Name, mainName, bareName)
		}
		whole := 0.0
		for _, k := range s.Topology.kinds() {
			whole += k.Share
		}
		if whole < 0.999 || whole > 1.001 {
			t.Errorf("%s: the kinds have %v of the load, want all of it", s.Name, whole)
		}
		for _, f := range s.Faults {
			known := func(k Kind) bool { return k.Name == f.Kind }
			if f.Kind != "" && !slices.ContainsFunc(s.Topology.kinds(), known) {
				t.Errorf("%s: a fault of %q, which is not there", s.Name, f.Kind)
			}
			if (f.Mode == Slow || f.Mode == Surge) && f.Times <= 1 {
				t.Errorf("%s: %s is %v times", s.Name, f.Mode, f.Times)
			}
		}
		for _, p := range s.Promises {
			if (p.AtLeast != 0) == (p.AtMost != 0) {
				t.Errorf("%s: %q has %v and %v for bounds", s.Name, p.Text, p.AtLeast, p.AtMost)
			}
		}
	}
}

// A surge is none of the dependency's business, and what ails that is none of the traffic's.
func TestFaults(t *testing.T) {
	s := &Scenario{
		Topology: Topology{Kinds: []Kind{{Name: "one", Share: 0.5}, {Name: "two", Share: 0.5}}},
		Faults: []Fault{
			{Mode: Surge, From: 1, Until: 3, Times: 10},
			{Mode: Slow, Kind: "two", From: 2, Until: 5, Times: 7},
		},
	}
	tests := []struct {
		at       time.Duration
		one, two Mode
		total    float64
		phase    string
	}{
		{0, OK, OK, 1, "calm"},
		{1, OK, OK, 10, "surge"},
		{2, OK, Slow, 10, "surge"},
		{3, OK, Slow, 1, "slow"},
		{5, OK, OK, 1, "after"},
	}
	for _, tt := range tests {
		_, total := s.weights(tt.at)
		one, two := s.fault("one", tt.at).Mode, s.fault("two", tt.at).Mode
		if one != tt.one || two != tt.two || total != tt.total || s.phase(tt.at) != tt.phase {
			t.Errorf("at %d: %s, %s, %v times, %s; want %+v", tt.at, one, two, total,
				s.phase(tt.at), tt)
		}
	}
	if end := s.lastFault(); end != 5 {
		t.Errorf("recovery begins at %d, want 5", end)
	}
	s.Faults = s.Faults[:1]
	if end := s.lastFault(); end != 0 {
		t.Errorf("without a fault of the dependency recovery begins at %d", end)
	}
}

// What is in steps is named by its steps, but for a fault, and looked at step by step.
func TestSteps(t *testing.T) {
	s := &Scenario{
		Load:   []Load{{Multiple: 0.5}, {From: 10, Multiple: 2}, {From: 20, Multiple: 10}},
		Faults: []Fault{{Mode: Weak, From: 15, Until: 17, Slots: 1}},
	}
	var phases []string
	for _, at := range s.changes() {
		phases = append(phases, fmt.Sprintf("%d %s", at, s.phase(at)))
	}
	if got := fmt.Sprint(phases); got != "[0 calm 10 2x 15 weak 17 2x 20 10x]" {
		t.Errorf("the phases are %s", got)
	}
	if peak := (&Scenario{Load: s.Load}).peak(); peak != 10 {
		t.Errorf("the peak is %v", peak)
	}
}

func TestRetryDrain(t *testing.T) {
	if got := retryDrain().Round(time.Millisecond); got != 7500*time.Millisecond {
		t.Errorf("the backlog drains in %v, want 7.5s", got)
	}
}

func TestTextbook(t *testing.T) {
	const waits = 150 * time.Millisecond // 50 and 100, at most
	failed := errors.New("failed")
	ends := func(err error) call {
		return func(context.Context, request) (string, error) { return "", err }
	}
	hangs := func(ctx context.Context, _ request) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	tests := []struct {
		name     string
		next     call
		attempts int
		least    time.Duration
		most     time.Duration
		err      error
	}{
		{"it answers", ends(nil), 1, 0, 0, nil},
		{"it fails", ends(failed), 3, 0, waits, failed},
		{"it hangs", hangs, 3, 3 * retryTimeout, 3*retryTimeout + waits, context.DeadlineExceeded},
		{"there is no room", ends(errFull), 1, 0, 0, errFull},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			attempts, began := 0, time.Now()
			_, err := textbook(func(ctx context.Context, r request) (string, error) {
				attempts++
				return tt.next(ctx, r)
			})(t.Context(), request{})
			took := time.Since(began)
			if attempts != tt.attempts || took < tt.least || took > tt.most ||
				!errors.Is(err, tt.err) {
				t.Errorf("%s: %d attempts in %v, %v", tt.name, attempts, took, err)
			}
		})
	}
}

func TestTwice(t *testing.T) {
	tests := []struct {
		name          string
		first, second time.Duration
		calls         int64
		took          time.Duration
	}{
		{"in time", tailDelay / 2, time.Hour, 1, tailDelay / 2},
		{"slow by chance", time.Hour, tailDelay / 4, 2, tailDelay * 5 / 4},
		{"the first is faster all the same", 2 * tailDelay, time.Hour, 2, 2 * tailDelay},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			began := time.Now()
			_, err := twice(t.Context(), func(ctx context.Context, _ request) (string, error) {
				if calls.Add(1) == 2 {
					return sourceLive, sleep(ctx, tt.second)
				}
				return sourceLive, sleep(ctx, tt.first)
			}, request{})
			took := time.Since(began)
			if calls.Load() != tt.calls || took != tt.took || err != nil {
				t.Errorf("%s: %d calls in %v, %v", tt.name, calls.Load(), took, err)
			}
			synctest.Wait() // The loser is cancelled, or the bubble would complain.
		})
	}
}
