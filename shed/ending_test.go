package shed_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed"
)

func TestPanicAndGoexitFreeTheSlot(t *testing.T) {
	for name, how := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			s := shed.New(without(2))
			for range 500 {
				for _, call := range []func(){
					func() {
						_ = s.Do(t.Context(), func(context.Context) error {
							how()
							return nil
						})
					},
					func() {
						_, _ = shed.Do(t.Context(), s, func(context.Context) (int, error) {
							how()
							return 0, nil
						})
					},
				} {
					var wg sync.WaitGroup
					wg.Go(func() {
						defer func() {
							if got := recover(); name == "panic" && got != "boom" {
								t.Errorf("the panic is %v", got)
							}
						}()
						call()
						t.Error("it returned")
					})
					wg.Wait()
				}
			}
			wantUse(t, s, 0, 0)
			if got := s.Stats(); got.Admitted != 1000 || got.Ignored != 1000 {
				t.Errorf("%+v", got)
			}
			for range 2 {
				take(t, s)
			}
		})
	}
}

// The panic is the caller's own: it is not caught and thrown again, which would cost it the
// stack that says where it came from.
func TestPanicKeepsItsStack(t *testing.T) {
	s := shed.New(shed.Config{})
	defer func() {
		if recover() == nil {
			t.Error("the panic is gone")
		}
		buffer := make([]byte, 1<<16)
		if !strings.Contains(string(buffer[:runtime.Stack(buffer, false)]), "explode") {
			t.Error("the stack does not reach the function that panicked")
		}
	}()
	_ = s.Do(t.Context(), explode)
}

func explode(context.Context) error { panic("boom") }

func TestSecondFinishDoesNothing(t *testing.T) {
	finishes := map[string]func(*shed.Permit){
		"done":       func(p *shed.Permit) { p.Done(context.Background(), nil) },
		"record":     func(p *shed.Permit) { p.Record(shed.Overloaded) },
		"stop clock": func(p *shed.Permit) { p.StopClock() },
	}
	for name, first := range finishes {
		for then, second := range finishes {
			t.Run(name+" then "+then, func(t *testing.T) {
				s := shed.New(without(3))
				other, p := take(t, s), take(t, s)
				first(p)
				before := s.Stats()
				for range 5 {
					second(p)
				}
				if after := s.Stats(); after != before {
					t.Errorf("%+v, before %+v", after, before)
				}
				wantUse(t, s, 1, 0)
				other.Record(shed.OK)
				wantUse(t, s, 0, 0)
			})
		}
	}
}

func TestZeroPermitIsFinished(t *testing.T) {
	var p shed.Permit
	p.Done(t.Context(), nil)
	p.Record(shed.OK)
	p.StopClock()
	s := shed.New(without(1))
	take(t, s)
	p, err := s.TryAcquire(t.Context())
	refusedFor(t, err, shed.LimitReached)
	p.Done(t.Context(), err) // of a caller who has overlooked the error
	wantUse(t, s, 1, 0)
}

func TestFinishedCopyPanics(t *testing.T) {
	s := shed.New(without(2))
	p := take(t, s)
	twin := *p
	p.Record(shed.OK)
	for _, o := range []shed.Outcome{shed.OK, shed.Ignored, shed.Overloaded} {
		again := twin
		got := panicOf(func() { again.Record(o) })
		if got != "shed: a copy of a Permit was finished too" {
			t.Errorf("%v: panics with %v", o, got)
		}
	}
	// The Shedder is as good as before.
	wantUse(t, s, 0, 0)
	for range 2 {
		take(t, s)
	}
	_, err := s.TryAcquire(t.Context())
	refusedFor(t, err, shed.LimitReached)
}

func TestOutcomes(t *testing.T) {
	s := shed.New(shed.Config{})
	for range 2 {
		take(t, s).Record(shed.OK)
	}
	for range 3 {
		take(t, s).Record(shed.Ignored)
	}
	for range 5 {
		take(t, s).Record(shed.Overloaded)
	}
	for range 7 {
		take(t, s).Record(shed.Outcome(77))
	}
	for range 11 {
		take(t, s).StopClock()
	}
	got := s.Stats()
	if got.Admitted != 28 || got.Ignored != 21 || got.Overloaded != 5 || got.Offered != 28 {
		t.Errorf("%+v", got)
	}
}

func TestStopClockFreesTheSlot(t *testing.T) {
	cfg := fixed(1)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		stream := take(t, s)
		l := stand(s)
		l.join(t.Context(), "next")
		stream.StopClock()
		synctest.Wait()
		l.want(t, "next")
		l.end("next")
		endWindow(t, s)
		if w, _ := a.last(); w.Mean != 0 {
			t.Errorf("a stream is %v calls under way", w.Mean)
		}
	})
}

