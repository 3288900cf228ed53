package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

const (
	ms    = time.Millisecond
	delay = 10 * ms // of all policies here that have one
)

var (
	errBoom  = errors.New("boom")
	errOther = errors.New("other")
)

func answers(context.Context) (int, error) { return 1, nil }
func fails(context.Context) (int, error)   { return 0, errBoom }

type refusal struct{}

func (refusal) Error() string      { return "refused" }
func (refusal) NotAttempted() bool { return true }

// An attempt of these tests takes some time, or until its context ends unless it is
// deaf, and comes to its number or to an error.
type attempt struct {
	takes time.Duration
	err   error
	deaf  bool
	then  func()
}

const forever = 1000 * time.Hour

// A trial is a call with the attempts that are planned for it.
type trial struct {
	t       *testing.T
	policy  *hedge.Policy
	attempt []attempt

	mu        sync.Mutex
	began     []time.Duration // when the attempts did, from the beginning of the call
	cancelled []int           // attempts whose context ended
	discarded []int
	start     time.Time
}

func (s *trial) fn(ctx context.Context) (int, error) {
	s.mu.Lock()
	s.began = append(s.began, time.Since(s.start))
	n := len(s.began)
	s.mu.Unlock()
	if got := retry.Attempt(ctx); got != n {
		s.t.Errorf("attempt %d is told that it is attempt %d", n, got)
	}
	if n > len(s.attempt) {
		s.t.Errorf("attempt %d is one too many", n)
		return n, nil
	}
	a := s.attempt[n-1]
	if a.deaf {
		time.Sleep(a.takes)
	} else {
		select {
		case <-time.After(a.takes):
		case <-ctx.Done():
			s.mu.Lock()
			s.cancelled = append(s.cancelled, n)
			s.mu.Unlock()
			return 0, ctx.Err()
		}
	}
	if a.then != nil {
		a.then()
	}
	return n, a.err
}

func (s *trial) discard(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discarded = append(s.discarded, n)
}

// do makes the call, and checks when it returns and what.
func (s *trial) do(ctx context.Context, result int, err error, after time.Duration) {
	s.t.Helper()
	s.start = time.Now()
	got, gotErr := hedge.Do(ctx, s.policy, s.fn, s.discard)
	if got != result || gotErr != err {
		s.t.Errorf("got %d, %v, want %d, %v", got, gotErr, result, err)
	}
	s.took(after)
}

func (s *trial) took(after time.Duration) {
	s.t.Helper()
	if took := time.Since(s.start); took != after {
		s.t.Errorf("it took %v, want %v", took, after)
	}
}

// saw checks when the attempts began, after all of them have ended, however late.
func (s *trial) saw(began []time.Duration, cancelled, discarded []int) {
	s.t.Helper()
	time.Sleep(2 * forever)
	synctest.Wait()
	if !slices.Equal(s.began, began) {
		s.t.Errorf("attempts began at %v, want %v", s.began, began)
	}
	if !slices.Equal(s.cancelled, cancelled) {
		s.t.Errorf("cancelled were %v, want %v", s.cancelled, cancelled)
	}
	if !slices.Equal(s.discarded, discarded) {
		s.t.Errorf("discarded were the results of %v, want %v", s.discarded, discarded)
	}
}

// bubble runs f with a trial of the attempts, in a synctest bubble. It does not end
// before all goroutines have.
func bubble(t *testing.T, p *hedge.Policy, f func(*testing.T, *trial), attempts ...attempt) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, &trial{t: t, policy: p, attempt: attempts})
	})
}

func fixed() *hedge.Policy { return &hedge.Policy{Delay: delay} }

