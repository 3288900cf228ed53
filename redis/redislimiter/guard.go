package redislimiter

import (
	"context"
	"math/rand/v2"
	"time"
)

// The first pause is short, since most failures are a hiccup; the last leaves a Redis
// that is down one probe in three seconds.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
)

// guard is what keeps an outage from costing each call its Budget. The first failure
// opens it. While it is open nobody asks Redis but one probe at a time, and no caller
// waits for that.
//
// It does not count to five first, as a breaker would: another answer is at hand, which
// is off by a little for a tenth of a second, and five calls would be late instead.
type guard struct {
	open    bool
	probing bool
	until   time.Duration // when the pause is over
	pause   time.Duration
}

// failed records a failure of a call. Those that were under way when the first failed add
// nothing. It reports whether the guard has opened.
func (g *guard) failed(now time.Duration, jitter float64) bool {
	if g.open {
		return false
	}
	g.open, g.pause = true, firstPause
	g.until = now + jittered(g.pause, jitter)
	return true
}

// due reports whether the caller is to see to a probe: when a pause is over, or, while
// the guard is closed, for one who is in doubt.
func (g *guard) due(now time.Duration) bool {
	if g.probing || g.open && now < g.until {
		return false
	}
	g.probing = true
	return true
}

// probed records the end of a probe.
func (g *guard) probed(now time.Duration, ok bool, jitter float64) {
	g.probing = false
	switch {
	case ok:
		g.open = false
	case !g.failed(now, jitter):
		g.pause = min(2*g.pause, lastPause)
		g.until = now + jittered(g.pause, jitter)
	}
}

// jittered is d, give or take a fifth, by a number from 0 to 1: replicas that lost Redis
// at the same moment should not all come back to it at the same.
func jittered(d time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(d) * (.8 + .4*jitter))
}

// down returns nil if Redis may be asked, and otherwise why not. While it may not, it
// sees to a probe from time to time.
func (s *Store) down() *UnavailableError {
	failing := s.failing.Load()
	if failing == nil || time.Until(failing.until) > 0 {
		return failing
	}
	s.mu.Lock()
	due, look := s.guard.due(s.now().mono), s.look
	s.mu.Unlock()
	if due {
		s.probe(look)
	}
	return failing
}

// failed opens the guard. The probes are for what failed, since in a cluster another
// key's shard may be up.
func (s *Store) failed(look request, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard.failed(s.now().mono, rand.Float64()) {
		s.look = look
		s.publish(err)
	}
}

// suspect is for a call that was given less than a Budget by its caller, and had no
// answer. To open the guard for that would have callers in a hurry shut Redis off for
// all; to leave it at that would have them wait for a Redis that hangs, one after
// another, for ever. So a probe finds out.
func (s *Store) suspect(look request) {
	s.mu.Lock()
	due := !s.guard.open && s.guard.due(s.now().mono)
	if due {
		s.look = look
	}
	s.mu.Unlock()
	if due {
		s.probe(look)
	}
}

// probe looks at a bucket and takes nothing. It does so in the background, so that an
// outage costs no caller more than the one Budget by which it was found out.
func (s *Store) probe(look request) {
	started := s.background.start(func() {
		err := errProbe
		defer func() { s.probed(err) }() // also if a hook of the client ends the goroutine
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Budget)
		defer cancel()
		_, err = s.send(ctx, look)
	})
	if !started {
		s.probed(errProbe)
	}
}

func (s *Store) probed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.guard.open
	s.guard.probed(s.now().mono, err == nil || answered(err), rand.Float64())
	if was || s.guard.open {
		s.publish(err)
	}
}

// publish makes what the guard says known to callers, who do not take its lock.
func (s *Store) publish(err error) {
	if !s.guard.open {
		s.failing.Store(nil)
		return
	}
	if s.failing.Load() == nil {
		s.count.outages.Add(1)
	}
	s.failing.Store(&UnavailableError{s.cfg.Name, err, s.base.Add(s.guard.until)})
}
