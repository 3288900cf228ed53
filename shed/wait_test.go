package shed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed"
)

func TestWaitsForASlot(t *testing.T) {
	bubble(t, fixed(2), func(t *testing.T, s *shed.Shedder) {
		l := stand(s)
		for _, name := range []string{"a", "b", "c", "d"} {
			l.join(t.Context(), name)
		}
		l.want(t, "a b")
		wantUse(t, s, 2, 2)
		l.end("b")
		l.want(t, "c")
		l.end("a")
		l.want(t, "d")
		wantUse(t, s, 2, 0)
		l.end("c", "d")
		wantUse(t, s, 0, 0)
	})
}

func TestMaxWait(t *testing.T) {
	for _, most := range []time.Duration{0, time.Nanosecond, 30 * time.Millisecond} {
		cfg := fixed(1)
		cfg.MaxWait = most
		want := most
		if most == 0 {
			want = 100 * time.Millisecond
		}
		bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
			p := take(t, s)
			begun := time.Now()
			_, err := s.Acquire(t.Context())
			refusedFor(t, err, shed.QueueFull)
			if got := time.Since(begun); got != want {
				t.Errorf("it waited for %v, want %v", got, want)
			}
			wantUse(t, s, 1, 0)
			p.Record(shed.OK)
			take(t, s)
		})
	}
}

// A call that comes with a context that is done is refused, and is nothing to the limit.
func TestContextDoneOnArrival(t *testing.T) {
	cfg := fixed(1)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		why := errors.New("the user left")
		cancelled, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		late, stop := context.WithTimeout(t.Context(), -time.Second)
		defer stop()
		for range 100 {
			_, err := s.Acquire(cancelled)
			wantEnded(cancelled, t, err)
			wantEnded(late, t, s.Do(late, func(context.Context) error {
				t.Error("the call was made")
				return nil
			}))
		}
		got := s.Stats()
		if got.GaveUp != 200 || got.Offered != 200 || got.Admitted != 0 {
			t.Errorf("%+v", got)
		}
		endWindow(t, s)
		w, _ := a.last()
		if w.Arrived != 1 || w.Refused != 0 || w.Overloaded != 0 || w.Waited != 0 {
			t.Errorf("%+v", w)
		}
	})
}

// wantEnded fails the test if err does not say what ctx says, and why, and that nothing was
// attempted.
func wantEnded(ctx context.Context, t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx)) {
		t.Errorf("%v does not match %v and %v", err, ctx.Err(), context.Cause(ctx))
	}
	if errors.Is(err, shed.ErrOverloaded) || !verdict.NotAttempted(err) {
		t.Errorf("%v is an overload, or was attempted", err)
	}
	if !strings.HasPrefix(fmt.Sprint(err), "shed: ") {
		t.Errorf("%v does not begin with the package's name", err)
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		why := errors.New("the user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		var err error
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { _, err = s.Acquire(ctx) })
		time.Sleep(10 * time.Millisecond)
		wantUse(t, s, 1, 1)
		cancel(why)
		wg.Wait()
		wantEnded(ctx, t, err)
		if took := time.Since(begun); took != 10*time.Millisecond {
			t.Errorf("it took %v to hear of it", took)
		}
		wantUse(t, s, 1, 0)

		late, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		begun = time.Now()
		_, err = s.Acquire(late)
		wantEnded(late, t, err)
		if took := time.Since(begun); took != 20*time.Millisecond {
			t.Errorf("it took %v to hear of it", took)
		}
		if got := s.Stats(); got.GaveUp != 2 || got.Offered != 3 {
			t.Errorf("%+v", got)
		}
		p.Record(shed.OK)
		take(t, s)
	})
}