func TestNothingHappens(t *testing.T) {
	for _, test := range []struct {
		name string
		attempt
		result int
	}{
		{"an answer in no time", attempt{}, 1},
		{"an answer in time", attempt{takes: delay - 1}, 1},
		{"an error that forbids another attempt", attempt{err: retry.Permanent(errBoom)}, 1},
		{"a refusal", attempt{err: refusal{}}, 1},
		{"an error that asks for a delay", attempt{err: retry.After(1, errBoom)}, 1},
		{"what is wrapped in it", attempt{err: fmt.Errorf("wrapped: %w", refusal{})}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, fixed(), func(t *testing.T, s *trial) {
				s.do(t.Context(), test.result, test.err, test.takes)
				s.saw([]time.Duration{0}, nil, nil)
				want := hedge.Stats{Calls: 1, Delay: delay}
				if got := s.policy.Stats(); got != want {
					t.Errorf("stats are %+v, want %+v", got, want)
				}
			}, test.attempt)
		})
	}
}

// The winner's context is there for it until it returns. The loser is cancelled at once.
func TestTheHedgeWins(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.do(t.Context(), 2, nil, delay+5*ms)
		s.saw([]time.Duration{0, delay}, []int{1}, nil)
		want := hedge.Stats{Calls: 1, Hedged: 1, Won: 1, Delay: delay}
		if got := s.policy.Stats(); got != want {
			t.Errorf("stats are %+v, want %+v", got, want)
		}
	}, attempt{takes: forever}, attempt{takes: 5 * ms})
}

func TestTheFirstWinsAfterAll(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.do(t.Context(), 1, nil, delay+ms)
		s.saw([]time.Duration{0, delay}, []int{2}, nil)
		want := hedge.Stats{Calls: 1, Hedged: 1, Delay: delay}
		if got := s.policy.Stats(); got != want {
			t.Errorf("stats are %+v, want %+v", got, want)
		}
	}, attempt{takes: delay + ms}, attempt{takes: 5 * ms})
}

// What has lost is given to discard once, also an hour after Do has returned, and does
// not hold Do up.
func TestLosersAreDiscardedOnce(t *testing.T) {
	bubble(t, &hedge.Policy{Delay: delay, MaxAttempts: 3}, func(t *testing.T, s *trial) {
		s.do(t.Context(), 3, nil, 2*delay+ms)
		s.mu.Lock()
		if s.discarded != nil {
			t.Errorf("%v were discarded before they had ended", s.discarded)
		}
		s.mu.Unlock()
		s.saw([]time.Duration{0, delay, 2 * delay}, nil, []int{2, 1})
	}, attempt{takes: time.Hour, deaf: true}, attempt{takes: time.Minute, deaf: true},
		attempt{takes: ms})
}

func TestLosersThatFailAreNotDiscarded(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.do(t.Context(), 2, nil, delay+ms)
		s.saw([]time.Duration{0, delay}, nil, nil)
	}, attempt{takes: time.Hour, deaf: true, err: errBoom}, attempt{takes: ms})
}

func TestNobodyDiscards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := hedge.Do(t.Context(), fixed(), func(ctx context.Context) (int, error) {
			n := retry.Attempt(ctx)
			if n == 1 {
				time.Sleep(time.Hour)
			}
			return n, nil
		}, nil)
		if got != 2 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// A replica that fails fast must not win against one that is at work.
func TestErrorDoesNotBeatPendingAttempt(t *testing.T) {
	for _, err := range []error{errBoom, refusal{}, retry.Permanent(errBoom)} {
		bubble(t, fixed(), func(t *testing.T, s *trial) {
			s.do(t.Context(), 1, nil, 50*ms)
			s.saw([]time.Duration{0, delay}, nil, nil)
		}, attempt{takes: 50 * ms}, attempt{takes: ms, err: err})
	}
}

