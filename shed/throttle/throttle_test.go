package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed/throttle"
)

// What calls end with.
type (
	says struct {
		notAttempted bool
		after        time.Duration
	}
	result struct{ n int }
)

func (says) Error() string               { return "says" }
func (s says) NotAttempted() bool        { return s.notAttempted }
func (s says) RetryAfter() time.Duration { return s.after }

var (
	errFailed   = errors.New("failed")
	errRejected = says{after: second}
	errNotMade  = says{notAttempted: true, after: second}
)

// in returns a context with a criticality.
func in(ctx context.Context, class uint8) context.Context {
	return hop.WithSender(ctx, hop.Sender{Criticality: class})
}

func ends(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// reject has n calls rejected by the other side, whatever the throttle thinks.
func reject(t *testing.T, x *throttle.Throttle, n int) {
	t.Helper()
	permits := make([]throttle.Permit, n)
	for i := range permits {
		var err error
		if permits[i], err = x.Allow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range permits {
		permits[i].Record(throttle.Rejected)
	}
}

// refused returns the error of a call that must be refused, but for a probe before it.
func refused(ctx context.Context, t *testing.T, x *throttle.Throttle) *throttle.ThrottledError {
	t.Helper()
	for range 1000 {
		p, err := x.Allow(ctx)
		if e, ok := errors.AsType[*throttle.ThrottledError](err); ok {
			return e
		}
		p.Record(throttle.Ignored)
	}
	t.Fatal("none of 1000 calls was refused")
	return nil
}

func TestDoReturnsWhatTheCallReturns(t *testing.T) {
	for _, want := range []error{nil, errFailed, errRejected, errNotMade, context.Canceled} {
		x := throttle.New(throttle.Config{})
		if err := x.Do(t.Context(), ends(want)); err != want {
			t.Errorf("Do returned %v, want %v", err, want)
		}
		x = throttle.New(throttle.Config{})
		r := &result{7}
		got, err := throttle.Do(t.Context(), x, func(ctx context.Context) (*result, error) {
			if ctx != t.Context() {
				t.Error("another context")
			}
			return r, want
		})
		if got != r || err != want {
			t.Errorf("Do returned %v, %v; want %v, %v", got, err, r, want)
		}
	}
}

func TestDoRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{Name: "prices"})
		reject(t, x, 9999)
		made, calls := 0, 20_000
		for i := range calls {
			var err error
			if i%2 == 0 {
				err = x.Do(t.Context(), func(context.Context) error { made++; return errNotMade })
			} else {
				var n int
				n, err = throttle.Do(t.Context(), x, func(context.Context) (int, error) {
					made++
					return 1, errNotMade
				})
				if n == 1 != (err == errNotMade) {
					t.Fatalf("result %d with %v", n, err)
				}
			}
			if err != errNotMade && !errors.Is(err, throttle.ErrThrottled) {
				t.Fatal(err)
			}
		}
		if made > 20 {
			t.Errorf("%d of %d calls were made", made, calls)
		}
		total := x.Stats().Total
		want := throttle.Counts{
			Offered: uint64(9999 + calls), Rejected: 9999,
			Ignored: uint64(made), Refused: uint64(calls - made),
		}
		if total != want {
			t.Errorf("%+v, want %+v", total, want)
		}
	})
}

// However likely, a refusal is by lot: of calls that are refused with a probability of a
// half, about a half is.
func TestDoDrawsLots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{})
		permits := make([]throttle.Permit, 20_000)
		for i := range permits {
			permits[i], _ = x.Allow(t.Context())
		}
		for i := range permits[:5000] {
			permits[i].Record(throttle.Accepted)
		}
		for i := range permits[5000:] {
			permits[5000+i].Record(throttle.Rejected)
		}
		for range 2000 {
			p, _ := x.Allow(t.Context())
			p.Record(throttle.Ignored)
		}
		within(t, "refused of 2000", float64(x.Stats().Total.Refused), 900, 1150)
	})
}

