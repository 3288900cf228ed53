package bench

import (
	"context"
	"errors"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"

	"github.com/stormjib/stormjib/shed"
)

func BenchmarkAdmitted(b *testing.B)        { serial(b, roomToServe()) }
func BenchmarkAdmittedCrowded(b *testing.B) { crowded(b, roomToServe()) }
func BenchmarkShed(b *testing.B)            { serial(b, noRoomToServe()) }

const (
	admit      = "Shed: a call is admitted, and done"
	admitCrowd = "Shed: a call is admitted, and done, 16 goroutines"
	turnAway   = "Shed: a refusal"
)

func addShedders(rs *rows) {
	rs.add(admit, 0, roomToServe(), clocksPlus(2, 25))
	find(*rs, admit, "stormjib-try").goals = []goal{partOf(2.5, "2/5", admit, alongside)}
	rs.add(admitCrowd, crowd, roomToServe(), partOf(2.5, "2/5", admitCrowd, alongside))
	rs.add(turnAway, 0, noRoomToServe())
	find(*rs, turnAway, "stormjib-try").goals = []goal{atMost(10)}
}

// roomToServe are limiters with room. What they find is what there is to find where calls take
// no time: the update of the limit, now and then, is part of what they cost.
func roomToServe() []contender {
	wide := shed.Config{Initial: slots, Min: slots, Max: slots}
	return []contender{
		{"stormjib", shedAcquire(shed.New(wide), 0)},
		{"stormjib-try", shedTry(shed.New(wide), 0)},
		{"stormjib-do", shedDo(shed.New(wide))},
		{"failsafe-executor", failsafeAdaptive(slots)},
		{alongside, failsafeAdaptiveTry(slots, 0)},
	}
}

const alongside = "failsafe-standalone"

func noRoomToServe() []contender {
	narrow := shed.Config{Initial: 1, Max: 1, Queue: -1, Algorithm: shed.Fixed}
	return []contender{
		{"stormjib", shedAcquire(shed.New(narrow), 1)},
		{"stormjib-try", shedTry(shed.New(narrow), 1)},
		{alongside, failsafeAdaptiveTry(1, 1)},
	}
}

func shedAcquire(s *shed.Shedder, taken int) func(int) error {
	ctx := context.Background()
	for range taken {
		_, _ = s.TryAcquire(ctx)
	}
	return func(n int) (last error) {
		for range n {
			p, err := s.Acquire(ctx)
			p.Record(shed.OK)
			last = err
		}
		return refused(last)
	}
}

func shedTry(s *shed.Shedder, taken int) func(int) error {
	ctx := context.Background()
	for range taken {
		_, _ = s.TryAcquire(ctx)
	}
	return func(n int) (last error) {
		for range n {
			p, err := s.TryAcquire(ctx)
			p.Record(shed.OK)
			last = err
		}
		return refused(last)
	}
}

func refused(err error) error {
	if errors.Is(err, shed.ErrOverloaded) {
		return errRefused
	}
	return err
}

func shedDo(s *shed.Shedder) func(int) error {
	ctx := context.Background()
	return func(n int) (err error) {
		for range n {
			_, err = shed.Do(ctx, s, answer)
		}
		return err
	}
}

func newFailsafeAdaptive(limit uint, taken int) adaptivelimiter.AdaptiveLimiter[int] {
	l := adaptivelimiter.NewBuilder[int]().WithLimits(limit, limit, limit).Build()
	for range taken {
		l.TryAcquirePermit()
	}
	return l
}

func failsafeAdaptive(limit uint) func(int) error {
	executor := failsafe.With[int](newFailsafeAdaptive(limit, 0))
	return func(n int) (err error) {
		for range n {
			_, err = executor.Get(plainAnswer)
		}
		return err
	}
}

func failsafeAdaptiveTry(limit uint, taken int) func(int) error {
	l := newFailsafeAdaptive(limit, taken)
	return func(n int) (last error) {
		for range n {
			p, ok := l.TryAcquirePermit()
			if !ok {
				last = errRefused
				continue
			}
			p.Record()
		}
		return last
	}
}
