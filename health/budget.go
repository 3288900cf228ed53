package health

import (
	"cmp"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"
)

// BudgetConfig says how much may fail. The zero BudgetConfig allows one event in a thousand
// over 30 days.
type BudgetConfig struct {
	// Name is carried in Stats. It is for people, and need not be unique.
	Name string

	// Objective is the share of events that are to be good, from 0.5 to below 1. It is
	// taken to the trillionth. If zero, 0.999: what a service of one region can have
	// without people who are awake at night, and users notice the difference to less.
	Objective float64

	// Window is the time over which the Objective is to hold, from a day to 366 of them. It
	// slides in 120 steps. If zero, 30 days, for which the usual thresholds were made.
	// 28 have always the same number of weekends in them.
	Window time.Duration

	// MinBad is how many bad events the long window of a pair must hold before the pair
	// raises its alert, and counts for [Budget.Level]. If zero, 10: at night, one of
	// fifty requests burns twenty times as fast as it may, and is nothing to be woken for.
	MinBad int

	// Reserve is the share of the budget that is kept for accidents, below 1: when no more
	// than that is left the budget is frozen. If zero, nothing is kept, as in the error
	// budget policy of The Site Reliability Workbook.
	Reserve float64

	// MaxNames is how many names bad events are counted for. What comes with another one
	// is counted for "other". Each takes about a kilobyte. If zero, 32: more dependencies
	// than a service should have.
	MaxNames int
}

