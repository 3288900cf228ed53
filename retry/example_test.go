package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/retry"
)

var (
	errUnavailable = errors.New("connection refused")
	errNotFound    = errors.New("not found")
)

// flaky is a dependency that answers at the third attempt.
func flaky(ctx context.Context) (string, error) {
	if retry.Attempt(ctx) < 3 {
		return "", errUnavailable
	}
	return "an answer", nil
}

// A call with a result. The zero Policy is one for production; it is shared by all calls
// of the same kind.
func ExampleDo() {
	var lookups retry.Policy

	answer, err := retry.Do(context.Background(), &lookups, flaky)
	fmt.Println(answer, err)
	// Output: an answer <nil>
}

func ExamplePolicy() {
	payments := &retry.Policy{
		MaxAttempts:    5,
		Backoff:        retry.FullJitter(time.Millisecond, 10*time.Millisecond, nil),
		AttemptTimeout: time.Second,
		MaxElapsed:     3 * time.Second,
		RetryIf: func(err error) bool {
			return errors.Is(err, errUnavailable) // the payment was not made
		},
		OnRetry: func(_ context.Context, e retry.Event) {
			fmt.Printf("attempt %d: %v\n", e.Attempt, e.Err)
		},
	}
	err := payments.Do(context.Background(), func(ctx context.Context) error {
		_, err := flaky(ctx)
		return err
	})
	fmt.Println(err)
	// Output:
	// attempt 1: connection refused
	// attempt 2: connection refused
	// <nil>
}

// Where there is no result.
func ExamplePolicy_Do() {
	deletes := retry.Policy{MaxAttempts: 2}
	err := deletes.Do(context.Background(), func(context.Context) error {
		return errUnavailable
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, errUnavailable), errors.Is(err, retry.ErrExhausted))
	// Output:
	// connection refused (2 attempts; retry: attempts exhausted)
	// true true
}

// A loop, where a function would have to carry too much out.
func ExamplePolicy_Attempts() {
	var lookups retry.Policy
	get := func(ctx context.Context) (string, error) {
		for ctx, try := range lookups.Attempts(ctx) {
			answer, err := flaky(ctx)
			if !try.Again(err) {
				return answer, try.Err()
			}
			fmt.Println("once more")
		}
		return "", context.Cause(ctx) // it was done before the first attempt
	}
	fmt.Println(get(context.Background()))

	done, cancel := context.WithCancel(context.Background())
	cancel()
	fmt.Println(get(done))
	// Output:
	// once more
	// once more
	// an answer <nil>
	//  context canceled
}

