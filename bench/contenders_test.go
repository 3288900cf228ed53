package bench

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	resiliency "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	circuit "github.com/rubyist/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/stormjib/stormjib/breaker"
)

// All windows are as long, and cut into as many parts, as stormjib's by default,
// where the peer lets one choose.
const (
	window   = 30 * time.Second
	buckets  = 10
	minCalls = 10
	openFor  = time.Hour // longer than any run
)

var errFailed = errors.New("bench: the call failed")

// The calls that are guarded do nothing, in the form that each library wants.
func succeed(context.Context) error           { return nil }
func answer(context.Context) (int, error)     { return 42, nil }
func fail(context.Context) error              { return errFailed }
func failAnswer(context.Context) (int, error) { return 0, errFailed }

func plainSucceed() error           { return nil }
func plainAnswer() (int, error)     { return 42, nil }
func plainFail() error              { return errFailed }
func plainFailAnswer() (int, error) { return 0, errFailed }

// baselines are what no breaker can be faster than.
func baselines() []contender {
	return []contender{
		{"time.Since", sinceLoop()},
		{"atomic-add", addLoop()},
		{"defer-wrapper", wrapperLoop()},
		{"all-three", floorLoop()},
	}
}

var sink atomic.Int64

func sinceLoop() func(int) error {
	base := time.Now()
	return func(n int) error {
		var sum time.Duration
		for range n {
			sum += time.Since(base)
		}
		sink.Store(int64(sum))
		return nil
	}
}

func addLoop() func(int) error {
	var count atomic.Uint64
	return func(n int) error {
		for range n {
			count.Add(1)
		}
		return nil
	}
}

// guard has the shape of a breaker that defers the recording of a call, so that
// a panic counts, but does nothing.
type guard struct {
	base  time.Time
	count atomic.Uint64
	until atomic.Int64
}

type ticket struct{ g *guard }

func (t *ticket) done() {
	if t.g != nil {
		t.g.count.Add(1)
	}
}

//go:noinline
func (g *guard) wrap(ctx context.Context, fn func(context.Context) error) error {
	t := ticket{g: g}
	defer t.done()
	err := fn(ctx)
	t.g = nil
	return err
}

// measured is wrap with one reading of the clock and one atomic addition.
//
//go:noinline
func (g *guard) measured(ctx context.Context, fn func(context.Context) error) error {
	t := ticket{g: g}
	defer t.done()
	err := fn(ctx)
	t.g = nil
	if int64(time.Since(g.base)) < g.until.Load() {
		g.count.Add(1)
	}
	return err
}

func wrapperLoop() func(int) error {
	g, ctx := &guard{}, context.Background()
	return func(n int) (err error) {
		for range n {
			err = g.wrap(ctx, succeed)
		}
		return err
	}
}

func floorLoop() func(int) error {
	g, ctx := &guard{base: time.Now()}, context.Background()
	g.until.Store(math.MaxInt64)
	return func(n int) (err error) {
		for range n {
			err = g.measured(ctx, succeed)
		}
		return err
	}
}

// closedWindow are closed breakers with a rule over a window of time, and calls
// that succeed.
func closedWindow() []contender {
	var zero breaker.Config
	slow := breaker.Config{SlowCall: time.Minute}
	return []contender{
		{"stormjib", stormjibAnswers(zero, answer)},
		{"stormjib-method", stormjibDo(zero, succeed)},
		{"stormjib-twostep", stormjibTwoStep(zero, nil)},
		{"stormjib-slowcall", stormjibAnswers(slow, answer)},
		{"gobreaker-fixed", gobreakerExecute(gobreakerFixed(rateHalf), plainAnswer)},
		{"gobreaker-rolling", gobreakerExecute(gobreakerRolling(rateHalf), plainAnswer)},
		{"gobreaker-twostep", gobreakerTwoStep(gobreakerRolling(rateHalf), nil)},
		{"failsafe-executor", failsafeExecutor(failsafeRate(0.5, minCalls), plainAnswer)},
		{"failsafe-standalone", failsafeStandalone(failsafeRate(0.5, minCalls), nil)},
		{"aegis-sre", aegis(minCalls, nil)},
		{"rubyist-rate", rubyist(circuit.RateTripFunc(0.5, minCalls), plainSucceed)},
	}
}

