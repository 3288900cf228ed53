package bench

import (
	"context"
	"testing"
	"time"

	avast "github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v7"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/googleapis/gax-go/v2"
	sethvargo "github.com/sethvargo/go-retry"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

func BenchmarkFirstTry(b *testing.B)         { serial(b, firstTry()) }
func BenchmarkFirstTryParallel(b *testing.B) { parallel(b, firstTry()) }
func BenchmarkOneRetry(b *testing.B)         { serial(b, oneRetry()) }
func BenchmarkOneRetryParallel(b *testing.B) { parallel(b, oneRetry()) }
func BenchmarkUnhedged(b *testing.B)         { serial(b, unhedged()) }
func BenchmarkUnhedgedParallel(b *testing.B) { parallel(b, unhedged()) }

// attempts is how many each retrier may make.
const attempts = 3

// work is the function that is retried, in the forms that the libraries want.
type work struct {
	plain       func() (int, error)
	withContext func(context.Context) (int, error)
	onlyError   func(context.Context) error
}

// reliably makes a function whose first attempt succeeds.
func reliably() work { return work{plainAnswer, answer, succeed} }

// unreliably makes one that always fails.
func unreliably() work { return work{plainFailAnswer, failAnswer, fail} }

// flakily makes one that fails at each first attempt, and succeeds at each second.
func flakily() work {
	var made int
	return everySecond(&made)
}

// everySecond counts the attempts too.
func everySecond(made *int) work {
	next := func() error {
		if *made++; *made%2 == 1 {
			return errFailed
		}
		return nil
	}
	return work{
		func() (int, error) { return 42, next() },
		func(context.Context) (int, error) { return 42, next() },
		func(context.Context) error { return next() },
	}
}

// firstTry are retriers whose function succeeds at once. Those that have a budget have
// one, with its defaults.
func firstTry() []contender { return retriers(reliably, false) }

// oneRetry are retriers whose function succeeds at its second attempt, without a wait
// between. The token for it comes back, else the budgets would be empty soon.
func oneRetry() []contender { return retriers(flakily, true) }

func retriers(newWork func() work, refund bool) []contender {
	return []contender{
		{"stormjib", stormjibRetry(newWork, refund, false)},
		{"stormjib-no-budget", stormjibRetry(newWork, false, true)},
		{"cenkalti-v7", cenkalti(newWork)},
		{"avast-v5", avastRetry(newWork)},
		{"avast-v5-budget", avastRetry(newWork, avast.WithFixedTokenBucketThrottle(
			avast.FixedTokenBucketThrottleConfig{}))},
		{"sethvargo", sethvargoRetry(newWork)},
		{"gax", gaxInvoke(newWork)},
		{"failsafe-retry", failsafeRetry(newWork, nil)},
		{"failsafe-retry-budget", failsafeRetry(newWork, budget.New())},
		{"go-resiliency-retrier", resiliencyRetry(newWork)},
	}
}

func stormjibRetry(newWork func() work, refund, off bool) func(int) error {
	p, ctx := &retry.Policy{
		MaxAttempts: attempts,
		Backoff:     retry.Constant(0),
		Budget:      retry.Budget{Refund: refund, Off: off},
	}, context.Background()
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			_, err = retry.Do(ctx, p, fn.withContext)
		}
		return err
	}
}

// cenkalti gets its backoff with each call, since that has state.
func cenkalti(newWork func() work) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			_, err = backoff.Retry(ctx, fn.plain,
				backoff.WithBackOff(&backoff.ZeroBackOff{}), backoff.WithMaxTries(attempts))
		}
		return err
	}
}

func avastRetry(newWork func() work, more ...avast.Option) func(int) error {
	r := avast.NewWithData[int](append(more, avast.Attempts(attempts), avast.Delay(0),
		avast.DelayType(avast.FixedDelay))...)
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			_, err = r.Do(fn.plain)
		}
		return err
	}
}

// sethvargoRetry too gets its backoff with each call.
func sethvargoRetry(newWork func() work) func(int) error {
	ctx := context.Background()
	none := sethvargo.BackoffFunc(func() (time.Duration, bool) { return 0, false })
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			_, err = sethvargo.DoValue(ctx, sethvargo.WithMaxRetries(attempts-1, none),
				func(ctx context.Context) (int, error) {
					answer, err := fn.withContext(ctx)
					return answer, sethvargo.RetryableError(err)
				})
		}
		return err
	}
}

