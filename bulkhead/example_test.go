package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

// A call with a result, and what to do when there is no slot for it.
func ExampleDo() {
	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})

	price := func(ctx context.Context, get func(context.Context) (int, error)) (int, error) {
		cents, err := bulkhead.Do(ctx, prices, get)
		if errors.Is(err, bulkhead.ErrFull) {
			return 1999, nil // the last known one
		}
		return cents, err
	}
	now := func(context.Context) (int, error) { return 2042, nil }

	fmt.Println(price(context.Background(), func(ctx context.Context) (int, error) {
		fmt.Println(price(ctx, now)) // another one, while this one is under way
		return now(ctx)
	}))
	// Output:
	// 1999 <nil>
	// 2042 <nil>
}

func ExampleNew() {
	b := bulkhead.New(bulkhead.Config{
		Name:          "reports",
		MaxConcurrent: 2,
		MaxQueue:      10,
		MaxWait:       5 * time.Second,
	})
	err := b.Do(context.Background(), func(context.Context) error {
		fmt.Println("under way:", b.Stats().InUse)
		return nil
	})
	fmt.Println(err)
	// Output:
	// under way: 1
	// <nil>
}

// A configuration from a file is checked before New sees it.
func ExampleConfig_Validate() {
	cfg := bulkhead.Config{Name: "reports", MaxQueue: -1}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// bulkhead: Config "reports": MaxConcurrent is 0, but must be from 1 to 2147483647
	// MaxQueue is -1, but must not be negative
}

// Where a call and its end are in different places, as in an adapter.
func ExampleBulkhead_Acquire() {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 8})

	permit, err := b.Acquire(context.Background())
	if err != nil {
		fmt.Println("not sent:", err)
		return
	}
	send := func(done func()) { done() }
	send(permit.Release)
	fmt.Println(b.Stats().InUse)
	// Output: 0
}

// Where calls differ, what is bounded is what they weigh together: here megabytes.
func ExampleBulkhead_AcquireN() {
	memory := bulkhead.New(bulkhead.Config{Name: "memory", MaxConcurrent: 512})
	for _, size := range []int{300, 300, 200, 1000} {
		permit, err := memory.AcquireN(context.Background(), size)
		if err != nil {
			fmt.Println(size, err)
			continue
		}
		defer permit.Release() // when all of them are decoded
		fmt.Println(size, "decoding")
	}
	// Output:
	// 300 decoding
	// 300 bulkhead "memory": full
	// 200 decoding
	// 1000 bulkhead "memory": too heavy
}

// Work that is done only if there is time for it.
func ExampleBulkhead_TryAcquire() {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
	for _, page := range []string{"home", "about"} {
		permit, ok := b.TryAcquire()
		if !ok {
			fmt.Println("not this time:", page)
			continue
		}
		defer permit.Release()
		fmt.Println("prefetching:", page)
	}
	// Output:
	// prefetching: home
	// not this time: about
}

// A second Release does nothing, so that a deferred one may be a safeguard.
func ExamplePermit() {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 2})
	permit, err := b.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer permit.Release()
	fmt.Println(b.Stats().InUse)
	permit.Release() // what comes now needs no slot
	fmt.Println(b.Stats().InUse)
	// Output:
	// 1
	// 0
}

// A refusal says why. Whether to come back, and when, is for retry to read.
func ExampleFullError() {
	b := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	b.TryAcquire() // and is never released

	err := b.Do(context.Background(), func(context.Context) error { return nil })
	if full, ok := errors.AsType[*bulkhead.FullError](err); ok {
		fmt.Println(err)
		fmt.Println(full.Reason == bulkhead.QueueFull, full.NotAttempted(), full.Retryable())
	}
	// Output:
	// bulkhead "prices": full
	// true true true
}

// Twice the connections since the last deployment.
func ExampleBulkhead_Resize() {
	b := bulkhead.New(bulkhead.Config{Name: "db", MaxConcurrent: 20})
	fmt.Println(b.Resize(40), b.Stats().MaxConcurrent)
	fmt.Println(b.Resize(0), b.Stats().MaxConcurrent)
	// Output:
	// <nil> 40
	// bulkhead "db": Resize to 0: must be from 1 to 2147483647 40
}

// A bulkhead for each tenant: one that has all of its slots in use is refused, and the
// others do not notice.
func ExampleGroup() {
	tenants := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{Name: "tenants", MaxConcurrent: 1},
		MaxKeys:  1000,
	})
	call := func(context.Context) error { return nil }
	_ = tenants.Get("acme").Do(context.Background(), func(ctx context.Context) error {
		fmt.Println(tenants.Get("acme").Do(ctx, call))
		fmt.Println(tenants.Get("globex").Do(ctx, call))
		return nil
	})
	// Output:
	// bulkhead "tenants/acme": full
	// <nil>
}
