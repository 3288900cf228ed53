package limiter_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

func ExampleKeyed() {
	tenants := limiter.NewKeyed(limiter.KeyedConfig[string]{
		Name:  "tenants",
		Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 2},
	})
	for _, tenant := range []string{"ann", "ann", "ann", "bob"} {
		r := tenants.Check(tenant, 1)
		fmt.Println(tenant, r.OK, r.Remaining)
	}
	// Output:
	// ann true 1
	// ann true 0
	// ann false 0
	// bob true 1
}

// A limit for each tenant on each route, and what a tenant has paid for.
func ExampleKeyedConfig() {
	type key struct{ tenant, route string }
	paid := map[string]bool{"ann": true}
	routes := limiter.NewKeyed(limiter.KeyedConfig[key]{
		Name: "routes",
		LimitFor: func(k key) limiter.Limit {
			if paid[k.tenant] {
				return limiter.Limit{Rate: 100, Burst: 50}
			}
			return limiter.Limit{Rate: rate.Every(time.Minute), Burst: 1}
		},
		MaxKeys: 100_000, // tenants that call a route within a minute
	})
	export := key{"bob", "/export"}
	fmt.Println(routes.Allow(export), routes.Allow(export))
	fmt.Println(routes.Check(key{"ann", "/export"}, 1).Limit)
	// Output:
	// true false
	// 100/s, burst 50
}

// A tenant's limit, and one for all together. The tenant's comes first, so that one who
// sends too much does not use up what is there for all.
func ExampleKeyed_For() {
	tenants := limiter.NewKeyed(limiter.KeyedConfig[string]{
		Name: "tenants", Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 2},
	})
	everybody := limiter.New(limiter.Config{
		Name: "everybody", Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 3},
	})
	for _, tenant := range []string{"ann", "ann", "ann", "bob", "bob"} {
		r := limiter.All(1, tenants.For(tenant), everybody.Bucket())
		fmt.Println(tenant, r.OK, r.Name)
	}
	fmt.Println("bob has", tenants.Check("bob", 0).Remaining)
	// Output:
	// ann true tenants
	// ann true tenants
	// ann false tenants
	// bob true everybody
	// bob false everybody
	// bob has 1
}

// Stats tell when MaxKeys is too low.
func ExampleKeyedStats() {
	tenants := limiter.NewKeyed(limiter.KeyedConfig[int]{
		Limit:   limiter.Limit{Rate: rate.Every(time.Minute), Burst: 1},
		MaxKeys: 12,
	})
	for tenant := range 100 {
		tenants.Allow(tenant)
	}
	s := tenants.Stats()
	fmt.Println(s.Keys, "of", s.Slots, "slots,", s.Crowded, "crowded")
	// Output: 16 of 16 slots, 84 crowded
}

// Taking what there is, as one who takes tokens in advance for a while does.
func ExampleStore() {
	var store limiter.Store = limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "quota"})
	limit := limiter.Limit{Rate: rate.Every(time.Minute), Burst: 70}
	for range 3 {
		r, err := store.Take(context.Background(), "ann", limit, 50, 1)
		if err != nil {
			fmt.Println(err) // nobody knows; this is no refusal
			return
		}
		fmt.Println(r.OK, r.Granted)
	}
	// Output:
	// true 50
	// true 20
	// false 0
}

// comesBackToTokens is a test of yours. In a bubble of testing/synctest the time of a Keyed
// is the bubble's, and a minute of it takes none. Make the Keyed inside.
func comesBackToTokens(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tenants := limiter.NewKeyed(limiter.KeyedConfig[string]{
			Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 1},
		})
		if !tenants.Allow("ann") || tenants.Allow("ann") {
			t.Error("want one call")
		}
		time.Sleep(time.Minute)
		if !tenants.Allow("ann") {
			t.Error("refused after a minute")
		}
	})
}

// Testing your code.
func ExampleKeyed_testing() {
	var t *testing.T // that of func TestComesBackToTokens(t *testing.T)
	if t != nil {
		comesBackToTokens(t)
	}
	// Output:
}
