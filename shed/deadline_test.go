package shed_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

func TestDeadlineHasPassedAtTheGrant(t *testing.T) {
	for name, learned := range map[string]bool{"new": false, "learned": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
				if learned {
					learn(t, s, 20*time.Millisecond)
				}
				p := take(t, s)
				l := stand(s)
				soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				defer cancel()
				l.join(soon, "soon")
				l.join(t.Context(), "any time")
				time.Sleep(15 * time.Millisecond)
				p.Record(shed.OK)
				synctest.Wait()
				if learned { // there are 15ms left, and calls take 20
					l.want(t, "any time soon:deadline")
					return
				}
				l.want(t, "soon")
			})
		})
	}
}

// learn has the Shedder see calls that had to wait, each of which takes as long. Then there
// is nobody.
func learn(t *testing.T, s *shed.Shedder, each time.Duration) {
	t.Helper()
	permits := takeAll(t, s)
	l := stand(s)
	for range 8 {
		l.join(t.Context(), "next")
		for _, p := range permits {
			p.Record(shed.OK)
		}
		synctest.Wait()
		time.Sleep(each)
		permits = permits[:0]
		permits = append(permits, l.permits["next"])
	}
	for _, p := range permits {
		p.Record(shed.OK)
	}
	wantUse(t, s, 0, 0)
}

func TestTooLateAtTheDoor(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		learn(t, s, 20*time.Millisecond)
		before := s.Stats()
		// Never when there is a slot: what takes 20ms on average may take less.
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		p, err := s.Acquire(soon)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err = s.Acquire(soon)
		refusedFor(t, err, shed.TooLate)
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v to say no", took)
		}
		l := stand(s)
		enough, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		l.join(enough, "enough")
		l.join(t.Context(), "no deadline")
		wantUse(t, s, 1, 2)
		p.Record(shed.OK)
		synctest.Wait()
		l.want(t, "enough")
		if got := s.Stats().Refused[shed.Critical] - before.Refused[shed.Critical]; got != 1 {
			t.Errorf("%d were refused", got)
		}
	})
}

// What is known of one class says nothing of another, which may do other things.
func TestTooLateIsByClass(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		learn(t, s, 20*time.Millisecond)
		take(t, s)
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		l := stand(s)
		l.join(shed.WithCriticality(soon, shed.Sheddable), "sheddable")
		l.join(soon, "critical")
		l.want(t, "critical:deadline")
	})
}

// A call in a call waits for a slot that its own outer one may hold. It ends by MaxWait.
func TestNestedCallsEnd(t *testing.T) {
	cfg := shed.Config{Algorithm: shed.Fixed, Initial: 1}
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		begun := time.Now()
		err := s.Do(t.Context(), func(ctx context.Context) error {
			return s.Do(ctx, ok)
		})
		refusedFor(t, err, shed.QueueFull)
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		wantUse(t, s, 0, 0)
	})
}

// Everybody in a call makes another: all end, and what there is for slots is there again.
func TestNestedCallsOfAll(t *testing.T) {
	cfg := shed.Config{Algorithm: shed.Fixed, Initial: 5}
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_ = s.Do(t.Context(), func(ctx context.Context) error {
					time.Sleep(time.Millisecond)
					return s.Do(ctx, ok)
				})
			})
		}
		wg.Wait()
		wantUse(t, s, 0, 0)
		takeAll(t, s)
	})
}

func TestQueueIsBounded(t *testing.T) {
	cfg := fixed(2)
	cfg.Queue = 3
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		l := stand(s)
		for range 3 {
			l.join(t.Context(), "x")
		}
		wantUse(t, s, 2, 3)
		for range 100 {
			_, err := s.Acquire(t.Context())
			refusedFor(t, err, shed.QueueFull)
		}
		wantUse(t, s, 2, 3)
		l.want(t, "")
	})
}

