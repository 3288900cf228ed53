package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// A model says in the plainest words what becomes of a call: it goes from one event to
// the next. No two of them are at the same time; see plan.
type model struct {
	max     int
	attempt []attempt
	leaves  time.Duration // when the caller does; 0: never

	began     []time.Duration
	running   []int
	ended     time.Duration // of the call
	settled   bool
	barred    bool
	timer     time.Duration // 0: none
	result    int           // of the last attempt that has ended; 0: none
	errs      []error       // what the error matches
	discarded []int
}

func (m *model) run() {
	m.begin(0)
	for len(m.running) > 0 {
		m.step()
	}
}

func (m *model) begin(now time.Duration) {
	m.began = append(m.began, now)
	m.running = append(m.running, len(m.began))
	m.timer = 0
	if len(m.began) < m.max {
		m.timer = now + delay
	}
}

// step takes the next event: the end of an attempt, the timer, or the caller's leaving.
func (m *model) step() {
	end := func(n int) time.Duration { return m.began[n-1] + m.attempt[n-1].takes }
	n := slices.MinFunc(m.running, func(a, b int) int { return int(end(a) - end(b)) })
	now := end(n)
	switch {
	case !m.settled && m.leaves != 0 && m.leaves < now && (m.timer == 0 || m.leaves < m.timer):
		m.errs = append(m.errs, context.Canceled)
		m.settle(m.leaves)
	case !m.settled && m.timer != 0 && m.timer < now:
		m.begin(m.timer)
	default:
		m.running = slices.DeleteFunc(m.running, func(r int) bool { return r == n })
		m.finish(n, now, m.attempt[n-1].err)
	}
}

func (m *model) finish(n int, now time.Duration, err error) {
	switch {
	case m.settled && err == nil:
		m.discarded = append(m.discarded, n)
	case m.settled:
	case err == nil:
		m.result, m.errs = n, nil
		m.settle(now)
	default:
		m.result, m.errs = n, append(m.errs, err)
		m.barred = m.barred || !retry.Retryable(err) || errors.Is(err, refusal{})
		switch {
		case m.barred:
			m.timer = 0
		case len(m.began) < m.max:
			m.begin(now)
		}
		if len(m.running) == 0 {
			m.settle(now)
		}
	}
}

// settle ends the call. Attempts that listen end with it.
func (m *model) settle(now time.Duration) {
	m.settled, m.ended = true, now
	m.running = slices.DeleteFunc(m.running, func(n int) bool { return !m.attempt[n-1].deaf })
}

// plan makes up a call. Each attempt takes some milliseconds and a part of one that tells
// it from all sums of the others, so that which event comes first is no question.
func plan(seed uint64) *model {
	random := rand.New(rand.NewPCG(seed, 1))
	m := &model{max: 1 + random.IntN(4)}
	for n := range m.max {
		a := attempt{
			takes: time.Duration(random.IntN(40))*ms + 7*time.Microsecond<<n,
			deaf:  random.IntN(3) == 0,
		}
		switch random.IntN(8) {
		case 0, 1, 2:
			a.err = fmt.Errorf("attempt %d", n+1)
		case 3:
			a.err = retry.Permanent(fmt.Errorf("attempt %d, for good", n+1))
		case 4:
			a.err = fmt.Errorf("attempt %d: %w", n+1, refusal{})
		}
		m.attempt = append(m.attempt, a)
	}
	if random.IntN(4) == 0 {
		m.leaves = time.Duration(random.IntN(60))*ms + 3*time.Microsecond
	}
	return m
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := plan(seed)
		m.run()
		p := &hedge.Policy{Delay: delay, MaxAttempts: m.max, Extra: 1}
		bubble(t, p, func(t *testing.T, s *trial) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if m.leaves != 0 {
				time.AfterFunc(m.leaves, cancel)
			}
			s.start = time.Now()
			result, err := hedge.Do(ctx, s.policy, s.fn, s.discard)
			s.took(m.ended)
			if result != m.result || (err != nil) != (m.errs != nil) {
				t.Errorf("got %d, %v, want %d, %v", result, err, m.result, m.errs)
			}
			for _, want := range m.errs {
				if !errors.Is(err, want) {
					t.Errorf("%v does not match %v", err, want)
				}
			}
			time.Sleep(2 * forever)
			synctest.Wait()
			if !slices.Equal(s.began, m.began) {
				t.Errorf("attempts began at %v, want %v", s.began, m.began)
			}
			if !slices.Equal(s.discarded, m.discarded) {
				t.Errorf("discarded were %v, want %v", s.discarded, m.discarded)
			}
		}, m.attempt...)
		if t.Failed() {
			t.Logf("%d attempts of %+v; the caller leaves at %v", m.max, m.attempt, m.leaves)
		}
	})
}
