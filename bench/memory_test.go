package bench

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	resiliency "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	circuit "github.com/rubyist/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/stormjib/stormjib/breaker"
)

// The most bytes that a breaker may take: one that was never called, and one whose
// window has something in every part.
const (
	mostIdle = 400
	mostBusy = 1536
)

// A subject is a breaker to be weighed.
type subject struct {
	name string
	make func() any // a pointer
	call func(any)
}

func subjects() []subject {
	group := breaker.NewGroup[int](breaker.GroupConfig{MaxKeys: 1 << 30})
	return []subject{
		{"stormjib", func() any { return breaker.New(breaker.Config{}) }, stormjibCall},
		{"stormjib-group", func() any { return group.Get(group.Stats().Keys) }, stormjibCall},
		{"gobreaker-fixed", newGobreaker(gobreakerFixed(rateHalf)), gobreakerCall},
		{"gobreaker-rolling", newGobreaker(gobreakerRolling(rateHalf)), gobreakerCall},
		{"failsafe-rate", func() any { return failsafeRate(0.5, minCalls) }, failsafeCall},
		{"aegis-sre", newAegis, aegisCall},
		{"rubyist-rate", newRubyist, rubyistCall},
		{"go-resiliency", func() any { return resiliency.New(10, 3, openFor) }, resiliencyCall},
	}
}

func stormjibCall(b any) {
	_ = b.(*breaker.Breaker).Do(context.Background(), succeed)
}

func newGobreaker(settings gobreaker.Settings) func() any {
	return func() any { return gobreaker.NewCircuitBreaker[int](settings) }
}

func gobreakerCall(b any) {
	_, _ = b.(*gobreaker.CircuitBreaker[int]).Execute(plainAnswer)
}

func failsafeCall(b any) {
	if cb := b.(circuitbreaker.CircuitBreaker[int]); cb.TryAcquirePermit() {
		cb.RecordSuccess()
	}
}

func newAegis() any {
	return sre.NewBreaker(
		sre.WithWindow(window), sre.WithBucket(buckets), sre.WithRequest(minCalls))
}

func aegisCall(b any) {
	if cb := b.(*sre.Breaker); cb.Allow() == nil {
		cb.MarkSuccess()
	}
}

func newRubyist() any {
	return circuit.NewBreakerWithOptions(&circuit.Options{
		ShouldTrip:    circuit.RateTripFunc(0.5, minCalls),
		WindowTime:    window,
		WindowBuckets: buckets,
	})
}

func rubyistCall(b any) { _ = b.(*circuit.Breaker).Call(plainSucceed, 0) }

func resiliencyCall(b any) { _ = b.(*resiliency.Breaker).Run(plainSucceed) }

// TestMemory weighs many breakers of each kind, idle and then busy. The member of
// a group comes with its place in the group's map.
func TestMemory(t *testing.T) {
	for i, s := range subjects() {
		ours := strings.HasPrefix(s.name, "stormjib")
		n := 10_000
		if ours && !testing.Short() {
			n = 100_000
		}
		t.Run(s.name, func(t *testing.T) {
			var idle, busy int64
			synctest.Test(t, func(*testing.T) {
				idle, busy = weigh(subjects()[i], n) // made in the bubble, for its clock
			})
			t.Logf("%d B idle, %d B busy", idle, busy)
			if ours && idle > mostIdle {
				t.Errorf("idle, it takes %d bytes, want at most %d", idle, mostIdle)
			}
			if ours && busy > mostBusy {
				t.Errorf("busy, it takes %d bytes, want at most %d", busy, mostBusy)
			}
		})
	}
}

func weigh(s subject, n int) (idle, busy int64) {
	kept := make([]any, n)
	before := heap()
	for i := range kept {
		kept[i] = s.make()
	}
	idle = heap() - before
	for range 2 * buckets { // more than enough to fill each part of the window
		time.Sleep(window / buckets)
		for _, b := range kept {
			s.call(b)
		}
	}
	busy = heap() - before
	runtime.KeepAlive(kept)
	return idle / int64(n), busy / int64(n)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one found in pools is gone after the second
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestNewStartsNothing: a breaker has no goroutine, and so nothing to close.
func TestNewStartsNothing(t *testing.T) {
	const n = 100_000
	before := runtime.NumGoroutine()
	kept := make([]*breaker.Breaker, n)
	for i := range kept {
		kept[i] = breaker.New(breaker.Config{})
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d breakers started %d goroutines", n, after-before)
	}
	runtime.KeepAlive(kept)
}