// gaxInvoke has no bound on attempts, and no wait below a nanosecond.
func gaxInvoke(newWork func() work) func(int) error {
	ctx := context.Background()
	retryer := gax.WithRetry(func() gax.Retryer {
		return gax.OnErrorFunc(gax.Backoff{Initial: 1, Max: 1}, func(error) bool { return true })
	})
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			err = gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
				return fn.onlyError(ctx)
			}, retryer)
		}
		return err
	}
}

func failsafeRetry(newWork func() work, b budget.Budget) func(int) error {
	builder := retrypolicy.NewBuilder[int]().WithMaxAttempts(attempts)
	if b != nil {
		builder = builder.WithBudget(b)
	}
	executor := failsafe.With[int](builder.Build())
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			_, err = executor.Get(fn.plain)
		}
		return err
	}
}

func resiliencyRetry(newWork func() work) func(int) error {
	r, ctx := retrier.New(retrier.ConstantBackoff(attempts-1, 0), nil), context.Background()
	return func(n int) (err error) {
		fn := newWork()
		for range n {
			err = r.RunCtx(ctx, fn.onlyError)
		}
		return err
	}
}

// unhedged are hedges whose function answers before a second attempt is due: with an
// observed delay, and with a fixed one.
func unhedged() []contender {
	return []contender{
		{"stormjib", stormjibHedge(&hedge.Policy{MinDelay: time.Second})},
		{"stormjib-fixed", stormjibHedge(&hedge.Policy{Delay: time.Second})},
		{"failsafe-hedge", failsafeHedge(
			hedgepolicy.NewWithDelayQuantile[int](0.95, 100, 50))},
		{"failsafe-hedge-fixed", failsafeHedge(hedgepolicy.NewWithDelay[int](time.Second))},
	}
}

func stormjibHedge(p *hedge.Policy) func(int) error {
	ctx := context.Background()
	call := func(n int) (err error) {
		for range n {
			_, err = hedge.Do(ctx, p, answer, nil)
		}
		return err
	}
	_ = call(100) // more than it takes to know the delay
	return call
}

func failsafeHedge(p hedgepolicy.HedgePolicy[int]) func(int) error {
	executor := failsafe.With[int](p)
	call := func(n int) (err error) {
		for range n {
			_, err = executor.Get(plainAnswer)
		}
		return err
	}
	_ = call(100)
	return call
}

// TestRetryContenders checks that what is measured is what the name says.
func TestRetryContenders(t *testing.T) {
	for _, group := range []struct {
		name       string
		contenders []contender
	}{
		{"first try", firstTry()},
		{"one retry", oneRetry()},
		{"unhedged", unhedged()},
	} {
		for _, c := range group.contenders {
			if err := c.loop(100); err != nil {
				t.Errorf("%s: %s: the last call returned %v", group.name, c.name, err)
			}
		}
	}
	for _, c := range retriers(unreliably, false) {
		if c.name == "gax" {
			continue // it would go on for ever
		}
		if err := c.loop(1); err == nil {
			t.Errorf("%s: an error is lost", c.name)
		}
	}
}

// TestOneRetry counts: each call makes two attempts, not one and not three.
func TestOneRetry(t *testing.T) {
	var made int
	counted := func() work { return everySecond(&made) }
	for _, c := range retriers(counted, true) {
		made = 0
		if err := c.loop(100); err != nil || made != 200 {
			t.Errorf("%s: 100 calls made %d attempts, want 200; %v", c.name, made, err)
		}
	}
}

// TestRetryAllocations holds stormjib to none where nothing fails, and to four for a
// hedge that is not needed.
func TestRetryAllocations(t *testing.T) {
	for _, test := range []struct {
		contender
		most float64
	}{
		{firstTry()[0], 0},
		{unhedged()[0], 4},
		{unhedged()[1], 4},
	} {
		allocs := testing.AllocsPerRun(100, func() { _ = test.loop(100) }) / 100
		if allocs > test.most+0.5 { // a collection may empty a pool
			t.Errorf("%s: a call allocates %v times, want %v", test.name, allocs, test.most)
		}
	}
}
