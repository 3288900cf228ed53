package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

type notAttempted struct{}

func (notAttempted) Error() string      { return "full" }
func (notAttempted) NotAttempted() bool { return true }

func TestClassify(t *testing.T) {
	live := context.Background()
	cancelled, cancel := context.WithCancel(live)
	cancel()
	expired, cancel := context.WithTimeout(live, -1)
	defer cancel()
	because, cancelCause := context.WithCancelCause(live)
	cancelCause(context.DeadlineExceeded)

	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want breaker.Outcome
	}{
		{"no error", live, nil, breaker.Success},
		{"no error, though the caller has left", cancelled, nil, breaker.Success},
		{"an error", live, errBoom, breaker.Failure},
		{"the caller has left", cancelled, context.Canceled, breaker.Ignored},
		{"the caller has left, another error", cancelled, errBoom, breaker.Ignored},
		{"the caller has left for a deadline", because, context.Canceled, breaker.Ignored},
		{"cancelled, but not by the caller", live, context.Canceled, breaker.Failure},
		{"the caller's deadline", expired, context.DeadlineExceeded, breaker.Failure},
		{"our own timeout of an attempt", live, context.DeadlineExceeded, breaker.Failure},
		{"refused inside", live, notAttempted{}, breaker.Ignored},
		{"refused inside, wrapped", live, fmt.Errorf("call: %w", notAttempted{}), breaker.Ignored},
		{"refused inside, open", live, &breaker.OpenError{}, breaker.Ignored},
		{"two refusals joined", live, errors.Join(notAttempted{}, notAttempted{}), breaker.Ignored},
		{
			"a refusal and a failure joined", live, errors.Join(notAttempted{}, errBoom),
			breaker.Failure,
		},
	} {
		if got := breaker.Classify(test.ctx, test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		// Both uses go by it.
		cfg := breaker.Config{Consecutive: 1}
		b, c := breaker.New(cfg), breaker.New(cfg)
		_ = b.Do(test.ctx, func(context.Context) error { return test.err })
		p, _ := c.Allow()
		p.Done(test.ctx, test.err)
		want := breaker.Closed
		if test.want == breaker.Failure {
			want = breaker.Open
		}
		if b.State() != want || c.State() != want {
			t.Errorf("%s: %v after Do, %v after Done, want %v",
				test.name, b.State(), c.State(), want)
		}
	}
}

// Callers in a hurry say nothing of a dependency that is given more time by others.
func TestCallersDeadlineShorterThanSlowCall(t *testing.T) {
	cfg := breaker.Config{SlowCall: time.Second, Consecutive: 1}
	for _, test := range []struct {
		deadline time.Duration
		want     breaker.State
	}{
		{100 * time.Millisecond, breaker.Closed},
		{time.Second - 1, breaker.Closed},
		{time.Second, breaker.Open},
		{time.Minute, breaker.Open},
	} {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			time.Sleep(time.Hour)
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			defer cancel()
			_ = b.Do(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			state(t, b, test.want)
		})
	}
	// A failure for another reason is one, in a hurry or not.
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Do(ctx, boom); err != errBoom {
			t.Fatal(err)
		}
		state(t, b, breaker.Open)
	})
}

func TestCallersWhoOnlyCancelNeverOpen(t *testing.T) {
	bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			_ = b.Do(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		}
		state(t, b, breaker.Closed)
		if got := b.Stats().Ignored; got != 1000 {
			t.Errorf("%d ignored", got)
		}
	})
}

func TestConfigClassify(t *testing.T) {
	cfg := breaker.Config{
		Consecutive: 1,
		Classify: func(ctx context.Context, err error) breaker.Outcome {
			if err == errBoom {
				return breaker.Success
			}
			return breaker.Classify(ctx, err)
		},
	}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 10)
		state(t, b, breaker.Closed)
		failAs(t, b, errors.New("another"))
		state(t, b, breaker.Open)
	})
	// It sees the calls that succeed too: a result can be an error in disguise.
	cfg.Classify = func(context.Context, error) breaker.Outcome { return breaker.Failure }
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 1)
		state(t, b, breaker.Open)
	})
}

