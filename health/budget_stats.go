package health

import "time"

// BudgetStats is what there is to observe of a [Budget].
type BudgetStats struct {
	Name      string        // BudgetConfig.Name
	Objective float64       // BudgetConfig.Objective
	Window    time.Duration // BudgetConfig.Window

	Good, Bad uint64 // events since NewBudget

	Left   float64 // see [Budget.Left]
	Level  float64 // see [Budget.Level]
	Frozen bool    // see [Budget.Frozen]

	// Burns are the pairs of windows, the fastest first. Those that are longer than the
	// Window are off: all their fields but the windows are zero.
	Burns [4]Burn

	// SpentBy is the share of the budget that each name given to [Budget.Bad] has spent
	// within the Window; "other" has what came when there were MaxNames of them already.
	// What is missing to 1-Left was nobody's.
	SpentBy map[string]float64
}

// Burn is how fast a [Budget] was spent in two windows of time, and the alert that they
// raise together. A rate of 1 spends all of the budget in its Window, and no more.
type Burn struct {
	Long, Short         time.Duration // the windows
	LongRate, ShortRate float64       // the burn rates in them

	// Threshold is what both rates have to reach for the alert. It is the rate at which a
	// fiftieth of the budget goes in the hour of the first pair, a twentieth in 6 hours, a
	// tenth in a day, and a tenth in 3 days: with a Window of 30 days, the well-known
	// 14.4, 6, 3 and 1. It is at least 1, since at less the budget lasts, and at most
	// nine tenths of what an outage burns.
	Threshold float64

	// Page says that the alert is for somebody who is woken by it if need be, and not for
	// a list of things to do.
	Page bool

	// Raised says that there is an alert now. When the short window is over it, there is
	// none any more.
	Raised bool

	bad uint64 // events in the long window
}

// burns returns the pairs. The ledger has a span for each that is in use, in their order.
func (b *Budget) burns(l *ledger) (burns [4]Burn) {
	for i, p := range b.pairs {
		burn := &burns[i]
		burn.Long, burn.Short = p.long, p.long*perShort/perSpan
		if i >= len(l.spans)-1 {
			continue
		}
		long, short := l.recent(&l.spans[i], perSpan), l.recent(&l.spans[i], perShort)
		burn.LongRate, burn.ShortRate, burn.bad = l.burn(long), l.burn(short), long.bad
		burn.Threshold, burn.Page = l.threshold(p), p.page
		burn.Raised = long.bad >= uint64(b.cfg.MinBad) &&
			min(burn.LongRate, burn.ShortRate) >= burn.Threshold
	}
	return burns
}

// Stats returns a snapshot. It allocates the map.
func (b *Budget) Stats() (stats BudgetStats) {
	stats = BudgetStats{
		Name:      b.cfg.Name,
		Objective: b.cfg.Objective,
		Window:    b.cfg.Window,
		SpentBy:   map[string]float64{},
	}
	b.read(func(l *ledger, now int64) {
		stats.Good, stats.Bad = l.good.Load(), l.bad.Load()
		stats.Left = l.left(now)
		stats.Burns = b.burns(l)
		stats.Level = b.level(stats.Burns)
		stats.Frozen = b.frozen(stats.Left, stats.Burns)
		for name, c := range *l.names.Load() {
			stats.SpentBy[name] = l.spent(now, l.blamed(c))
		}
	})
	return stats
}
