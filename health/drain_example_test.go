package health_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// A drain of a main that has a loop of its own, with the server of a library that knows
// nothing of contexts.
func ExampleDrain() {
	drain := health.NewDrain(health.DrainConfig{
		Delay:   -1, // so that the example is quick
		OnBegin: func() { fmt.Println("not serving") },
	})
	drain.Serve("mail", stopper{}, nil)
	drain.Defer("tracing", func(context.Context) error { return errors.New("no collector") })
	drain.Defer("db", func(context.Context) error { return nil })

	fmt.Println(drain.Shutdown(context.Background()))
	// Output:
	// not serving
	// health: drain: tracing: no collector
}

type stopper struct{}

// Shutdown stops the server.
func (stopper) Shutdown(context.Context) error { return nil }

// A websocket, or whatever else stays long, leaves when it is asked to.
func ExampleDrain_Join() {
	drain := health.NewDrain(health.DrainConfig{Delay: -1})

	ctx, leave := drain.Join(context.Background()) // that of the request
	go func() {
		defer leave()
		<-ctx.Done()
		fmt.Println("going away:", context.Cause(ctx))
	}()
	if err := drain.Shutdown(context.Background()); err == nil {
		fmt.Println("all have left")
	}
	// Output:
	// going away: health: draining
	// all have left
}

// A configuration from a file is checked before NewDrain sees it.
func ExampleDrainConfig_Validate() {
	cfg := health.DrainConfig{Delay: 15 * time.Second, GracePeriod: 30 * time.Second}
	for part := range strings.SplitSeq(cfg.Validate().Error(), ", ") {
		fmt.Println(part)
	}
	// Output:
	// health: DrainConfig: GracePeriod is 30s
	// but must be at least 37s
	// Delay and Timeout and two seconds
}

// workIsDone is a test of yours. In a bubble of testing/synctest a drain of half a minute
// takes no time. Make the Drain inside; and if you test Run there, without Signals.
func workIsDone(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		drain := health.NewDrain(health.DrainConfig{})
		work := make(chan struct{})
		drain.Defer("queue", func(ctx context.Context) error {
			select {
			case <-work:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		time.AfterFunc(8*time.Second, func() { close(work) })
		if err := drain.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Testing your code.
func ExampleDrain_testing() {
	var t *testing.T // that of func TestWorkIsDone(t *testing.T)
	if t != nil {
		workIsDone(t)
	}
	// Output:
}

func TestExampleForTestingDrains(t *testing.T) { workIsDone(t) }
