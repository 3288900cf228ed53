package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// node is one of a fleet. Its answers are made by a keeper, or by a worker.
type node struct {
	serve        call
	underway     gauge        // requests
	hits, misses atomic.Int64 // of a keeper
}

func (n *node) handle(ctx context.Context, r request) (source string, err error) {
	n.underway.enter()
	defer n.underway.leave()
	return n.serve(ctx, r)
}

// keeper keeps for good what it has had from the store: a page for each client. It serves
// so many requests at a time as it has places; who waits for the store takes none of them.
type keeper struct {
	node   *node
	seed   uint64
	hit    time.Duration // mean time in a place
	places chan struct{}
	store  call

	mu    sync.Mutex
	pages map[string]*copied
}

// copied is a page that is there, or under way.
type copied struct {
	done chan struct{} // closed when it is there
	err  error         // or that it is not
}

func (k *keeper) serve(ctx context.Context, r request) (source string, err error) {
	page := k.page(ctx, r)
	select {
	case <-page.done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if page.err != nil || r.Kind == kindFill {
		return sourceLive, page.err
	}
	if err := enter(ctx, k.places); err != nil {
		return "", err
	}
	time.Sleep(work(k.seed, streamNode, r.ID, k.hit))
	<-k.places
	return sourceLive, nil
}

// page returns the client's page. There is one call of the store for all who ask, and it
// goes on when they leave: else a store that is slow would be asked again for what it has
// done.
func (k *keeper) page(ctx context.Context, r request) *copied {
	k.mu.Lock()
	defer k.mu.Unlock()
	page := k.pages[r.Client]
	if page == nil {
		page = &copied{done: make(chan struct{})}
		k.pages[r.Client] = page
		k.node.misses.Add(1)
		go k.get(context.WithoutCancel(ctx), r, page)
		return page
	}
	select {
	case <-page.done:
		k.node.hits.Add(1)
	default:
		k.node.misses.Add(1)
	}
	return page
}

func (k *keeper) get(ctx context.Context, r request, page *copied) {
	defer close(page.done)
	_, page.err = k.store(ctx, r)
	if page.err == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pages, r.Client)
}

// enter takes a place, unless ctx ends before there is one.
func enter(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// worker has everything done by the store, in one of its places. A request that is poison
// hangs it, with all that is in it and all that comes, until somebody restarts it.
type worker struct {
	places chan struct{}
	store  call
	poison func(kind string) bool // at this moment

	mu    sync.Mutex
	hangs time.Time // until then
}

// restartAfter is how long a worker hangs.
const restartAfter = 3 * time.Second

func (w *worker) serve(ctx context.Context, r request) (source string, err error) {
	if w.hung(w.poison(r.Kind)) > 0 {
		return "", w.hang(ctx)
	}
	if err := enter(ctx, w.places); err != nil {
		return "", err
	}
	defer func() { <-w.places }()
	source, err = w.store(ctx, r)
	if w.hung(false) > 0 {
		return "", w.hang(ctx)
	}
	return source, err
}

// hung returns for how long the worker still hangs, from now on if it is poison that has
// come. What comes when it hangs is not read, be it poison or not.
func (w *worker) hung(poison bool) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := time.Until(w.hangs)
	if left > 0 || !poison {
		return left
	}
	w.hangs = time.Now().Add(restartAfter)
	return restartAfter
}

// hang waits for the restart, in which all connections are lost, or for the end of ctx.
func (w *worker) hang(ctx context.Context) error {
	if err := sleep(ctx, w.hung(false)); err != nil {
		return err
	}
	return errDropped
}
