package health_test

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

func TestBudgetConfigValidate(t *testing.T) {
	tests := []struct {
		cfg  health.BudgetConfig
		want string // "" if valid
	}{
		{health.BudgetConfig{}, ""},
		{health.BudgetConfig{Objective: 0.5, Window: day, MinBad: 1, Reserve: 0.99}, ""},
		{health.BudgetConfig{Objective: 0.999999999999, Window: 366 * day, MaxNames: 65536}, ""},
		{
			health.BudgetConfig{Objective: 99.9},
			"health: BudgetConfig: Objective is 99.9, but must be at least 0.5 and below 1",
		},
		{
			health.BudgetConfig{Objective: 1},
			"health: BudgetConfig: Objective is 1, but must be at least 0.5 and below 1",
		},
		{
			health.BudgetConfig{Objective: math.NaN(), Reserve: math.NaN()},
			"health: BudgetConfig: Objective is NaN, but must be at least 0.5 and below 1; " +
				"Reserve is NaN, but must not be negative, and be below 1",
		},
		{
			health.BudgetConfig{
				Name: "api", Objective: 0.4, Window: time.Hour, MinBad: -1, Reserve: 1,
				MaxNames: -1,
			},
			`health: BudgetConfig "api": Objective is 0.4, but must be at least 0.5 and below 1; ` +
				"Window is 1h0m0s, but must be from 24h to 8784h, 366 days; " +
				"MinBad is -1, but must be at least 1; " +
				"Reserve is 1, but must not be negative, and be below 1; " +
				"MaxNames is -1, but must be at least 1 and at most 65536",
		},
		{
			health.BudgetConfig{Window: 366*day + 1, MaxNames: 65537},
			"health: BudgetConfig: Window is 8784h0m0.000000001s, " +
				"but must be from 24h to 8784h, 366 days; " +
				"MaxNames is 65537, but must be at least 1 and at most 65536",
		},
	}
	for _, test := range tests {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
		wantPanic(t, test.want, func() { health.NewBudget(test.cfg) })
	}
}

func count(b *health.Budget, good, bad int) {
	for range good {
		b.Good()
	}
	for range bad {
		b.Bad("")
	}
}

func TestBudgetLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := health.NewBudget(health.BudgetConfig{Objective: 0.9, Window: 10 * day})
		wantLeft := func(want float64) {
			t.Helper()
			if got := b.Left(); math.Abs(got-want) > 1e-9 {
				t.Errorf("left: %v, want %v", got, want)
			}
		}
		wantLeft(1)
		// In half of the window 100 events, so 200 are to be expected, 20 of them bad.
		time.Sleep(5 * day)
		count(b, 95, 5)
		wantLeft(0.75)
		time.Sleep(5 * day)
		wantLeft(0.5) // and they did not come
		count(b, 88, 12)
		wantLeft(0.15)
		if b.Frozen() {
			t.Error("frozen, with some left")
		}
		time.Sleep(5 * day) // the first hundred have left
		wantLeft(-0.2)
		if !b.Frozen() {
			t.Error("not frozen, with nothing left")
		}
		time.Sleep(10 * day)
		wantLeft(1)
		if b.Frozen() {
			t.Error("frozen for ever")
		}
		if s := b.Stats(); s.Good != 183 || s.Bad != 17 {
			t.Errorf("%d good, %d bad; want 183 and 17", s.Good, s.Bad)
		}
	})
}

// One of the first hundred requests does not spend the budget of a month.
func TestBudgetOfTheFirstMinute(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		b := health.NewBudget(health.BudgetConfig{})
		count(b, 0, 1)
		if left := b.Left(); left > 1 || left < 0.9 || b.Frozen() || b.Level() != 0 {
			t.Errorf("left %v, frozen %v, level %v", left, b.Frozen(), b.Level())
		}
		count(b, 99, 0)
		if left := b.Left(); left < 0.99 || b.Frozen() {
			t.Errorf("left %v, frozen %v", left, b.Frozen())
		}
	})
}

func TestReserve(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		b := health.NewBudget(health.BudgetConfig{Objective: 0.9, Reserve: 0.25})
		time.Sleep(30 * day)
		count(b, 93, 7)
		time.Sleep(2 * time.Hour) // what is spent is spent, but does not burn
		if left := b.Left(); left < 0.299 || b.Frozen() {
			t.Errorf("left %v, frozen %v", left, b.Frozen())
		}
		count(b, 9, 1)
		time.Sleep(8 * time.Hour)
		if left := b.Left(); left > 0.28 || b.Frozen() {
			t.Errorf("left %v, frozen %v", left, b.Frozen())
		}
		count(b, 9, 1)
		if left := b.Left(); left > 0.26 || !b.Frozen() {
			t.Errorf("left %v, frozen %v", left, b.Frozen())
		}
	})
}

