package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/internal/verdict"
)

func TestErrors(t *testing.T) {
	errOther := errors.New("of something else, which was attempted")
	for _, test := range []struct {
		err       *bulkhead.FullError
		text      string
		retryable bool
	}{
		{
			&bulkhead.FullError{Name: "prices", Reason: bulkhead.QueueFull},
			`bulkhead "prices": full`, true,
		},
		{&bulkhead.FullError{Reason: bulkhead.QueueFull}, "bulkhead: full", true},
		{&bulkhead.FullError{Reason: bulkhead.WaitedTooLong}, "bulkhead: waited too long", true},
		{&bulkhead.FullError{Reason: bulkhead.TooHeavy}, "bulkhead: too heavy", false},
	} {
		if got := test.err.Error(); got != test.text {
			t.Errorf("message %q, want %q", got, test.text)
		}
		err := fmt.Errorf("get: %w", test.err)
		if !errors.Is(err, bulkhead.ErrFull) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not match ErrFull alone", err)
		}
		if !verdict.NotAttempted(err) || verdict.Retryable(err) != test.retryable {
			t.Errorf("%v: not attempted %v, retryable %v",
				err, verdict.NotAttempted(err), verdict.Retryable(err))
		}
		if verdict.NotAttempted(errors.Join(err, errOther)) {
			t.Errorf("%v speaks for another call", err)
		}
		if got := verdict.RetryAfter(err); got != 0 {
			t.Errorf("%v: asks for %v", err, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bulkhead.New(bulkhead.Config{MaxConcurrent: 1}).Acquire(ctx)
	if !verdict.NotAttempted(err) || errors.Is(err, bulkhead.ErrFull) {
		t.Errorf("%v: the call was not made, and nothing was full", err)
	}
}

// Refusals that come one after the other share an error.
func TestErrorNamesItsBulkhead(t *testing.T) {
	for range 2 {
		for _, name := range []string{"one", "other"} {
			b := bulkhead.New(bulkhead.Config{Name: name, MaxConcurrent: 1})
			acquire(t, b, 1)
			for range 3 {
				if full := refused(t, b, 1); full.Name != name {
					t.Errorf("the bulkhead %q refuses as %q", name, full.Name)
				}
				if full := refused(t, b, 2); full.Name != name || full.Reason != bulkhead.TooHeavy {
					t.Errorf("the bulkhead %q refuses as %+v", name, full)
				}
			}
		}
	}
}

func TestDrainRate(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		at    time.Duration // of a refusal
		calls uint64        // that have ended by then
		want  time.Duration // after one more
	}
	for name, steps := range map[string][]step{
		"nothing is known at first": {{0, 0, 0}, {0, 5, 0}, {99 * ms, 50, 0}},
		"a measurement is 100 ms":   {{0, 0, 0}, {99 * ms, 10, 0}, {100 * ms, 10, 10 * ms}},
		"and longer if nobody asks": {{0, 0, 0}, {500 * ms, 100, 5 * ms}},
		"calls before do not count": {{0, 1000, 0}, {100 * ms, 1010, 10 * ms}},
		"it is known until the next": {
			{0, 0, 0},
			{100 * ms, 10, 10 * ms},
			{150 * ms, 10, 10 * ms},
			{199 * ms, 59, 10 * ms},
			{200 * ms, 60, 2 * ms},
		},
		"what was before counts no more": {
			{0, 0, 0}, {100 * ms, 100, ms}, {200 * ms, 101, 100 * ms}, {300 * ms, 201, ms},
		},
		"one that stalls": {
			{0, 0, 0},
			{100 * ms, 10, 10 * ms},
			{199 * ms, 10, 10 * ms},
			{200 * ms, 10, 100 * ms},
			{900 * ms, 10, 800 * ms},
			{1900 * ms, 10, 1800 * ms},
			// It goes on: of the two calls in two seconds each took one.
			{2100 * ms, 12, 1000 * ms},
			{2200 * ms, 22, 10 * ms},
		},
		"one that stalls from the first": {
			{0, 7, 0}, {99 * ms, 7, 0}, {100 * ms, 7, 100 * ms}, {1100 * ms, 7, 1100 * ms},
		},
		"slow calls are no stall": {
			{0, 0, 0}, {900 * ms, 1, 900 * ms}, {1100 * ms, 1, 900 * ms}, {1850 * ms, 1, 950 * ms},
		},
		"a pause of more than a second is not measured": {
			{0, 0, 0},
			{100 * ms, 10, 10 * ms},
			{1100 * ms, 20, 100 * ms},
			{2101 * ms, 5000, 0},
			{2150 * ms, 5000, 0},
			{2201 * ms, 5010, 10 * ms},
		},
		"the count wraps around": {
			{0, bulkhead.EndedCallsWrap - 4, 0}, {100 * ms, 6, 10 * ms}, {200 * ms, 26, 5 * ms},
		},
		"a clock that stands still": {{0, 0, 0}, {0, 100, 0}, {0, 200, 0}},
	} {
		var rate bulkhead.DrainRate
		for i, step := range steps {
			rate.Refused(step.at, step.calls)
			if got := rate.After(1); got != step.want {
				t.Errorf("%s: step %d: %v, want %v", name, i, got, step.want)
			}
		}
	}
}

func TestDrainRateOfMany(t *testing.T) {
	var rate bulkhead.DrainRate
	rate.Refused(0, 0)
	if got := rate.After(math.MaxInt64); got != 0 {
		t.Errorf("%v although nothing is known", got)
	}
	rate.Refused(time.Second, 100)
	for n, want := range map[int64]time.Duration{
		1: 10 * time.Millisecond, 50: 500 * time.Millisecond, 5999: 59990 * time.Millisecond,
		6000: time.Minute, 6001: time.Minute, math.MaxInt64: time.Minute,
	} {
		if got := rate.After(n); got != want {
			t.Errorf("after %d: %v, want %v", n, got, want)
		}
	}
}

// busy keeps all slots of b in use, by calls that take as long as one takes, and some more
// waiting for one. They begin and end at whole milliseconds; it returns between two. It
// ends with the test.
func busy(t *testing.T, b *bulkhead.Bulkhead, slots, waiting int, one time.Duration) {
	t.Helper()
	for i := range slots + waiting {
		time.Sleep(one / time.Duration(slots))
		go func() {
			for t.Context().Err() == nil {
				err := b.Do(t.Context(), func(ctx context.Context) error {
					select {
					case <-time.After(one):
					case <-ctx.Done():
					}
					return nil
				})
				if err != nil && t.Context().Err() == nil {
					t.Errorf("call %d was refused: %v", i, err)
					return
				}
			}
		}()
	}
	time.Sleep(time.Millisecond / 2)
}

// What a refusal asks for is about how long it takes until a call that came now and
// waited would have its slot.
func TestRetryAfterIsNearTheTruth(t *testing.T) {
	for _, test := range []struct {
		slots, queue int
		one          time.Duration
		every        time.Duration // a refusal
		want         time.Duration
	}{
		{1, 0, 20 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond},
		{4, 0, 100 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond},
		{4, 8, 100 * time.Millisecond, 10 * time.Millisecond, 9 * 25 * time.Millisecond},
		{10, 40, time.Second, 310 * time.Millisecond, 41 * 100 * time.Millisecond},
		{2, 0, 5 * time.Second, 100 * time.Millisecond, 2500 * time.Millisecond},
	} {
		name := fmt.Sprint(test.slots, " slots for ", test.one, ", and ", test.queue, " that wait")
		cfg := bulkhead.Config{MaxConcurrent: test.slots, MaxQueue: test.queue, MaxWait: -1}
		t.Run(name, func(t *testing.T) {
			bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
				busy(t, b, test.slots, test.queue, test.one)
				for range 100 {
					time.Sleep(test.every)
					refused(t, b, 1)
				}
				var sum time.Duration
				const samples = 50
				for range samples {
					time.Sleep(test.every)
					sum += refused(t, b, 1).RetryAfter()
				}
				got := sum / samples
				if got < test.want*8/10 || got > test.want*12/10 {
					t.Errorf("asks for %v, want about %v; %+v", got, test.want, b.Stats())
				}
			})
		})
	}
}