// Of those in line any may leave, and the others go on in their order.
func TestOneInLineLeaves(t *testing.T) {
	for leaver, want := range map[string]string{"a": "b c d", "b": "a c d", "d": "a b c"} {
		bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
			p := take(t, s)
			l := stand(s)
			leaves, cancel := context.WithCancel(t.Context())
			for _, name := range []string{"a", "b", "c", "d"} {
				ctx := t.Context()
				if name == leaver {
					ctx = leaves
				}
				l.join(ctx, name)
			}
			cancel()
			synctest.Wait()
			l.want(t, leaver+":left")
			p.Record(shed.OK)
			synctest.Wait()
			for name := range strings.SplitSeq(want, " ") {
				l.want(t, name)
				l.end(name)
			}
			wantUse(t, s, 0, 0)
		})
	}
}

// turned is a context that ends while somebody waits in it, unheard: the slot is there first.
type turned struct {
	context.Context
	asked int
}

func (c *turned) Done() <-chan struct{} { return nil }

func (c *turned) Err() error {
	if c.asked++; c.asked > 1 {
		return context.Canceled
	}
	return nil
}

// A slot that was given to one who has left by then is not lost.
func TestSlotOfOneWhoHasLeftIsHandedOn(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		for range 5 {
			l.join(&turned{Context: t.Context()}, "gone")
		}
		l.join(t.Context(), "next")
		p.Record(shed.OK)
		synctest.Wait()
		l.want(t, strings.Repeat("gone:left ", 5)+"next")
		wantUse(t, s, 1, 0)
		l.end("next")
		wantUse(t, s, 0, 0)
		if got := s.Stats(); got.GaveUp+got.Ignored != 5 || got.Offered != 7 {
			t.Errorf("5 have left: %+v", got)
		}
	})
}

// The same with real contexts, and whoever comes first: the slot is given back and the
// context cancelled at the same time. Nothing is lost, however it ends.
func TestCancelAsTheSlotComes(t *testing.T) {
	s := shed.New(fixed(1))
	for range 2000 {
		p := take(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if q, err := s.Acquire(ctx); err == nil {
				q.Record(shed.OK)
			}
		})
		wg.Go(cancel)
		wg.Go(func() { p.Record(shed.OK) })
		wg.Wait()
		if got := s.Stats(); got.InUse != 0 || got.Waiting != 0 {
			t.Fatalf("%+v", got)
		}
	}
}

func TestNobodyBarges(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		for range 200 {
			p := take(t, s)
			l := stand(s)
			l.join(of(t, shed.BestEffort), "waits")
			p.Record(shed.OK)
			if _, err := s.TryAcquire(of(t, shed.CriticalPlus)); err == nil {
				t.Fatal("a newcomer passed the one in line")
			}
			l.join(t.Context(), "newcomer")
			l.want(t, "waits")
			l.end("waits")
			l.want(t, "newcomer")
			l.end("newcomer")
		}
	})
}

// Nor does a newcomer of a lower class take a slot that was given back while some wait, nor
// TryAcquire, whatever its class, pass those in line.
func TestTryAcquireDoesNotPass(t *testing.T) {
	bubble(t, fixed(2), func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		l := stand(s)
		l.join(of(t, shed.Sheddable), "waits")
		_, err := s.TryAcquire(of(t, shed.CriticalPlus))
		refusedFor(t, err, shed.LimitReached)
		wantUse(t, s, 2, 1)
	})
}

// Raising the limit lets in as many as it is raised by, in their order.
func TestRaisedLimitWakesAsMany(t *testing.T) {
	cfg := fixed(3)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		l := stand(s)
		time.Sleep(1950 * time.Millisecond)
		l.join(of(t, shed.Sheddable), "1")
		l.join(of(t, shed.Critical), "2")
		l.join(of(t, shed.Sheddable), "3")
		l.join(of(t, shed.CriticalPlus), "4")
		l.join(of(t, shed.Critical), "5")
		a.limit.Store(6)
		time.Sleep(60 * time.Millisecond) // to the end of the window
		for range 16 {                    // now and then TryAcquire looks, that does not wait
			s.TryAcquire(t.Context())
		}
		synctest.Wait()
		if got := s.Stats(); got.Limit != 6 || got.InUse != 6 || got.Waiting != 2 {
			t.Errorf("%+v", got)
		}
		l.want(t, "2 4 5")
	})
}