func TestClassify(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want throttle.Outcome
	}{
		{"no error", t.Context(), nil, throttle.Accepted},
		{"no error, though nobody waits", canceled, nil, throttle.Accepted},
		{"a failure is work", t.Context(), errFailed, throttle.Accepted},
		{"a deadline too", late, context.DeadlineExceeded, throttle.Accepted},
		{"asked to be left alone", t.Context(), errRejected, throttle.Rejected},
		{"wrapped", t.Context(), fmt.Errorf("call: %w", errRejected), throttle.Rejected},
		{"rejected, though nobody waits", canceled, errRejected, throttle.Rejected},
		{"asked for no time", t.Context(), says{}, throttle.Accepted},
		{"not made", t.Context(), errNotMade, throttle.Ignored},
		{"refused further in", t.Context(), &throttle.ThrottledError{}, throttle.Ignored},
		{
			"two replicas, of which one was asked", t.Context(),
			errors.Join(errNotMade, errRejected), throttle.Rejected,
		},
		{"nobody waits", canceled, errFailed, throttle.Ignored},
		{"no context", nil, errFailed, throttle.Accepted},
	} {
		if got := throttle.Classify(test.ctx, test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		x := throttle.New(throttle.Config{})
		p, _ := x.Allow(test.ctx)
		p.Done(test.ctx, test.err)
		got := x.Stats().Total
		if n := [...]uint64{got.Accepted, got.Rejected, got.Ignored}; n[test.want] != 1 {
			t.Errorf("%s: Done counts %+v", test.name, got)
		}
	}
}

func TestConfigClassify(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "kept")
	x := throttle.New(throttle.Config{
		Classify: func(ctx context.Context, err error) throttle.Outcome {
			if ctx.Value(key{}) != "kept" {
				t.Error("another context")
			}
			if err == errFailed {
				return throttle.Rejected
			}
			if err != nil {
				panic(err)
			}
			return throttle.Ignored
		},
	})
	x.Do(ctx, ends(nil))
	func() {
		defer func() { recover() }()
		x.Do(ctx, ends(errNotMade))
	}()
	x.Do(ctx, ends(errFailed))
	if got, want := x.Stats().Total, (throttle.Counts{
		Offered: 3, Rejected: 1, Ignored: 2,
	}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A class that there is not is critical: what is said wrongly must cost nobody his calls.
func TestClasses(t *testing.T) {
	x := throttle.New(throttle.Config{})
	for class, want := range map[uint8]int{0: 3, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 3, 255: 3} {
		before := x.Stats().Classes[want].Counts.Accepted
		x.Do(in(t.Context(), class), ends(nil))
		if got := x.Stats().Classes[want].Counts.Accepted; got != before+1 {
			t.Errorf("a call of class %d did not count in Classes[%d]", class, want)
		}
	}
}

func TestLowerClassesAreRefusedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{})
		batch := in(t.Context(), 1)
		permits := make([]throttle.Permit, 400)
		for i := range permits {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = batch
			}
			permits[i], _ = x.Allow(ctx)
		}
		for i := range permits {
			outcome := throttle.Rejected
			if i < 100 {
				outcome = throttle.Accepted
			}
			permits[i].Record(outcome)
		}
		for range 100 { // there is room for 200, and 200 critical ones have been
			if _, err := x.Allow(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e := refused(batch, t, x)
		within(t, "probability", e.Probability, .99, 1)
		s := x.Stats()
		if s.Classes[0].Probability < .99 || s.Classes[3].Probability != 0 {
			t.Errorf("%+v", s.Classes)
		}
	})
}

func TestThrottledError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{Name: "prices", Window: 100 * second})
		reject(t, x, 3)
		e := refused(t.Context(), t, x)
		if e.Name != "prices" || e.Class != 4 || e.Probability != .75 {
			t.Errorf("%+v", e)
		}
		if got := e.RetryAfter(); got != 7500*time.Millisecond {
			t.Errorf("RetryAfter %v", got)
		}
		if !e.NotAttempted() || e.Retryable() {
			t.Error("a refused call was not made, and is not to be retried")
		}
		want := `throttle "prices": overloaded: critical calls are refused with probability 0.75`
		if e.Error() != want {
			t.Errorf("%q, want %q", e, want)
		}
		if !errors.Is(e, throttle.ErrThrottled) || errors.Is(e, errFailed) {
			t.Error("it matches ErrThrottled and nothing else")
		}
		low := refused(in(t.Context(), 2), t, x)
		if low.Class != 2 || !strings.Contains(low.Error(), "sheddable calls") {
			t.Errorf("%+v", low)
		}
		// What a caller keeps does not change, and what the next gets is not old.
		for range 100 {
			refused(t.Context(), t, x)
		}
		if e.Probability != .75 || refused(t.Context(), t, x).Probability < .9 {
			t.Errorf("%+v, then %+v", e, refused(t.Context(), t, x))
		}
	})
	e := &throttle.ThrottledError{Class: 9}
	want := "throttle: overloaded: unknown calls are refused with probability 0.00"
	if e.Error() != want {
		t.Errorf("%q, want %q", e, want)
	}
}