// A policy from a file is checked before it is used.
func ExamplePolicy_Validate() {
	policy := retry.Policy{MaxElapsed: -time.Second, Budget: retry.Budget{Ratio: 10}}
	for problem := range strings.SplitSeq(policy.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// retry: Policy: MaxElapsed is -1s, but must not be negative
	// Budget: Ratio is 10, but must be from 0 to 1
}

// Two policies that call the same dependency share what it can bear.
func ExampleBudget() {
	ledger := &retry.Budget{Ratio: 0.2, Burst: 2}
	reads := retry.Policy{SharedBudget: ledger, Backoff: retry.Constant(0)}
	writes := retry.Policy{SharedBudget: ledger, Backoff: retry.Constant(0), MaxAttempts: 2}

	down := func(context.Context) error { return errUnavailable }
	fmt.Println(reads.Do(context.Background(), down))

	err := writes.Do(context.Background(), down)
	fmt.Println(err)
	fmt.Println(errors.Is(err, errUnavailable), errors.Is(err, retry.ErrBudget))
	// Output:
	// connection refused (3 attempts; retry: attempts exhausted)
	// connection refused (1 attempt; retry: budget exhausted)
	// true true
}

// A budget for each host: what fails at one does not cost the others their retries.
func ExampleBudgetGroup() {
	hosts := retry.NewBudgetGroup[string](retry.BudgetGroupConfig{Burst: 1})
	call := func(host string) error {
		policy := retry.Policy{SharedBudget: hosts.Get(host), Backoff: retry.Constant(0)}
		return policy.Do(context.Background(), func(context.Context) error {
			return errUnavailable
		})
	}
	fmt.Println(call("10.0.0.1"))
	fmt.Println(call("10.0.0.1"))
	fmt.Println(call("10.0.0.2"))
	// Output:
	// connection refused (2 attempts; retry: budget exhausted)
	// connection refused (1 attempt; retry: budget exhausted)
	// connection refused (2 attempts; retry: budget exhausted)
}

// Another attempt will not find it either.
func ExamplePermanent() {
	var lookups retry.Policy
	err := lookups.Do(context.Background(), func(context.Context) error {
		fmt.Println("looking")
		return retry.Permanent(errNotFound)
	})
	fmt.Println(err, errors.Is(err, errNotFound))
	// Output:
	// looking
	// not found true
}

// The other side has said how long it takes.
func ExampleAfter() {
	policy := retry.Policy{Backoff: retry.Constant(0)}
	began := time.Now()
	err := policy.Do(context.Background(), func(ctx context.Context) error {
		if retry.Attempt(ctx) == 1 {
			return retry.After(20*time.Millisecond, errUnavailable)
		}
		return nil
	})
	fmt.Println(err, time.Since(began) >= 20*time.Millisecond)

	err = policy.Do(context.Background(), func(context.Context) error {
		return retry.After(time.Hour, errUnavailable)
	})
	fmt.Println(err)
	// Output:
	// <nil> true
	// connection refused (1 attempt; retry: asked to wait for 1h0m0s)
}

// An outer layer that knows another region to go to, and so wants to be the one that
// retries.
func ExampleOnce() {
	regions, inner := retry.Policy{Backoff: retry.Constant(0)}, retry.Policy{}
	err := regions.Do(context.Background(), func(ctx context.Context) error {
		region := []string{"north", "south", "west"}[retry.Attempt(ctx)-1]
		return inner.Do(retry.Once(ctx), func(context.Context) error {
			fmt.Println("calling", region)
			return errUnavailable
		})
	})
	fmt.Println(err)
	// Output:
	// calling north
	// calling south
	// calling west
	// connection refused (3 attempts; retry: attempts exhausted)
}

// For a log line, or a header.
func ExampleAttempt() {
	policy := retry.Policy{Backoff: retry.Constant(0)}
	_ = policy.Do(context.Background(), func(ctx context.Context) error {
		fmt.Println("attempt", retry.Attempt(ctx))
		return errUnavailable
	})
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}

// A call that ended as not found did not end as the failures before it.
func ExampleError() {
	policy := retry.Policy{Backoff: retry.Constant(0)}
	err := policy.Do(context.Background(), func(ctx context.Context) error {
		if retry.Attempt(ctx) == 1 {
			return errUnavailable
		}
		return retry.Permanent(errNotFound)
	})
	fmt.Println(errors.Is(err, errNotFound), errors.Is(err, errUnavailable))
	if e, ok := errors.AsType[*retry.Error](err); ok {
		fmt.Println(e.Attempts, e.Errs)
	}
	// Output:
	// true false
	// 2 [connection refused not found]
}

// The most that each of them waits, after the first attempts.
func ExampleBackoff() {
	const base, most = 50 * time.Millisecond, 2 * time.Second
	highest := func(n int64) int64 { return n - 1 } // instead of chance
	for _, kind := range []struct {
		name    string
		backoff retry.Backoff
	}{
		{"Constant", retry.Constant(base)},
		{"Exponential", retry.Exponential(base, most)},
		{"FullJitter", retry.FullJitter(base, most, highest)},
		{"EqualJitter", retry.EqualJitter(base, most, highest)},
		{"Decorrelated", retry.Decorrelated(base, most, highest)},
	} {
		fmt.Print(kind.name)
		var prev time.Duration
		for attempt := 1; attempt <= 4; attempt++ {
			prev = kind.backoff(attempt, prev)
			fmt.Print(" ", prev)
		}
		fmt.Println()
	}
	// Output:
	// Constant 50ms 50ms 50ms 50ms
	// Exponential 50ms 100ms 200ms 400ms
	// FullJitter 50ms 100ms 200ms 400ms
	// EqualJitter 50ms 100ms 200ms 400ms
	// Decorrelated 150ms 450ms 1.35s 2s
}
