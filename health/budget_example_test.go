package health_test

import (
	"fmt"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/shed/dimmer"
)

// What failed, because of whom, and whether there is room for a release.
func ExampleBudget() {
	budget := health.NewBudget(health.BudgetConfig{Name: "checkout", Objective: 0.99})
	for range 980 {
		budget.Good()
	}
	for range 15 {
		budget.Bad("payments")
	}
	for range 5 {
		budget.Bad("") // our own doing
	}
	stats := budget.Stats()
	fmt.Printf("%d of %d failed\n", stats.Bad, stats.Good+stats.Bad)
	fmt.Println("payments spent the most:", stats.SpentBy["payments"] > 0.7*(1-stats.Left))
	fmt.Println("may I take risk now?", !budget.Frozen())
	// Output:
	// 20 of 1000 failed
	// payments spent the most: true
	// may I take risk now? true
}

// The alerts of the moment, for an exporter of metrics or a log.
func ExampleBudgetStats() {
	budget := health.NewBudget(health.BudgetConfig{})
	for i := range 1000 {
		if i%50 == 0 {
			budget.Bad("")
			continue
		}
		budget.Good()
	}
	for _, burn := range budget.Stats().Burns {
		fmt.Printf("%v and %v: %.0f of %.1f, raised %v, page %v\n",
			burn.Short, burn.Long, burn.LongRate, burn.Threshold, burn.Raised, burn.Page)
	}
	// Output:
	// 5m0s and 1h0m0s: 20 of 14.4, raised true, page true
	// 30m0s and 6h0m0s: 20 of 6.0, raised true, page true
	// 2h0m0s and 24h0m0s: 20 of 3.0, raised true, page false
	// 6h0m0s and 72h0m0s: 20 of 1.0, raised true, page false
}

// A service that burns its budget leaves out what it can do without.
func ExampleBudget_Level() {
	budget := health.NewBudget(health.BudgetConfig{Name: "checkout"})
	optional := dimmer.New(dimmer.Config{Signal: budget.Level})

	budget.Good()
	fmt.Println(budget.Level(), optional.Stats().Share)
	// Output: 0 1
}

// What an objective allows.
func ExampleDowntime() {
	const month = 30 * 24 * time.Hour
	for _, objective := range []float64{0.99, 0.999, 0.9999} {
		fmt.Println(objective, health.Downtime(objective, month))
	}
	// Output:
	// 0.99 7h12m0s
	// 0.999 43m12s
	// 0.9999 4m19.2s
}

// A service cannot be better than what it requires; a fallback is worth more than another
// nine.
func ExampleSeries() {
	const service, auth, prices, cache = 0.9995, 0.999, 0.99, 0.99
	fmt.Printf("%.4f\n", health.Series(service, auth, prices))
	fmt.Printf("%.4f\n", health.Series(service, auth, health.Parallel(prices, cache)))
	// Output:
	// 0.9885
	// 0.9984
}

func ExampleParallel() {
	fmt.Printf("%.4f\n", health.Parallel(0.99, 0.99))
	// Output: 0.9999
}

// With two dependencies of 0.9995, 0.999 is as good as promised already; with three it
// is not.
func ExampleOwn() {
	const dependency = 0.9995
	fmt.Printf("%.6f\n", health.Own(0.999, dependency))
	fmt.Printf("%.6f\n", health.Own(0.999, dependency, dependency))
	fmt.Println(health.Own(0.999, dependency, dependency, dependency) > 1)
	// Output:
	// 0.999500
	// 1.000000
	// true
}
