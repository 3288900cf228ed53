package health_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// shares collects what Apply is called with, and when.
type shares struct {
	mu    sync.Mutex
	base  time.Time
	lines []string
}

func (s *shares) apply(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%v %.3f", time.Since(s.base), share))
}

func TestRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shares{base: time.Now()}
		h := started(t, health.Config{
			Gates: []string{"cache"},
			Ramp:  health.Ramp{Over: 20 * time.Second, From: 0.2, Apply: s.apply},
		})
		want := func(share float64) {
			t.Helper()
			if got := h.Share(); math.Abs(got-share) > 1e-9 {
				t.Errorf("share %v, want %v", got, share)
			}
		}
		time.Sleep(time.Minute)
		want(0.2)
		h.Gate("cache")()
		want(0.2)
		time.Sleep(5 * time.Second)
		want(0.4)
		time.Sleep(14999 * time.Millisecond)
		want(0.99996)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		want(1)
		wantGoroutines(t, 0)
		if len(s.lines) != 21 || s.lines[0] != "0s 0.200" || s.lines[1] != "1m1s 0.240" ||
			s.lines[20] != "1m20s 1.000" {
			t.Errorf("applied %q", s.lines)
		}
	})
}

// It is of one start only.
func TestRampOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk dependency
		h := started(t, health.Config{
			Checks: []health.Check{{Name: "disk", Func: disk.check, Class: health.Local}},
		})
		time.Sleep(30 * time.Second)
		if got := h.Share(); got != 0.55 {
			t.Errorf("share %v after half of a minute", got)
		}
		time.Sleep(30 * time.Second)
		disk.down.Store(true)
		time.Sleep(time.Minute)
		disk.down.Store(false)
		time.Sleep(10 * time.Second)
		wantPhase(t, h, "ready")
		if got := h.Share(); got != 1 {
			t.Errorf("share %v after a failure", got)
		}
	})
}

func TestNoRamp(t *testing.T) {
	for name, ramp := range map[string]health.Ramp{"off": {Over: -1}, "all": {From: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := shares{base: time.Now()}
				ramp.Apply = s.apply
				h := started(t, health.Config{Gates: []string{"cache"}, Ramp: ramp})
				if h.Share() != 1 {
					t.Errorf("share %v", h.Share())
				}
				h.Gate("cache")()
				time.Sleep(2 * time.Minute)
				if h.Share() != 1 || !slices.Equal(s.lines, []string{"0s 1.000"}) {
					t.Errorf("share %v, applied %q", h.Share(), s.lines)
				}
				wantGoroutines(t, 0)
			})
		})
	}
}

// One that panics or ends its goroutine has missed a step.
func TestRampPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shares{base: time.Now()}
		calls := 0
		h := started(t, health.Config{Ramp: health.Ramp{Apply: func(share float64) {
			switch calls++; calls {
			case 1, 5:
				panic("oops")
			case 7:
				runtime.Goexit()
			}
			s.apply(share)
		}}})
		told := 0
		for r := range h.Watch(t.Context()) {
			if told++; slices.Contains(r.Notes, "panics of Ramp.Apply: 3") {
				break
			}
		}
		if told < 3 {
			t.Errorf("watched %d reports of 3 notes", told)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.lines) != 18 || s.lines[17] != "1m0s 1.000" || calls != 21 {
			t.Errorf("applied %q", s.lines)
		}
		if got := h.Report().Notes; !slices.Equal(got, []string{"panics of Ramp.Apply: 3"}) {
			t.Errorf("notes %q", got)
		}
	})
}

func TestRampStops(t *testing.T) {
	for _, ready := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := shares{base: time.Now()}
			h := started(t, health.Config{
				Gates: []string{"cache"}, Ramp: health.Ramp{Apply: s.apply},
			})
			if ready {
				h.Gate("cache")()
			}
			time.Sleep(10 * time.Second)
			h.Stop()
			synctest.Wait()
			n := len(s.lines)
			time.Sleep(time.Hour)
			if len(s.lines) != n || ready && n != 4 || !ready && n != 1 {
				t.Errorf("ready %v: applied %q", ready, s.lines)
			}
			wantGoroutines(t, 0)
		})
	}
}
