package redislimiter

import "sync"

// mostInBackground is how many goroutines a Store may have at a time. A key whose tokens
// can't be fetched for that is asked for when somebody calls.
const mostInBackground = 64

// background runs what must not keep callers waiting, until it is closed.
type background struct {
	mu      sync.Mutex
	closed  bool
	count   int
	running sync.WaitGroup
}

// start runs fn on a goroutine, unless closed or full.
func (b *background) start(fn func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.count == mostInBackground {
		return false
	}
	b.count++
	b.running.Go(func() {
		defer b.done()
		fn()
	})
	return true
}

func (b *background) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count--
}

// close waits for those that run; there will be no others.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.running.Wait()
}