// Level is 1 from an alert on, below it in proportion, and 0 for too few to tell.
func TestLevel(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		b := health.NewBudget(health.BudgetConfig{Objective: 0.99, MinBad: 30})
		wantLevel := func(want float64) {
			t.Helper()
			if got := b.Level(); math.Abs(got-want) > 1e-9 || got != b.Stats().Level {
				t.Errorf("level: %v and %v, want %v", got, b.Stats().Level, want)
			}
		}
		wantLevel(0)
		count(b, 971, 29)
		wantLevel(0)
		count(b, 9, 1) // 3 per cent: a rate of 3, of 6 in the pair of 6 hours
		wantLevel(30 / 1010.0 / 0.01 / 6)
		count(b, 0, 100)
		wantLevel(1)
		if !b.Frozen() {
			t.Error("not frozen, though it burns")
		}
		time.Sleep(31 * time.Minute) // past both short windows
		wantLevel(0)
	})
}

// What came while the clock stood still, or ran ahead for hours, was counted.
func TestBudgetAfterASuspend(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		b := health.NewBudget(health.BudgetConfig{Objective: 0.9})
		time.Sleep(40 * day)
		count(b, 100, 0)
		time.Sleep(9*time.Hour + time.Millisecond)
		count(b, 95, 5)
		s := b.Stats()
		if math.Abs(s.Left-0.75) > 1e-9 {
			t.Errorf("left: %v", s.Left)
		}
		for i, want := range []float64{0.5, 0.5, 0.25, 0.25} {
			if got := s.Burns[i].LongRate; math.Abs(got-want) > 1e-9 {
				t.Errorf("rate %d: %v, want %v", i, got, want)
			}
		}
	})
}

func TestSpentBy(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		b := health.NewBudget(health.BudgetConfig{Name: "api", Objective: 0.9})
		time.Sleep(30 * day)
		count(b, 90, 2)
		for range 6 {
			b.Bad("db")
		}
		for range 2 {
			b.Bad("mail")
		}
		s := b.Stats()
		if math.Abs(s.SpentBy["db"]-0.6) > 1e-9 || math.Abs(s.SpentBy["mail"]-0.2) > 1e-9 ||
			len(s.SpentBy) != 2 || math.Abs(s.Left) > 1e-9 {
			t.Errorf("spent by %v, left %v", s.SpentBy, s.Left)
		}
		if s.Name != "api" || s.Objective != 0.9 || s.Window != 30*day {
			t.Errorf("%+v", s)
		}
		time.Sleep(30 * day)
		if s := b.Stats(); s.SpentBy["db"] != 0 || len(s.SpentBy) != 2 {
			t.Errorf("a window later: spent by %v", s.SpentBy)
		}
	})
}

// Nothing is lost, however many count at once and whoever asks meanwhile.
func TestBudgetConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := health.NewBudget(health.BudgetConfig{Window: day, MaxNames: 3})
		var wg sync.WaitGroup
		names := []string{"", "a", "b", "c", "d"}
		for i := range 4 {
			wg.Go(func() {
				for n := range 500 {
					b.Good()
					b.Bad(names[(i+n)%len(names)])
					if n%50 == 0 {
						b.Stats()
						time.Sleep(29 * time.Second)
					}
				}
			})
		}
		wg.Wait()
		s := b.Stats()
		if s.Good != 2000 || s.Bad != 2000 || len(s.SpentBy) != 4 {
			t.Errorf("%d good, %d bad, of %d names", s.Good, s.Bad, len(s.SpentBy))
		}
		if rate := s.Burns[0].LongRate; math.Abs(rate-500) > 1e-6 {
			t.Errorf("rate %v", rate)
		}
		total := 0.0
		for _, share := range s.SpentBy {
			total += share
		}
		if math.Abs(total-0.8*(1-s.Left)) > 1e-6 {
			t.Errorf("all together have spent %v, of %v", total, 1-s.Left)
		}
	})
}

func TestBudgetAllocates(t *testing.T) {
	b := health.NewBudget(health.BudgetConfig{})
	b.Bad("db")
	for name, fn := range map[string]func(){
		"Good":   b.Good,
		"Bad":    func() { b.Bad("db") },
		"nobody": func() { b.Bad("") },
		"Left":   func() { b.Left() },
		"Level":  func() { b.Level() },
		"Frozen": func() { b.Frozen() },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