func TestErrorStartsTheNextAtOnce(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.do(t.Context(), 2, nil, 2*ms+50*ms)
		s.saw([]time.Duration{0, 2 * ms}, nil, nil)
		if got := s.policy.Stats(); got.Hedged != 1 || got.Won != 1 {
			t.Errorf("stats are %+v", got)
		}
	}, attempt{takes: 2 * ms, err: errBoom}, attempt{takes: 50 * ms})

	// Before there is a delay too.
	bubble(t, new(hedge.Policy), func(t *testing.T, s *trial) {
		s.do(t.Context(), 2, nil, time.Second)
		s.saw([]time.Duration{0, 0}, nil, nil)
	}, attempt{err: errBoom}, attempt{takes: time.Second})

	// And then the delay begins anew.
	bubble(t, &hedge.Policy{Delay: delay, MaxAttempts: 4}, func(t *testing.T, s *trial) {
		s.do(t.Context(), 4, nil, 24*ms)
		s.saw([]time.Duration{0, 5 * ms, 15 * ms, 20 * ms}, []int{2}, nil)
	}, attempt{takes: 5 * ms, err: errBoom}, attempt{takes: forever},
		attempt{takes: 5 * ms, err: errBoom}, attempt{takes: 4 * ms})
}

// After a refusal there are no further attempts, not even late in the call.
func TestRefusalStopsFurtherAttempts(t *testing.T) {
	for _, err := range []error{refusal{}, retry.Permanent(errBoom), retry.After(1, errBoom)} {
		bubble(t, &hedge.Policy{Delay: delay, MaxAttempts: 4}, func(t *testing.T, s *trial) {
			s.do(t.Context(), 1, nil, time.Second)
			s.saw([]time.Duration{0, delay}, nil, nil)
		}, attempt{takes: time.Second}, attempt{takes: ms, err: err})
	}
}

func TestAllFail(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.start = time.Now()
		result, err := hedge.Do(t.Context(), s.policy, s.fn, s.discard)
		s.took(ms + 2*ms)
		if result != 2 || !errors.Is(err, errBoom) || !errors.Is(err, errOther) {
			t.Errorf("got %d, %v, want the last result and an error that matches both", result, err)
		}
		if got, want := err.Error(), "other (boom)"; got != want {
			t.Errorf("got %q, want %q: the last one first", got, want)
		}
		s.saw([]time.Duration{0, ms}, nil, nil)
	}, attempt{takes: ms, err: errBoom}, attempt{takes: 2 * ms, err: errOther})
}

// What all have failed with keeps the contract between packages.
func TestVerdictOfSeveral(t *testing.T) {
	after := retry.After(time.Second, refusal{})
	for _, test := range []struct {
		name          string
		first, second error
		notAttempted  bool
		retryAfter    time.Duration
		retryable     bool
	}{
		{"two errors", errBoom, errOther, false, 0, true},
		{"one is not to be retried", errBoom, retry.Permanent(errOther), false, 0, false},
		{"one never got there", errBoom, refusal{}, false, 0, true},
		{"one asks for a delay", errBoom, after, false, time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := 0
			_, err := hedge.Do(t.Context(), fixed(), func(context.Context) (int, error) {
				n++
				return 0, []error{test.first, test.second}[n-1]
			}, nil)
			if got := verdict.NotAttempted(err); got != test.notAttempted {
				t.Errorf("NotAttempted = %t", got)
			}
			if got := verdict.RetryAfter(err); got != test.retryAfter {
				t.Errorf("RetryAfter = %v", got)
			}
			if got := verdict.Retryable(err); got != test.retryable {
				t.Errorf("Retryable = %t", got)
			}
		})
	}
}

// spend uses up the policy's own bound, or what else bounds it.
func spend(t *testing.T, p *hedge.Policy, want uint64) {
	t.Helper()
	before := p.Stats().Hedged
	for range 10 {
		_, _ = hedge.Do(t.Context(), p, fails, nil)
	}
	if got := p.Stats().Hedged - before; got != want {
		t.Fatalf("%d extra attempts, want %d", got, want)
	}
}

