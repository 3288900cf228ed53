package bench

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	fsbulkhead "github.com/failsafe-go/failsafe-go/bulkhead"
	"golang.org/x/sync/semaphore"

	"github.com/stormjib/stormjib/bulkhead"
)

func BenchmarkFreeSlot(b *testing.B)        { serial(b, freeSlot()) }
func BenchmarkFreeSlotCrowded(b *testing.B) { crowded(b, freeSlot()) }
func BenchmarkFull(b *testing.B)            { serial(b, noSlot()) }
func BenchmarkFullCrowded(b *testing.B)     { crowded(b, noSlot()) }
func BenchmarkHandedOn(b *testing.B)        { crowded(b, scarceSlots()) }

const (
	slot        = "Bulkhead: a free slot"
	slotCrowd   = "Bulkhead: a free slot, 16 goroutines"
	noSlotLeft  = "Bulkhead: full, a refusal"
	noSlotCrowd = "Bulkhead: full, a refusal, 16 goroutines"
	handedOn    = "Bulkhead: 4 slots, 16 goroutines that wait"

	slots  = 64 // more than a crowd wants
	scarce = 4
)

var errRefused = errors.New("bench: refused")

// addBulkheads adds rows whose goals compare like with like: a function around the call
// with failsafe-go's executor, and what is taken and given back with what does no more.
func addBulkheads(rs *rows) {
	for _, s := range []struct {
		section    string
		crowd      int
		contenders []contender
	}{
		{slot, 0, freeSlot()},
		{slotCrowd, crowd, freeSlot()},
		{noSlotLeft, 0, noSlot()},
		{noSlotCrowd, crowd, noSlot()},
	} {
		rs.add(s.section, s.crowd, s.contenders, partOf(2, "½", s.section, "failsafe-executor"))
		find(*rs, s.section, "stormjib-try").goals = []goal{
			partOf(2, "½", s.section, "semaphore-try"),
			partOf(2, "½", s.section, "failsafe-standalone"),
		}
	}
	for _, section := range []string{slot, slotCrowd} {
		find(*rs, section, "stormjib").goals = []goal{
			partOf(2, "½", section, "semaphore"),
			partOf(2, "½", section, "failsafe-standalone"),
		}
	}
	rs.add(handedOn, crowd, scarceSlots())
}

// freeSlot are bulkheads with room, taken and left again.
func freeSlot() []contender {
	return append(bulkheads(slots, 0),
		contender{"semaphore", semaphoreAcquire()},
		contender{"cas-and-add", casAndAdd()})
}

// casAndAdd is what no bulkhead can be faster than that counts without a lock and has a
// bound: one compare-and-swap and one addition.
func casAndAdd() func(int) error {
	var inUse atomic.Int64
	return func(n int) error {
		ok := true
		for range n {
			for used := inUse.Load(); !inUse.CompareAndSwap(used, used+1); {
				used = inUse.Load()
			}
			ok = inUse.Add(-1) < slots
		}
		return verdict(ok)
	}
}

// noSlot are bulkheads that somebody else has filled. A semaphore refuses nobody who comes
// with a context, so there it is the one without.
func noSlot() []contender { return bulkheads(1, 1) }

// bulkheads are those of a size, of which so much is taken.
func bulkheads(size, taken int) []contender {
	return []contender{
		{"stormjib", stormjibAcquire(newBulkhead(size, taken))},
		{"stormjib-try", stormjibTryAcquire(newBulkhead(size, taken))},
		{"stormjib-do", stormjibBulkheadDo(newBulkhead(size, taken))},
		{"stormjib-method", stormjibBulkheadMethod(newBulkhead(size, taken))},
		{"semaphore-try", semaphoreTry(newSemaphore(size, taken))},
		{"failsafe-executor", failsafeBulkheadExecutor(newFailsafeBulkhead(size, taken))},
		{"failsafe-standalone", failsafeBulkheadTry(newFailsafeBulkhead(size, taken))},
		{"channel", channelTry(size, taken)},
	}
}

func newBulkhead(size, taken int) *bulkhead.Bulkhead {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: size})
	for range taken {
		_, _ = b.TryAcquire()
	}
	return b
}

func stormjibAcquire(b *bulkhead.Bulkhead) func(int) error {
	ctx := context.Background()
	return func(n int) (last error) {
		for range n {
			permit, err := b.Acquire(ctx)
			permit.Release()
			last = err
		}
		return last
	}
}

func stormjibTryAcquire(b *bulkhead.Bulkhead) func(int) error {
	return func(n int) (last error) {
		for range n {
			permit, ok := b.TryAcquire()
			if !ok {
				last = errRefused
				continue
			}
			permit.Release()
		}
		return last
	}
}

func stormjibBulkheadDo(b *bulkhead.Bulkhead) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = bulkhead.Do(ctx, b, answer)
		}
		return err
	}
}

