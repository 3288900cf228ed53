package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

const (
	ms    = time.Millisecond
	never = rate.InfDuration
)

func limit(r rate.Limit, burst int) limiter.Limit { return limiter.Limit{Rate: r, Burst: burst} }

// theInvalid are limits with no meaning, and what their errors must name.
func theInvalid() map[limiter.Limit]string {
	nan := rate.Limit(math.NaN())
	return map[limiter.Limit]string{
		limit(-1, 1):          "Rate is -1, but must not be negative",
		limit(nan, 1):         "Rate is NaN, but must not be negative",
		limit(-rate.Inf, 1):   "Rate is -1.797",
		limit(-5e-324, 1):     "Rate is -5e-324, but must not be negative",
		limit(0, -1):          "Burst is -1, but must not be negative",
		limit(1, -1):          "Burst is -1, but must not be negative",
		limit(rate.Inf, -1):   "Burst is -1, but must not be negative",
		limit(10, 0):          "Burst is 0, but must be at least 1 with a Rate of 10",
		limit(1e300, 0):       "Burst is 0, but must be at least 1 with a Rate of 1e+300",
		limit(1e-9, 1):        "Burst is 1 at a Rate of 1e-09, but must not take more than two",
		limit(5e-324, 1):      "Burst is 1 at a Rate of 5e-324, but must not take more than two",
		limit(1, math.MaxInt): "", // it fits where an int has 32 bits
		limit(-2, -3): "limiter: Limit: Rate is -2, but must not be negative; " +
			"Burst is -3, but must not be negative",
	}
}

func TestInvalidLimits(t *testing.T) {
	for l, want := range theInvalid() {
		err := l.Validate()
		if want == "" {
			if math.MaxInt == math.MaxInt32 {
				continue
			}
			want = "two years"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", l, err, want)
			continue
		}
		if !strings.HasPrefix(err.Error(), "limiter: Limit: ") {
			t.Errorf("%+v: %q does not name the package", l, err)
		}
	}
}