// A server that hangs gets one more call each second, and not two, whoever asks and how.
func TestHungCallsDoNotLockUp(t *testing.T) {
	for name, ask := range verbs {
		t.Run(name, func(t *testing.T) {
			bubble(t, without(3), func(t *testing.T, s *shed.Shedder) {
				for range 3 {
					take(t, s)
				}
				var when []time.Duration
				for base := time.Now(); time.Since(base) < 20*time.Second; {
					if _, err := ask(s, t.Context()); err == nil {
						when = append(when, time.Since(base))
					}
					time.Sleep(time.Millisecond)
				}
				if len(when) < 17 || len(when) > 20 {
					t.Fatalf("%d more in 20 seconds", len(when))
				}
				for i := 1; i < len(when); i++ {
					gap := when[i] - when[i-1]
					if gap < time.Second || gap > 1100*time.Millisecond {
						t.Errorf("%v after the one before", gap)
					}
				}
			})
		})
	}
}

// With all slots hanging, calls that wait are let through too, in no more than a second.
func TestHungCallsWithAQueue(t *testing.T) {
	cfg := fixed(2)
	cfg.MaxWait = 100 * time.Millisecond
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		takeAll(t, s)
		got := 0
		for base := time.Now(); time.Since(base) < 10*time.Second; {
			if p, err := s.Acquire(t.Context()); err == nil {
				got++
				p.Record(shed.Ignored)
			}
		}
		if got < 5 || got > 10 {
			t.Errorf("%d let through in 10 seconds", got)
		}
		wantUse(t, s, 2, 0)
	})
}

// While calls end, however slowly they come to, nobody passes the limit.
func TestNoProbeWhileCallsEnd(t *testing.T) {
	bubble(t, without(2), func(t *testing.T, s *shed.Shedder) {
		permits := takeAll(t, s)
		for i := range 100 {
			for range 30 {
				time.Sleep(30 * time.Millisecond)
				_, err := s.TryAcquire(t.Context())
				refusedFor(t, err, shed.LimitReached)
				_, err = s.Acquire(t.Context())
				refusedFor(t, err, shed.LimitReached)
			}
			permits[i%2].Record(shed.OK)
			permits[i%2] = take(t, s)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, fixed(2), func(t *testing.T, s *shed.Shedder) {
		first, second := take(t, s), take(t, s)
		l := stand(s)
		l.join(t.Context(), "a")
		l.join(of(t, shed.BestEffort), "b")
		s.Close()
		synctest.Wait()
		l.want(t, "a:closed b:closed")
		_, err := s.TryAcquire(t.Context())
		refusedFor(t, err, shed.Closed)
		first.Record(shed.OK) // a call under way goes on, and ends
		wantUse(t, s, 1, 0)
		s.Close()
		if err := s.Do(t.Context(), ok); err != nil {
			refusedFor(t, err, shed.Closed)
		} else {
			t.Error("a call after Close was made")
		}
		_, err = s.TryAcquire(t.Context())
		refusedFor(t, err, shed.Closed)
		time.Sleep(10 * time.Second) // however long
		for range 100 {
			_, err = s.TryAcquire(t.Context())
			refusedFor(t, err, shed.Closed)
		}
		second.Done(t.Context(), nil)
		wantUse(t, s, 0, 0)
		got := s.Stats()
		if got.Offered != 2+2+1+1+1+100 || got.Admitted != 2 ||
			got.Refused[shed.Critical] != 1+1+1+1+100 || got.Refused[shed.BestEffort] != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestCloseWakesThoseWhoWait(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		l := stand(s)
		for range 50 {
			l.join(t.Context(), "x")
		}
		before := time.Now()
		s.Close()
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.told) != 50 || l.told[0] != "x:closed" || time.Since(before) != 0 {
			t.Errorf("%d were told, %v, after %v", len(l.told), l.told, time.Since(before))
		}
	})
}

func TestRefusalsSayWhatTheyAre(t *testing.T) {
	cfg := without(1)
	cfg.Name = "api"
	s := shed.New(cfg)
	take(t, s)
	_, err := s.TryAcquire(of(t, shed.SheddablePlus))
	e := refusedFor(t, err, shed.LimitReached)
	if e.Name != "api" || e.Class != shed.SheddablePlus {
		t.Errorf("%+v", e)
	}
	if got, want := err.Error(), `shed "api": overloaded: limit, for sheddable-plus`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !verdict.NotAttempted(err) || !verdict.Retryable(err) {
		t.Error("it was attempted, or may not be sent again")
	}
	if e := refusedFor(t, shed.New(shed.Config{}).Do(of(t, 0), func(ctx context.Context) error {
		return &shed.OverloadError{Reason: shed.Closed, Class: shed.CriticalityOf(ctx)}
	}), shed.Closed); e.Error() != "shed: overloaded: closed, for critical" {
		t.Errorf("%v", e)
	}
}

// Those who are refused together are told different times, of a second give or take a half.
func TestRetryAfterDiffers(t *testing.T) {
	err := error(&shed.OverloadError{})
	seen := map[time.Duration]bool{}
	sum := time.Duration(0)
	for range 1000 {
		d := verdict.RetryAfter(err)
		if d < time.Second/2 || d > 3*time.Second/2 {
			t.Fatalf("%v", d)
		}
		seen[d], sum = true, sum+d
	}
	if len(seen) < 900 {
		t.Errorf("%d different ones among 1000", len(seen))
	}
	if mean := sum / 1000; mean < 900*time.Millisecond || mean > 1100*time.Millisecond {
		t.Errorf("%v on average", mean)
	}
}