// By default there is room for as many as there are slots, 8 at least, and for no more than
// twice as many in a queue that has just come to be.
func TestDefaultQueue(t *testing.T) {
	for _, limit := range []int{1, 8, 30} {
		cfg := fixed(limit)
		cfg.Queue = 0
		bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
			takeAll(t, s)
			l := stand(s)
			for range 100 {
				l.join(t.Context(), "x")
			}
			most := max(8, limit)
			if got := s.Stats().Waiting; got < most || got > 2*most {
				t.Errorf("a limit of %d: %d wait", limit, got)
			}
		})
	}
}

// A call that is tried again counts for one class less.
func TestRetriesCountForOneClassLess(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		attempt := func(c shed.Criticality, n int) context.Context {
			return sender(t, hop.Sender{Criticality: uint8(c), Attempt: n})
		}
		l.join(attempt(shed.Sheddable, 1), "5 sheddable")
		l.join(attempt(shed.Critical, 2), "3 critical again")
		l.join(attempt(shed.SheddablePlus, 0), "4 sheddable plus")
		l.join(attempt(shed.Critical, 0), "2 critical")
		l.join(attempt(0, 7), "4 nothing said, again")
		l.join(attempt(shed.CriticalPlus, 1), "1 critical plus")
		l.join(attempt(shed.BestEffort, 2), "6 best effort again")
		p.Record(shed.OK)
		synctest.Wait()
		for _, name := range []string{
			"1 critical plus", "2 critical", "3 critical again", "4 sheddable plus",
			"4 nothing said, again", "5 sheddable", "6 best effort again",
		} {
			l.want(t, name)
			l.end(name)
		}
	})
	cfg := fixed(1)
	cfg.Queue = 1
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		stand(s).join(of(t, shed.CriticalPlus), "waits")
		_, err := s.Acquire(sender(t, hop.Sender{Criticality: uint8(shed.Sheddable), Attempt: 3}))
		if e := refusedFor(t, err, shed.QueueFull); e.Class != shed.BestEffort {
			t.Errorf("it counted for %v", e.Class)
		}
		if got := s.Stats().Refused; got[shed.BestEffort] != 1 || got[shed.Sheddable] != 0 {
			t.Errorf("%v", got)
		}
	})
}

// A tenant's name may be as long as it likes, and there may be as many as like: nothing grows.
func TestTenantsTakeNoMemory(t *testing.T) {
	cfg := fixed(1)
	cfg.Queue = 4
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		l := stand(s)
		l.join(sender(t, hop.Sender{Tenant: strings.Repeat("x", 1<<20)}), "long")
		for range 3 {
			l.join(t.Context(), "nobody's")
		}
		wantUse(t, s, 1, 4)
		before := heap()
		for i := range 1_000_000 {
			ctx := sender(t, hop.Sender{
				Criticality: uint8(shed.Sheddable), Tenant: strconv.Itoa(i),
			})
			if _, err := s.Acquire(ctx); err == nil {
				t.Fatal("it was let in")
			}
		}
		if grown := int64(heap()) - int64(before); grown > 1<<18 {
			t.Errorf("it has grown by %d bytes", grown)
		}
	})
}

// Nor do those leave anything who have waited and had their slot.
func TestServedTenantsTakeNoMemory(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		n := 0
		serve := func(times int) {
			for range times {
				n++
				ctx := sender(t, hop.Sender{Tenant: fmt.Sprint(n)})
				next := make(chan *shed.Permit, 1)
				go func() {
					q, _ := s.Acquire(ctx)
					next <- &q
				}()
				synctest.Wait()
				p.Record(shed.OK)
				p = <-next
			}
		}
		serve(5000)
		before := heap()
		serve(50_000)
		if grown := int64(heap()) - int64(before); grown > 1<<18 {
			t.Errorf("it has grown by %d bytes", grown)
		}
		p.Record(shed.OK)
		wantUse(t, s, 0, 0)
	})
}