// A hedge that is denied leaves the attempts alone that are under way.
func TestBudgetDenialKeepsAttempts(t *testing.T) {
	empty := &retry.Budget{Floor: -1, Burst: 1}
	empty.Take()
	for _, test := range []struct {
		name  string
		p     *hedge.Policy
		spend bool
	}{
		{"its own", &hedge.Policy{Delay: delay}, true},
		{"the shared one", &hedge.Policy{Delay: delay, SharedBudget: empty}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, test.p, func(t *testing.T, s *trial) {
				if test.spend {
					spend(t, s.policy, 4)
				}
				denied := s.policy.Stats().Denied
				s.do(t.Context(), 1, nil, time.Second)
				s.saw([]time.Duration{0}, nil, nil)
				if got := s.policy.Stats().Denied - denied; got != 1 {
					t.Errorf("%d denied, want 1", got)
				}
			}, attempt{takes: time.Second})
		})
	}
}

// One token for each hedge, of both budgets; what the one denies the other gets back.
func TestSharedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &retry.Budget{Floor: -1, Burst: 2}
		p := &hedge.Policy{Delay: delay, SharedBudget: shared}
		spend(t, p, 2)
		if got := shared.Tokens(); got != 0 {
			t.Errorf("the shared budget has %v tokens left, want 0", got)
		}
		shared.Return()
		shared.Return()
		spend(t, p, 2) // its own had 4 at first, and more with each call, if none was lost
		if got := shared.Tokens(); got != 0 {
			t.Errorf("the shared budget has %v tokens left, want 0", got)
		}
	})
}

// Whatever happens, extra attempts are at most 4 and Extra and a fifth of the calls.
func TestExtraIsABound(t *testing.T) {
	for _, extra := range []float64{0, 0.01, 0.2, 1} {
		p := &hedge.Policy{Extra: extra}
		share := min(1.2*max(extra, 0.05), 1)
		if extra == 0.01 {
			share = 0.012
		}
		for calls := range 2000 {
			_, _ = hedge.Do(t.Context(), p, fails, nil)
			most := min(uint64(4+share*float64(calls+1)+1e-6), uint64(calls+1))
			if got := p.Stats().Hedged; got > most || calls == 1999 && got < most-1 {
				t.Fatalf("Extra %v: %d in %d calls, want %d", extra, got, calls+1, most)
			}
		}
	}
}

func TestPanicGoesOnInTheCaller(t *testing.T) {
	for n, attempts := range [][]attempt{
		{{takes: ms, then: explode}},
		{{takes: forever}, {takes: ms, then: explode}},
		{{takes: forever, deaf: true}, {takes: ms, then: explode}},
		{{err: errBoom}, {then: explode}},
	} {
		bubble(t, fixed(), func(t *testing.T, s *trial) {
			defer func() {
				p, ok := recover().(*hedge.PanicError)
				if !ok || p.Value != errBoom || !errors.Is(p, errBoom) {
					t.Fatalf("%d: recovered %v", n, p)
				}
				if !strings.Contains(string(p.Stack), "hedge_test.explode") ||
					!strings.Contains(p.Error(), "hedge_test.explode") {
					t.Errorf("%d: the stack of the attempt is lost: %v", n, p)
				}
				time.Sleep(2 * forever)
				synctest.Wait()
				if attempts[0].deaf && !slices.Equal(s.discarded, []int{1}) {
					t.Errorf("%d: discarded were %v, want the first", n, s.discarded)
				}
			}()
			_, _ = hedge.Do(t.Context(), s.policy, s.fn, s.discard)
			t.Errorf("%d: no panic", n)
		}, attempts...)
	}
}

func explode() { panic(errBoom) }

func TestPanicThatIsNoError(t *testing.T) {
	defer func() {
		p, ok := recover().(*hedge.PanicError)
		if !ok || p.Value != "what" || p.Unwrap() != nil {
			t.Errorf("recovered %v", p)
		}
	}()
	_, _ = hedge.Do(t.Context(), fixed(), func(context.Context) (int, error) { panic("what") }, nil)
}

func TestGoexitEndsTheCaller(t *testing.T) {
	for n, attempts := range [][]attempt{
		{{then: runtime.Goexit}},
		{{takes: forever}, {takes: ms, then: runtime.Goexit}},
	} {
		bubble(t, fixed(), func(t *testing.T, s *trial) {
			ended := make(chan bool)
			go func() {
				returned := false
				defer func() {
					if v := recover(); v != nil {
						t.Errorf("%d: it panicked: %v", n, v)
					}
					ended <- returned
				}()
				_, _ = hedge.Do(t.Context(), s.policy, s.fn, s.discard)
				returned = true
			}()
			if <-ended {
				t.Errorf("%d: Do has returned", n)
			}
		}, attempts...)
	}
}

