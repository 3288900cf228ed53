package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// A stampede: a hundred requests for a page that is not there. The store is asked once.
func ExampleGroup_Do() {
	pages := coalesce.New[string, string](coalesce.Config{TTL: 10 * time.Second})

	var requests sync.WaitGroup
	for range 100 {
		requests.Go(func() {
			_, _ = pages.Do(context.Background(), "/", func(context.Context) (string, error) {
				time.Sleep(10 * time.Millisecond) // the store
				return "welcome", nil
			})
		})
	}
	requests.Wait()

	page, err := pages.Do(context.Background(), "/", func(context.Context) (string, error) {
		return "", errors.New("not called")
	})
	fmt.Println(page, err, "-", pages.Stats().Calls, "call")
	// Output: welcome <nil> - 1 call
}

// Stale while revalidate: once there is a page nobody waits for the store, however long it
// takes to bring a new one.
func ExampleConfig_stale() {
	pages := coalesce.New[string, int](coalesce.Config{TTL: time.Nanosecond, Stale: time.Minute})
	version := 0
	get := func() {
		page, err := pages.Do(context.Background(), "/", func(context.Context) (int, error) {
			version++
			return version, nil
		})
		fmt.Println("version", page, err)
	}
	get()
	time.Sleep(time.Millisecond)
	get() // the old one, at once, while a new one is fetched
	for pages.Stats().InFlight > 0 {
		time.Sleep(time.Millisecond)
	}
	get()
	// Output:
	// version 1 <nil>
	// version 1 <nil>
	// version 2 <nil>
}

// The store is down, and the last good page is better than none.
func ExampleConfig_staleOnError() {
	pages := coalesce.New[string, string](coalesce.Config{
		TTL:          time.Nanosecond,
		StaleOnError: time.Hour,
	})
	get := func(page string, err error) {
		fmt.Println(pages.Do(context.Background(), "/", func(context.Context) (string, error) {
			return page, err
		}))
		time.Sleep(time.Millisecond)
	}
	get("the news", nil)
	get("", errors.New("connection refused"))
	fmt.Println(pages.Stats().RefreshErrors, "failed")
	// Output:
	// the news <nil>
	// the news <nil>
	// 1 failed
}

// Forget what is kept after it was changed. A call under way, which may have read what was
// there before, does not bring that back.
func ExampleGroup_Forget() {
	users := coalesce.New[int, string](coalesce.Config{TTL: time.Hour})
	name := "Ann"
	get := func() {
		got, _ := users.Do(context.Background(), 7, func(context.Context) (string, error) {
			return name, nil
		})
		fmt.Println(got)
	}
	get()
	name = "Anne"
	get()
	users.Forget(7)
	get()
	// Output:
	// Ann
	// Ann
	// Anne
}

// A config from a file is checked before it is used.
func ExampleConfig_Validate() {
	cfg := coalesce.Config{Name: "pages", Stale: time.Minute, Jitter: 10}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// coalesce: Config "pages": Jitter is 10, but must be below 1
	// Stale is 1m0s, but must have a TTL beside it
}

// For an exporter: how much of the load does not reach the store.
func ExampleStats() {
	pages := coalesce.New[string, int](coalesce.Config{TTL: time.Hour})
	for range 10 {
		_, _ = pages.Do(context.Background(), "/", func(context.Context) (int, error) {
			return 1, nil
		})
	}
	s := pages.Stats()
	fmt.Println(s.Hits, s.StaleHits, s.Shared, s.Calls, s.Entries)
	// Output: 9 0 0 1 1
}

// A panic in the shared call reaches all who wait, with the stack of where it was.
func ExamplePanicError() {
	pages := coalesce.New[string, int](coalesce.Config{})
	defer func() {
		p, ok := recover().(*coalesce.PanicError)
		fmt.Println(ok, p.Value)
	}()
	_, _ = pages.Do(context.Background(), "/", func(context.Context) (int, error) {
		panic("a bug")
	})
	// Output: true a bug
}
