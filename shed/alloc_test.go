package shed_test

import (
	"context"
	"testing"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// TestAllocations is in a bubble because its time stands still: of what there is of a queue
// nothing changes.
func TestAllocations(t *testing.T) {
	cfg := fixed(2)
	cfg.Queue = 1
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		ctx := sender(t, hop.Sender{Criticality: uint8(shed.Sheddable), Attempt: 2, Tenant: "a"})
		result := func(context.Context) (int, error) { return 1, nil }
		none := func(name string, f func()) {
			t.Helper()
			if n := testing.AllocsPerRun(1000, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
		none("Acquire and Done", func() {
			p, _ := s.Acquire(ctx)
			p.Done(ctx, nil)
		})
		none("Acquire and Done with an error", func() {
			p, _ := s.Acquire(ctx)
			p.Done(ctx, errBoom)
		})
		none("TryAcquire and Record", func() {
			p, _ := s.TryAcquire(ctx)
			p.Record(shed.Overloaded)
		})
		none("StopClock", func() {
			p, _ := s.TryAcquire(ctx)
			p.StopClock()
		})
		none("Shedder.Do", func() { _ = s.Do(ctx, ok) })
		none("Shedder.Do that fails", func() { _ = s.Do(ctx, boom) })
		none("Do", func() { _, _ = shed.Do(ctx, s, result) })
		none("Stats", func() { _ = s.Stats() })
		none("Snapshot", func() { _ = s.Snapshot() })
		none("CriticalityOf", func() { _ = shed.CriticalityOf(ctx) })

		takeAll(t, s)
		refuses := func() {
			none("TryAcquire's refusal", func() { _, _ = s.TryAcquire(ctx) })
			none("Acquire's refusal", func() { _, _ = s.Acquire(ctx) })
			none("Shedder.Do's refusal", func() { _ = s.Do(ctx, ok) })
			none("Do's refusal", func() { _, _ = shed.Do(ctx, s, result) })
		}
		stand(s).join(t.Context(), "waits") // the queue is full
		refuses()
		s.Close()
		refuses()
	})
}

func TestAllocationsWithoutAQueue(t *testing.T) {
	bubble(t, without(1), func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		for name, f := range map[string]func(){
			"Acquire": func() { _, _ = s.Acquire(t.Context()) },
			"Do":      func() { _ = s.Do(t.Context(), ok) },
		} {
			if n := testing.AllocsPerRun(1000, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

// What is too late for its deadline is refused for nothing too.
func TestAllocationsOfALateCall(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		learn(t, s, 1e6)
		take(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		refused := 0
		n := testing.AllocsPerRun(10, func() {
			if _, err := s.Acquire(ctx); err != nil {
				refused++
			}
		})
		if n != 0 || refused != 11 {
			t.Errorf("%v allocations, %d refused", n, refused)
		}
	})
}
