package shed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

// shedsTheRest is a test of yours. In a bubble of testing/synctest the Shedder's time is the
// bubble's, and calls that take seconds take none. Make the Shedder inside, with a limit that
// stays as it is.
func shedsTheRest(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := shed.New(shed.Config{Algorithm: shed.Fixed, Initial: 2, Queue: 1})
		report := func() error {
			return s.Do(t.Context(), func(context.Context) error {
				time.Sleep(50 * time.Millisecond)
				return nil
			})
		}
		var others sync.WaitGroup
		defer others.Wait()
		for range 2 {
			others.Go(func() { _ = report() })
		}
		synctest.Wait() // both are under way
		start := time.Now()
		others.Go(func() {
			if err := report(); err != nil {
				t.Errorf("the third: %v", err)
			}
			if took := time.Since(start); took != 100*time.Millisecond {
				t.Errorf("it took %v, want its turn after another", took)
			}
		})
		synctest.Wait() // it waits
		if err := report(); !errors.Is(err, shed.ErrOverloaded) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestShedsTheRest(t *testing.T)
	if t != nil {
		shedsTheRest(t)
	}
	// Output:
}

func TestExampleOfTesting(t *testing.T) { shedsTheRest(t) }

// scripted is an algorithm that finds what it was told to: for a test of what your code does
// when the limit changes.
type scripted []int

func (s *scripted) Update(w shed.Window) int {
	if len(*s) == 0 {
		return w.Limit
	}
	limit := (*s)[0]
	*s = (*s)[1:]
	return limit
}

// hearsOfChanges shows Config.OnChange, with the limits of a script.
func hearsOfChanges(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		s := shed.New(shed.Config{
			Name:      "api",
			Algorithm: func(shed.Config) shed.Algorithm { return &scripted{15, 15, 30} },
			OnChange: func(c shed.Change) {
				heard = append(heard, fmt.Sprintf("%s: from %d to %d", c.Name, c.From, c.To))
			},
		})
		for range 5 {
			time.Sleep(2 * time.Second) // a window ends with the first call after that
			_ = s.Do(t.Context(), func(context.Context) error { return nil })
		}
		want := "[api: from 20 to 15 api: from 15 to 30]"
		if got := fmt.Sprint(heard); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	})
}

// To be told when the limit changes, say for a log or for metrics.
func ExampleChange() {
	var t *testing.T // that of func TestHearsOfChanges(t *testing.T)
	if t != nil {
		hearsOfChanges(t)
	}
	// Output:
}

func TestExampleOfChanges(t *testing.T) { hearsOfChanges(t) }