// A panic that has no caller any more must not be lost: it ends the program, and with
// its own stack. So does one of discard.
func TestPanicAfterDoEndsTheProgram(t *testing.T) {
	if os.Getenv("HEDGE_TEST_PANIC") != "" {
		s := trial{t: t, policy: fixed(), attempt: []attempt{{then: func() {}}, {}}}
		_, _ = hedge.Do(t.Context(), s.policy, func(ctx context.Context) (int, error) {
			if retry.Attempt(ctx) == 2 {
				return 2, nil
			}
			<-ctx.Done()
			time.Sleep(ms)
			explode()
			return 1, nil
		}, nil)
		time.Sleep(time.Minute)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "HEDGE_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: boom") ||
		!strings.Contains(string(out), "hedge_test.explode") {
		t.Errorf("%v: %s", err, out)
	}
}

// Goexit of an attempt that nobody waits for ends just that.
func TestGoexitAfterDo(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		s.do(t.Context(), 2, nil, delay+ms)
		s.saw([]time.Duration{0, delay}, nil, nil)
	}, attempt{takes: time.Hour, deaf: true, then: runtime.Goexit}, attempt{takes: ms})
}

func TestCallerLeaves(t *testing.T) {
	cause := errors.New("the user has closed the window")
	for _, test := range []struct {
		name     string
		attempts []attempt
		errs     []error // besides those of the context
		wound    []int   // discarded
	}{
		{"the attempt listens", []attempt{{takes: forever}}, nil, nil},
		{"the attempt is deaf", []attempt{{takes: time.Hour, deaf: true}}, nil, []int{1}},
		{"deaf, and fails", []attempt{{takes: time.Hour, deaf: true, err: errBoom}}, nil, nil},
		{"one has failed", []attempt{{err: errBoom}, {takes: forever}}, []error{errBoom}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &hedge.Policy{Delay: delay, MaxAttempts: len(test.attempts)}
			bubble(t, p, func(t *testing.T, s *trial) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*ms, func() { cancel(cause) })
				s.start = time.Now()
				_, err := hedge.Do(ctx, s.policy, s.fn, s.discard)
				s.took(5 * ms)
				for _, want := range append(test.errs, context.Canceled, cause) {
					if !errors.Is(err, want) {
						t.Errorf("%v does not match %v", err, want)
					}
				}
				if verdict.NotAttempted(err) {
					t.Errorf("%v says that there was no attempt", err)
				}
				time.Sleep(2 * forever)
				synctest.Wait()
				if !slices.Equal(s.discarded, test.wound) {
					t.Errorf("discarded were %v, want %v", s.discarded, test.wound)
				}
			}, test.attempts...)
		})
	}
}

func TestDeadline(t *testing.T) {
	bubble(t, fixed(), func(t *testing.T, s *trial) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*ms)
		defer cancel()
		s.start = time.Now()
		_, err := hedge.Do(ctx, s.policy, s.fn, s.discard)
		s.took(15 * ms)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		s.saw([]time.Duration{0, delay}, nil, []int{1})
	}, attempt{takes: time.Hour, deaf: true}, attempt{takes: time.Hour, deaf: true, err: errBoom})
}

// No attempt follows the one that failed because the caller has left.
func TestNoAttemptAfterTheCallerHasLeft(t *testing.T) {
	for range 100 {
		bubble(t, fixed(), func(t *testing.T, s *trial) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*ms) // the moment of the hedge
			defer cancel()
			_, err := hedge.Do(ctx, s.policy, s.fn, s.discard)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			synctest.Wait()
			if got := s.policy.Stats(); int(got.Hedged) != len(s.began)-1 {
				t.Errorf("%+v, but %d attempts", got, len(s.began))
			}
		}, attempt{takes: forever}, attempt{takes: forever})
	}
}

