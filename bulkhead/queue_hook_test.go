package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stormjib/stormjib/bulkhead"
)

// Do(2) pushes 1 out. While OnDrop has that, something becomes of 2, which Do(2) would
// return; but then OnDrop panics. Somebody must hear of 2 all the same.
func TestQueueOnDropPanicsInDo(t *testing.T) {
	for how, want := range map[string]string{
		"pushed out": "dropped 2", "failed": "failed 2", "drained": "dropped 2",
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { onDropPanicsInDo(t, how, want) })
		})
	}
}

func onDropPanicsInDo(t *testing.T, how, want string) {
	t.Helper()
	var mu sync.Mutex
	var told []string
	tell := func(what string, item int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(what, " ", item))
	}
	work, hook := make(chan struct{}), make(chan struct{})
	q := bulkhead.NewQueue(bulkhead.QueueConfig[int]{
		Capacity: 1,
		Overflow: bulkhead.DropOldest,
		Handle: func(context.Context, int) error {
			<-work
			return errors.New("boom")
		},
		OnError: func(item int, _ error) { tell("failed", item) },
		OnDrop: func(item int, _ error) {
			tell("dropped", item)
			if item == 1 {
				<-hook
				panic("boom")
			}
		},
	})
	_ = q.Put(t.Context(), 0)
	synctest.Wait()
	_ = q.Put(t.Context(), 1)
	go func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic is gone")
			}
		}()
		_ = q.Do(t.Context(), 2)
	}()
	synctest.Wait()
	switch how {
	case "pushed out":
		_ = q.Put(t.Context(), 3)
	case "failed":
		close(work)
	case "drained":
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if left, _ := q.Drain(over); left != nil {
			t.Errorf("Drain returned %v, which belong to a caller of Do", left)
		}
	}
	synctest.Wait()
	close(hook)
	synctest.Wait()
	if how != "failed" {
		close(work)
	}
	_, _ = q.Drain(t.Context())
	if !slices.Contains(told, want) {
		t.Errorf("nobody heard of item 2: %v", told)
	}
}
