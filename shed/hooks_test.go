package shed_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

type remote struct {
	wait         time.Duration
	notAttempted bool
}

func (e *remote) Error() string             { return "remote" }
func (e *remote) RetryAfter() time.Duration { return e.wait }
func (e *remote) NotAttempted() bool        { return e.notAttempted }

func TestClassify(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		err  error
		want shed.Outcome
	}{
		{"none", nil, shed.OK},
		{"a failure says nothing", errBoom, shed.Ignored},
		{"a client that left", cancelled.Err(), shed.Ignored},
		{"a deadline", context.DeadlineExceeded, shed.Overloaded},
		{"a deadline, wrapped", errors.Join(errBoom, context.DeadlineExceeded), shed.Overloaded},
		{"a refusal from behind", &remote{wait: time.Second}, shed.Overloaded},
		{"one that may come back at once", &remote{}, shed.Ignored},
		{"a refusal in this process", &remote{time.Second, true}, shed.Ignored},
		{"one of our own", &shed.OverloadError{Reason: shed.QueueFull}, shed.Ignored},
	} {
		for _, ctx := range []context.Context{t.Context(), cancelled} {
			if got := shed.Classify(ctx, test.err); got != test.want {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
	}
}

func TestConfigClassify(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 1)
	var saw []error
	s := shed.New(shed.Config{Classify: func(got context.Context, err error) shed.Outcome {
		if got.Value(key{}) != 1 {
			t.Error("it got another context")
		}
		saw = append(saw, err)
		return shed.Overloaded
	}})
	_ = s.Do(ctx, ok)
	_ = s.Do(ctx, boom)
	p := take(t, s)
	p.Done(ctx, errBoom)
	p.Done(ctx, errBoom)
	take(t, s).Record(shed.OK) // the caller has judged
	take(t, s).StopClock()
	if want := []error{nil, errBoom, errBoom}; !slices.Equal(saw, want) {
		t.Errorf("it was asked about %v, want %v", saw, want)
	}
	if got := s.Stats().Overloaded; got != 3 {
		t.Errorf("%d were overloaded, want 3", got)
	}
}

func TestPanicInClassify(t *testing.T) {
	cfg := without(1)
	cfg.Classify = func(context.Context, error) shed.Outcome { panic("classify") }
	s := shed.New(cfg)
	for range 3 {
		if got := panicOf(func() { _ = s.Do(t.Context(), ok) }); got != "classify" {
			t.Errorf("the panic is %v", got)
		}
		if got := panicOf(func() {
			_, _ = shed.Do(t.Context(), s, func(context.Context) (int, error) { return 0, nil })
		}); got != "classify" {
			t.Errorf("the panic is %v", got)
		}
	}
	// An adapter defers a finish as Do does.
	p := take(t, s)
	_ = panicOf(func() {
		defer p.Record(shed.Ignored)
		p.Done(t.Context(), nil)
	})
	if got := s.Stats(); got.InUse != 0 || got.Ignored != 7 {
		t.Errorf("%+v", got)
	}
}

// Whatever Classify does with the Shedder, it holds nothing then.
func TestClassifyRunsUnderNoLock(t *testing.T) {
	cfg := without(2)
	var s *shed.Shedder
	cfg.Classify = func(ctx context.Context, _ error) shed.Outcome {
		_ = s.Stats()
		p, err := s.Acquire(ctx)
		if err != nil {
			t.Error(err)
		}
		p.Record(shed.OK)
		return shed.OK
	}
	s = shed.New(cfg)
	_ = s.Do(t.Context(), ok)
	wantUse(t, s, 0, 0)
}

func TestFixedStays(t *testing.T) {
	cfg := fixed(7)
	cfg.OnChange = func(c shed.Change) { t.Errorf("changed: %+v", c) }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for i := range 2000 {
			time.Sleep(10 * time.Millisecond)
			take(t, s).Record(shed.Outcome(i % 3))
		}
		if got := s.Stats().Limit; got != 7 {
			t.Errorf("the limit is %d", got)
		}
	})
}

// What an algorithm finds is bounded, whatever it finds.
func TestLimitStaysInBounds(t *testing.T) {
	cfg := without(20)
	cfg.Min, cfg.Max = 5, 50
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for _, test := range []struct{ found, want int }{
			{0, 5},
			{-1, 5},
			{math.MinInt, 5},
			{4, 5},
			{6, 6},
			{50, 50},
			{51, 50},
			{math.MaxInt, 50},
		} {
			a.limit.Store(int64(test.found))
			endWindow(t, s)
			if got := s.Stats().Limit; got != test.want {
				t.Errorf("found %d: the limit is %d, want %d", test.found, got, test.want)
			}
		}
	})
}