// A call that panics or ends its goroutine is ignored, and goes on as it would have.
func TestDoPanics(t *testing.T) {
	x := throttle.New(throttle.Config{})
	run := func(f func()) (value any) {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { value = recover() }()
			f()
		})
		wg.Wait()
		return value
	}
	boom := func(context.Context) error { panic("boom") }
	exit := func(context.Context) error { runtime.Goexit(); return nil }
	boomInt := func(ctx context.Context) (int, error) { return 0, boom(ctx) }
	exitInt := func(ctx context.Context) (int, error) { return 0, exit(ctx) }
	for i, test := range []struct {
		f    func()
		want any
	}{
		{func() { x.Do(t.Context(), boom) }, "boom"},
		{func() { x.Do(t.Context(), exit) }, nil},
		{func() { throttle.Do(t.Context(), x, boomInt) }, "boom"},
		{func() { throttle.Do(t.Context(), x, exitInt) }, nil},
	} {
		if got := run(test.f); got != test.want {
			t.Errorf("%d: panic %v, want %v", i, got, test.want)
		}
		if got, want := x.Stats().Total, uint64(i+1); got.Ignored != want || got.Offered != want {
			t.Errorf("%d: %+v", i, got)
		}
	}
	for _, f := range []func(){
		func() { x.Do(t.Context(), nil) },
		func() { throttle.Do[int](t.Context(), x, nil) },
	} {
		if got := run(f); got != "throttle: Do: nil function" {
			t.Errorf("a nil function: panic %v", got)
		}
	}
}

func TestPermitFinishesOnce(t *testing.T) {
	x := throttle.New(throttle.Config{})
	p, err := x.Allow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Done(t.Context(), nil)
	p.Done(t.Context(), errRejected)
	p.Record(throttle.Rejected)
	var zero throttle.Permit
	zero.Done(t.Context(), errRejected)
	zero.Record(throttle.Rejected)
	x.Allow(t.Context()) // never finished
	if got, want := x.Stats().Total, (throttle.Counts{Offered: 1, Accepted: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A call that hangs counts when it ends, though everything else about it is long gone.
func TestLongCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{})
		long, _ := x.Allow(t.Context())
		reject(t, x, 99)
		time.Sleep(window)
		if got := x.Stats().Classes[3].Probability; got != 0 {
			t.Errorf("after a window: probability %v", got)
		}
		long.Record(throttle.Rejected)
		if got := x.Stats().Classes[3].Probability; got != .5 {
			t.Errorf("with one rejection: probability %v", got)
		}
	})
}

// A client of one call a second or less is never refused anything.
func TestRareCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{})
		for range 100 {
			if err := x.Do(t.Context(), ends(errRejected)); err != errRejected {
				t.Fatal(err)
			}
			time.Sleep(second)
		}
	})
}

// A throttle of a bubble that is over sees the time from before it was made.
func TestTimeBeforeTheBase(t *testing.T) {
	var x *throttle.Throttle
	synctest.Test(t, func(*testing.T) {
		time.Sleep(100 * 365 * 24 * time.Hour)
		x = throttle.New(throttle.Config{})
	})
	x.Do(t.Context(), ends(errRejected))
	x.Do(t.Context(), ends(nil))
	if got := x.Stats().Total; got.Offered != 2 {
		t.Errorf("%+v", got)
	}
}

