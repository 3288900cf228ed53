package shed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/shed"
)

// A call with a result, and what to do when it is refused.
func ExampleDo() {
	pages := shed.New(shed.Config{
		Name: "pages", Algorithm: shed.Fixed, Initial: 1, Queue: -1,
	})
	page := func(ctx context.Context, render func(context.Context) (string, error)) string {
		html, err := shed.Do(ctx, pages, render)
		if errors.Is(err, shed.ErrOverloaded) {
			return "503 come back later"
		}
		return html
	}
	hello := func(context.Context) (string, error) { return "hello", nil }

	fmt.Println(page(context.Background(), func(ctx context.Context) (string, error) {
		fmt.Println(page(ctx, hello)) // another one, while this one is under way
		return hello(ctx)
	}))
	// Output:
	// 503 come back later
	// hello
}

func ExampleNew() {
	s := shed.New(shed.Config{
		Name:    "api",
		Max:     160, // a server with 8 cores that computes
		MaxWait: 50 * time.Millisecond,
		OnChange: func(c shed.Change) {
			fmt.Printf("%s: from %d to %d\n", c.Name, c.From, c.To)
		},
	})
	err := s.Do(context.Background(), func(context.Context) error {
		fmt.Println("under way:", s.Stats().InUse)
		return nil
	})
	fmt.Println(err)
	// Output:
	// under way: 1
	// <nil>
}

// A configuration from a file is checked before New sees it.
func ExampleConfig_Validate() {
	file := `{"Name": "api", "Min": 50, "Max": 20, "MaxWait": -1}`
	var cfg shed.Config
	decoder := json.NewDecoder(strings.NewReader(file))
	if err := decoder.Decode(&struct {
		Name     *string
		Min, Max *int
		MaxWait  *time.Duration
	}{&cfg.Name, &cfg.Min, &cfg.Max, &cfg.MaxWait}); err != nil {
		fmt.Println(err)
	}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// shed: Config "api": Min is 50, but must not be above Max, which is 20
	// MaxWait is -1ns, but must not be negative
}

// Where a call and its end are in different places, as in an adapter.
func ExampleShedder_Acquire() {
	s := shed.New(shed.Config{Name: "api"})

	permit, err := s.Acquire(context.Background())
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	serve := func(done func(error)) { done(nil) }
	serve(func(err error) { permit.Done(context.Background(), err) })
	fmt.Println(s.Stats().InUse, "under way, of", s.Stats().Admitted)
	// Output: 0 under way, of 1
}

// Work that is done only if there is a slot for it at once.
func ExampleShedder_TryAcquire() {
	s := shed.New(shed.Config{Algorithm: shed.Fixed, Initial: 1})
	for _, page := range []string{"home", "about"} {
		permit, err := s.TryAcquire(context.Background())
		if err != nil {
			fmt.Println("not this time:", page)
			continue
		}
		defer permit.Done(context.Background(), nil)
		fmt.Println("prefetching:", page)
	}
	// Output:
	// prefetching: home
	// not this time: about
}

// A second finish does nothing, so that a deferred one may be a safeguard.
func ExamplePermit() {
	s := shed.New(shed.Config{})
	permit, err := s.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer permit.Record(shed.Ignored) // in case of a panic
	fmt.Println(s.Stats().InUse)
	permit.Done(context.Background(), nil)
	fmt.Println(s.Stats().InUse)
	// Output:
	// 1
	// 0
}

// A stream holds a slot until it has begun.
func ExamplePermit_StopClock() {
	s := shed.New(shed.Config{})
	permit, err := s.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer permit.StopClock()
	fmt.Println("first event")
	permit.StopClock()
	fmt.Println("more events, with", s.Stats().InUse, "slots in use")
	// Output:
	// first event
	// more events, with 0 slots in use
}

// When there is too much, what is least critical goes first. The class goes from the
// request that came in to those that are made for it.
func ExampleCriticality() {
	checkout := shed.WithCriticality(context.Background(), shed.CriticalPlus)
	prefetch := shed.WithCriticality(context.Background(), shed.BestEffort)

	fmt.Println(shed.CriticalityOf(checkout), shed.CriticalityOf(prefetch))
	fmt.Println(shed.CriticalityOf(context.Background()), "if nothing is said")

	class, ok := shed.ParseCriticality("sheddable-plus")
	fmt.Println(class < shed.Critical, ok)
	// Output:
	// critical-plus best-effort
	// critical if nothing is said
	// true true
}