// Whether the attempt or the caller is the first to see that the context has ended makes no
// difference.
func TestErrorIsTheCallersWhenItLeaves(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := hedge.Do(ctx, fixed(), func(context.Context) (int, error) {
				cancel()
				return 0, errBoom
			}, nil)
			if got := err.Error(); got != "hedge: context canceled" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestDoneBefore(t *testing.T) {
	cause := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	p := fixed()
	_, err := hedge.Do(ctx, p, func(context.Context) (int, error) {
		t.Error("there was an attempt")
		return 0, nil
	}, nil)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || !verdict.NotAttempted(err) {
		t.Errorf("got %v", err)
	}
	if got := err.Error(); got != "hedge: too late" {
		t.Errorf("got %q", got)
	}
	if got := p.Stats().Calls; got != 0 {
		t.Errorf("%d calls, want 0", got)
	}
}

// In the second attempt of a retry the first of a hedge is the second, its next the third.
func TestAttemptInsideOfRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []int
		outer := &retry.Policy{Backoff: retry.Constant(0), MaxAttempts: 2}
		_, err := retry.Do(t.Context(), outer, func(ctx context.Context) (int, error) {
			return hedge.Do(ctx, fixed(), func(ctx context.Context) (int, error) {
				mu.Lock()
				seen = append(seen, retry.Attempt(ctx))
				mu.Unlock()
				return 0, errBoom
			}, nil)
		})
		if want := []int{1, 2, 2, 3}; !slices.Equal(seen, want) || !errors.Is(err, errBoom) {
			t.Errorf("attempts were %v, want %v; %v", seen, want, err)
		}
	})
}

func TestMaxAttemptsOfOne(t *testing.T) {
	bubble(t, &hedge.Policy{Delay: delay, MaxAttempts: 1}, func(t *testing.T, s *trial) {
		s.do(t.Context(), 1, errBoom, time.Second)
		s.saw([]time.Duration{0}, nil, nil)
	}, attempt{takes: time.Second, err: errBoom})
}

func TestValidate(t *testing.T) {
	good := []*hedge.Policy{
		{},
		{Delay: 1, Extra: 1, MinDelay: 1, MaxAttempts: 1, SharedBudget: new(retry.Budget)},
	}
	for _, p := range good {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
	bad := &hedge.Policy{
		Delay: -1, Extra: -1, MinDelay: -2, MaxAttempts: -3, SharedBudget: &retry.Budget{Burst: -4},
	}
	want := "hedge: Policy: Delay is -1ns, but must not be negative; " +
		"Extra is -1, but must be above 0 and at most 1; " +
		"MinDelay is -2ns, but must not be negative; MaxAttempts is -3, but must be at least 1; " +
		"SharedBudget: Burst is -4, but must be from 0 to 2147483647"
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A policy that nobody has checked is one with the defaults.
func TestFieldsThatMeanNothing(t *testing.T) {
	p := &hedge.Policy{Delay: -1, Extra: -1, MinDelay: -1, MaxAttempts: -1}
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			_, _ = hedge.Do(t.Context(), p, answers, nil)
		}
		spend(t, p, 4)
		if got := p.Stats().Delay; got != ms {
			t.Errorf("the delay is %v, want 1ms", got)
		}
	})
}

func TestNilPanics(t *testing.T) {
	for _, f := range []func(){
		func() { _, _ = hedge.Do(t.Context(), nil, answers, nil) },
		func() { _, _ = hedge.Do[int](t.Context(), fixed(), nil, nil) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != "hedge: Do: nil Policy or function" {
					t.Errorf("recovered %s", got)
				}
			}()
			f()
		}()
	}
}

