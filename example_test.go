package stormjib_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/bulkhead"
)

// A client's chain is built once and used for every call.
func ExampleChain() {
	policy := stormjib.Chain(
		stormjib.Timeout(2*time.Second), // for all of it
		breaker.New(breaker.Config{Name: "greeter"}),
		stormjib.Timeout(250*time.Millisecond), // for the call
	)
	err := policy.Do(context.Background(), func(ctx context.Context) error {
		_, limited := ctx.Deadline()
		fmt.Println("called with a deadline:", limited)
		return nil
	})
	fmt.Println(err)
	// Output:
	// called with a deadline: true
	// <nil>
}

// The order of a client's policies, and what each of them makes of one call that
// hangs and of the one after it.
func ExampleChain_order() {
	prices := breaker.New(breaker.Config{Name: "prices", Consecutive: 1})
	policy := stormjib.Chain(
		stormjib.Timeout(time.Minute), // bounds what the others add
		prices,                        // sees the timeout of the call
		bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 20}),
		stormjib.Timeout(time.Millisecond), // does not pay for a wait in the bulkhead
	)
	get := func(ctx context.Context) (string, error) {
		return stormjib.Do(ctx, policy, func(ctx context.Context) (string, error) {
			<-ctx.Done() // a dependency that hangs
			fmt.Println("call:    ", context.Cause(ctx))
			return "", ctx.Err()
		})
	}
	lastKnown := func(_ context.Context, err error) (string, error) {
		fmt.Println("breaker: ", prices.State())
		fmt.Println("fallback:", err)
		return "42, as of yesterday", nil
	}
	for range 2 {
		price, err := stormjib.Fallback(context.Background(), get, lastKnown)
		fmt.Println("caller:  ", price, err)
	}
	// Output:
	// call:     stormjib: timed out after 1ms
	// breaker:  open
	// fallback: stormjib: timed out after 1ms: context deadline exceeded
	// caller:   42, as of yesterday <nil>
	// breaker:  open
	// fallback: breaker: prices: open
	// caller:   42, as of yesterday <nil>
}

// A breaker stands outside of a bulkhead: a refused call was not made, and so is no
// failure of what it would have called. The other way round, calls that the breaker
// refuses would take up slots.
func ExampleChain_refusals() {
	breaks := breaker.New(breaker.Config{Name: "prices", Consecutive: 1})
	bound := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	policy := stormjib.Chain(breaks, bound)

	fmt.Println(policy.Do(context.Background(), func(ctx context.Context) error {
		for range 3 { // while this one is under way
			fmt.Println(policy.Do(ctx, func(context.Context) error { return nil }))
		}
		return nil
	}))
	fmt.Println(breaks.State(), breaks.Stats().Ignored)
	// Output:
	// bulkhead "prices": full
	// bulkhead "prices": full
	// bulkhead "prices": full
	// <nil>
	// closed 3
}

// A policy of your own: one that calls again after an error.
func ExamplePolicyFunc() {
	again := stormjib.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		err := fn(ctx)
		if err != nil && ctx.Err() == nil {
			err = fn(ctx)
		}
		return err
	})
	attempts := 0
	err := stormjib.Chain(again, stormjib.Timeout(time.Second)).Do(context.Background(),
		func(context.Context) error {
			attempts++
			if attempts == 1 {
				return errors.New("connection reset")
			}
			return nil
		})
	fmt.Println(attempts, err)
	// Output: 2 <nil>
}

func ExampleDo() {
	policy := stormjib.Chain(
		breaker.New(breaker.Config{Name: "numbers"}),
		stormjib.Timeout(time.Second),
	)
	n, err := stormjib.Do(context.Background(), policy,
		func(context.Context) (int, error) { return 42, nil })
	fmt.Println(n, err)
	// Output: 42 <nil>
}

// A Timeout around an HTTP call holds the reading of the body too: the context ends
// with the call, and so would a body that is read after it.
func ExampleTimeout_http() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // the header first, the body later
		io.WriteString(w, "hello")
	}))
	defer server.Close()

	timeout := stormjib.Timeout(10 * time.Second)
	text, err := stormjib.Do(context.Background(), timeout,
		func(ctx context.Context) ([]byte, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
			if err != nil {
				return nil, err
			}
			resp, err := server.Client().Do(r)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			return io.ReadAll(resp.Body)
		})
	fmt.Printf("%s %v\n", text, err)
	// Output: hello <nil>
}

// A call that ends because of the timeout returns an error that says so, and goes on
// matching its own.
func ExampleTimeout() {
	errReset := errors.New("connection reset")
	err := stormjib.Timeout(time.Millisecond).Do(context.Background(),
		func(ctx context.Context) error {
			<-ctx.Done()
			return errReset
		})
	fmt.Println(err)
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, errReset))
	// Output:
	// stormjib: timed out after 1ms: connection reset
	// true true
}

// Which timeout was it: one of ours, or the caller's own deadline?
func ExampleTimeoutError() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, err := range []error{
		stormjib.Timeout(time.Millisecond).Do(context.Background(), wait),
		stormjib.Timeout(time.Hour).Do(ctx, wait),
	} {
		if timeout, ok := errors.AsType[*stormjib.TimeoutError](err); ok {
			fmt.Println("ours, after", timeout.After)
		} else {
			fmt.Println("the caller's:", err)
		}
	}
	// Output:
	// ours, after 1ms
	// the caller's: context deadline exceeded
}

// The answer of yesterday, when there is none of today.
func ExampleFallback() {
	price, err := stormjib.Fallback(context.Background(),
		func(context.Context) (string, error) {
			return "", errors.New("connection refused")
		},
		func(_ context.Context, err error) (string, error) {
			fmt.Println("because of:", err)
			return "42, as of yesterday", nil
		})
	fmt.Println(price, err)
	// Output:
	// because of: connection refused
	// 42, as of yesterday <nil>
}

// May an order be sent to another shop? Only if this one cannot have got it.
func ExampleNotAttempted() {
	shop := breaker.New(breaker.Config{Name: "shop", Consecutive: 1})
	order := func(context.Context) error { return errors.New("connection reset") }
	for range 2 {
		err := shop.Do(context.Background(), order)
		fmt.Printf("%v: send elsewhere: %t\n", err, stormjib.NotAttempted(err))
	}
	// Output:
	// connection reset: send elsewhere: false
	// breaker: shop: open: send elsewhere: true
}

// An error of your own joins in by having the method.
func ExampleRetryAfter() {
	err := fmt.Errorf("upload: %w", quotaError{until: 30 * time.Second})
	fmt.Println(err)
	fmt.Println(stormjib.RetryAfter(err))
	// Output:
	// upload: quota used up
	// 30s
}

type quotaError struct{ until time.Duration }

func (quotaError) Error() string               { return "quota used up" }
func (e quotaError) RetryAfter() time.Duration { return e.until }
