package health_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stormjib/stormjib/health"
)

// An outcome is a run that has counted, one way or the other.
type outcome struct {
	at time.Duration
	ok bool
}

// A history is all of them, from which everything can be told anew, however slowly.
type history struct {
	check    health.Check // with all of its fields set
	outcomes []outcome
	returned time.Duration
}

// inARow returns how many of the last outcomes up to i were this way.
func (h *history) inARow(i int, ok bool) int {
	n := 0
	for ; i >= 0 && h.outcomes[i].ok == ok; i-- {
		n++
	}
	return n
}

func (h *history) firstPass() int {
	for i, o := range h.outcomes {
		if o.ok {
			return i
		}
	}
	return len(h.outcomes)
}

// broke reports whether the check was down after outcome i, if it was up before.
func (h *history) broke(i int) bool {
	n := h.inARow(i, false)
	if h.check.Class != health.Liveness {
		return n >= h.check.Failures
	}
	var before time.Duration // when it passed, or began
	if i >= n {
		before = h.outcomes[i-n].at
	}
	return n >= h.check.Failures &&
		h.outcomes[i].at-before >= time.Duration(h.check.Failures)*h.check.Interval
}

func (h *history) down() bool {
	for i := range slices.Backward(h.outcomes) {
		if i == h.firstPass() || h.inARow(i, true) >= h.check.Successes {
			return false
		}
		if h.broke(i) {
			return true
		}
	}
	return false
}

// status returns what a check says of which nobody asks to leave.
func (h *history) status(now time.Duration) health.Status {
	bad := h.down() || now-h.returned >= h.check.StaleAfter
	passed := h.firstPass() < len(h.outcomes)
	switch h.check.Class {
	case health.Liveness:
		if bad {
			return fail
		}
		return pass
	case health.Local:
		if bad || !passed {
			return fail
		}
		return pass
	case health.Shared:
		if !passed && now < time.Minute {
			return fail
		}
	}
	if bad || !passed {
		return warn
	}
	return pass
}

// Whatever happens in whatever order, the status is what the history says, and does not
// change without an event before it is due to.
func FuzzMonitor(f *testing.F) {
	f.Add(uint8(0), []byte{0, 10, 1, 10, 2, 10, 2, 10, 2, 10, 1, 10, 1})
	f.Add(uint8(0x35), []byte{3, 40, 4, 90, 5, 200, 3, 250, 255, 2, 2, 2, 2, 1})
	f.Add(uint8(0x42), []byte{1, 100, 2, 100, 2, 100, 2, 100, 2, 3, 200, 200, 200})
	f.Add(uint8(0x7f), []byte{2, 2, 2, 80, 6, 1, 1, 2, 2, 2, 100, 6, 255, 255})
	f.Add(uint8(0x40), []byte{1, 2, 60, 60, 6, 250, 250, 250, 250, 250, 2, 100, 1, 1})
	f.Fuzz(func(t *testing.T, kind uint8, events []byte) {
		check := health.Check{
			Name: "it", Func: nothing, Class: health.Class(kind & 3),
			Interval: 10 * time.Second, Timeout: time.Second,
			Failures: 1 + int(kind>>2&3), Successes: 1 + int(kind>>4&3),
			StaleAfter: 45 * time.Second,
		}
		check.Shed = kind>>6&1 == 1 && check.Class == health.Shared
		m := health.NewMonitor(health.Config{}, check, half)
		h := &history{check: check}
		m.Start(0)
		now := time.Duration(0)
		var begun time.Duration
		counted, left := false, false
		count := func(ok bool) { h.outcomes = append(h.outcomes, outcome{now, ok}) }
		for _, e := range events {
			switch {
			case e >= 10: // time passes, and nothing but the alarm happens
				until := now + time.Duration(e)*100*time.Millisecond
				for due := m.Due(now); due <= until; due = m.Due(now) {
					now = due
					if m.Tick(now) {
						count(false)
						counted = true
					}
				}
				now = until
			case e <= 2 && !m.Running():
				m.Begin(now)
				m.End(now, e == 1)
				count(e == 1)
				h.returned = now
			case e == 3 && !m.Running():
				m.Begin(now)
				begun, counted = now, false
			case e >= 4 && e <= 5 && m.Running():
				ok := e == 4 && now-begun < time.Second
				if m.End(now, e == 4) != (now-begun >= time.Second) {
					t.Fatalf("at %v: a run that began at %v and late is wrong", now, begun)
				}
				if !counted {
					count(ok)
				}
				h.returned = now
			case e == 6 && m.WantsOut(now):
				m.Leave(now, 3, 0)
				left = true
			}
			got, want := m.Status(now), h.status(now)
			out := left && want == warn && got == fail // the table has that
			if got != want && !out {
				t.Fatalf("%+v: at %v: %v, want %v", h, now, got, want)
			}
			due := m.Due(now)
			for _, at := range []time.Duration{now + (due-now)/2, due - 1} {
				if m.Status(at) != got && at < due {
					t.Fatalf("at %v: %v, and %v at %v, before it is due at %v",
						now, got, m.Status(at), at, due)
				}
				if m.WantsOut(at) != m.WantsOut(now) {
					t.Fatalf("at %v: wants to leave at %v, before it is due at %v", now, at, due)
				}
			}
		}
	})
}
