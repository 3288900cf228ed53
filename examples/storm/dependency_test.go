package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble returns a dependency whose run has begun, inside a bubble of fake time.
// Whatever is asked of it works for a second, but for the spread of the draw.
func inBubble(s *Scenario) *dependency {
	d := newDependency(s, 0)
	zero := time.Now()
	d.zero.Store(&zero)
	return d
}

// Of two who queue behind one slot and leave, both are skipped or both are served,
// as the topology says; and who leaves is not kept waiting.
func TestAbandoned(t *testing.T) {
	for _, finishes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := inBubble(&Scenario{Topology: Topology{
				Slots: 1, Service: time.Second, Finishes: finishes,
			}})
			ctx, cancel := context.WithCancel(t.Context())
			go d.handle(t.Context(), request{ID: 1})
			synctest.Wait() // It has the slot.
			for id := range uint64(2) {
				go d.handle(ctx, request{ID: 2 + id})
			}
			synctest.Wait()
			cancel()
			synctest.Wait()
			abandoned := d.abandoned.Load()
			time.Sleep(time.Minute)
			synctest.Wait()
			finished, wasted := d.finished.Load(), d.wasted.Load()
			switch {
			case d.reached.Load() != 3:
				t.Errorf("%d requests have reached it, want 3", d.reached.Load())
			case finishes && (abandoned != 0 || finished != 3 || wasted != 2):
				t.Errorf("it finishes: %d skipped, %d finished, %d of them wasted; want 0, 3, 2",
					abandoned, finished, wasted)
			case !finishes && (abandoned != 2 || finished != 1 || wasted != 0):
				t.Errorf("it skips: %d skipped, %d finished, %d of them wasted; want 2, 1, 0",
					abandoned, finished, wasted)
			}
		})
	}
}

// Who still waits gets the answer, queue or not.
func TestFinishesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inBubble(&Scenario{Topology: Topology{
			Slots: 1, Service: time.Second, Finishes: true,
		}})
		for id := range uint64(3) {
			source, err := d.handle(t.Context(), request{ID: id})
			if source != sourceLive || err != nil {
				t.Errorf("%q, %v; want a live answer", source, err)
			}
		}
		if wasted := d.wasted.Load(); wasted != 0 {
			t.Errorf("%d answers were wasted, and all were awaited", wasted)
		}
	})
}

func TestWeaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inBubble(&Scenario{
			Topology: Topology{Slots: 16},
			Faults:   []Fault{{Mode: Weak, From: time.Second, Until: 3 * time.Second, Slots: 4}},
		})
		d.weaken(t.Context(), *d.zero.Load())
		for second, want := range []int{16, 4, 4, 16} {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			if free := cap(d.slots[""]) - len(d.slots[""]); free != want {
				t.Errorf("in second %d %d slots are left, want %d", second, free, want)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
}

// Those that are apart have slots for themselves, and the others share all of them.
func TestApart(t *testing.T) {
	for _, apart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := inBubble(&Scenario{Topology: Topology{
				Slots: 1, Service: time.Second, Steady: true, Apart: apart,
				Kinds: []Kind{{Name: "one", Share: 0.5}, {Name: "two", Share: 0.5}},
			}})
			began := time.Now()
			go d.handle(t.Context(), request{ID: 1, Kind: "one"})
			synctest.Wait()
			d.handle(t.Context(), request{ID: 2, Kind: "two"})
			want := 2 * time.Second
			if apart {
				want = time.Second
			}
			if took := time.Since(began); took != want {
				t.Errorf("apart is %t, and the second took %v, want %v", apart, took, want)
			}
			synctest.Wait() // The first may end at the same time.
			if d.done.has(0) || !d.done.has(2) {
				t.Errorf("done is %08b, want that of the second", d.done)
			}
		})
	}
}

// What is slow is slow for as long as the fault lasts, and for those it meets.
func TestSlow(t *testing.T) {
	faults := []Fault{{Mode: Slow, Kind: "one", Until: 10 * time.Second, Times: 5}}
	tests := []struct {
		kind  string
		begin time.Duration
		want  time.Duration
	}{
		{"one", 0, 5 * time.Second},
		{"one", 8 * time.Second, 3 * time.Second}, // two of the fault, and its own
		{"one", 10 * time.Second, time.Second},
		{"two", 0, time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			d := inBubble(&Scenario{Faults: faults, Topology: Topology{
				Slots: 1, Service: time.Second, Steady: true,
			}})
			time.Sleep(tt.begin)
			began := time.Now()
			source, err := d.handle(t.Context(), request{Kind: tt.kind})
			if took := time.Since(began); took != tt.want || source != sourceLive || err != nil {
				t.Errorf("%s after %v: %q after %v, %v; want it after %v",
					tt.kind, tt.begin, source, took, err, tt.want)
			}
		})
	}
}

// Calibration does not depend on the draw, and comes to the same.
func TestLength(t *testing.T) {
	topology := Topology{Service: 10 * time.Millisecond, SlowShare: 0.03, SlowFactor: 20}
	d := &dependency{scenario: &Scenario{Topology: topology}, tries: map[uint64]uint64{}}
	if one, two := d.length(1), d.length(2); one != two || one != topology.mean() {
		t.Errorf("calibrating, requests take %v and %v, want %v", one, two, topology.mean())
	}
	zero := time.Now()
	d.zero.Store(&zero)
	if got, want := d.length(1), topology.service(0, 1, 0); got != want {
		t.Errorf("the first time it takes %v, want %v", got, want)
	}
	if got, want := d.length(1), topology.service(0, 1, 1); got != want {
		t.Errorf("the second time it takes %v, want %v", got, want)
	}
}

// Each time that a request comes is a draw of its own: what was slow once is slow
// again as seldom as any other.
func TestService(t *testing.T) {
	topology := Topology{Service: 10 * time.Millisecond, SlowShare: 0.03, SlowFactor: 20}
	plain := Topology{Service: 10 * time.Millisecond}
	const requests = 100_000
	var sum time.Duration
	var slow, again, long, longAgain int
	for id := range uint64(requests) {
		first, second := topology.service(1, id, 0), topology.service(1, id, 1)
		if first != topology.service(1, id, 0) {
			t.Fatalf("request %d does not take as long in every variant", id)
		}
		sum += first
		if first != plain.service(1, id, 0) {
			slow++
			if second != plain.service(1, id, 1) {
				again++
			}
		}
		if first > topology.Service {
			long++
			if second > topology.Service {
				longAgain++
			}
		}
	}
	// Seeded, so these are facts and not chances.
	if slow < requests*29/1000 || slow > requests*31/1000 {
		t.Errorf("%d of %d are slow, want 3 %%", slow, requests)
	}
	if again > slow*5/100 {
		t.Errorf("of %d slow ones %d are slow again, want 3 %%", slow, again)
	}
	if rate := float64(longAgain) / float64(long); rate < 0.36 || rate > 0.42 {
		t.Errorf("of the long ones %.2f are long again, want 0.39 as of all", rate)
	}
	if mean, want := sum/requests, topology.mean(); mean < want*98/100 || mean > want*102/100 {
		t.Errorf("the mean is %v, want %v", mean, want)
	}
	plain.Steady = true
	if one, mean := plain.service(1, 7, 0), plain.mean(); one != mean || one != plain.Service {
		t.Errorf("what is steady takes %v, and %v on average, want %v", one, mean, plain.Service)
	}
	plain.Steady = false
	if got, want := plain.service(1, 7, 0), work(1, streamService, 7, plain.Service); got != want {
		t.Errorf("without a tail it takes %v, want %v", got, want)
	}
}
