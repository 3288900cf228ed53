package shed_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// tally is what callers saw.
type tally struct {
	calls, admitted, refused, gaveUp atomic.Uint64
	ignored, overloaded              atomic.Uint64
	underWay, most                   atomic.Int64
}

// TestHammer has many callers do all there is to do, and counts: each call ends in exactly
// one of three ways, and no slot is lost or made up.
func TestHammer(t *testing.T) {
	for name, cfg := range map[string]shed.Config{
		"no queue":      {Queue: -1},
		"a short queue": {Queue: 3},
		"the default":   {},
		"a hasty one":   {MaxWait: 50 * time.Microsecond},
		"a patient one": {Queue: 1000, MaxWait: time.Minute},
		"many slots":    {Initial: 100, Max: 100},
		"a limit that changes": {
			Initial: 4, Min: 1, Max: 8,
			Algorithm: func(shed.Config) shed.Algorithm { return &swinging{} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if cfg.Algorithm == nil {
				cfg.Algorithm = shed.Fixed
			}
			if cfg.Initial == 0 {
				cfg.Initial = 4
			}
			hammer(t, cfg)
		})
	}
}

// swinging is an algorithm whose limit never stays.
type swinging struct{ n int }

func (s *swinging) Update(shed.Window) int { s.n++; return 1 + s.n%8 }

func hammer(t *testing.T, cfg shed.Config) {
	t.Helper()
	const callers, times = 16, 500
	var changes atomic.Int64
	inHook := atomic.Bool{}
	cfg.OnChange = func(shed.Change) {
		if !inHook.CompareAndSwap(false, true) {
			t.Error("two changes at once")
		}
		changes.Add(1)
		inHook.Store(false)
	}
	s := shed.New(cfg)
	var seen tally
	var wg sync.WaitGroup
	for id := range uint64(callers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(id, 1))
			for range times {
				seen.call(t, s, rng)
			}
		})
	}
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { watch(t, s, stop) })
	wg.Wait()
	close(stop)
	watcher.Wait()
	seen.check(t, s)
	if most := seen.most.Load(); most > int64(max(s.Stats().Limit, cfg.Max, cfg.Initial)) {
		t.Errorf("%d calls at once", most)
	}
	for range s.Stats().Limit {
		if _, err := s.Acquire(t.Context()); err != nil {
			t.Errorf("a slot is missing: %v; %+v", err, s.Stats())
		}
	}
}

// call makes one call, in one of many ways.
func (seen *tally) call(t *testing.T, s *shed.Shedder, rng *rand.Rand) {
	t.Helper()
	ctx := hop.WithSender(context.Background(), hop.Sender{
		Criticality: uint8(rng.IntN(6)), Attempt: rng.IntN(3), Tenant: "abcdefgh"[rng.IntN(8):],
	})
	cancel := func() {}
	switch rng.IntN(6) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(200_000)))
	case 1:
		var left context.CancelFunc
		ctx, left = context.WithCancel(ctx)
		go func() { runtime.Gosched(); left() }()
	case 2:
		ctx, cancel = context.WithCancel(ctx)
		if rng.IntN(4) == 0 {
			cancel()
		}
	}
	defer cancel()
	seen.calls.Add(1)
	get := s.Acquire
	if rng.IntN(4) == 0 {
		get = s.TryAcquire
	}
	p, err := get(ctx)
	if err != nil {
		if told(ctx, err) == ":left" {
			seen.gaveUp.Add(1)
		} else {
			seen.refused.Add(1)
		}
		return
	}
	seen.admitted.Add(1)
	n := seen.underWay.Add(1)
	for most := seen.most.Load(); n > most && !seen.most.CompareAndSwap(most, n); {
		most = seen.most.Load()
	}
	for range rng.IntN(4) {
		runtime.Gosched()
	}
	seen.underWay.Add(-1)
	seen.finish(&p, shed.Outcome(rng.IntN(4)))
}

func (seen *tally) finish(p *shed.Permit, o shed.Outcome) {
	switch o {
	case shed.OK:
	case shed.Overloaded:
		seen.overloaded.Add(1)
	default:
		seen.ignored.Add(1)
	}
	p.Record(o)
	p.Record(o)
}

// watch looks at Stats while all goes on.
func watch(t *testing.T, s *shed.Shedder, stop chan struct{}) {
	t.Helper()
	var last shed.Stats
	for {
		got := s.Stats()
		if got.InUse < 0 || got.Waiting < 0 ||
			got.GaveUp < last.GaveUp || got.Ignored < last.Ignored {
			t.Errorf("%+v after %+v", got, last)
		}
		last = got
		select {
		case <-stop:
			return
		default:
			runtime.Gosched()
		}
	}
}

func (seen *tally) check(t *testing.T, s *shed.Shedder) {
	t.Helper()
	got := s.Stats()
	calls, admitted := seen.calls.Load(), seen.admitted.Load()
	refused, gaveUp := seen.refused.Load(), seen.gaveUp.Load()
	if admitted+refused+gaveUp != calls {
		t.Errorf("%d, %d and %d do not make %d calls", admitted, refused, gaveUp, calls)
	}
	sum := uint64(0)
	for _, n := range got.Refused {
		sum += n
	}
	if got.InUse != 0 || got.Waiting != 0 || sum != refused || got.Offered != calls ||
		got.Overloaded != seen.overloaded.Load() || got.Offered != got.Admitted+sum+got.GaveUp {
		t.Errorf("%+v, with %d refused, %d given up", got, refused, gaveUp)
	}
	// Who left just when the slot came was admitted, and is ignored; the slot is back.
	extra := got.Admitted - admitted
	if extra != got.Ignored-seen.ignored.Load() || extra != gaveUp-got.GaveUp {
		t.Errorf("%+v, with %d calls, %d admitted, %d ignored",
			got, calls, admitted, seen.ignored.Load())
	}
}

// Close at any moment: all get an answer, and all slots come back.
func TestCloseUnderLoad(t *testing.T) {
	for range 30 {
		s := shed.New(fixed(3))
		var seen tally
		var wg sync.WaitGroup
		for id := range uint64(8) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(id, 2))
				for range 100 {
					seen.call(t, s, rng)
				}
			})
		}
		wg.Go(func() { runtime.Gosched(); s.Close() })
		wg.Wait()
		seen.check(t, s)
		_, err := s.Acquire(t.Context())
		refusedFor(t, err, shed.Closed)
	}
}