// Calls that hang: the longer it lasts, the longer it may last.
func TestRetryAfterOfAStall(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 2}, func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 2)
		start := time.Now()
		if got := refused(t, b, 1).RetryAfter(); got != 0 {
			t.Errorf("%v although nothing is known", got)
		}
		for range 1000 {
			time.Sleep(100 * time.Millisecond)
			want := min(time.Since(start), time.Minute)
			if got := refused(t, b, 1).RetryAfter(); got != want {
				t.Fatalf("asks for %v, want %v", got, want)
			}
		}
	})
}

// Estimates are kept for 10 ms, and what is said after a quiet time is not that of before.
func TestRetryAfterIsForgotten(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 1}, func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 1)
		first := refused(t, b, 1)
		time.Sleep(10*time.Millisecond - 1)
		if refused(t, b, 1) != first {
			t.Error("a second error within 10 ms")
		}
		time.Sleep(time.Nanosecond)
		if refused(t, b, 1) == first {
			t.Error("the same error for longer than 10 ms")
		}
		time.Sleep(500 * time.Millisecond)
		if got := refused(t, b, 1).RetryAfter(); got != 510*time.Millisecond {
			t.Errorf("asks for %v", got)
		}
		time.Sleep(time.Second + 1)
		if got := refused(t, b, 1).RetryAfter(); got != 0 {
			t.Errorf("asks for %v, after what was a second ago", got)
		}
	})
}

