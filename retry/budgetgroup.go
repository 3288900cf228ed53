package retry

import (
	"errors"
	"iter"
	"maps"
	"sync"
)

// BudgetGroupConfig configures a [BudgetGroup].
type BudgetGroupConfig struct {
	Ratio  float64 // as in [Budget], and so the next three
	Burst  int     // as in [Budget]
	Floor  float64 // as in [Budget]
	Refund bool    // as in [Budget]

	// MaxKeys is how many budgets the group keeps at most. If zero, 1024.
	MaxKeys int
}

// Validate returns an error that names every field that has no meaning, or nil.
// [NewBudgetGroup] panics with the same text.
func (c BudgetGroupConfig) Validate() error {
	err := c.budget().Validate()
	if c.MaxKeys < 0 {
		err = errors.Join(err, errors.New("retry: BudgetGroupConfig: MaxKeys must be at least 1"))
	}
	return err
}

func (c BudgetGroupConfig) budget() *Budget {
	return &Budget{Ratio: c.Ratio, Burst: c.Burst, Floor: c.Floor, Refund: c.Refund}
}

// BudgetGroup keeps a [Budget] for each key, such as the host that is called: what
// fails at one should not cost the others their retries, nor should what succeeds at
// the others pay for it. Make it with [NewBudgetGroup] and use it from any number of
// goroutines.
//
// It is bounded. When it is full, a new key takes the place of one whose budget is
// full, with which nothing is lost. If there is none, all further keys share one
// budget: then retries are fewer than they might be, and never more.
type BudgetGroup[K comparable] struct {
	cfg    BudgetGroupConfig
	shared *Budget // of keys without a place

	mu      sync.RWMutex
	budgets map[K]*Budget
}

// NewBudgetGroup returns an empty group. It panics if cfg is not valid; see
// [BudgetGroupConfig.Validate].
func NewBudgetGroup[K comparable](cfg BudgetGroupConfig) *BudgetGroup[K] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = 1024
	}
	return &BudgetGroup[K]{cfg: cfg, shared: cfg.budget(), budgets: make(map[K]*Budget)}
}

// Get returns the budget of key, never nil. It costs a lookup under a read lock, and
// allocates nothing for a key that is there.
func (g *BudgetGroup[K]) Get(key K) *Budget {
	if b := g.lookup(key); b != nil {
		return b
	}
	return g.add(key)
}

func (g *BudgetGroup[K]) lookup(key K) *Budget {
	g.mu.RLock()
	defer g.mu.RUnlock() // also if key is an interface, of a type that cannot be a key
	return g.budgets[key]
}

func (g *BudgetGroup[K]) add(key K) *Budget {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.budgets[key]; b != nil {
		return b
	}
	if len(g.budgets) >= g.cfg.MaxKeys && !g.evict() {
		return g.shared
	}
	b := g.cfg.budget()
	g.budgets[key] = b
	return b
}

// evict drops one budget that is full, of a few that it looks at: a map's order is
// random, and a flood of keys must not search all of it each time.
func (g *BudgetGroup[K]) evict() bool {
	looks := 32
	for key, b := range g.budgets {
		if b.payFloor(); b.spent.Load() == 0 {
			delete(g.budgets, key)
			return true
		}
		if looks--; looks == 0 {
			return false
		}
	}
	return false
}

// All returns the keys and budgets of the group as they are when the iteration begins,
// in no order. The body may use the group.
func (g *BudgetGroup[K]) All() iter.Seq2[K, *Budget] {
	return func(yield func(K, *Budget) bool) {
		g.mu.RLock()
		budgets := maps.Clone(g.budgets)
		g.mu.RUnlock()
		for key, b := range budgets {
			if !yield(key, b) {
				return
			}
		}
	}
}
