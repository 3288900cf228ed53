package shed_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

func TestPressureTakesSlots(t *testing.T) {
	cfg := without(100)
	pressure := 0.0
	cfg.Pressure = func() float64 { return pressure }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for _, test := range []struct {
			pressure float64
			want     int
		}{
			{0, 100},
			{.25, 75},
			{.9, 10},
			{1, 10},
			{2, 10},
			{math.Inf(1), 10},
			{math.NaN(), 100},
			{-1, 100},
			{math.Inf(-1), 100},
			{.5, 50},
			{0, 100},
		} {
			pressure = test.pressure
			endWindow(t, s)
			// To within one, for what is a tenth is not to be had exactly.
			if got := s.Stats().Limit; got < test.want-1 || got > test.want {
				t.Errorf("pressure %v: the limit is %d, want %d", test.pressure, got, test.want)
			}
		}
	})
}

func TestPressureLeavesMin(t *testing.T) {
	cfg := without(10)
	cfg.Min = 4
	cfg.Pressure = func() float64 { return 1 }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for range 5 {
			endWindow(t, s)
		}
		if got := s.Stats().Limit; got != 4 {
			t.Errorf("the limit is %d", got)
		}
	})
}

// What pressure takes is not taken from what it has left: the algorithm's own finding is
// what it takes from, each time anew.
func TestPressureDoesNotCompound(t *testing.T) {
	cfg := without(100)
	cfg.Pressure = func() float64 { return .5 }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for range 10 {
			endWindow(t, s)
		}
		if got := s.Stats().Limit; got != 50 {
			t.Errorf("the limit is %d", got)
		}
	})
}

func TestRefusedForPressure(t *testing.T) {
	cfg := fixed(10)
	cfg.MaxWait = 30 * time.Millisecond
	pressure := .5
	cfg.Pressure = func() float64 { return pressure }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		endWindow(t, s)
		permits := takeAll(t, s)
		_, err := s.TryAcquire(t.Context())
		refusedFor(t, err, shed.Pressure)
		_, err = s.Acquire(t.Context())
		refusedFor(t, err, shed.Pressure)
		permits[0].Record(shed.OK)
		pressure = 0
		endWindow(t, s)
		takeRest(t, s)
		_, err = s.TryAcquire(t.Context())
		refusedFor(t, err, shed.LimitReached)
		s.Close()
		_, err = s.TryAcquire(t.Context())
		refusedFor(t, err, shed.Closed)
	})
}

// takeRest takes the slots that are left.
func takeRest(t *testing.T, s *shed.Shedder) {
	t.Helper()
	for got := s.Stats(); got.InUse < got.Limit; got = s.Stats() {
		take(t, s)
	}
}

func TestPressureIsAskedTenTimesASecondAtMost(t *testing.T) {
	cfg := without(100)
	var asked []time.Time
	cfg.Pressure = func() float64 {
		asked = append(asked, time.Now())
		return 0
	}
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for range 10_000 {
			take(t, s).Record(shed.OK)
			time.Sleep(time.Millisecond / 2)
		}
	})
	if len(asked) < 25 {
		t.Errorf("it was asked %d times in 5 seconds", len(asked))
	}
	for i := 1; i < len(asked); i++ {
		if gap := asked[i].Sub(asked[i-1]); gap < 100*time.Millisecond {
			t.Errorf("asked %v after the last time", gap)
		}
	}
}

func TestPressureRunsUnderNoLock(t *testing.T) {
	cfg := fixed(100)
	var s *shed.Shedder
	calls := 0
	cfg.Pressure = func() float64 {
		calls++
		_ = s.Stats()
		_ = s.Do(context.Background(), ok)
		return 0
	}
	synctest.Test(t, func(t *testing.T) {
		s = shed.New(cfg)
		endWindow(t, s)
	})
	if calls != 1 {
		t.Errorf("it was asked %d times", calls)
	}
}

func TestPanicInPressure(t *testing.T) {
	cfg := without(100)
	panics := true
	cfg.Pressure = func() float64 {
		if panics {
			panic("pressure")
		}
		return .5
	}
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		time.Sleep(2 * time.Second)
		if got := panicOf(func() { _ = s.Do(t.Context(), ok) }); got != "pressure" {
			t.Errorf("the panic is %v", got)
		}
		wantUse(t, s, 0, 0)
		panics = false
		endWindow(t, s)
		if got := s.Stats().Limit; got != 50 {
			t.Errorf("the limit is %d", got)
		}
	})
}
