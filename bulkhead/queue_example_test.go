package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

// Mails are sent by two workers, and those who ask for one need not wait for it.
func ExampleQueue() {
	mails := bulkhead.NewQueue(bulkhead.QueueConfig[string]{
		Name:     "mails",
		Capacity: 100,
		Workers:  2,
		Handle: func(_ context.Context, to string) error {
			if !strings.Contains(to, "@") {
				return errors.New("no such address")
			}
			return nil
		},
		OnError: func(to string, err error) { fmt.Printf("to %q: %v\n", to, err) },
	})
	for _, to := range []string{"ann@example.com", "bob@example.com", "cy"} {
		if err := mails.Put(context.Background(), to); err != nil {
			fmt.Println("try again later:", err)
		}
	}

	// When the program is about to end.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	left, err := mails.Drain(ctx)
	fmt.Println(len(left), err, mails.Stats().Succeeded)
	// Output:
	// to "cy": no such address
	// 0 <nil> 2
}

// Where the caller wants to know.
func ExampleQueue_Do() {
	orders := bulkhead.NewQueue(bulkhead.QueueConfig[int]{
		Name: "orders", Capacity: 10,
		Handle: func(_ context.Context, id int) error {
			if id == 13 {
				panic("of all numbers")
			}
			return nil
		},
	})
	fmt.Println(orders.Do(context.Background(), 12))
	fmt.Println(orders.Do(context.Background(), 13))
	fmt.Println(orders.Do(context.Background(), 14))
	// Output:
	// <nil>
	// bulkhead "orders": the handler panicked: of all numbers
	// <nil>
}

// A gauge is worth its latest readings.
func ExampleOverflow() {
	begin := make(chan struct{})
	readings := bulkhead.NewQueue(bulkhead.QueueConfig[int]{
		Capacity: 2,
		Overflow: bulkhead.DropOldest,
		Handle: func(_ context.Context, celsius int) error {
			<-begin
			fmt.Println("stored", celsius)
			return nil
		},
		OnDrop: func(celsius int, why error) { fmt.Println("dropped", celsius, why) },
	})
	for celsius := range 5 {
		_ = readings.Put(context.Background(), celsius)
	}
	close(begin)
	_, _ = readings.Drain(context.Background())
	// Output:
	// dropped 1 bulkhead: full
	// dropped 2 bulkhead: full
	// stored 0
	// stored 3
	// stored 4
}

// What there is no time for at the end is returned, to be stored for the next start.
func ExampleQueue_Drain() {
	begun := make(chan struct{})
	jobs := bulkhead.NewQueue(bulkhead.QueueConfig[string]{
		Capacity: 10,
		Handle: func(ctx context.Context, _ string) error {
			close(begun)
			<-ctx.Done() // long work, that heeds its context
			return ctx.Err()
		},
		OnError: func(job string, err error) { fmt.Println(job, "failed:", err) },
	})
	for _, job := range []string{"first", "second", "third"} {
		_ = jobs.Put(context.Background(), job)
	}
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	left, err := jobs.Drain(ctx)
	_, _ = jobs.Drain(context.Background()) // until that handler has returned
	fmt.Println(left, err)
	fmt.Println(jobs.Put(context.Background(), "late"))
	// Output:
	// first failed: context canceled
	// [second third] bulkhead: context deadline exceeded
	// bulkhead: draining
}

// A configuration from a file is checked before NewQueue sees it.
func ExampleQueueConfig_Validate() {
	cfg := bulkhead.QueueConfig[string]{Name: "mails", Workers: -1}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output:
	// bulkhead: QueueConfig "mails": Capacity is 0, but must be at least 1
	// Workers is -1, but must be at least 1
	// Handle is nil, but must be a function
}

// levelsBursts is a test of yours. In a bubble of testing/synctest the queue's time is the
// bubble's, and Wait returns when its workers have nothing left to do, or wait themselves.
func levelsBursts(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := bulkhead.NewQueue(bulkhead.QueueConfig[int]{
			Capacity: 99,
			Handle: func(context.Context, int) error {
				time.Sleep(time.Second)
				return nil
			},
		})
		for i := range 100 { // one is handled at once
			if err := q.Put(t.Context(), i); err != nil {
				t.Errorf("item %d: %v", i, err)
			}
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if s := q.Stats(); s.Succeeded != 30 || s.OldestAge != 30*time.Second {
			t.Errorf("after half a minute: %+v", s)
		}
		_, _ = q.Drain(t.Context())
	})
}

// Testing your code.
func ExampleQueue_testing() {
	var t *testing.T // that of func TestLevelsBursts(t *testing.T)
	if t != nil {
		levelsBursts(t)
	}
	// Output:
}