func TestConcurrently(t *testing.T) {
	x := throttle.New(throttle.Config{Window: 10 * time.Millisecond})
	var wg sync.WaitGroup
	const each = 5000
	for i := range 4 {
		wg.Go(func() {
			ctx := in(t.Context(), uint8(i+1))
			for n := range each {
				x.Do(ctx, ends([]error{nil, errFailed, errRejected, errRejected}[n%4]))
				if n%512 == 0 {
					x.Stats()
				}
			}
		})
	}
	wg.Wait()
	if got := x.Stats().Total; got.Offered != 4*each {
		t.Errorf("%+v", got)
	}
}

func TestValidate(t *testing.T) {
	for _, cfg := range []throttle.Config{
		{}, {K: 1.0001}, {K: 1e300}, {Window: 10 * time.Millisecond}, {Window: math.MaxInt64},
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
		x := throttle.New(cfg)
		reject(t, x, 1)
		if got := x.Stats().Classes[3].Probability; cfg.Window > second && got != .5 {
			t.Errorf("%+v: one of one rejected, and probability %v", cfg, got)
		}
	}
	const of, must = "throttle: Config: K is ", ", but must be above 1 and finite"
	for _, test := range []struct {
		cfg  throttle.Config
		want string
	}{
		{throttle.Config{K: 1}, of + "1" + must},
		{throttle.Config{K: math.NaN()}, of + "NaN" + must},
		{throttle.Config{K: math.Inf(1)}, of + "+Inf" + must},
		{
			throttle.Config{Name: "x", K: -2, Window: -1},
			`throttle: Config "x": K is -2` + must + "; " +
				"Window is -1ns, but must be at least 10ms, ten buckets of 1ms",
		},
	} {
		err := test.cfg.Validate()
		if err == nil || err.Error() != test.want {
			t.Errorf("%v, want %v", err, test.want)
		}
		func() {
			defer func() {
				if got := recover(); got != test.want {
					t.Errorf("New panics with %v, want %v", got, test.want)
				}
			}()
			throttle.New(test.cfg)
		}()
	}
}

func TestZeroConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{Name: "zero"})
		p, _ := x.Allow(t.Context())
		p.Record(throttle.Accepted)
		reject(t, x, 1) // one of two: K is 2
		if s := x.Stats(); s.Name != "zero" || s.Classes[3].Probability != 0 {
			t.Errorf("%+v", s)
		}
		reject(t, x, 1)
		if got := x.Stats().Classes[3].Probability; got != .25 {
			t.Errorf("probability %v", got)
		}
		time.Sleep(window - time.Nanosecond)
		if got := x.Stats().Classes[3].Probability; got != .25 {
			t.Errorf("just before the end of the window: probability %v", got)
		}
		time.Sleep(time.Nanosecond)
		if got := x.Stats().Classes[3].Probability; got != 0 {
			t.Errorf("at the end of the window: probability %v", got)
		}
	})
}

func TestAllocs(t *testing.T) {
	calm, busy := throttle.New(throttle.Config{}), throttle.New(throttle.Config{})
	reject(t, busy, 100_000)
	low, nothing := in(t.Context(), 1), ends(nil)
	number := func(context.Context) (int, error) { return 1, nil }
	rejected := ends(error(&errRejected))
	for name, f := range map[string]func(){
		"Do":          func() { calm.Do(t.Context(), nothing) },
		"generic Do":  func() { throttle.Do(t.Context(), calm, number) },
		"a low class": func() { calm.Do(low, nothing) },
		"refused":     func() { busy.Do(t.Context(), nothing) },
		"refused low": func() { busy.Do(low, nothing) },
		"rejected":    func() { calm.Do(t.Context(), rejected) },
		"Stats":       func() { calm.Stats() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	nothing := ends(nil)
	run := func(name string, x *throttle.Throttle) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := context.Background()
				for pb.Next() {
					x.Do(ctx, nothing)
				}
			})
		})
	}
	run("calm", throttle.New(throttle.Config{}))
	some := throttle.New(throttle.Config{Window: time.Hour})
	some.Do(b.Context(), ends(errRejected))
	run("some rejected", some)
	all := throttle.New(throttle.Config{Window: time.Hour})
	for range 1_000_000 {
		p, _ := all.Allow(b.Context())
		defer p.Record(throttle.Rejected)
	}
	run("refused", all)
}
