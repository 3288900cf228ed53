package retry_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// group returns one whose budgets have a single token, which does not come back.
func group(most int) *retry.BudgetGroup[int] {
	return retry.NewBudgetGroup[int](retry.BudgetGroupConfig{Burst: 1, Floor: -1, MaxKeys: most})
}

func size(g *retry.BudgetGroup[int]) (n int) {
	for range g.All() {
		n++
	}
	return n
}

// One host that is down must not cost the others their retries, nor live on what
// succeeds at them.
func TestBudgetGroupKeepsKeysApart(t *testing.T) {
	g := retry.NewBudgetGroup[string](retry.BudgetGroupConfig{
		Ratio: .5, Burst: 2, Floor: -1, Refund: true,
	})
	down, up := g.Get("down"), g.Get("up")
	if down == up || g.Get("down") != down || g.Get("up") != up {
		t.Fatal("not one budget for each key")
	}
	if b := down; b.Ratio != .5 || b.Burst != 2 || b.Floor != -1 || !b.Refund || b.Off {
		t.Errorf("not as configured: %+v", b)
	}
	take(t, down, 2)
	succeed(up, 100)
	tokens(t, down, 0)
	tokens(t, up, 2)

	seen := map[string]*retry.Budget{}
	for key, b := range g.All() {
		seen[key] = b
		g.Get(key + " too") // the body may use the group
	}
	if len(seen) != 2 || seen["down"] != down || seen["up"] != up {
		t.Errorf("%v", seen)
	}
	for range g.All() {
		break
	}
}

// A flood of keys is what an attacker has, by a Host header say. It may neither use up the
// memory nor make room for retries against a host that is down.
func TestBudgetGroupFlood(t *testing.T) {
	const most = 100
	g := group(most)
	for key := range most {
		take(t, g.Get(key), 1)
	}
	retries := 0
	const flood = 20_000
	for key := range flood {
		if g.Get(1000 + key).Take() {
			retries++
		}
		g.Get(1000 + key).Return()
	}
	if retries != flood {
		t.Errorf("%d retries of %d, each in its turn", retries, flood)
	}
	if !g.Get(5000).Take() || g.Get(5001).Take() || g.Get(5002) != g.Get(5003) {
		t.Error("keys without a place do not share one budget")
	}
	if n := size(g); n != most {
		t.Errorf("%d keys, want %d", n, most)
	}
	for key := range most {
		tokens(t, g.Get(key), 0)
	}
	// As many of them as there can be succeed: the others' hosts are still down.
	for key := range flood {
		g.Get(1000 + key).Success()
	}
	for key := range most {
		tokens(t, g.Get(key), 0)
	}
}

// Nothing is lost with a budget that is full, and so it is the one to go.
func TestBudgetGroupEvictsFullOnes(t *testing.T) {
	for range 50 { // the order of a map is random
		g := group(4)
		for key := range 3 {
			take(t, g.Get(key), 1)
		}
		g.Get(3).Success()
		full := g.Get(3)
		other := g.Get(4)
		if other == full || other != g.Get(4) || size(g) != 4 {
			t.Fatal("the new key has no place of its own")
		}
		take(t, other, 1)
		for key := range 3 {
			tokens(t, g.Get(key), 0)
		}
		// Whoever holds the dropped one can still use it.
		if !full.Take() {
			t.Fatal("a dropped budget is empty")
		}
	}
}

// A budget fills by itself while nobody asks for it; a full group must see that.
func TestBudgetGroupEvictsWhatHasFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := retry.NewBudgetGroup[int](retry.BudgetGroupConfig{MaxKeys: 2})
		for key := range 2 {
			take(t, g.Get(key), 3)
		}
		time.Sleep(29 * time.Second)
		if g.Get(2) != g.Get(3) {
			t.Error("room was made where nothing was full")
		}
		time.Sleep(time.Second)
		if a, b := g.Get(2), g.Get(3); a == b || a == g.Get(4) {
			t.Error("no room was made where all was full")
		}
		if size(g) != 2 {
			t.Error("it has grown")
		}
	})
}

func TestBudgetGroupConcurrently(t *testing.T) {
	const most, keys = 8, 64
	g := retry.NewBudgetGroup[int](retry.BudgetGroupConfig{MaxKeys: most})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 2000 {
				b := g.Get((worker + i) % keys)
				if b == nil {
					t.Error("nil")
					return
				}
				b.Take()
				b.Success()
				if i%500 == 0 {
					if n := size(g); n > most {
						t.Errorf("%d keys", n)
					}
				}
			}
		})
	}
	wg.Wait()

	// All ask for the same new keys at once: each has one budget.
	for range 20 {
		g := group(0)
		var found [8][1000]*retry.Budget
		for worker := range found {
			wg.Go(func() {
				for key := range found[worker] {
					found[worker][key] = g.Get(key)
				}
			})
		}
		wg.Wait()
		for _, budgets := range found {
			if budgets != found[0] {
				t.Fatal("two budgets of one key")
			}
		}
	}
}

func TestBudgetGroupLookupAllocatesNothing(t *testing.T) {
	g := retry.NewBudgetGroup[string](retry.BudgetGroupConfig{})
	g.Get("host")
	if allocs := testing.AllocsPerRun(100, func() { g.Get("host").Success() }); allocs != 0 {
		t.Errorf("allocates %v times, want 0", allocs)
	}
}

func TestBudgetGroupDefaults(t *testing.T) {
	g := group(0)
	for key := range 1100 {
		take(t, g.Get(key), 1)
		if key >= 1024 {
			g.Get(key).Return()
		}
	}
	if n := size(g); n != 1024 {
		t.Errorf("%d keys, want 1024", n)
	}
	one := group(1)
	take(t, one.Get(0), 1)
	if one.Get(1) == one.Get(0) || size(one) != 1 {
		t.Error("a group of one key holds two")
	}
}

func TestBudgetGroupConfigValidate(t *testing.T) {
	if err := (retry.BudgetGroupConfig{}).Validate(); err != nil {
		t.Errorf("the zero config: %v", err)
	}
	bad := retry.BudgetGroupConfig{Ratio: 2, Burst: -1, Floor: math.NaN(), MaxKeys: -1}
	err := bad.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, field := range []string{"Ratio is 2", "Burst is -1", "Floor is NaN", "MaxKeys"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%q does not name %s", err, field)
		}
	}
	if err := (retry.BudgetGroupConfig{MaxKeys: -1}).Validate(); err == nil {
		t.Error("a negative number of keys is valid")
	}
	defer func() {
		if v := recover(); fmt.Sprint(v) != err.Error() {
			t.Errorf("panics with %v, want %v", v, err)
		}
	}()
	retry.NewBudgetGroup[int](bad)
}

// A key that no map takes panics, as it does in a map, and leaves the group usable.
func TestBudgetGroupUncomparableKey(t *testing.T) {
	g := retry.NewBudgetGroup[any](retry.BudgetGroupConfig{})
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a slice is a key")
				}
			}()
			g.Get([]int{1})
		}()
	}
	if g.Get("a") == nil {
		t.Error("the group is of no use any more")
	}
}