// Of one class each tenant gets the same time, however many requests it sends.
func ExampleShedder_tenants() {
	s := shed.New(shed.Config{Name: "api"})
	handle := func(ctx context.Context, account string) error {
		return s.Do(stormjib.WithTenant(ctx, account), func(ctx context.Context) error {
			fmt.Println("for", stormjib.Tenant(ctx))
			return nil
		})
	}
	fmt.Println(handle(context.Background(), "account 7"))
	// Output:
	// for account 7
	// <nil>
}

// A refusal says why. When to come back is different for each who is refused.
func ExampleOverloadError() {
	s := shed.New(shed.Config{Name: "api", Algorithm: shed.Fixed, Initial: 1, Queue: -1})
	s.TryAcquire(context.Background()) // and is never finished

	ctx := shed.WithCriticality(context.Background(), shed.Sheddable)
	err := s.Do(ctx, func(context.Context) error { return nil })
	if refusal, ok := errors.AsType[*shed.OverloadError](err); ok {
		fmt.Println(err)
		fmt.Println(refusal.Reason == shed.LimitReached, refusal.Class, refusal.NotAttempted())
		fmt.Println(refusal.RetryAfter() >= time.Second/2)
	}
	// Output:
	// shed "api": overloaded: limit, for sheddable
	// true sheddable true
	// true
}

// A server that goes to a pool of workers of its own, which refuses when it is full: that is
// overload too.
func ExampleClassify() {
	errBusy := errors.New("all workers are busy")
	s := shed.New(shed.Config{
		Classify: func(ctx context.Context, err error) shed.Outcome {
			if errors.Is(err, errBusy) {
				return shed.Overloaded
			}
			return shed.Classify(ctx, err)
		},
	})
	for _, err := range []error{nil, errBusy, errors.New("no such page")} {
		_ = s.Do(context.Background(), func(context.Context) error { return err })
	}
	stats := s.Stats()
	fmt.Println(stats.Admitted, stats.Overloaded, stats.Ignored)
	// Output: 3 1 1
}

// For an autoscaler what counts is what was asked for, not what was done.
func ExampleStats() {
	s := shed.New(shed.Config{Algorithm: shed.Fixed, Initial: 2, Queue: -1})
	ctx := shed.WithCriticality(context.Background(), shed.Sheddable)
	for range 5 {
		s.TryAcquire(ctx)
	}
	stats := s.Stats()
	fmt.Println(stats.Offered, stats.Admitted, stats.Refused[shed.Sheddable])
	fmt.Println(stats.InUse, "of", stats.Limit)
	// Output:
	// 5 2 3
	// 2 of 2
}

// What was learned is given on when a server is restarted, here as JSON.
func ExampleSnapshot() {
	old := shed.New(shed.Config{
		Learned: shed.Snapshot{Latency: 20 * time.Millisecond, Rate: 1500},
	})
	saved, err := json.Marshal(old.Snapshot())
	fmt.Println(string(saved), err)

	var cfg shed.Config
	if err := json.Unmarshal(saved, &cfg.Learned); err != nil || cfg.Validate() != nil {
		cfg.Learned = shed.Snapshot{} // it is learned again
	}
	fmt.Println(shed.New(cfg).Snapshot().Latency)
	// Output:
	// {"Latency":20000000,"Rate":1500} <nil>
	// 20ms
}

// gentle is an algorithm of one's own: additive increase, multiplicative decrease, on
// nothing but calls that ran out of time. Those of this package know more.
type gentle struct{ limit int }

func (g *gentle) Update(w shed.Window) int {
	switch {
	case w.Overloaded > 0:
		g.limit = max(1, g.limit*9/10)
	case w.Limited():
		g.limit++
	}
	return g.limit
}

func ExampleAlgorithm() {
	cfg := shed.Config{Algorithm: func(c shed.Config) shed.Algorithm { return &gentle{c.Initial} }}
	fmt.Println(shed.New(cfg).Stats().Limit)

	// It has no clock. A table of windows is all that its test needs.
	a := &gentle{20}
	fmt.Println(a.Update(shed.Window{Length: time.Second, Limit: 20, Completed: 100, Mean: 19}))
	fmt.Println(a.Update(shed.Window{Length: time.Second, Limit: 21, Completed: 100, Mean: 3}))
	fmt.Println(a.Update(shed.Window{Length: time.Second, Limit: 21, Overloaded: 7, Mean: 21}))
	// Output:
	// 20
	// 21
	// 21
	// 18
}

// How long calls took follows from how many were under way and how many were done.
func ExampleWindow() {
	w := shed.Window{Length: 2 * time.Second, Limit: 20, Mean: 15, Completed: 600}
	fmt.Println(w.Throughput(), "a second,", w.Latency(), "each, limited:", w.Limited())
	// Output: 300 a second, 50ms each, limited: false
}