// closedConsecutive are closed breakers that count failures in a row, and calls
// that succeed.
func closedConsecutive() []contender {
	ten := breaker.Config{Consecutive: 10}
	return []contender{
		{"stormjib", stormjibAnswers(ten, answer)},
		{"stormjib-method", stormjibDo(ten, succeed)},
		{"stormjib-twostep", stormjibTwoStep(ten, nil)},
		{"gobreaker", gobreakerExecute(gobreaker.Settings{}, plainAnswer)},
		{"failsafe-executor", failsafeExecutor(failsafeCount(10), plainAnswer)},
		{"failsafe-standalone", failsafeStandalone(failsafeCount(10), nil)},
		{"go-resiliency", resiliencyRun(10, plainSucceed)},
		{"rubyist", rubyist(circuit.ConsecutiveTripFunc(10), plainSucceed)},
	}
}

// refusing are breakers that a failure has opened. aegis has no such state: it
// refuses by chance.
func refusing() []contender {
	one := breaker.Config{Consecutive: 1, OpenFor: openFor, MaxOpenFor: openFor}
	executor := failsafeCount(1)
	executor.RecordFailure()
	standalone := failsafeCount(1)
	standalone.RecordFailure()
	contenders := []contender{
		{"stormjib", stormjibAnswers(one, failAnswer)},
		{"stormjib-method", stormjibDo(one, fail)},
		{"stormjib-twostep", stormjibTwoStep(one, errFailed)},
		{"gobreaker-fixed", gobreakerExecute(gobreakerFixed(always), plainFailAnswer)},
		{"gobreaker-rolling", gobreakerExecute(gobreakerRolling(always), plainFailAnswer)},
		{"gobreaker-twostep", gobreakerTwoStep(gobreakerRolling(always), errFailed)},
		{"failsafe-executor", failsafeExecutor(executor, plainFailAnswer)},
		{"failsafe-standalone", failsafeStandalone(standalone, errFailed)},
		{"go-resiliency", resiliencyRun(1, plainFail)},
		{"rubyist", rubyist(circuit.ConsecutiveTripFunc(1), plainFail)},
	}
	for _, c := range contenders {
		_ = c.loop(1)
	}
	return contenders
}

// failing are closed breakers and calls that fail. The rules look at each failure,
// but never have enough.
func failing() []contender {
	return []contender{
		{"stormjib", stormjibFailing()},
		{"gobreaker-fixed", gobreakerExecute(gobreakerFixed(rateAll), plainFailAnswer)},
		{"gobreaker-rolling", gobreakerExecute(gobreakerRolling(rateAll), plainFailAnswer)},
		{"gobreaker-twostep", gobreakerTwoStep(gobreakerRolling(rateAll), errFailed)},
		{"failsafe-executor", failsafeExecutor(failsafeRate(1, math.MaxInt32), plainFailAnswer)},
		{"failsafe-standalone", failsafeStandalone(failsafeRate(1, math.MaxInt32), errFailed)},
		{"aegis-sre", aegis(math.MaxInt64, errFailed)},
		{"go-resiliency", resiliencyRun(math.MaxInt, plainFail)},
		{"rubyist-rate", rubyist(circuit.RateTripFunc(1.1, minCalls), plainFail)},
	}
}

func stormjibDo(cfg breaker.Config, fn func(context.Context) error) func(int) error {
	b, ctx := breaker.New(cfg), context.Background()
	return func(n int) (err error) {
		for range n {
			err = b.Do(ctx, fn)
		}
		return err
	}
}

func stormjibAnswers(
	cfg breaker.Config, fn func(context.Context) (int, error),
) func(int) error {
	b, ctx := breaker.New(cfg), context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = breaker.Do(ctx, b, fn)
		}
		return err
	}
}

func stormjibTwoStep(cfg breaker.Config, result error) func(int) error {
	b, ctx := breaker.New(cfg), context.Background()
	return func(n int) error {
		last := result
		for range n {
			permit, err := b.Allow()
			if err != nil {
				last = err
				continue
			}
			permit.Done(ctx, result)
		}
		return last
	}
}

// stormjibFailing opens when all calls failed. It makes one that does not, each
// time, and no time is as long as the window.
func stormjibFailing() func(int) error {
	b, ctx := breaker.New(breaker.Config{FailureRate: 1}), context.Background()
	return func(n int) (err error) {
		_ = b.Do(ctx, succeed)
		for range n {
			_, err = breaker.Do(ctx, b, failAnswer)
		}
		return err
	}
}

func gobreakerFixed(trip func(gobreaker.Counts) bool) gobreaker.Settings {
	return gobreaker.Settings{Interval: window, Timeout: openFor, ReadyToTrip: trip}
}

func gobreakerRolling(trip func(gobreaker.Counts) bool) gobreaker.Settings {
	settings := gobreakerFixed(trip)
	settings.BucketPeriod = window / buckets
	return settings
}