// The default algorithm stays within bounds too, with calls that take no time at all, or
// fail, or never end well.
func TestDefaultAlgorithmStaysInBounds(t *testing.T) {
	for name, outcome := range map[string]shed.Outcome{
		"ok": shed.OK, "ignored": shed.Ignored, "overloaded": shed.Overloaded,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := shed.Config{Min: 3, Max: 30}
			bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
				for i := range 20_000 {
					p, err := s.TryAcquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if i%3 == 0 {
						time.Sleep(time.Millisecond)
					}
					p.Record(outcome)
					if got := s.Stats().Limit; got < 3 || got > 30 {
						t.Fatalf("the limit is %d", got)
					}
				}
			})
		})
	}
}

func TestLimitLoweredBelowWhatIsInUse(t *testing.T) {
	cfg := without(8)
	a := steer(&cfg)
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		var permits []*shed.Permit
		for range 6 {
			permits = append(permits, take(t, s))
		}
		a.limit.Store(3)
		endWindow(t, s)
		for i, p := range permits {
			if got := s.Stats(); got.Limit != 3 || got.InUse != 6-i {
				t.Fatalf("%+v", got)
			}
			_, err := s.TryAcquire(t.Context())
			if left := 6 - i; left >= 3 {
				refusedFor(t, err, shed.LimitReached)
			} else if err != nil {
				t.Errorf("with %d in use: %v", left, err)
			} else {
				return
			}
			p.Record(shed.OK)
		}
		t.Error("there was never a slot")
	})
}

func TestOnChange(t *testing.T) {
	cfg := without(10)
	cfg.Name = "api"
	a := steer(&cfg)
	var changes []shed.Change
	var s *shed.Shedder
	cfg.OnChange = func(c shed.Change) {
		changes = append(changes, c)
		// It may call back in: the change is over, and no lock is held.
		if got := s.Stats().Limit; got != c.To {
			t.Errorf("the limit is %d at a change to %d", got, c.To)
		}
		_ = s.Do(context.Background(), ok)
		if p, err := s.TryAcquire(context.Background()); err == nil {
			p.Record(shed.OK)
		}
		_ = s.Snapshot()
	}
	synctest.Test(t, func(t *testing.T) {
		s = shed.New(cfg)
		for _, found := range []int{10, 12, 12, 7, 7, 1} {
			a.limit.Store(int64(found))
			endWindow(t, s)
		}
		if len(changes) != 3 {
			t.Fatalf("%d changes: %+v", len(changes), changes)
		}
		from := 10
		for i, to := range []int{12, 7, 1} {
			c := changes[i]
			if c.Name != "api" || c.From != from || c.To != to || c.Window.Limit != from ||
				c.Window.Completed == 0 {
				t.Errorf("%+v, want from %d to %d", c, from, to)
			}
			from = to
		}
	})
}

func TestPanicInOnChange(t *testing.T) {
	for name, how := range map[string]func(){
		"panic": func() { panic("hook") }, "exit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := without(10)
			a := steer(&cfg)
			cfg.OnChange = func(shed.Change) { how() }
			bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
				for limit := range 9 {
					a.limit.Store(int64(limit) + 1)
					time.Sleep(2 * time.Second)
					finished := make(chan any)
					go func() {
						defer close(finished)
						defer func() { finished <- recover() }()
						_ = s.Do(t.Context(), ok)
					}()
					if got := <-finished; name == "panic" && got != "hook" {
						t.Errorf("the panic is %v", got)
					}
					<-finished
					if got := s.Stats(); got.Limit != limit+1 || got.InUse != 0 {
						t.Fatalf("%+v, want a limit of %d", got, limit+1)
					}
				}
			})
		})
	}
}

// A panic in a hook or an algorithm that meets a call in the queue takes no slot with it.
func TestPanicInOnChangeOfAWaiter(t *testing.T) {
	cfg := fixed(10)
	a := steer(&cfg)
	cfg.OnChange = func(shed.Change) { panic("hook") }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		permits := takeAll(t, s)
		a.limit.Store(1)
		time.Sleep(3 * time.Second)
		if got := panicOf(func() { _, _ = s.Acquire(t.Context()) }); got != "hook" {
			t.Errorf("the panic is %v", got)
		}
		for _, p := range permits {
			p.Record(shed.Ignored)
		}
		wantUse(t, s, 0, 0)
		take(t, s).Record(shed.Ignored)
	})
}

// panicking is an algorithm that does what it must not.
type panicking struct{ updates int }

func (p *panicking) Update(w shed.Window) int {
	if p.updates++; p.updates%2 == 1 {
		panic("algorithm")
	}
	return w.Limit + 1
}

func TestPanicInAlgorithm(t *testing.T) {
	cfg := without(10)
	a := &panicking{}
	cfg.Algorithm = func(shed.Config) shed.Algorithm { return a }
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		for i := range 10 {
			time.Sleep(2 * time.Second)
			got := panicOf(func() { _ = s.Do(t.Context(), ok) })
			if want := any("algorithm"); i%2 == 0 && got != want || i%2 == 1 && got != nil {
				t.Errorf("window %d: the panic is %v", i, got)
			}
		}
		if got := s.Stats(); got.Limit != 15 || got.InUse != 0 {
			t.Errorf("%+v", got)
		}
	})
}