func stormjibBulkheadMethod(b *bulkhead.Bulkhead) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for range n {
			err = b.Do(ctx, succeed)
		}
		return err
	}
}

func newSemaphore(size, taken int) *semaphore.Weighted {
	s := semaphore.NewWeighted(int64(size))
	s.TryAcquire(int64(taken))
	return s
}

func semaphoreTry(s *semaphore.Weighted) func(int) error {
	return func(n int) (last error) {
		for range n {
			if !s.TryAcquire(1) {
				last = errRefused
				continue
			}
			s.Release(1)
		}
		return last
	}
}

func semaphoreAcquire() func(int) error {
	s, ctx := newSemaphore(slots, 0), context.Background()
	return func(n int) (last error) {
		for range n {
			last = s.Acquire(ctx, 1)
			s.Release(1)
		}
		return last
	}
}

func newFailsafeBulkhead(size, taken int) fsbulkhead.Bulkhead[int] {
	b := fsbulkhead.New[int](uint(size))
	for range taken {
		b.TryAcquirePermit()
	}
	return b
}

func failsafeBulkheadExecutor(b fsbulkhead.Bulkhead[int]) func(int) error {
	executor := failsafe.With[int](b)
	return func(n int) (err error) {
		for range n {
			_, err = executor.Get(plainAnswer)
		}
		return err
	}
}

func failsafeBulkheadTry(b fsbulkhead.Bulkhead[int]) func(int) error {
	return func(n int) (last error) {
		for range n {
			if !b.TryAcquirePermit() {
				last = errRefused
				continue
			}
			b.ReleasePermit()
		}
		return last
	}
}

// channelTry is what one writes without a library.
func channelTry(size, taken int) func(int) error {
	slots := make(chan struct{}, size)
	for range taken {
		slots <- struct{}{}
	}
	return func(n int) (last error) {
		for range n {
			select {
			case slots <- struct{}{}:
				<-slots
			default:
				last = errRefused
			}
		}
		return last
	}
}

// scarceSlots are bulkheads with fewer slots than there are goroutines. Each call gives
// way to others once while it has its slot, so that they wait. Ours allocates for that,
// and with MaxWait it starts a timer.
func scarceSlots() []contender {
	return []contender{
		{"stormjib", stormjibQueued(bulkhead.Config{MaxWait: -1})},
		{"stormjib-maxwait", stormjibQueued(bulkhead.Config{})},
		{"semaphore", semaphoreQueued()},
		{"failsafe-standalone", failsafeQueued()},
		{"channel", channelQueued()},
	}
}

func stormjibQueued(cfg bulkhead.Config) func(int) error {
	cfg.MaxConcurrent, cfg.MaxQueue = scarce, crowd
	b, ctx := bulkhead.New(cfg), context.Background()
	return func(n int) (last error) {
		for range n {
			permit, err := b.Acquire(ctx)
			runtime.Gosched()
			permit.Release()
			last = err
		}
		return last
	}
}

func semaphoreQueued() func(int) error {
	s, ctx := newSemaphore(scarce, 0), context.Background()
	return func(n int) (last error) {
		for range n {
			last = s.Acquire(ctx, 1)
			runtime.Gosched()
			s.Release(1)
		}
		return last
	}
}

func failsafeQueued() func(int) error {
	b, ctx := newFailsafeBulkhead(scarce, 0), context.Background()
	return func(n int) (last error) {
		for range n {
			last = b.AcquirePermit(ctx)
			runtime.Gosched()
			b.ReleasePermit()
		}
		return last
	}
}

func channelQueued() func(int) error {
	slots := make(chan struct{}, scarce)
	return func(n int) error {
		for range n {
			slots <- struct{}{}
			runtime.Gosched()
			<-slots
		}
		return nil
	}
}

// TestBulkheadContenders checks that what is measured is what the name says.
func TestBulkheadContenders(t *testing.T) {
	for _, group := range []struct {
		name       string
		contenders []contender
		refused    bool
	}{
		{"free slot", freeSlot(), false},
		{"full", noSlot(), true},
		{"scarce", scarceSlots(), false},
	} {
		for _, c := range group.contenders {
			if err := c.loop(100); (err != nil) != group.refused {
				t.Errorf("%s: %s: the last call returned %v", group.name, c.name, err)
			}
		}
	}
}

// TestBulkheadAllocations holds ours to none where nobody waits.
func TestBulkheadAllocations(t *testing.T) {
	noAllocations(t, freeSlot(), noSlot())
}

func noAllocations(t *testing.T, groups ...[]contender) {
	t.Helper()
	for _, group := range groups {
		for _, c := range group {
			if !strings.HasPrefix(c.name, "stormjib") {
				continue
			}
			// A refusal's error is made anew from time to time; hence not quite none.
			allocs := testing.AllocsPerRun(100, func() { _ = c.loop(1000) }) / 1000
			if allocs > 0.01 {
				t.Errorf("%s: a call allocates %v times, want 0", c.name, allocs)
			}
		}
	}
}
