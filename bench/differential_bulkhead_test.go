package bench

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"

	"github.com/stormjib/stormjib/bulkhead"
)

// A gate is our bulkhead and x/sync's semaphore in the hands of one script. Both serve
// first come first served, prefer a done context, and let nobody pass; so they must let
// the same ones through at the same steps. Weights above the size are left out: there they
// differ, see TestDifferenceTooHeavy.
type gate struct {
	t      *testing.T
	random *rand.Rand
	size   int
	mine   *bulkhead.Bulkhead
	peer   *semaphore.Weighted

	held    []*holder
	waiting []*queued
	seen    struct{ held, waited, left, refused int }
}

type holder struct {
	permit bulkhead.Permit
	n      int64
}

type queued struct {
	n      int
	cancel context.CancelFunc
	mine   chan error
	peer   chan error
	permit bulkhead.Permit // written before mine is sent to
}

func (g *gate) try() {
	n := 1 + g.random.IntN(g.size)
	permit, ok := g.mine.TryAcquireN(n)
	if peerOK := g.peer.TryAcquire(int64(n)); ok != peerOK {
		g.t.Fatalf("TryAcquire of %d: stormjib %v, x/sync %v", n, ok, peerOK)
	}
	if !ok {
		g.seen.refused++
		return
	}
	g.held = append(g.held, &holder{permit, int64(n)})
}

func (g *gate) acquire() {
	ctx, cancel := context.WithCancel(context.Background())
	if g.random.IntN(10) == 0 {
		cancel()
	}
	q := &queued{
		n:      1 + g.random.IntN(g.size),
		cancel: cancel,
		mine:   make(chan error, 1),
		peer:   make(chan error, 1),
	}
	go func() {
		var err error
		q.permit, err = g.mine.AcquireN(ctx, q.n)
		q.mine <- err
	}()
	go func() { q.peer <- g.peer.Acquire(ctx, int64(q.n)) }()
	g.waiting = append(g.waiting, q)
}

func (g *gate) release() {
	if len(g.held) == 0 {
		return
	}
	i := g.random.IntN(len(g.held))
	g.held[i].permit.Release()
	g.peer.Release(g.held[i].n)
	g.held = slices.Delete(g.held, i, i+1)
}

func (g *gate) cancel() {
	if len(g.waiting) > 0 {
		g.waiting[g.random.IntN(len(g.waiting))].cancel()
	}
}

func (g *gate) step() {
	switch n := g.random.IntN(10); {
	case n < 2:
		g.try()
	case n < 5:
		g.acquire()
	case n < 9:
		g.release()
	default:
		g.cancel()
	}
	synctest.Wait()
	g.check()
}

// check looks who has come away with what.
func (g *gate) check() {
	g.waiting = slices.DeleteFunc(g.waiting, func(q *queued) bool {
		if len(q.mine) != len(q.peer) {
			g.t.Fatalf("one of weight %d: stormjib has answered %v, x/sync %v",
				q.n, len(q.mine) == 1, len(q.peer) == 1)
		}
		if len(q.mine) == 0 {
			g.seen.waited++
			return false
		}
		err, peerErr := <-q.mine, <-q.peer
		if (err == nil) != (peerErr == nil) {
			g.t.Fatalf("one of weight %d: stormjib says %v, x/sync %v", q.n, err, peerErr)
		}
		if err != nil {
			g.seen.left++
			return true
		}
		g.seen.held++
		g.held = append(g.held, &holder{q.permit, int64(q.n)})
		return true
	})
}

func TestSameAsSemaphore(t *testing.T) {
	seeds, steps := 300, 500
	if testing.Short() {
		seeds = 30
	}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			size := 1 + int(seed%8)
			g := &gate{
				t:      t,
				random: rand.New(rand.NewPCG(seed, 2)),
				size:   size,
				mine: bulkhead.New(bulkhead.Config{
					MaxConcurrent: size, MaxQueue: steps, MaxWait: -1,
				}),
				peer: semaphore.NewWeighted(int64(size)),
			}
			for range steps {
				g.step()
			}
			for _, q := range g.waiting {
				q.cancel()
			}
			if s := g.seen; min(s.held, s.waited, s.left, s.refused) == 0 {
				t.Errorf("seed %d: the script shows too little: %+v", seed, s)
			}
		})
	}
}
