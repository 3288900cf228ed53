package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

var errUnavailable = errors.New("connection refused")

// A call with a result, and what to do when it is refused.
func ExampleDo() {
	prices := breaker.New(breaker.Config{Name: "prices"})

	price := func(ctx context.Context) (int, error) {
		cents, err := breaker.Do(ctx, prices, func(context.Context) (int, error) {
			return 0, errUnavailable
		})
		if errors.Is(err, breaker.ErrOpen) {
			return 1999, nil // the last known one
		}
		return cents, err
	}
	for range 10 {
		if _, err := price(context.Background()); err != nil {
			fmt.Print(".")
		}
	}
	fmt.Println(price(context.Background()))
	// Output: ..........1999 <nil>
}

func ExampleNew() {
	b := breaker.New(breaker.Config{
		Name:        "ledger",
		FailureRate: 0.3,
		MinCalls:    50,
		OnChange: func(c breaker.Change) {
			fmt.Printf("%s: %v to %v: %s\n", c.Name, c.From, c.To, c.Reason)
		},
	})
	for i := range 50 {
		_ = b.Do(context.Background(), func(context.Context) error {
			if i%3 == 0 {
				return errUnavailable
			}
			return nil
		})
	}
	_ = b.Do(context.Background(), func(context.Context) error { return errUnavailable })
	// Output: ledger: closed to open: failure rate
}

// A configuration from a file is checked before New sees it.
func ExampleConfig_Validate() {
	cfg := breaker.Config{FailureRate: 50, Probes: -1}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// breaker: Config: FailureRate is 50, but must be above 0 and at most 1
	// Probes is -1, but must be at least 1
}

// Where a call and its end are in different places, as in an adapter.
func ExampleBreaker_Allow() {
	b := breaker.New(breaker.Config{Name: "queue"})

	permit, err := b.Allow()
	if err != nil {
		fmt.Println("not sent:", err)
		return
	}
	send := func(done func(error)) { done(nil) }
	send(func(err error) { permit.Done(context.Background(), err) })
	fmt.Println(b.Stats().Total.Succeeded)
	// Output: 1
}

// A refusal says until when.
func ExampleOpenError() {
	b := breaker.New(breaker.Config{Name: "prices", Consecutive: 1, OpenFor: time.Minute})
	_ = b.Do(context.Background(), func(context.Context) error { return errUnavailable })

	err := b.Do(context.Background(), func(context.Context) error { return nil })
	if open, ok := errors.AsType[*breaker.OpenError](err); ok {
		fmt.Println(err)
		fmt.Println(open.RetryAfter() > 40*time.Second)
	}
	// Output:
	// breaker: prices: open
	// true
}

// Not every error is the fault of the dependency.
func ExampleClassify() {
	errNotFound := errors.New("not found")
	b := breaker.New(breaker.Config{
		Classify: func(ctx context.Context, err error) breaker.Outcome {
			if errors.Is(err, errNotFound) {
				return breaker.Success // it answered
			}
			return breaker.Classify(ctx, err)
		},
	})
	for range 100 {
		_ = b.Do(context.Background(), func(context.Context) error { return errNotFound })
	}
	fmt.Println(b.State())
	// Output: closed
}

// Before a breaker is let loose: what would it have done?
func ExampleBreaker_Shadow() {
	b := breaker.New(breaker.Config{Consecutive: 5})
	b.Shadow()
	for range 100 {
		_ = b.Do(context.Background(), func(context.Context) error { return errUnavailable })
	}
	s := b.Stats()
	fmt.Println(s.State, s.Refused, s.Unrefused)
	// Output: open 0 95
}

// A breaker for each host, at most a thousand of them.
func ExampleGroup() {
	hosts := breaker.NewGroup[string](breaker.GroupConfig{
		Breaker: breaker.Config{Name: "hosts", Consecutive: 3},
		MaxKeys: 1000,
	})
	for range 3 {
		_ = hosts.Get("10.0.0.1").Do(context.Background(), func(context.Context) error {
			return errUnavailable
		})
	}
	fmt.Println(hosts.Get("10.0.0.1").State(), hosts.Get("10.0.0.2").State())
	// Output: open closed
}
