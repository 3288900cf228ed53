// Package bench compares stormjib with its peers: what a call costs, what a breaker or a
// key weighs, and where two libraries decide alike or differently. It is a module of its
// own, outside the workspace, since the peers require what they like.
//
//	cd bench && GOWORK=off go test -bench . -cpu 1,2         # benchmarks, for benchstat
//	cd bench && GOWORK=off go test -bench Keyed -keys 1000000
//	cd bench && GOWORK=off go test -run TestTable -table     # the README's table
//	cd bench && GOWORK=off go test -run TestMemory -v        # bytes for each breaker and key
//	cd bench && GOWORK=off go test -run TestDifference -v    # where they differ, and how
//
// Compare figures of one run only. The table takes its contenders in turn, again and
// again, and shows medians, so that a neighbour on the machine disturbs all alike.
// Nothing about time fails a test; what does fail are allocations, memory, and a
// decision that is not as expected.
package bench

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/breaker"
)

// A contender makes n calls one after the other and returns the error of the last.
// Its loop is inside of it: with b.Loop outside, each call would go through a
// function value, and that is half of what the cheapest of them cost.
type contender struct {
	name string
	loop func(n int) error
}

func serial(b *testing.B, contenders []contender) {
	b.Helper()
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			_ = c.loop(b.N)
		})
	}
}

// parallel is RunParallel with the loop inside; see contender. An operation takes
// the time that passed, divided by the calls of all goroutines.
func parallel(b *testing.B, contenders []contender) {
	b.Helper()
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			spread(runtime.GOMAXPROCS(0), b.N, c.loop)
		})
	}
}

// crowd is how many goroutines want the same thing where it is contended.
const crowd = 16

// crowded is parallel for a crowd.
func crowded(b *testing.B, contenders []contender) {
	b.Helper()
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			spread(crowd, b.N, c.loop)
		})
	}
}

// spread divides n calls between goroutines.
func spread(goroutines, n int, loop func(n int) error) {
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() { _ = loop((n + i) / goroutines) })
	}
	wg.Wait()
}

func BenchmarkBaseline(b *testing.B)                  { serial(b, baselines()) }
func BenchmarkBaselineParallel(b *testing.B)          { parallel(b, baselines()) }
func BenchmarkClosedWindow(b *testing.B)              { serial(b, closedWindow()) }
func BenchmarkClosedWindowParallel(b *testing.B)      { parallel(b, closedWindow()) }
func BenchmarkClosedConsecutive(b *testing.B)         { serial(b, closedConsecutive()) }
func BenchmarkClosedConsecutiveParallel(b *testing.B) { parallel(b, closedConsecutive()) }
func BenchmarkRefusal(b *testing.B)                   { serial(b, refusing()) }
func BenchmarkRefusalParallel(b *testing.B)           { parallel(b, refusing()) }
func BenchmarkFailure(b *testing.B)                   { serial(b, failing()) }
func BenchmarkFailureParallel(b *testing.B)           { parallel(b, failing()) }

// BenchmarkNew makes one breaker on its own and one in a Group, which shares its
// settings.
func BenchmarkNew(b *testing.B) {
	b.Run("stormjib", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			breaker.New(breaker.Config{})
		}
	})
	b.Run("stormjib-group", func(b *testing.B) {
		b.ReportAllocs()
		group := breaker.NewGroup[int](breaker.GroupConfig{MaxKeys: 1 << 30})
		for key := 0; b.Loop(); key++ {
			if key%100_000 == 0 { // what is kept would slow down the collector
				group = breaker.NewGroup[int](breaker.GroupConfig{MaxKeys: 1 << 30})
			}
			group.Get(key)
		}
	})
}
