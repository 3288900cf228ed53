package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// The first attempt hangs, so a second one is made beside it.
func ExampleDo() {
	lookups := hedge.Policy{Delay: 10 * time.Millisecond}

	name, err := hedge.Do(context.Background(), &lookups,
		func(ctx context.Context) (string, error) {
			if retry.Attempt(ctx) == 1 {
				<-ctx.Done() // a replica that is busy with something else
				return "", ctx.Err()
			}
			return "from another replica", nil
		}, nil)
	fmt.Println(name, err)
	// Output: from another replica <nil>
}

// What a losing attempt has come to may have to be closed.
func ExampleDo_discard() {
	downloads := hedge.Policy{Delay: 10 * time.Millisecond}
	closed := make(chan string)

	body, err := hedge.Do(context.Background(), &downloads,
		func(ctx context.Context) (io.ReadCloser, error) {
			if retry.Attempt(ctx) == 1 {
				<-ctx.Done() // too late to be stopped: it does have an answer
				return io.NopCloser(strings.NewReader("first")), nil
			}
			return io.NopCloser(strings.NewReader("second")), nil
		},
		func(lost io.ReadCloser) {
			text, _ := io.ReadAll(lost)
			_ = lost.Close()
			closed <- string(text)
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	fmt.Printf("%s %v, %s closed\n", text, err, <-closed)
	// Output: second <nil>, first closed
}

// Retries and hedges of the same calls, with one budget. The hedge is inside: each try
// is quick, and what fails in both its attempts is tried again after a wait.
func ExamplePolicy_retry() {
	var budget retry.Budget
	retries := retry.Policy{SharedBudget: &budget}
	hedges := hedge.Policy{SharedBudget: &budget}

	answer, err := retry.Do(context.Background(), &retries,
		func(ctx context.Context) (int, error) {
			return hedge.Do(ctx, &hedges, func(context.Context) (int, error) {
				return 42, nil
			}, nil)
		})
	fmt.Println(answer, err)
	// Output: 42 <nil>
}

// A policy from a file is checked before it is used.
func ExamplePolicy_Validate() {
	p := hedge.Policy{Delay: -1, Extra: 5}
	for problem := range strings.SplitSeq(p.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// hedge: Policy: Delay is -1ns, but must not be negative
	// Extra is 5, but must be above 0 and at most 1
}

// For an exporter: the extra load, and what it is good for.
func ExampleStats() {
	p := hedge.Policy{Delay: time.Millisecond}
	_, _ = hedge.Do(context.Background(), &p, func(ctx context.Context) (int, error) {
		if retry.Attempt(ctx) == 1 {
			<-ctx.Done()
		}
		return 0, ctx.Err()
	}, nil)
	s := p.Stats()
	fmt.Println(s.Calls, s.Hedged, s.Won, s.Denied)
	// Output: 1 1 1 0
}

// The panic of an attempt comes with the stack of its goroutine.
func ExamplePanicError() {
	defer func() {
		p, ok := recover().(*hedge.PanicError)
		fmt.Println(ok, p.Value, errors.Is(p, io.ErrUnexpectedEOF))
	}()
	_, _ = hedge.Do(context.Background(), new(hedge.Policy),
		func(context.Context) (int, error) { panic(io.ErrUnexpectedEOF) }, nil)
	// Output: true unexpected EOF true
}
