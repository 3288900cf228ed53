package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// oneKeeper is a node that takes no time, but for its store.
func oneKeeper(store call) (*node, *keeper) {
	n := &node{}
	k := &keeper{
		node: n, places: make(chan struct{}, 1), store: store, pages: map[string]*copied{},
	}
	n.serve = k.serve
	return n, k
}

// Whoever leaves, the store is asked once for all who ask for a page until it is there;
// and each request is counted once, as a hit or as a miss.
func TestKeeperFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		n, _ := oneKeeper(func(ctx context.Context, _ request) (string, error) {
			calls.Add(1)
			return sourceLive, sleep(ctx, time.Second)
		})
		first, leave := context.WithCancel(t.Context())
		var answered atomic.Int64
		for i := range 3 {
			go func() {
				ctx := t.Context()
				if i == 0 {
					ctx = first
				}
				if _, err := n.handle(ctx, request{Client: "a"}); err == nil {
					answered.Add(1)
				}
			}()
			synctest.Wait()
		}
		if n.underway.peak() != 3 {
			t.Error("not all who wait are under way")
		}
		leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if calls.Load() != 1 || answered.Load() != 2 || n.misses.Load() != 3 {
			t.Errorf("%d calls, %d answers, %d misses; want 1, 2 and 3", calls.Load(),
				answered.Load(), n.misses.Load())
		}
		began := time.Now()
		for range 4 {
			if _, err := n.handle(t.Context(), request{Client: "a"}); err != nil {
				t.Errorf("the page is there: %v", err)
			}
		}
		if calls.Load() != 1 || n.hits.Load() != 4 || time.Since(began) != 0 {
			t.Errorf("%d calls, %d hits in %v; want 1, 4 at once", calls.Load(), n.hits.Load(),
				time.Since(began))
		}
		if n.underway.peak(); n.underway.peak() != 0 {
			t.Error("some are under way for ever")
		}
	})
}

// What the store fails at is not kept.
func TestKeeperAsksAgain(t *testing.T) {
	failed := errors.New("failed")
	answers := []error{failed, nil}
	n, _ := oneKeeper(func(context.Context, request) (string, error) {
		err := answers[0]
		answers = answers[1:]
		return "", err
	})
	for _, want := range []error{failed, nil, nil} {
		if _, err := n.handle(t.Context(), request{Client: "a"}); err != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if n.hits.Load() != 1 || n.misses.Load() != 2 {
		t.Errorf("%d hits and %d misses, want 1 and 2", n.hits.Load(), n.misses.Load())
	}
}

// A hit takes a place, and who waits for one leaves when its patience is over. To be
// filled takes none.
func TestKeeperPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, k := oneKeeper(func(context.Context, request) (string, error) { return sourceLive, nil })
		k.hit = time.Second
		go n.handle(t.Context(), request{ID: 1, Client: "a"})
		synctest.Wait()
		_, err := n.handle(t.Context(), request{ID: 2, Kind: kindFill, Client: "b"})
		if err != nil {
			t.Errorf("it is not filled: %v", err)
		}
		took := work(k.seed, streamNode, 1, k.hit)
		ctx, cancel := context.WithTimeout(t.Context(), took/2)
		defer cancel()
		began := time.Now()
		_, err = n.handle(ctx, request{ID: 2, Client: "b"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != took/2 {
			t.Errorf("who waits leaves after %v with %v", time.Since(began), err)
		}
		if _, err := n.handle(t.Context(), request{ID: 3, Client: "b"}); err != nil {
			t.Errorf("when the place is free: %v", err)
		}
		if want := took + work(k.seed, streamNode, 3, k.hit); time.Since(began) != want {
			t.Errorf("both took %v, want %v", time.Since(began), want)
		}
	})
}

// What has come to a worker that hangs, or is with it, is lost when it is restarted; who
// leaves before is not kept; and poison that comes then does nothing, since nobody reads it.
func TestWorkerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{
			places: make(chan struct{}, 2),
			poison: func(kind string) bool { return kind == "poison" },
			store: func(ctx context.Context, _ request) (string, error) {
				return sourceLive, sleep(ctx, time.Second)
			},
		}
		began := time.Now()
		var dropped atomic.Int64
		ask := func(kind string) {
			_, err := w.serve(t.Context(), request{Kind: kind})
			if errors.Is(err, errDropped) && time.Since(began) == restartAfter {
				dropped.Add(1)
			}
		}
		go ask("team") // It is with the worker when the poison comes.
		synctest.Wait()
		go ask("poison")
		synctest.Wait()
		go ask("team")
		time.Sleep(2 * time.Second)
		go ask("poison")
		ctx, leave := context.WithTimeout(t.Context(), time.Second/2)
		defer leave()
		_, err := w.serve(ctx, request{Kind: "team"})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves gets %v", err)
		}
		time.Sleep(time.Second)
		if dropped.Load() != 4 {
			t.Errorf("%d are lost with the restart, want 4", dropped.Load())
		}
		source, err := w.serve(t.Context(), request{Kind: "team"})
		if source != sourceLive || err != nil {
			t.Errorf("after the restart it answers %q, %v", source, err)
		}
	})
}

// A worker does no more at a time than it has places.
func TestWorkerPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{
			places: make(chan struct{}, 2), poison: func(string) bool { return false },
			store: func(ctx context.Context, _ request) (string, error) {
				return sourceLive, sleep(ctx, time.Second)
			},
		}
		began := time.Now()
		for range 3 {
			go w.serve(t.Context(), request{})
		}
		synctest.Wait()
		_, err := w.serve(t.Context(), request{})
		if took := time.Since(began); err != nil || took != 2*time.Second {
			t.Errorf("the fourth of four takes %v, %v; want 2s", took, err)
		}
		synctest.Wait()
	})
}
