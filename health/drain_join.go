package health

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// spread divides a number of requests to leave evenly over a time. It has no lock and no
// clock; its times are those since it began.
type spread struct {
	end    time.Duration
	last   time.Duration
	credit float64 // what was due, and less than one
}

// due returns how many of those who have not been asked are to be now: as many as would
// have the last one asked at the end if it went on like that. So it does not matter
// whether more come or some leave by themselves.
func (s *spread) due(now time.Duration, unasked int) int {
	if now >= s.end {
		return unasked
	}
	if now > s.last {
		s.credit += float64(unasked) * float64(now-s.last) / float64(s.end-s.last)
		s.last = now
	}
	n := min(int(s.credit), unasked)
	s.credit -= float64(n)
	return n
}

// joined are those who stay long. The zero joined is ready for use.
type joined struct {
	mu      sync.Mutex
	waiting list.List // of the context.CancelCauseFunc of those who have not been asked
	count   int       // of those who have not left
	closed  bool      // all have been asked, and who comes is asked at once
	empty   chan struct{}
}

func (j *joined) join(ctx context.Context) (stay context.Context, leave func()) {
	stay, cancel := context.WithCancelCause(ctx)
	j.mu.Lock()
	j.count++
	var place *list.Element
	if !j.closed {
		place = j.waiting.PushBack(cancel)
	}
	j.mu.Unlock()
	if place == nil {
		cancel(drainError{})
	}
	return stay, sync.OnceFunc(func() {
		j.left(place)
		cancel(context.Canceled)
	})
}

func (j *joined) left(place *list.Element) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if place != nil {
		j.waiting.Remove(place) // nothing, if it has been asked
	}
	j.count--
	if j.count == 0 && j.empty != nil {
		close(j.empty)
		j.empty = nil
	}
}

func (j *joined) unasked() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting.Len()
}

// ask asks n of those who have waited longest. A context may be anybody's, and so is
// cancelled under no lock.
func (j *joined) ask(n int) {
	for range n {
		j.mu.Lock()
		place := j.waiting.Front()
		if place != nil {
			j.waiting.Remove(place)
		}
		j.mu.Unlock()
		if place == nil {
			return
		}
		cancel, _ := place.Value.(context.CancelCauseFunc) // join has put it there
		cancel(drainError{})
	}
}

func (j *joined) askAll() {
	j.mu.Lock()
	j.closed = true
	n := j.waiting.Len()
	j.mu.Unlock()
	j.ask(n)
}

// wait waits until all have left, and returns an error if some have not when ctx ends.
func (j *joined) wait(ctx context.Context) error {
	j.mu.Lock()
	if j.count == 0 {
		j.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	j.empty = empty
	j.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.count == 0 {
		return nil
	}
	return fmt.Errorf("%d have not left: %w", j.count, ctx.Err())
}