const (
	maxNames  = 1 << 16
	otherName = "other"
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewBudget] panics with the same text.
func (c BudgetConfig) Validate() error {
	var bad problems
	bad.check(c.Objective == 0 || c.Objective >= 0.5 && lacking(c.Objective) > 0, "Objective",
		c.Objective, "be at least 0.5 and below 1")
	bad.check(c.Window == 0 || c.Window >= 24*time.Hour && c.Window <= 366*24*time.Hour,
		"Window", c.Window, "be from 24h to 8784h, 366 days")
	bad.check(c.MinBad >= 0, "MinBad", c.MinBad, "be at least 1")
	bad.check(c.Reserve >= 0 && c.Reserve < 1, "Reserve", c.Reserve,
		"not be negative, and be below 1")
	bad.check(c.MaxNames >= 0 && c.MaxNames <= maxNames, "MaxNames", c.MaxNames,
		"be at least 1 and at most 65536")
	if bad == nil {
		return nil
	}
	return errors.New("health: BudgetConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// filled returns c with its defaults.
func (c BudgetConfig) filled() BudgetConfig {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Objective = cmp.Or(c.Objective, 0.999)
	c.Window = cmp.Or(c.Window, 30*24*time.Hour)
	c.MinBad = cmp.Or(c.MinBad, 10)
	c.MaxNames = cmp.Or(c.MaxNames, 32)
	return c
}

// Budget counts good and bad events, and knows how many more bad ones an objective has room
// for. Make it with [NewBudget], use it from any number of goroutines, and let the garbage
// collector have it: it has no goroutine and no timer, and nothing to close.
//
// What is an event, and what is a bad one, is for its user to say: a request that failed or
// was too slow for whoever waited, and by none but our own fault. Count where users would:
// outermost, where a retry has made good what failed inside.
//
// An event costs a reading of the clock and an atomic addition, and with a name a look into
// a map. Nothing is allocated but by a name that is new. A Budget takes ten kilobytes.
//
// It is of this process alone, and a restart begins with a full budget. It is for what
// the process itself decides. What is agreed with users should be counted where it
// outlives a deployment.
type Budget struct {
	cfg    BudgetConfig
	base   time.Time
	pairs  [4]pair
	ledger *ledger

	mu sync.Mutex // held to roll the ledger, to read its spans, and to add a name
}

// NewBudget returns a Budget of which nothing is spent. It panics if cfg is not valid; see
// [BudgetConfig.Validate].
func NewBudget(cfg BudgetConfig) *Budget {
	cfg = cfg.filled()
	return &Budget{
		cfg:    cfg,
		base:   time.Now(),
		pairs:  burnPairs(),
		ledger: newLedger(cfg.Objective, cfg.Window),
	}
}

// clock returns nanoseconds since the Budget was made; never less than 0, as it would be
// outside of the testing/synctest bubble that the Budget was made in.
func (b *Budget) clock() int64 { return max(0, int64(time.Since(b.base))) }

// Good counts a good event.
func (b *Budget) Good() {
	b.roll()
	b.ledger.good.Add(1)
}

// Bad counts a bad event, for which somebody is to blame: a dependency, or a part of the
// service. By is a name from the program, not from a request, for there are at most
// MaxNames of them. An empty one blames nobody.
func (b *Budget) Bad(by string) {
	b.roll()
	if by != "" {
		b.culprit(by).bad.Add(1)
	}
	b.ledger.bad.Add(1)
}

// roll has the ledger begin new buckets, if any are due. In the usual case they are not.
func (b *Budget) roll() {
	now := b.clock()
	if now < b.ledger.rollAt.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.roll(now)
}

// culprit returns the one of a name. The map is replaced, never changed, so that finding a
// name that is there takes no lock.
func (b *Budget) culprit(name string) *culprit {
	if c := (*b.ledger.names.Load())[name]; c != nil {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	names := *b.ledger.names.Load()
	if _, ok := names[name]; !ok && named(names) >= b.cfg.MaxNames {
		name = otherName
	}
	if c := names[name]; c != nil {
		return c
	}
	names = maps.Clone(names)
	names[name] = &culprit{}
	b.ledger.names.Store(&names)
	return names[name]
}

// named returns how many names there are beside "other", which is always to be had.
func named(names map[string]*culprit) int {
	if names[otherName] != nil {
		return len(names) - 1
	}
	return len(names)
}

// read calls fn with the ledger as it is now.
func (b *Budget) read(fn func(l *ledger, now int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock() // under the lock, so that nobody has rolled the ledger past it
	b.ledger.roll(now)
	fn(b.ledger, now)
}

// Left returns the share of the budget that is left: 1 if nothing is spent, 0 if all is,
// less if more than all is. For the first Window it goes by the events that the
// Window will have had at its end, if they come as they did so far.
func (b *Budget) Left() (left float64) {
	b.read(func(l *ledger, now int64) { left = l.left(now) })
	return left
}

func (l *ledger) left(now int64) float64 {
	return 1 - l.spent(now, l.recent(l.whole(), perSpan).bad)
}

// Level returns how close the burn rates are to those at which somebody should be woken,
// from 0 for nothing bad to 1. It is for the Signal of package shed/dimmer:
//
//	dimmer.New(dimmer.Config{Signal: budget.Level})
//
// It is the rate of the last minutes that brings it down again, whatever is left of the
// budget: a service that stayed dim until a month is over would do nobody a favour. As
// the Pressure of package shed it is good only where a request that is shed is no bad
// event. Otherwise to shed burns the budget, and the burning sheds.
func (b *Budget) Level() (level float64) {
	b.read(func(l *ledger, _ int64) { level = b.level(b.burns(l)) })
	return level
}

func (b *Budget) level(burns [4]Burn) (level float64) {
	for _, burn := range burns {
		if burn.Page && burn.bad >= uint64(b.cfg.MinBad) {
			level = max(level, min(burn.LongRate, burn.ShortRate)/burn.Threshold)
		}
	}
	return min(level, 1)
}

// Frozen answers whether this is a bad time for risks, such as a release, an experiment
// or the failover of a dependency that works: if no more of the budget is left than
// Reserve, or if the budget burns so fast that somebody should be woken.
func (b *Budget) Frozen() (frozen bool) {
	b.read(func(l *ledger, now int64) { frozen = b.frozen(l.left(now), b.burns(l)) })
	return frozen
}

func (b *Budget) frozen(left float64, burns [4]Burn) bool {
	frozen := left <= b.cfg.Reserve
	for _, burn := range burns {
		frozen = frozen || burn.Raised && burn.Page
	}
	return frozen
}