func always(gobreaker.Counts) bool { return true }

func rateHalf(c gobreaker.Counts) bool {
	all := c.TotalFailures + c.TotalSuccesses
	return all >= minCalls && 2*c.TotalFailures >= all
}

func rateAll(c gobreaker.Counts) bool {
	all := c.TotalFailures + c.TotalSuccesses
	return all >= minCalls && c.TotalFailures > all
}

func gobreakerExecute(settings gobreaker.Settings, fn func() (int, error)) func(int) error {
	cb := gobreaker.NewCircuitBreaker[int](settings)
	return func(n int) (err error) {
		for range n {
			_, err = cb.Execute(fn)
		}
		return err
	}
}

func gobreakerTwoStep(settings gobreaker.Settings, result error) func(int) error {
	cb := gobreaker.NewTwoStepCircuitBreaker[int](settings)
	return func(n int) error {
		last := result
		for range n {
			done, err := cb.Allow()
			if err != nil {
				last = err
				continue
			}
			done(result)
		}
		return last
	}
}

func failsafeRate(rate float64, minimum uint) circuitbreaker.CircuitBreaker[int] {
	return circuitbreaker.NewBuilder[int]().
		WithFailureRateThreshold(rate, minimum, window).
		WithDelay(openFor).Build()
}

func failsafeCount(failures uint) circuitbreaker.CircuitBreaker[int] {
	return circuitbreaker.NewBuilder[int]().
		WithFailureThreshold(failures).
		WithDelay(openFor).Build()
}

func failsafeExecutor(
	cb circuitbreaker.CircuitBreaker[int], fn func() (int, error),
) func(int) error {
	executor := failsafe.With[int](cb)
	return func(n int) (err error) {
		for range n {
			_, err = executor.Get(fn)
		}
		return err
	}
}

func failsafeStandalone(cb circuitbreaker.CircuitBreaker[int], result error) func(int) error {
	return func(n int) error {
		last := result
		for range n {
			switch {
			case !cb.TryAcquirePermit():
				last = circuitbreaker.ErrOpen
			case result != nil:
				cb.RecordFailure()
			default:
				cb.RecordSuccess()
			}
		}
		return last
	}
}

func resiliencyRun(failures int, fn func() error) func(int) error {
	b := resiliency.New(failures, 3, openFor)
	return func(n int) (err error) {
		for range n {
			err = b.Run(fn)
		}
		return err
	}
}

func aegis(minimum int64, result error) func(int) error {
	b := sre.NewBreaker(sre.WithWindow(window), sre.WithBucket(buckets), sre.WithRequest(minimum))
	return func(n int) error {
		last := result
		for range n {
			err := b.Allow()
			switch {
			case err != nil:
				last = err
			case result != nil:
				b.MarkFailed()
			default:
				b.MarkSuccess()
			}
		}
		return last
	}
}

func rubyist(trip circuit.TripFunc, fn func() error) func(int) error {
	b := circuit.NewBreakerWithOptions(&circuit.Options{
		ShouldTrip:    trip,
		WindowTime:    window,
		WindowBuckets: buckets,
	})
	return func(n int) (err error) {
		for range n {
			err = b.Call(fn, 0) // 0: no time-out, else it starts a goroutine
		}
		return err
	}
}

// TestContenders checks that what is measured is what the name says.
func TestContenders(t *testing.T) {
	groups := []struct {
		name       string
		contenders []contender
		want       func(error) bool
	}{
		{"closed window", closedWindow(), func(err error) bool { return err == nil }},
		{"consecutive", closedConsecutive(), func(err error) bool { return err == nil }},
		{"refusal", refusing(), func(err error) bool { return err != nil && err != errFailed }},
		{"failure", failing(), func(err error) bool { return err == errFailed }},
	}
	for _, g := range groups {
		for _, c := range g.contenders {
			if err := c.loop(100); !g.want(err) {
				t.Errorf("%s: %s: the last call returned %v", g.name, c.name, err)
			}
		}
	}
}

// TestAllocations holds stormjib to none, on any path.
func TestAllocations(t *testing.T) {
	for _, g := range [][]contender{closedWindow(), closedConsecutive(), refusing(), failing()} {
		for _, c := range g {
			if !strings.HasPrefix(c.name, "stormjib") {
				continue
			}
			_ = c.loop(1) // the first call of a bucket allocates its mark
			if allocs := testing.AllocsPerRun(100, func() { _ = c.loop(100) }); allocs != 0 {
				t.Errorf("%s: 100 calls allocate %v times, want 0", c.name, allocs)
			}
		}
	}
}
