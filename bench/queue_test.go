package bench

import (
	"context"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/bulkhead"
)

func BenchmarkQueue(b *testing.B)        { serial(b, queues()) }
func BenchmarkQueueCrowded(b *testing.B) { crowded(b, queues()) }

const (
	queueing      = "Queue: put, and handled by one worker"
	queueingCrowd = "Queue: put, and handled by one worker, 16 goroutines"

	capacity = 1024
)

func addQueues(rs *rows) {
	rs.add(queueing, 0, queues())
	rs.add(queueingCrowd, crowd, queues())
}

// queues are told of the end of each item by the item itself: a loop ends when all of its
// own are handled.
func queues() []contender {
	return []contender{
		{"stormjib", stormjibPut()},
		{"stormjib-do", stormjibQueueDo()},
		{"channel", channelPut()},
	}
}

func newQueue() *bulkhead.Queue[*sync.WaitGroup] {
	return bulkhead.NewQueue(bulkhead.QueueConfig[*sync.WaitGroup]{
		Capacity: capacity,
		Overflow: bulkhead.Block,
		Handle: func(_ context.Context, item *sync.WaitGroup) error {
			item.Done()
			return nil
		},
	})
}

func stormjibPut() func(int) error {
	q, ctx := newQueue(), context.Background()
	return func(n int) (err error) {
		var handled sync.WaitGroup
		handled.Add(n)
		for range n {
			err = q.Put(ctx, &handled)
		}
		handled.Wait()
		return err
	}
}

// stormjibQueueDo waits for each item before it puts the next.
func stormjibQueueDo() func(int) error {
	q, ctx := newQueue(), context.Background()
	return func(n int) (err error) {
		var handled sync.WaitGroup
		handled.Add(n)
		for range n {
			err = q.Do(ctx, &handled)
		}
		return err
	}
}

// channelPut is what one writes without a library. It can't be drained, its worker stays,
// and a panic is the end of the process.
func channelPut() func(int) error {
	items := make(chan *sync.WaitGroup, capacity)
	go func() {
		for item := range items {
			item.Done()
		}
	}()
	return func(n int) error {
		var handled sync.WaitGroup
		handled.Add(n)
		for range n {
			items <- &handled
		}
		handled.Wait()
		return nil
	}
}

// TestQueueContenders checks that what is measured is what the name says.
func TestQueueContenders(t *testing.T) {
	for _, c := range queues() {
		if err := c.loop(10 * capacity); err != nil {
			t.Errorf("%s: the last call returned %v", c.name, err)
		}
	}
}