// While one refusal is at the estimate, the others do not wait for it. They take the one
// before, if it is still about the same.
func TestRetryAfterWhileItIsMade(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 1}, func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 1)
		release := b.HoldEstimate()
		if got := refused(t, b, 1); got.RetryAfter() != 0 || got.Reason != bulkhead.QueueFull {
			t.Errorf("%+v", got)
		}
		release()
		refused(t, b, 1)
		time.Sleep(time.Second)
		known := refused(t, b, 1)
		if known.RetryAfter() != time.Second {
			t.Errorf("asks for %v", known.RetryAfter())
		}
		release = b.HoldEstimate()
		defer release()
		time.Sleep(time.Second)
		if got := refused(t, b, 1); got != known {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Hour)
		if got := refused(t, b, 1).RetryAfter(); got != 0 {
			t.Errorf("asks for %v, by what was an hour ago", got)
		}
	})
}

func TestRetryAfterOfAWait(t *testing.T) {
	cfg := bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: 500 * time.Millisecond}
	bubble(t, cfg, func(t *testing.T, b *bulkhead.Bulkhead) {
		acquire(t, b, 1)
		refused(t, b, 1)
		full := refused(t, b, 1)
		if full.Reason != bulkhead.WaitedTooLong || full.RetryAfter() != 500*time.Millisecond {
			t.Errorf("%v: asks for %v, after half a second without a slot", full, full.RetryAfter())
		}
	})
}

// Calls that are too heavy are refused also when the slots are free. How often calls end
// then is how often they begin, and no measure.
func TestTooHeavyDoesNotMeasure(t *testing.T) {
	bubble(t, bulkhead.Config{MaxConcurrent: 1}, func(t *testing.T, b *bulkhead.Bulkhead) {
		for range 100 {
			if got := refused(t, b, 2).RetryAfter(); got != 0 {
				t.Fatalf("asks for %v, for a call that will never fit", got)
			}
			time.Sleep(300 * time.Millisecond)
			if err := b.Do(t.Context(), ok); err != nil {
				t.Fatal(err)
			}
		}
		acquire(t, b, 1)
		if got := refused(t, b, 1).RetryAfter(); got != 0 {
			t.Errorf("asks for %v although nothing is known", got)
		}
	})
}

func TestRefusalsConcurrently(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	acquire(t, b, 1)
	const goroutines, calls = 8, 5000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range calls {
				_, err := b.Acquire(context.Background())
				full, ok := errors.AsType[*bulkhead.FullError](err)
				if !ok || full.Name != "prices" {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.RefusedFull != goroutines*calls || s.InUse != 1 {
		t.Errorf("%+v", s)
	}
}
