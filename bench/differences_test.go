package bench

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	resiliency "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/stormjib/stormjib/breaker"
)

// The tests called TestDifference show where stormjib decides differently from a
// peer on purpose, at the versions in go.mod. If a peer comes to do as stormjib
// does, its half of the test fails, and can go.

// fact asserts what is true of a peer, or of us, and puts it on record.
func fact(t *testing.T, holds bool, what string) {
	t.Helper()
	if !holds {
		t.Errorf("no longer true: %s", what)
		return
	}
	t.Log(what)
}

// probeConfig opens at the first failure and closes after one probe.
func probeConfig() breaker.Config {
	cfg := scripted(1)
	cfg.Consecutive = 1
	cfg.ProbeTimeout = 0
	return cfg
}

func newProbedGobreaker() *gobreaker.CircuitBreaker[int] {
	return gobreaker.NewCircuitBreaker[int](gobreaker.Settings{
		Timeout:     scriptOpenFor,
		ReadyToTrip: always,
	})
}

func newProbedFailsafe() circuitbreaker.CircuitBreaker[int] {
	return circuitbreaker.NewBuilder[int]().
		WithFailureThreshold(1).WithSuccessThreshold(1).WithDelay(scriptOpenFor).Build()
}

// probeAgain lets the open time pass once more and then makes a call.
func probeAgain(call func() error) error {
	time.Sleep(2 * scriptOpenFor)
	return call()
}

// TestDifferenceSlowFailures: gobreaker counts a call in the part of the window
// where it began, and drops it if that part is gone. Slow failures are the ones
// that hurt most.
func TestDifferenceSlowFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = time.Second
		mine := breaker.New(breaker.Config{Window: window, FailureRate: 0.5, MinCalls: minCalls})
		settings := gobreakerRolling(rateHalf)
		settings.Interval, settings.BucketPeriod = window, window/buckets
		peer := gobreaker.NewTwoStepCircuitBreaker[int](settings)

		for range 50 {
			var permits [minCalls]breaker.Permit
			var dones [minCalls]func(error)
			for i := range permits {
				permits[i], _ = mine.Allow()
				dones[i], _ = peer.Allow()
			}
			time.Sleep(2 * window)
			for i := range permits {
				permits[i].Done(t.Context(), errFailed)
				if dones[i] != nil {
					dones[i](errFailed)
				}
			}
		}
		fact(t, mine.Stats().Opened > 0, "stormjib opens on failures of 2s, in a window of 1s")
		fact(t, peer.State() == gobreaker.StateClosed && peer.Counts().TotalFailures == 0,
			"gobreaker counts none of 500 failures of 2s, in a window of 1s")
	})
}

// exits runs fn on a goroutine that it may exit, as t.FailNow does, or panic.
func exits(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		fn()
	}()
	<-done
}

func TestDifferenceProbeExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(probeConfig())
		_ = mine.Do(t.Context(), fail)
		peer := newProbedGobreaker()
		_, _ = peer.Execute(plainFailAnswer)
		time.Sleep(2 * scriptOpenFor)

		exits(func() {
			_ = mine.Do(t.Context(), func(context.Context) error { runtime.Goexit(); return nil })
		})
		exits(func() {
			_, _ = peer.Execute(func() (int, error) { runtime.Goexit(); return 0, nil })
		})

		err := probeAgain(func() error { return mine.Do(t.Context(), succeed) })
		fact(t, err == nil, "stormjib counts a probe that exits its goroutine as a failure")
		err = probeAgain(func() error { _, err := peer.Execute(plainAnswer); return err })
		fact(t, err == gobreaker.ErrTooManyRequests,
			"gobreaker refuses for ever after a probe that exits its goroutine")
	})
}

func TestDifferenceProbePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(probeConfig())
		_ = mine.Do(t.Context(), fail)
		peer := failsafe.With[int](newProbedFailsafe())
		_, _ = peer.Get(plainFailAnswer)
		time.Sleep(2 * scriptOpenFor)

		exits(func() { _ = mine.Do(t.Context(), func(context.Context) error { panic("probe") }) })
		exits(func() { _, _ = peer.Get(func() (int, error) { panic("probe") }) })

		err := probeAgain(func() error { return mine.Do(t.Context(), succeed) })
		fact(t, err == nil, "stormjib counts a probe that panics as a failure")
		err = probeAgain(func() error { _, err := peer.Get(plainAnswer); return err })
		fact(t, err == circuitbreaker.ErrOpen,
			"failsafe-go refuses for ever after a probe that panics")
	})
}

func TestDifferenceProbeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(probeConfig())
		_ = mine.Do(t.Context(), fail)
		peer := newProbedGobreaker()
		_, _ = peer.Execute(plainFailAnswer)
		time.Sleep(2 * scriptOpenFor)

		release := make(chan struct{})
		defer close(release)
		go func() {
			_ = mine.Do(context.Background(), func(context.Context) error { <-release; return nil })
		}()
		go func() {
			_, _ = peer.Execute(func() (int, error) { <-release; return 0, nil })
		}()
		synctest.Wait()

		err := probeAgain(func() error { return mine.Do(t.Context(), succeed) })
		fact(t, err == nil, "stormjib gives the place of a probe that hangs to another")
		err = probeAgain(func() error { _, err := peer.Execute(plainAnswer); return err })
		fact(t, err == gobreaker.ErrTooManyRequests,
			"gobreaker refuses for as long as a probe hangs")
	})
}