func TestValidLimits(t *testing.T) {
	for _, l := range []limiter.Limit{
		{},
		limit(0, 1), limit(0, math.MaxInt), limit(rate.Limit(math.Copysign(0, -1)), 1),
		limit(rate.Inf, 0), limit(rate.Inf, 1), limit(rate.Inf, math.MaxInt),
		limit(rate.Limit(math.Inf(1)), 0),
		limit(1e-7, 1), limit(1, 1), limit(100, 20), limit(1e9, 1e9), limit(1e300, 1),
		limit(1e300, math.MaxInt32),
		limit(rate.Every(365*24*time.Hour), 2),
	} {
		if err := l.Validate(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

func TestLimitString(t *testing.T) {
	for l, want := range map[limiter.Limit]string{
		{}:                 "nothing",
		limit(0, 10):       "nothing",
		limit(rate.Inf, 0): "no limit",
		limit(100, 20):     "100/s, burst 20",
		limit(0.5, 1):      "1 in 2s, burst 1",
		limit(1, 1):        "1/s, burst 1",
		limit(1.0/3600, 2): "1 in 1h0m0s, burst 2",
	} {
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The time of a token is rounded up, but not for what float64 made of a whole number
// of nanoseconds: of all that rate.Every returns a fifth would be a tick too slow, and who
// comes each 7 ms on the dot would be refused each time.
func TestCostOfEvery(t *testing.T) {
	for i := range 5000 {
		for _, unit := range []time.Duration{1, 37, time.Microsecond, ms, 60 * time.Second} {
			every := time.Duration(i+1) * unit
			v, err := limiter.NewLevel(limit(rate.Every(every), 1))
			if err != nil {
				t.Fatal(err)
			}
			got, want := v.Cost(), int64(every)*limiter.TicksPerNano
			if got > want || got < want-want>>50-1 {
				t.Fatalf("rate.Every(%v): a token takes %d ticks, want %d", every, got, want)
			}
		}
	}
}

func TestCost(t *testing.T) {
	for _, test := range []struct {
		rate rate.Limit
		want int64 // ticks
	}{
		{1, 16e9},
		{3, 5333333334},
		{1e6, 16000},
		{7e7, 229},
		{1e8, 160},
		{3e8, 54},
		{1e9, 16},
		{9e9, 2},
		{16e9, 1},
		{1e300, 1}, // as fast as it can, which is not faster than was asked for
	} {
		v, err := limiter.NewLevel(limit(test.rate, 1))
		if err != nil || v.Cost() != test.want {
			t.Errorf("at %v/s a token takes %d ticks, want %d", test.rate, v.Cost(), test.want)
		}
	}
}

// Time does not go back before the limiter was made, and stops before sums overflow.
func TestTicks(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		math.MinInt64: 0, -1: 0, 0: 0, 1: limiter.TicksPerNano,
		time.Second: limiter.TicksPerSecond, math.MaxInt64: limiter.MaxAge,
		time.Duration(limiter.MaxAge / limiter.TicksPerNano): limiter.MaxAge,
	} {
		if got := limiter.Ticks(d); got != want {
			t.Errorf("%v are %d ticks, want %d", d, got, want)
		}
	}
}

func TestResultErr(t *testing.T) {
	l := limit(10, 5)
	for _, test := range []struct {
		name   string
		result limiter.Result
		want   *limiter.LimitedError
		after  time.Duration
		text   string
	}{
		{"granted", limiter.Result{OK: true, Granted: 1}, nil, 0, ""},
		{"shadowed", limiter.Result{OK: true, Shadowed: true}, nil, 0, ""},
		{
			"refused",
			limiter.Result{Name: "tenants", Limit: l, RetryAfter: time.Second},
			&limiter.LimitedError{Name: "tenants", Reason: limiter.RateExceeded, Limit: l},
			time.Second, `limiter "tenants": rate exceeded (10/s, burst 5)`,
		},
		{
			"never",
			limiter.Result{Limit: l, RetryAfter: never},
			&limiter.LimitedError{Reason: limiter.Never, Limit: l},
			never, "limiter: never possible (10/s, burst 5)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.result.Err()
			if test.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := limited(t, err, test.want.Reason)
			if e.Name != test.want.Name || e.Limit != test.want.Limit || e.Error() != test.text {
				t.Errorf("got %+v: %q, want %+v: %q", e, e, test.want, test.text)
			}
			if e.RetryAfter() != test.after {
				t.Errorf("retry after %v, want %v", e.RetryAfter(), test.after)
			}
		})
	}
}

// limited fails the test unless err is a refusal for that reason, and one that says of
// itself what refusals say, in a chain and in a join too.
func limited(t *testing.T, err error, why limiter.Reason) *limiter.LimitedError {
	t.Helper()
	e, isLimited := errors.AsType[*limiter.LimitedError](err)
	if !isLimited || !errors.Is(err, limiter.ErrLimited) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if e.Reason != why {
		t.Errorf("%v: reason is %q, want %q", e, e.Reason, why)
	}
	tooShort := why == limiter.DeadlineTooShort
	if errors.Is(e, context.DeadlineExceeded) != tooShort || errors.Is(e, context.Canceled) {
		t.Errorf("%v: matching DeadlineExceeded is %v, want %v", e, !tooShort, tooShort)
	}
	if e.Timeout() != tooShort {
		t.Errorf("%v: being a timeout is %v", e, !tooShort)
	}
	for _, err := range []error{e, fmt.Errorf("calling: %w", e), errors.Join(e, e)} {
		if !verdict.NotAttempted(err) {
			t.Errorf("%v: was attempted", err)
		}
		if got := verdict.Retryable(err); got != (why != limiter.Never) {
			t.Errorf("%v: retryable is %v", err, got)
		}
		if got := verdict.RetryAfter(err); got != e.RetryAfter() || got < 0 {
			t.Errorf("%v: retry after %v, want %v", err, got, e.RetryAfter())
		}
	}
	if (e.RetryAfter() == never) != (why == limiter.Never) {
		t.Errorf("%v: retry after %v", e, e.RetryAfter())
	}
	return e
}
