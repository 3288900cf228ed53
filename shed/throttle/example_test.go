package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

// overloadedError is the error of a client whose server sheds load.
type overloadedError struct{}

func (overloadedError) Error() string             { return "server overloaded" }
func (overloadedError) RetryAfter() time.Duration { return time.Second }

// A call with a result, and what to do when it is refused.
func ExampleDo() {
	prices := throttle.New(throttle.Config{Name: "prices"})

	price := func(ctx context.Context) (int, error) {
		cents, err := throttle.Do(ctx, prices, func(context.Context) (int, error) {
			return 0, overloadedError{}
		})
		if errors.Is(err, throttle.ErrThrottled) {
			return 1999, nil // the last known one
		}
		return cents, err
	}
	made := 0
	for range 1000 {
		if _, err := price(context.Background()); err != nil {
			made++
		}
	}
	fmt.Println("few calls were made:", made < 100)
	// Output: few calls were made: true
}

func ExampleNew() {
	t := throttle.New(throttle.Config{
		Name:   "ledger",
		K:      1.2, // to reject a call costs the ledger nearly as much as to serve it
		Window: 10 * time.Second,
	})
	err := t.Do(context.Background(), func(context.Context) error { return nil })
	fmt.Println(err, t.Stats().Total.Accepted)
	// Output: <nil> 1
}

// A configuration from a file is checked before New sees it.
func ExampleConfig_Validate() {
	cfg := throttle.Config{K: 0.5, Window: time.Microsecond}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// throttle: Config: K is 0.5, but must be above 1 and finite
	// Window is 1µs, but must be at least 10ms, ten buckets of 1ms
}

// Where the call tells what became of it by something else than an error, as in an
// adapter.
func ExampleThrottle_Allow() {
	t := throttle.New(throttle.Config{Name: "api"})

	permit, err := t.Allow(context.Background())
	if err != nil {
		fmt.Println("not sent:", err)
		return
	}
	defer permit.Record(throttle.Ignored) // of a panic; otherwise finished by then
	switch status := http.StatusTooManyRequests; status {
	case http.StatusTooManyRequests:
		permit.Record(throttle.Rejected)
	default:
		permit.Record(throttle.Accepted)
	}
	fmt.Println(t.Stats().Total.Rejected)
	// Output: 1
}

// A refusal says how likely it was.
func ExampleThrottledError() {
	t := throttle.New(throttle.Config{Name: "prices"})
	reject := func(context.Context) error { return overloadedError{} }

	for range 1000 {
		err := t.Do(context.Background(), reject)
		if throttled, ok := errors.AsType[*throttle.ThrottledError](err); ok {
			fmt.Println(throttled.Probability >= 0.5, throttled.Retryable())
			break
		}
	}
	// Output: true false
}

// A server that is overloaded and lets its clients wait, instead of telling them.
func ExampleClassify() {
	t := throttle.New(throttle.Config{
		Classify: func(ctx context.Context, err error) throttle.Outcome {
			if errors.Is(err, context.DeadlineExceeded) {
				return throttle.Rejected
			}
			return throttle.Classify(ctx, err)
		},
	})
	_ = t.Do(context.Background(), func(context.Context) error {
		return context.DeadlineExceeded
	})
	fmt.Println(t.Stats().Total.Rejected)
	// Output: 1
}

// Which class pays is in the numbers.
func ExampleThrottle_Stats() {
	t := throttle.New(throttle.Config{Name: "prices"})
	_ = t.Do(context.Background(), func(context.Context) error { return overloadedError{} })

	s := t.Stats()
	fmt.Println("rejected:", s.Total.Rejected, "of", s.Total.Offered)
	fmt.Println("best-effort:", s.Classes[0].Probability)
	fmt.Println("critical:", s.Classes[3].Probability)
	// Output:
	// rejected: 1 of 1
	// best-effort: 1
	// critical: 0.5
}

// A throttle for each host, at most a thousand of them.
func ExampleGroup() {
	hosts := throttle.NewGroup[string](throttle.GroupConfig{
		Throttle: throttle.Config{Name: "hosts"},
		MaxKeys:  1000,
	})
	err := hosts.Get("10.0.0.1").Do(context.Background(), func(context.Context) error {
		return nil
	})
	fmt.Println(err, hosts.Get("10.0.0.1").Stats().Name)
	// Output: <nil> hosts/10.0.0.1
}