// TestDifferenceLateResult has a call that began long before the breaker opened end in half-open.
// It says nothing of how things are now.
func TestDifferenceLateResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, peer := breaker.New(probeConfig()), newProbedFailsafe()
		early, _ := mine.Allow()
		peer.TryAcquirePermit()
		_ = mine.Do(t.Context(), fail)
		peer.RecordFailure()
		time.Sleep(2 * scriptOpenFor)
		probe, _ := mine.Allow()
		peer.TryAcquirePermit()

		early.Done(t.Context(), nil)
		peer.RecordSuccess()
		fact(t, mine.State() == breaker.HalfOpen,
			"stormjib waits for the probe, not a late success")
		fact(t, peer.IsClosed(), "failsafe-go closes on a late success, its probe still under way")
		probe.Done(t.Context(), nil)
		fact(t, mine.State() == breaker.Closed, "stormjib closes when the probe succeeds")
	})
}

// TestDifferenceCrossingSuccess: in stormjib a success never opens; the next failure does.
func TestDifferenceCrossingSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(breaker.Config{FailureRate: 0.5, MinCalls: 20})
		peer := failsafeRate(0.5, 20)
		for i := range 20 {
			fn := fail
			if i >= 10 {
				fn = succeed
			}
			_ = mine.Do(t.Context(), fn)
			if i < 10 {
				peer.RecordFailure()
			} else {
				peer.RecordSuccess()
			}
		}
		fact(t, mine.State() == breaker.Closed,
			"stormjib stays closed on a success that brings MinCalls")
		fact(t, peer.IsOpen(), "failsafe-go opens on a success that brings the minimum")
		_ = mine.Do(t.Context(), fail)
		fact(t, mine.State() == breaker.Open, "stormjib opens on the next failure")
	})
}

// TestDifferenceAlmostHalf has 99 of 200 calls fail.
func TestDifferenceAlmostHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(breaker.Config{FailureRate: 0.5, MinCalls: 200})
		peer := failsafeRate(0.5, 200)
		for range 101 {
			_ = mine.Do(t.Context(), succeed)
			peer.RecordSuccess()
		}
		for range 99 {
			_ = mine.Do(t.Context(), fail)
			peer.RecordFailure()
		}
		fact(t, mine.State() == breaker.Closed, "stormjib takes 99 of 200 for less than a half")
		fact(t, peer.IsOpen(), "failsafe-go takes 99 of 200 for a half: it rounds to hundredths")
	})
}

func TestDifferenceIdleState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, peer := breaker.New(probeConfig()), newProbedFailsafe()
		_ = mine.Do(t.Context(), fail)
		peer.RecordFailure()
		time.Sleep(2 * scriptOpenFor)
		fact(t, mine.State() == breaker.HalfOpen,
			"stormjib shows half-open when the open time is over")
		fact(t, peer.IsOpen(), "failsafe-go shows open until the next call")
	})
}

func TestDifferenceIdleCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(breaker.Config{MinCalls: 100})
		peer := gobreaker.NewCircuitBreaker[int](gobreakerRolling(rateAll))
		for range 50 {
			_ = mine.Do(t.Context(), fail)
			_, _ = peer.Execute(plainFailAnswer)
		}
		time.Sleep(time.Hour)
		fact(t, mine.Stats().Recent == breaker.Counts{},
			"stormjib shows an empty window after an hour")
		fact(t, peer.Counts().TotalFailures == 50, "gobreaker shows 50 failures an hour later")
	})
}

// TestDifferenceHerd has a hundred calls wait for the end of the open time.
func TestDifferenceHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := breaker.New(probeConfig())
		_ = mine.Do(t.Context(), fail)
		peer := resiliency.New(1, 1, scriptOpenFor)
		_ = peer.Run(plainFail)
		time.Sleep(2 * scriptOpenFor)

		var ran, peerRan int
		release := make(chan struct{})
		count := make(chan *int, 200)
		for range 100 {
			go func() {
				_ = mine.Do(context.Background(), func(context.Context) error {
					count <- &ran
					<-release
					return nil
				})
			}()
			go func() {
				_ = peer.Run(func() error {
					count <- &peerRan
					<-release
					return nil
				})
			}()
		}
		synctest.Wait()
		close(release)
		for range len(count) {
			*<-count++
		}
		fact(t, ran == 1, "stormjib lets one of a hundred callers probe")
		fact(t, peerRan == 100, "go-resiliency lets all hundred probe")
	})
}

// TestDifferenceInStep has a hundred breakers, as in a hundred processes, open at one moment, and
// looks at how many would probe at the same later one.
func TestDifferenceInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		moments := make(map[time.Duration]int)
		start := time.Now()
		for range 100 {
			mine := breaker.New(probeConfig())
			_ = mine.Do(t.Context(), fail)
			moments[mine.Stats().Until.Sub(start)]++
		}
		fact(t, len(moments) > 90, "stormjib spreads the probes of a hundred breakers")
		peer := newProbedGobreaker()
		_, _ = peer.Execute(plainFailAnswer)
		time.Sleep(scriptOpenFor)
		before := peer.State()
		time.Sleep(time.Nanosecond)
		fact(t, before == gobreaker.StateOpen && peer.State() == gobreaker.StateHalfOpen,
			"gobreaker probes after the open time to the nanosecond, in all processes alike")
	})
}