func TestValidate(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		cfg  breaker.Config
		want string // a part of the text, or "" for a valid one
	}{
		{breaker.Config{}, ""},
		{breaker.Config{FailureRate: 1, SlowCall: 1, SlowRate: 1e-9, Consecutive: 1}, ""},
		{breaker.Config{RampUp: -1}, ""},
		{breaker.Config{Window: 10 * time.Millisecond, MinCalls: 1}, ""},
		{breaker.Config{OpenFor: time.Hour}, ""},
		{breaker.Config{MaxOpenFor: time.Millisecond}, ""},
		{breaker.Config{Window: time.Millisecond}, "Window is 1ms, but must be at least 10ms"},
		{breaker.Config{Window: -1}, "Window is -1ns"},
		{breaker.Config{MinCalls: -1}, "MinCalls is -1"},
		{breaker.Config{MinCalls: 1 << 24}, "MinCalls is 16777216"},
		{breaker.Config{FailureRate: nan}, "FailureRate is NaN"},
		{breaker.Config{FailureRate: 1.01}, "FailureRate is 1.01"},
		{breaker.Config{FailureRate: -.5}, "FailureRate is -0.5"},
		{breaker.Config{FailureRate: 1e-10}, "FailureRate is 1e-10"},
		{breaker.Config{FailureRate: math.Inf(1)}, "FailureRate is +Inf"},
		{breaker.Config{SlowCall: -1}, "SlowCall is -1ns"},
		{breaker.Config{SlowRate: .5}, "SlowRate is 0.5, but must have a SlowCall"},
		{breaker.Config{SlowCall: 1, SlowRate: nan}, "SlowRate is NaN"},
		{breaker.Config{Consecutive: -1}, "Consecutive is -1"},
		{breaker.Config{FailingFor: -1}, "FailingFor is -1ns"},
		{breaker.Config{OpenFor: -1}, "OpenFor is -1ns"},
		{breaker.Config{OpenFor: 2, MaxOpenFor: 1}, "MaxOpenFor is 1ns, but must not be below"},
		{breaker.Config{MaxOpenFor: -1}, "MaxOpenFor is -1ns"},
		{breaker.Config{Probes: -1}, "Probes is -1"},
		{breaker.Config{ProbeTimeout: -1}, "ProbeTimeout is -1ns"},
		{
			breaker.Config{Name: "prices", Probes: -1, OpenFor: -1},
			`breaker: Config "prices": OpenFor is -1ns, but must not be negative; Probes is -1, `,
		},
	} {
		err := test.cfg.Validate()
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.cfg, err)
			}
			breaker.New(test.cfg)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.cfg, err, test.want)
			continue
		}
		func() {
			defer func() {
				if v := recover(); v != err.Error() {
					t.Errorf("New panicked with %v, want %v", v, err)
				}
			}()
			breaker.New(test.cfg)
		}()
	}
}

// Where one of OpenFor and MaxOpenFor is set, the other's default gives way to it.
func TestOpenTimesAlone(t *testing.T) {
	bubble(t, breaker.Config{Consecutive: 1, Probes: 1, MaxOpenFor: time.Second},
		func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			if wait := refused(t, b).RetryAfter(); wait > time.Second {
				t.Errorf("open for %v", wait)
			}
			untilProbe(t, b)
			succeed(t, b, 1)
			if ramp := time.Until(b.Stats().Until); ramp != time.Second/2 {
				t.Errorf("a ramp of %v", ramp)
			}
		})
	bubble(t, breaker.Config{Consecutive: 1, OpenFor: time.Hour},
		func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			if wait := refused(t, b).RetryAfter(); wait < time.Hour*4/5 {
				t.Errorf("open for %v", wait)
			}
		})
}
