package shed_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

// With a long MaxWait a call may wait for long, and gets the slot that is free then.
func TestEdgeMaxWait(t *testing.T) {
	cfg := fixed(1)
	cfg.MaxWait = 10 * time.Second
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		l.join(t.Context(), "a")
		time.Sleep(300 * time.Millisecond)
		p.Record(shed.OK)
		synctest.Wait()
		l.want(t, "a")
	})
}

// With all slots hanging and TryAcquire ten times a second, some get through.
func TestEdgeProbeTrySlowly(t *testing.T) {
	bubble(t, without(3), func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		n := 0
		for range 600 {
			if _, err := s.TryAcquire(t.Context()); err == nil {
				n++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n < 20 {
			t.Errorf("%d let through in a minute", n)
		}
	})
}

// The same with Acquire every 1.1 s.
func TestEdgeProbeAcquireSlowly(t *testing.T) {
	bubble(t, without(3), func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		n := 0
		for range 60 {
			if _, err := s.Acquire(t.Context()); err == nil {
				n++
			}
			time.Sleep(1100 * time.Millisecond)
		}
		if n < 20 {
			t.Errorf("%d let through in a minute", n)
		}
	})
}

type turning struct {
	context.Context
	n int
}

func (c *turning) Done() <-chan struct{} { return nil }
func (c *turning) Err() error {
	if c.n++; c.n > 1 {
		return context.Canceled
	}
	return nil
}

// A call whose context ends just as it gets its slot counts once in Offered.
func TestEdgeCountedTwice(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		l.join(&turning{Context: t.Context()}, "a")
		p.Record(shed.OK)
		synctest.Wait()
		l.want(t, "a:left")
		if got := s.Stats(); got.Offered != 2 {
			t.Errorf("2 calls asked: %+v", got)
		}
	})
}

// Min is bounded as Max is, if that is not set.
func TestEdgeMin(t *testing.T) {
	if err := (shed.Config{Min: 70_000}).Validate(); err == nil {
		t.Error("Min: 70000 is valid")
	}
}

// 40000 calls of 5 s are 55 hours in one window.
func TestEdgeAreaWraps(t *testing.T) {
	cfg := without(40_000)
	cfg.Max = 65535
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		permits := takeAll(t, s)
		time.Sleep(5 * time.Second)
		permits[0].Record(shed.OK)
		if w, _ := a.last(); w.Mean < 39_000 || w.Mean > 40_000 {
			t.Errorf("%+v", w)
		}
	})
}

// A finish that panics has counted nothing.
func TestEdgeCopyCounts(t *testing.T) {
	s := shed.New(without(2))
	p := take(t, s)
	twin := *p
	p.Record(shed.OK)
	_ = panicOf(func() { twin.Record(shed.OK) })
	if got := s.Stats(); got.Admitted != 1 {
		t.Errorf("%+v", got)
	}
}

// The slot of the probe is for who is first in the queue, not for who asked.
func TestEdgeProbePasses(t *testing.T) {
	cfg := fixed(1)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		l := stand(s)
		for i := range 30 {
			time.Sleep(45 * time.Millisecond)
			ctx, cancel := context.WithTimeout(of(t, shed.CriticalPlus), 40*time.Millisecond)
			l.join(ctx, "high")
			l.join(of(t, shed.BestEffort), "low")
			_ = i
			if got := l.permits["low"]; got != nil {
				t.Fatalf("%v; %+v", l.told, s.Stats())
			}
			cancel()
		}
	})
}

// Slots that were kept for a high class are given back when nobody is there, also if only
// TryAcquire comes by.
func TestEdgeIdleRefuses(t *testing.T) {
	bubble(t, fixed(4), func(t *testing.T, s *shed.Shedder) {
		l := stand(s)
		first := takeAll(t, s)
		for i := range 4 {
			l.join(of(t, shed.Sheddable), string(rune('a'+i)))
		}
		for _, p := range first {
			p.Record(shed.OK)
		}
		synctest.Wait() // four sheddable ones that had to wait are under way
		l.join(t.Context(), "critical")
		time.Sleep(60 * time.Millisecond)
		l.end("a", "b", "c", "d", "critical")
		wantUse(t, s, 0, 0)
		n := 0
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			if p, err := s.TryAcquire(t.Context()); err == nil {
				p.Record(shed.OK)
				n++
			}
		}
		if n < 5000 {
			t.Errorf("%d of 6000 are let in, while there is nobody", n)
		}
	})
}

// A window that is dropped, of a call that was under way while the machine was suspended,
// does not make the next windows longer.
func TestEdgeSuspendedLatency(t *testing.T) {
	cfg := fixed(100)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		work := func(d time.Duration) (windows int) {
			_, before := a.last()
			for end := time.Now().Add(d); time.Now().Before(end); {
				p := take(t, s)
				time.Sleep(time.Millisecond)
				p.Record(shed.OK)
			}
			_, after := a.last()
			return after - before
		}
		healthy := work(10 * time.Second)
		p := take(t, s)
		time.Sleep(time.Hour)
		p.Record(shed.OK)
		work(5 * time.Second)
		if after := work(10 * time.Second); after < healthy/2 {
			t.Errorf("%d windows in 10 s, %d before", after, healthy)
		}
	})
}
