package dimmer_test

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/stormjib/stormjib/shed/dimmer"
)

// What is optional is asked for where it is done.
func ExampleNew() {
	dims := dimmer.New(dimmer.Config{
		Name:     "shop",
		Target:   20 * time.Millisecond,
		Features: []string{"recommendations", "reviews"},
	})
	recommendations := dims.Feature("recommendations")

	order := func(ctx context.Context, waited time.Duration) string {
		dims.Observe(waited)
		page := "your order"
		if recommendations.Allow(ctx) {
			page += ", and what goes with it"
		}
		return page
	}
	fmt.Println(order(context.Background(), time.Millisecond))
	// Output: your order, and what goes with it
}

// A configuration from a file is checked before New sees it.
func ExampleConfig_Validate() {
	cfg := dimmer.Config{Target: -time.Second, Features: []string{"reviews", "reviews"}}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// dimmer: Config: Target is -1s, but must not be negative
	// Features[1] is "reviews", but must not be there twice
}

// The switch for an incident, as on an admin page.
func ExampleFeature_ForceOff() {
	dims := dimmer.New(dimmer.Config{Features: []string{"recommendations", "reviews"}})
	dims.Feature("recommendations").ForceOff()
	for _, f := range dims.Stats().Features {
		fmt.Println(f.Name, f.Mode, f.Share)
	}
	// Output:
	// recommendations forced off 0
	// reviews auto 1
}

// With a Signal there is nothing to observe. Here it is the part of an error budget that
// is spent, and features go dark while it is above 0.8.
func ExampleConfig_signal() {
	spent := 0.3
	dims := dimmer.New(dimmer.Config{
		Signal:   func() float64 { return spent },
		SetPoint: 0.8,
	})
	fmt.Println(dims.Feature("optional").Allow(context.Background()))
	// Output: true
}

// The same user sees the same page.
func ExampleWithSeed() {
	dims := dimmer.New(dimmer.Config{})
	seed := maphash.MakeSeed()

	ctx := dimmer.WithSeed(context.Background(), maphash.String(seed, "user 4711"))
	optional := dims.Feature("optional")
	first, second := optional.Allow(ctx), optional.Allow(ctx)
	fmt.Println(first == second)
	// Output: true
}
