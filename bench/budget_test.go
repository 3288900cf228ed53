package bench

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stormjib/stormjib/health"
)

func BenchmarkBudget(b *testing.B)        { serial(b, budgets()) }
func BenchmarkBudgetCrowded(b *testing.B) { crowded(b, budgets()) }

// budgets are counters of events. There is no peer that counts in the process: exporters of
// metrics add to a counter, as the floor does without a clock, and leave the rest to
// somebody else.
func budgets() []contender {
	return []contender{
		{"stormjib", each(health.NewBudget(health.BudgetConfig{}).Good)},
		{"stormjib-bad", bad("")},
		{"stormjib-bad-by", bad("db")},
		{"stormjib-level", level()},
		{"floor-counter", each(counter())},
		{"floor-clock-and-counter", each(clockAndCounter())},
		{"by-hand", each((&hourly{base: time.Now()}).good)},
	}
}

func each(fn func()) func(int) error {
	return func(n int) error {
		for range n {
			fn()
		}
		return nil
	}
}

func bad(by string) func(int) error {
	budget := health.NewBudget(health.BudgetConfig{})
	return each(func() { budget.Bad(by) })
}

func level() func(int) error {
	budget := health.NewBudget(health.BudgetConfig{})
	budget.Good()
	budget.Bad("db")
	return each(func() { budget.Level() })
}

func counter() func() {
	var events atomic.Uint64
	return func() { events.Add(1) }
}

func clockAndCounter() func() {
	var events, elapsed atomic.Uint64
	base := time.Now()
	return func() {
		if time.Since(base) < 0 {
			elapsed.Add(1)
		}
		events.Add(1)
	}
}

// hourly is what one writes by hand: a ring of a minute's buckets, for one window of an hour.
type hourly struct {
	base    time.Time
	mu      sync.Mutex
	minute  int64
	buckets [60]struct{ good, bad uint64 }
}

func (h *hourly) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := int64(time.Since(h.base) / time.Minute)
	for ; h.minute < now; h.minute++ {
		h.buckets[(h.minute+1)%60].good, h.buckets[(h.minute+1)%60].bad = 0, 0
	}
	h.buckets[now%60].good++
}

// BenchmarkBudgetNew shows what a Budget takes, before and with a name.
func BenchmarkBudgetNew(b *testing.B) {
	b.Run("stormjib", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			health.NewBudget(health.BudgetConfig{})
		}
	})
	b.Run("stormjib-one-name", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			health.NewBudget(health.BudgetConfig{}).Bad("db")
		}
	})
}