func TestAllocations(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, p := range []*hedge.Policy{{Delay: time.Hour}, {MinDelay: time.Hour}} {
		call := func() {
			_, _ = hedge.Do(ctx, p, func(ctx context.Context) (string, error) {
				return "", ctx.Err()
			}, nil)
		}
		for range 100 {
			call()
		}
		if n := testing.AllocsPerRun(1000, call); n > 4 {
			t.Errorf("a call without a hedge allocates %v times, want 4", n)
		}
	}
}

// The example's.
func TestIsHedged(t *testing.T) { isHedged(t) }

// One policy may be used for calls of many types, if it must.
func TestTypes(t *testing.T) {
	p := fixed()
	for range 100 {
		n, _ := hedge.Do(t.Context(), p, answers, nil)
		s, _ := hedge.Do(t.Context(), p, func(context.Context) (string, error) {
			return "x", nil
		}, nil)
		if n != 1 || s != "x" {
			t.Fatalf("got %d, %q", n, s)
		}
	}
}

// Every result is either returned or discarded, by however many goroutines, and calls do
// not get hold of each other's.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &hedge.Policy{Delay: delay, Extra: 1, MaxAttempts: 3}
		type result struct{ call, attempt int }
		var made, returned, discarded atomic.Int64
		var wg sync.WaitGroup
		for g := range 64 {
			wg.Go(func() {
				for i := range 50 {
					call, calls := g*1000+i, atomic.Int64{}
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+i%30)*ms)
					got, err := hedge.Do(ctx, p, func(context.Context) (result, error) {
						n := int(calls.Add(1))
						time.Sleep(time.Duration((call*7+n*13)%40) * ms)
						if (call+n)%5 == 0 {
							return result{}, errBoom
						}
						made.Add(1)
						return result{call, n}, nil
					}, func(lost result) {
						if lost.call != call {
							t.Errorf("call %d discards the result of %d", call, lost.call)
						}
						discarded.Add(1)
					})
					cancel()
					if err == nil {
						returned.Add(1)
						if got.call != call {
							t.Errorf("call %d gets the result of %d", call, got.call)
						}
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour)
		m, r, d := made.Load(), returned.Load(), discarded.Load()
		if m != r+d || d == 0 {
			t.Errorf("%d results: %d returned, %d discarded", m, r, d)
		}
		if s := p.Stats(); s.Calls != 64*50 || s.Hedged == 0 || s.Won == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// With the real scheduler and no time between.
func TestConcurrentForReal(t *testing.T) {
	p := &hedge.Policy{Delay: time.Microsecond, Extra: 1}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				got, err := hedge.Do(t.Context(), p, func(context.Context) (int, error) {
					runtime.Gosched()
					return i, nil
				}, func(lost int) {
					if lost != i {
						t.Errorf("discarded %d, want %d", lost, i)
					}
				})
				if got != i || err != nil {
					t.Errorf("got %d, %v, want %d", got, err, i)
				}
			}
		})
	}
	wg.Wait()
}

// Almost none is no share that the policy may trip over.
func TestTinyExtra(t *testing.T) {
	p := &hedge.Policy{Extra: 1e-18}
	synctest.Test(t, func(t *testing.T) {
		for range 70 {
			if _, err := hedge.Do(t.Context(), p, answers, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Whatever races with what, a result is returned or discarded, and never lost.
func TestNoResultIsLost(t *testing.T) {
	var made, returned, discarded atomic.Int64
	p := &hedge.Policy{Delay: 1, Extra: 1}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				var attempts atomic.Int64
				var call sync.WaitGroup
				call.Go(func() {
					_, err := hedge.Do(context.Background(), p, func(context.Context) (int, error) {
						if attempts.Add(1) == 1 {
							runtime.Goexit()
						}
						made.Add(1)
						return 1, nil
					}, func(int) { discarded.Add(1) })
					if err == nil {
						returned.Add(1)
					}
				})
				call.Wait()
			}
		})
	}
	wg.Wait()
	for range 1000 { // losers may still be under way
		if made.Load() == returned.Load()+discarded.Load() {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d results, %d returned and %d discarded",
		made.Load(), returned.Load(), discarded.Load())
}
