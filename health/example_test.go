package health_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/limiter"
)

// A replica with a database, a disk, and a cache to be filled.
func Example() {
	ping := func(context.Context) error { return nil }     // such as db.PingContext
	canWrite := func(context.Context) error { return nil } // to the disk
	h := health.New(health.Config{
		Name:  "shop",
		Gates: []string{"cache"},
		Checks: []health.Check{
			{Name: "db", Func: ping},
			{Name: "disk", Func: canWrite, Class: health.Local},
		},
	})
	h.Start(context.Background())
	defer h.Stop()

	h.Gate("cache")() // when it is filled
	for r := range h.Watch(context.Background()) {
		if r.Ready {
			fmt.Println(r.Name, r.Phase, r.Status)
			break
		}
	}
	h.SetDraining()
	fmt.Println(h.Ready(), h.Live())
	// Output:
	// shop ready pass
	// false true
}

// The database is down, and the replica serves what it can. A report has the reason.
func ExampleCheck() {
	var down atomic.Bool
	h := health.New(health.Config{
		Checks: []health.Check{{
			Name:     "db",
			Interval: 100 * time.Millisecond, // or the example would take half a minute
			Func: func(context.Context) error {
				if down.Load() {
					return errors.New("connection refused")
				}
				return nil
			},
		}},
	})
	h.Start(context.Background())
	defer h.Stop()

	for r := range h.Watch(context.Background()) {
		if r.Status == health.Pass {
			down.Store(true)
		}
		if r.Status == health.Warn {
			db := r.Checks[0]
			fmt.Println(r.Phase, db.Name, db.Class, db.Status, db.Output)
			break
		}
	}
	// Output: ready db shared warn connection refused
}

// What start-up waits for is shown.
func ExampleHealth_Gate() {
	h := health.New(health.Config{Gates: []string{"cache", "pool"}})
	h.Start(context.Background())
	defer h.Stop()

	h.Gate("pool")()
	fmt.Println(h.Report().Phase, h.Report().Slowest)
	h.Gate("cache")()
	fmt.Println(h.Report().Phase, h.Report().Slowest)
	// Output:
	// starting cache
	// ready cache
}

// Who has changes told must not be told of each run.
func ExampleConfig_onChange() {
	done := make(chan struct{})
	h := health.New(health.Config{
		Name:  "shop",
		Gates: []string{"cache"},
		OnChange: func(c health.Change) {
			if c.Check == "" {
				fmt.Println(c.Name, c.From, c.To, c.Phase)
				close(done)
				return
			}
			fmt.Println(c.Check, c.From, c.To)
		},
	})
	h.Start(context.Background())
	defer func() { <-done }()

	h.Gate("cache")()
	// Output:
	// cache fail pass
	// shop fail pass ready
}

// A Config from a file is looked at before it is used.
func ExampleConfig_Validate() {
	cfg := health.Config{
		Name:  "shop",
		Gates: []string{"cache", "cache"},
		Checks: []health.Check{{
			Name: "db", Func: func(context.Context) error { return nil },
			Interval: time.Second, Timeout: time.Minute,
		}},
	}
	fmt.Println(strings.NewReplacer(": ", ":\n", "; ", "\n").Replace(cfg.Validate().Error()))
	// Output:
	// health:
	// Config "shop":
	// Gates[1] is "cache", but must not be there twice
	// Checks[0].Timeout is 1m0s, but must not be longer than the Interval, 1s
}

// A cold replica takes up its work step by step. What it refuses goes to others, if those
// who call try elsewhere: a balancer that knows of slow starts does without this.
func ExampleRamp() {
	calls := bulkhead.New(bulkhead.Config{Name: "calls", MaxConcurrent: 200})
	reports := limiter.New(limiter.Config{
		Name: "reports", Limit: limiter.Limit{Rate: 50, Burst: 50},
	})
	warm := make(chan struct{})
	h := health.New(health.Config{
		Ramp: health.Ramp{
			Over: 20 * time.Millisecond, // so that the example ends
			From: 0.25,
			Apply: func(share float64) {
				_ = calls.Resize(int(share * 200))
				_ = reports.SetLimit(limiter.Limit{Rate: rate.Limit(share * 50), Burst: 50})
				if share == 0.25 || share == 1 {
					fmt.Println(int(share*200), share*50)
				}
				if share == 1 {
					close(warm)
				}
			},
		},
	})
	h.Start(context.Background())
	defer h.Stop()
	<-warm
	fmt.Println(h.Share())
	// Output:
	// 50 12.5
	// 200 50
	// 1
}
