package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// What is too much is dropped.
func ExampleLimiter_Allow() {
	warnings := limiter.New(limiter.Config{
		Name:  "warnings",
		Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 3},
	})
	for i := range 1000 {
		if warnings.Allow() {
			fmt.Println("warning", i)
		}
	}
	// Output:
	// warning 0
	// warning 1
	// warning 2
}

// A batch that keeps to a partner's limit. It may be late, and so it waits.
func ExampleLimiter() {
	partner := limiter.New(limiter.Config{
		Name:     "partner",
		Limit:    limiter.Limit{Rate: 1000, Burst: 10},
		MaxQueue: 100,
	})
	sent := 0
	for range 15 {
		if err := partner.Wait(context.Background(), 1); err != nil {
			fmt.Println(err)
			return
		}
		sent++
	}
	fmt.Println(sent)
	// Output: 15
}

// A caller who is told how long to stay away need not guess.
func ExampleLimiter_Check() {
	exports := limiter.New(limiter.Config{
		Name:  "exports",
		Limit: limiter.Limit{Rate: rate.Every(time.Hour), Burst: 2},
	})
	for range 3 {
		r := exports.Check(1)
		fmt.Println(r.OK, r.Remaining, r.RetryAfter.Round(time.Minute))
	}
	// Output:
	// true 1 0s
	// true 0 0s
	// false 0 1h0m0s
}

// Some calls cost more than others.
func ExampleLimiter_AllowN() {
	rows := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 100, Burst: 1000}})
	fmt.Println(rows.AllowN(900), rows.AllowN(500), rows.AllowN(5))
	// Output: true false true
}

func ExampleLimiter_Do() {
	mails := limiter.New(limiter.Config{
		Name:  "mails",
		Limit: limiter.Limit{Rate: 0.01, Burst: 1},
	})
	send := func(context.Context) error { fmt.Println("sent"); return nil }
	fmt.Println(mails.Do(context.Background(), send))
	fmt.Println(mails.Do(context.Background(), send))
	// Output:
	// sent
	// <nil>
	// limiter "mails": rate exceeded (1 in 1m40s, burst 1)
}

// A call with a result, and what to do when it is refused.
func ExampleDo() {
	maps := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 0.01, Burst: 1}})
	route := func(ctx context.Context) string {
		r, err := limiter.Do(ctx, maps, func(context.Context) (string, error) {
			return "by the river", nil
		})
		if errors.Is(err, limiter.ErrLimited) {
			return "as the crow flies"
		}
		return r
	}
	fmt.Println(route(context.Background()))
	fmt.Println(route(context.Background()))
	// Output:
	// by the river
	// as the crow flies
}

// A configuration from a file is checked before New sees it.
func ExampleConfig() {
	cfg := limiter.Config{
		Name:     "partner",
		Limit:    limiter.Limit{Rate: 10},
		MaxQueue: -1,
	}
	for problem := range strings.Lines(cfg.Validate().Error()) {
		fmt.Print(problem)
	}
	// Output:
	// limiter: Limit: Burst is 0, but must be at least 1 with a Rate of 10
	// limiter: Config "partner": MaxQueue is -1, but must not be negative
}

func ExampleLimit() {
	fmt.Println(limiter.Limit{Rate: 100, Burst: 20})
	fmt.Println(limiter.Limit{Rate: rate.Every(10 * time.Second), Burst: 1})
	fmt.Println(limiter.Limit{Rate: rate.Inf})
	fmt.Println(limiter.Limit{})
	// Output:
	// 100/s, burst 20
	// 1 in 10s, burst 1
	// no limit
	// nothing
}

// A customer pays for more. What is left of the old limit is what there is of the new one.
func ExampleLimiter_SetLimit() {
	calls := limiter.New(limiter.Config{
		Limit: limiter.Limit{Rate: rate.Every(time.Hour), Burst: 10},
	})
	calls.AllowN(4)
	err := calls.SetLimit(limiter.Limit{Rate: rate.Every(time.Minute), Burst: 600})
	fmt.Println(calls.Check(1).Remaining, err)
	// Output: 5 <nil>
}

// What a refusal says of itself.
func ExampleLimitedError() {
	l := limiter.New(limiter.Config{
		Name:  "reports",
		Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 5},
	})
	err := l.Wait(context.Background(), 10)
	if limited, ok := errors.AsType[*limiter.LimitedError](err); ok {
		fmt.Println(limited.Reason)
		fmt.Println(limited.Retryable())
	}
	// Output:
	// never possible
	// false
}

// One call against two limits, the most specific first.
func ExampleAll() {
	everybody := limiter.New(limiter.Config{
		Name: "everybody", Limit: limiter.Limit{Rate: 0.01, Burst: 100},
	})
	route := limiter.New(limiter.Config{
		Name: "route /export", Limit: limiter.Limit{Rate: 0.01, Burst: 2},
	})
	for range 3 {
		r := limiter.All(1, route.Bucket(), everybody.Bucket())
		fmt.Println(r.OK, r.Name, r.Remaining)
	}
	fmt.Println(everybody.Check(1).Remaining) // the one refused has taken none
	// Output:
	// true route /export 1
	// true route /export 0
	// false route /export 0
	// 97
}

// A limiter of package rate that is there already, beside one of ours.
func ExampleBucket() {
	theirs := rate.NewLimiter(0.01, 10)
	ours := limiter.New(limiter.Config{Name: "ours", Limit: limiter.Limit{Rate: 0.01, Burst: 3}})

	buckets := []limiter.Bucket{ours.Bucket(), limiter.FromRate("theirs", theirs)}
	for range 4 {
		r := limiter.All(1, buckets...)
		fmt.Println(r.OK, r.Name)
	}
	// Output:
	// true ours
	// true ours
	// true ours
	// false ours
}

// What would a limit do, if it held?
func ExampleConfig_shadow() {
	l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 0.01, Burst: 10}, Shadow: true})
	for range 100 {
		if !l.Allow() {
			fmt.Println("refused")
		}
	}
	fmt.Println(l.Stats().Shadowed, "of 100 would have been")
	// Output: 90 of 100 would have been
}

// A Result becomes an error where that is more convenient.
func ExampleResult() {
	l := limiter.New(limiter.Config{Name: "jobs", Limit: limiter.Limit{Rate: 0.01, Burst: 1}})
	fmt.Println(l.Check(1).Err())
	fmt.Println(l.Check(1).Err())
	// Output:
	// <nil>
	// limiter "jobs": rate exceeded (1 in 1m40s, burst 1)
}
