package limiter_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// waiting is a limiter on which callers wait. That none of their goroutines is left is for
// synctest to see.
type waiting struct {
	t     *testing.T
	l     *limiter.Limiter
	began time.Time
	wg    sync.WaitGroup
}

// outcome is when a caller left, after the beginning, and with what.
type outcome struct {
	after time.Duration
	err   error
}

// queue runs f in a bubble with a limiter that has no tokens, and room for 100 to wait.
func queue(t *testing.T, l limiter.Limit, f func(*waiting)) {
	t.Helper()
	cfg := limiter.Config{Name: "partner", Limit: l, MaxQueue: 100}
	bubble(t, cfg, func(t *testing.T, lim *limiter.Limiter) {
		take(t, lim, l.Burst)
		q := &waiting{t: t, l: lim, began: time.Now()}
		f(q)
		q.wg.Wait()
		if s := lim.Stats(); s.Waiting != 0 {
			t.Errorf("%d wait still", s.Waiting)
		}
	})
}

// wait has a caller wait for n, and returns when it does.
func (q *waiting) wait(ctx context.Context, n int) *outcome {
	q.t.Helper()
	o := &outcome{after: -1}
	q.wg.Go(func() { o.err = q.l.Wait(ctx, n); o.after = time.Since(q.began) })
	synctest.Wait()
	return o
}

// until sleeps until a time after the beginning, and lets what happens then happen.
func (q *waiting) until(after time.Duration) {
	time.Sleep(after - time.Since(q.began))
	synctest.Wait()
}

// left fails the test unless the caller had its tokens then.
func (q *waiting) left(o *outcome, after time.Duration) {
	q.t.Helper()
	if o.err != nil || o.after != after {
		q.t.Errorf("left after %v with %v, want %v", o.after, o.err, after)
	}
}

// refused fails the test unless the caller was refused then.
func (q *waiting) refused(
	o *outcome, after time.Duration, why limiter.Reason,
) *limiter.LimitedError {
	q.t.Helper()
	if o.err == nil || o.after != after {
		q.t.Fatalf("left after %v with %v, want a refusal after %v", o.after, o.err, after)
	}
	return limited(q.t, o.err, why)
}

// gone fails the test unless the caller's context ended its wait then.
func (q *waiting) gone(o *outcome, after time.Duration, want ...error) {
	q.t.Helper()
	if o.err == nil || o.after != after {
		q.t.Fatalf("left after %v with %v, want %v after %v", o.after, o.err, want, after)
	}
	for _, w := range want {
		if !errors.Is(o.err, w) {
			q.t.Errorf("%v does not match %v", o.err, w)
		}
	}
	if errors.Is(o.err, limiter.ErrLimited) || !verdict.NotAttempted(o.err) {
		q.t.Errorf("%v is taken for a refusal, or for an attempt", o.err)
	}
}

func (q *waiting) deadline(after time.Duration) context.Context {
	ctx, cancel := context.WithDeadline(q.t.Context(), q.began.Add(after))
	q.t.Cleanup(cancel)
	return ctx
}

func TestWait(t *testing.T) {
	cfg := limiter.Config{Limit: limit(10, 3), MaxQueue: 1}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		began := time.Now()
		for i, want := range []time.Duration{0, 0, 0, 100 * ms, 200 * ms, 300 * ms} {
			if err := l.Wait(t.Context(), 1); err != nil || time.Since(began) != want {
				t.Errorf("%d: %v after %v, want %v", i, err, time.Since(began), want)
			}
		}
		time.Sleep(50 * ms)
		if err := l.Wait(t.Context(), 3); err != nil || time.Since(began) != 600*ms {
			t.Errorf("%v after %v, want 600ms", err, time.Since(began))
		}
	})
}

// First come, first served, whatever they ask for.
func TestWaitIsFIFO(t *testing.T) {
	queue(t, limit(10, 10), func(q *waiting) {
		var outcomes []*outcome
		var want []time.Duration
		sum := 0
		for i := range 60 {
			n := 1 + i*7%10
			sum += n
			outcomes = append(outcomes, q.wait(q.t.Context(), n))
			want = append(want, time.Duration(sum)*100*ms)
		}
		q.wg.Wait()
		for i, o := range outcomes {
			q.left(o, want[i])
		}
	})
}

// Nobody passes those who wait: not with Allow, though there are tokens that the one at
// the head has no use for yet, and not with Wait.
func TestNobodyPasses(t *testing.T) {
	queue(t, limit(10, 10), func(q *waiting) {
		heavy := q.wait(q.t.Context(), 10)
		light := q.wait(q.t.Context(), 1)
		for i := range 9 {
			q.until(time.Duration(i+1) * 100 * ms)
			none(q.t, q.l, 1)
			got := q.l.Check(1)
			want := limiter.Result{
				Name: "partner", Limit: limit(10, 10), Remaining: i + 1,
				ResetAfter: time.Duration(9-i) * 100 * ms,
				RetryAfter: time.Duration(11-i) * 100 * ms, // 12 tokens with those ahead
			}
			if got != want {
				q.t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if limiter.All(1, q.l.Bucket()).OK || q.l.Bucket().Allow() {
				q.t.Error("a bucket lets callers pass")
			}
			neverTaken(q.t, q.l.Check(0))
			neverTaken(q.t, q.l.Check(11))
		}
		q.until(1200*ms - 1)
		none(q.t, q.l, 1)
		q.until(1200 * ms)
		take(q.t, q.l, 1) // just as Check had said
		q.left(heavy, time.Second)
		q.left(light, 1100*ms)
	})
}

// A caller who wants a whole burst gets it, though others take what there is all the time.
func TestHeavyIsNotStarved(t *testing.T) {
	queue(t, limit(100, 100), func(q *waiting) {
		ctx, cancel := context.WithCancel(q.t.Context())
		for range 20 {
			q.wg.Go(func() {
				for ctx.Err() == nil {
					_ = q.l.Wait(ctx, 1)
					q.l.Allow()
				}
			})
		}
		q.until(time.Second)
		heavy := q.wait(q.t.Context(), 100)
		q.until(3 * time.Second)
		q.left(heavy, 2200*ms) // behind the twenty who were there
		cancel()
	})
}

// Fifty callers wait and leave, in whatever order. The next one waits as long as if they
// had never been. With reservations, as in package rate, it waits for five seconds.
func TestCancelledLeaveNothingTaken(t *testing.T) {
	orders := map[string]func(i int) int{
		"oldest first": func(i int) int { return i },
		"newest first": func(i int) int { return 49 - i },
		"any":          func(i int) int { return i * 17 % 50 },
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			queue(t, limit(10, 1), func(q *waiting) {
				var outcomes []*outcome
				var cancels []context.CancelFunc
				for range 50 {
					ctx, cancel := context.WithCancel(q.t.Context())
					outcomes, cancels = append(outcomes, q.wait(ctx, 1)), append(cancels, cancel)
				}
				for i := range 50 {
					cancels[order(i)]()
					synctest.Wait()
				}
				for _, o := range outcomes {
					q.gone(o, 0, context.Canceled)
				}
				next := q.wait(q.t.Context(), 1)
				q.until(time.Second)
				q.left(next, 100*ms)
				if got := q.l.Stats().GaveUp; got != 50 {
					q.t.Errorf("%d gave up", got)
				}
			})
		})
	}
}

// Where the one at the head leaves, the next one does not wait for the tokens of both.
func TestNextMovesUp(t *testing.T) {
	queue(t, limit(10, 10), func(q *waiting) {
		ctx, cancel := context.WithCancelCause(q.t.Context())
		head := q.wait(ctx, 10)
		second := q.wait(q.t.Context(), 2)
		third := q.wait(q.t.Context(), 5)
		q.until(450 * ms)
		cancel(errBoom)
		q.until(2 * time.Second)
		q.gone(head, 450*ms, context.Canceled, errBoom)
		q.left(second, 450*ms) // four were there
		q.left(third, 700*ms)
	})
	queue(t, limit(10, 10), func(q *waiting) {
		head := q.wait(q.t.Context(), 5)
		ctx, cancel := context.WithCancel(q.t.Context())
		middle := q.wait(ctx, 10)
		last := q.wait(q.t.Context(), 1)
		q.until(100 * ms)
		cancel()
		q.until(time.Second)
		q.left(head, 500*ms)
		q.gone(middle, 100*ms, context.Canceled)
		q.left(last, 600*ms)
	})
}

// Who can't have its tokens in time is told so at once, those ahead of it reckoned in.
func TestDeadlineTooShort(t *testing.T) {
	queue(t, limit(10, 10), func(q *waiting) {
		q.wait(q.t.Context(), 5)
		tooShort := q.wait(q.deadline(700*ms), 2)
		e := q.refused(tooShort, 0, limiter.DeadlineTooShort)
		if e.RetryAfter() != 700*ms || e.Name != "partner" || e.Limit != limit(10, 10) {
			q.t.Errorf("%+v, retry after %v", e, e.RetryAfter())
		}
		if want := `limiter "partner": deadline too short (10/s, burst 10)`; e.Error() != want {
			q.t.Errorf("%q, want %q", e, want)
		}
		enough := q.wait(q.deadline(700*ms+1), 2)
		q.until(time.Second)
		q.left(enough, 700*ms)
		if s := q.l.Stats(); s.TooShort != 1 || s.GaveUp != 0 {
			q.t.Errorf("%+v", s)
		}
	})
	// Where there are tokens the deadline does not matter, so long as it is not over.
	bubble(t, of(10, 1), func(t *testing.T, l *limiter.Limiter) {
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		if err := l.Wait(ctx, 1); err != nil {
			t.Error(err)
		}
	})
}

// A context that is done wins, though there are tokens.
func TestDoneContextWins(t *testing.T) {
	cfg := limiter.Config{Limit: limit(10, 1), MaxQueue: 1}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBoom)
		q := &waiting{t: t, l: l, began: time.Now()}
		for _, n := range []int{1, 2, 0} {
			q.gone(&outcome{0, l.Wait(ctx, n)}, 0, context.Canceled, errBoom)
		}
		q.gone(&outcome{0, l.Do(ctx, uncalled(t))}, 0, context.Canceled, errBoom)
		expired := q.deadline(-1)
		q.gone(&outcome{0, l.Wait(expired, 1)}, 0, context.DeadlineExceeded)
		left(t, l, 1)
	})
}

// instant is a context that ends at a time to the nanosecond: Err says so by the clock,
// though nothing closes Done.
type instant struct {
	context.Context
	at time.Time
}

func (i instant) Err() error {
	if time.Now().Before(i.at) {
		return nil
	}
	return context.Canceled
}

// At one and the same instant the context is done and the tokens are there. To take them
// for a caller who has gone would be to lose them.
func TestDoneAtTheSameInstant(t *testing.T) {
	queue(t, limit(10, 1), func(q *waiting) {
		head := q.wait(instant{q.t.Context(), q.began.Add(100 * ms)}, 1)
		next := q.wait(q.t.Context(), 1)
		q.until(time.Second)
		q.gone(head, 100*ms, context.Canceled)
		q.left(next, 100*ms)
	})
}

// Refusals of different kinds are told apart, also those that name the same time.
func TestReasonsAreToldApart(t *testing.T) {
	cfg := limiter.Config{Limit: limit(10, 5), MaxQueue: 1}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 5)
		q := &waiting{t: t, l: l, began: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		first := q.wait(ctx, 1)
		full := q.refused(q.wait(t.Context(), 1), 0, limiter.QueueFull)
		cancel()
		synctest.Wait()
		q.gone(first, 0, context.Canceled)
		tooShort := q.refused(q.wait(q.deadline(ms), 2), 0, limiter.DeadlineTooShort)
		if full.RetryAfter() != 200*ms || tooShort.RetryAfter() != 200*ms {
			t.Errorf("%v and %v, want 200ms", full.RetryAfter(), tooShort.RetryAfter())
		}
	})
	bubble(t, of(10, 5), func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 5)
		for _, burst := range []int{5, 7} {
			set(t, l, limit(10, burst))
			e := limited(t, l.Wait(t.Context(), 1), limiter.RateExceeded)
			if e.Limit != limit(10, burst) || e.RetryAfter() != 100*ms {
				t.Errorf("%v, retry after %v", e, e.RetryAfter())
			}
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	cfg := limiter.Config{Limit: limit(10, 5), MaxQueue: 2}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 5)
		q := &waiting{t: t, l: l, began: time.Now()}
		first, second := q.wait(t.Context(), 2), q.wait(t.Context(), 3)
		third := q.wait(t.Context(), 1)
		e := q.refused(third, 0, limiter.QueueFull)
		if e.RetryAfter() != 600*ms {
			t.Errorf("retry after %v, want 600ms, behind those who wait", e.RetryAfter())
		}
		if q.refused(q.wait(q.deadline(1), 1), 0, limiter.QueueFull) == nil {
			t.Error("a full queue does not come first")
		}
		q.until(200 * ms)
		q.left(first, 200*ms)
		fourth := q.wait(t.Context(), 1) // there is room again
		q.until(time.Second)
		q.left(second, 500*ms)
		q.left(fourth, 600*ms)
		if s := l.Stats(); s.RefusedFull != 2 {
			t.Errorf("%+v", s)
		}
	})
	bubble(t, of(10, 1), func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 1)
		began := time.Now()
		e := limited(t, l.Wait(t.Context(), 1), limiter.RateExceeded)
		if e.RetryAfter() != 100*ms || time.Since(began) != 0 {
			t.Errorf("without a queue: after %v, retry after %v", time.Since(began), e.RetryAfter())
		}
	})
}

// Those who wait go by the new limit at once. In package rate a caller who waits for a
// second goes on doing so when the limit is a thousand times as high.
func TestSetLimitRearms(t *testing.T) {
	t.Run("faster", func(t *testing.T) {
		queue(t, limit(1, 1), func(q *waiting) {
			first, second := q.wait(q.t.Context(), 1), q.wait(q.t.Context(), 1)
			q.until(20 * ms) // a fiftieth of a token
			set(q.t, q.l, limit(1000, 1))
			q.until(time.Second)
			q.left(first, 20*ms+980*time.Microsecond)
			q.left(second, 20*ms+1980*time.Microsecond)
		})
	})
	t.Run("slower", func(t *testing.T) {
		queue(t, limit(10, 1), func(q *waiting) {
			first, second := q.wait(q.t.Context(), 1), q.wait(q.t.Context(), 1)
			q.until(50 * ms) // half a token
			set(q.t, q.l, limit(1, 1))
			q.until(10 * time.Second)
			q.left(first, 550*ms)
			q.left(second, 1550*ms)
		})
	})
	t.Run("no limit", func(t *testing.T) {
		queue(t, limit(1, 5), func(q *waiting) {
			first, second := q.wait(q.t.Context(), 5), q.wait(q.t.Context(), 5)
			q.until(50 * ms)
			set(q.t, q.l, limit(rate.Inf, 0))
			q.until(60 * ms)
			q.left(first, 50*ms)
			q.left(second, 50*ms)
			take(q.t, q.l, 1000)
		})
	})
	t.Run("nothing", func(t *testing.T) {
		queue(t, limit(1, 5), func(q *waiting) {
			first, second := q.wait(q.t.Context(), 5), q.wait(q.t.Context(), 1)
			q.until(50 * ms)
			set(q.t, q.l, limiter.Limit{})
			q.until(60 * ms)
			q.refused(first, 50*ms, limiter.Never)
			q.refused(second, 50*ms, limiter.Never)
		})
	})
	t.Run("too small a burst for some", func(t *testing.T) {
		queue(t, limit(10, 10), func(q *waiting) {
			heavy, light := q.wait(q.t.Context(), 6), q.wait(q.t.Context(), 3)
			heavier, last := q.wait(q.t.Context(), 10), q.wait(q.t.Context(), 5)
			q.until(100 * ms)
			set(q.t, q.l, limit(10, 5))
			q.until(5 * time.Second)
			if e := q.refused(heavy, 100*ms, limiter.Never); e.Limit != limit(10, 5) {
				q.t.Errorf("refused by %v", e.Limit)
			}
			q.refused(heavier, 100*ms, limiter.Never)
			q.left(light, 300*ms)
			q.left(last, 800*ms)
		})
	})
	t.Run("too late for some", func(t *testing.T) {
		queue(t, limit(10, 10), func(q *waiting) {
			inTime := q.wait(q.deadline(1000*ms+1), 1)
			tooLate := q.wait(q.deadline(1900*ms), 2)
			last := q.wait(q.deadline(3*time.Second), 1)
			q.until(90 * ms) // nine tenths of a token
			set(q.t, q.l, limit(1, 10))
			q.until(5 * time.Second)
			q.left(inTime, 190*ms)
			// Its two would have come after two seconds more.
			e := q.refused(tooLate, 90*ms, limiter.DeadlineTooShort)
			if e.RetryAfter() != 2100*ms {
				q.t.Errorf("retry after %v, want 2.1s", e.RetryAfter())
			}
			q.left(last, 1190*ms) // who is out takes no part
			if s := q.l.Stats(); s.TooShort != 1 || s.GaveUp != 0 {
				q.t.Errorf("%+v", s)
			}
		})
	})
	t.Run("while nobody waits", func(t *testing.T) {
		queue(t, limit(1, 1), func(q *waiting) {
			for r := range 100 {
				set(q.t, q.l, limit(rate.Limit(r+1), r+1))
			}
			set(q.t, q.l, limit(10, 1))
			next := q.wait(q.t.Context(), 1)
			q.until(time.Second)
			q.left(next, 100*ms)
		})
	})
	t.Run("again and again", func(t *testing.T) {
		queue(t, limit(10, 1), func(q *waiting) {
			first := q.wait(q.t.Context(), 1)
			for i := range 9 {
				q.until(time.Duration(i+1) * 10 * ms)
				set(q.t, q.l, limit(rate.Limit(10+i%2*10), 1))
			}
			q.until(time.Second)
			// Each 10 ms it is a tenth of a token, or two, in turns.
			q.left(first, 70*ms)
		})
	})
}

// Those who are put out, and whose context ends before they have noticed, are told one of
// the two and counted once.
func TestPutOutAndGone(t *testing.T) {
	queue(t, limit(10, 10), func(q *waiting) {
		for range 200 {
			ctx, cancel := context.WithCancel(q.t.Context())
			o := q.wait(ctx, 10)
			set(q.t, q.l, limit(10, 5))
			cancel()
			synctest.Wait()
			if s := q.l.Stats(); o.err == nil || s.GaveUp != 0 || s.Waiting != 0 {
				q.t.Fatalf("%v: %+v", o.err, s)
			}
			set(q.t, q.l, limit(10, 10))
		}
		next := q.wait(q.t.Context(), 1)
		q.until(time.Second)
		q.left(next, 100*ms)
	})
}

// Do waits where there is a queue.
func TestDoWaits(t *testing.T) {
	queue(t, limit(10, 1), func(q *waiting) {
		if err := q.l.Do(q.t.Context(), boom); err != errBoom || time.Since(q.began) != 100*ms {
			q.t.Errorf("%v after %v", err, time.Since(q.began))
		}
		seven := func(context.Context) (int, error) { return 7, nil }
		got, err := limiter.Do(q.t.Context(), q.l, seven)
		if got != 7 || err != nil || time.Since(q.began) != 200*ms {
			q.t.Errorf("%v, %v after %v", got, err, time.Since(q.began))
		}
	})
}

// Very many tokens at once, for ever so long: the sum of what all wait for must not
// overflow into a promise.
func TestWaitForCenturies(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("no int is so large")
	}
	large := int64(1) << 60 // two years' worth
	queue(t, limiter.Limit{Rate: 16e9, Burst: int(large)}, func(q *waiting) {
		ctx, cancel := context.WithCancel(q.t.Context())
		defer cancel()
		for range 20 {
			o := q.wait(ctx, int(large))
			if o.err != nil {
				q.refused(o, 0, limiter.Never)
			}
			r := q.l.Check(int(large))
			if r.OK || r.RetryAfter < 2*365*24*time.Hour {
				q.t.Errorf("retry after %v", r.RetryAfter)
			}
		}
	})
}

// Nobody is forgotten: who becomes the head just when it goes to sleep is woken.
func TestNobodyIsForgotten(t *testing.T) {
	l := limiter.New(limiter.Config{Limit: limit(1e7, 1), MaxQueue: 8})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if err := l.Wait(context.Background(), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Callers of every kind, at the real clock, under the race detector: all come back, and
// none is given more than there is.
func TestWaitHammer(t *testing.T) {
	l := limiter.New(limiter.Config{Limit: limit(1e6, 100), MaxQueue: 4})
	var wg sync.WaitGroup
	granted := make([]int64, 8)
	began := time.Now()
	for g := range granted {
		wg.Go(func() {
			for i := range 400 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
				n := 1 + (i*7+g)%100
				if l.Wait(ctx, n) == nil {
					granted[g] += int64(n)
				}
				cancel()
				if i%50 == g {
					_ = l.SetLimit(limit(rate.Limit(1e5*(1+i%10)), 100))
				}
				if l.Check(3).OK {
					granted[g] += 3
				}
			}
		})
	}
	wg.Wait()
	var sum int64
	for _, n := range granted {
		sum += n
	}
	if most := 100 + int64(time.Since(began).Seconds()*1e6) + 1; sum > most {
		t.Errorf("%d granted, want at most %d", sum, most)
	}
	if s := l.Stats(); s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// changed is a context of a user's that panics when it is asked again.
type changed struct {
	context.Context
	asked bool
}

func (c *changed) Err() error {
	if c.asked {
		panic("boom")
	}
	c.asked = true
	return nil
}

func TestWaitContextPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}, MaxQueue: 1})
		l.Allow()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer func() {
				if recover() != "boom" {
					t.Error("the panic is gone")
				}
			}()
			_ = l.Wait(&changed{Context: ctx}, 1)
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got := l.Stats().Waiting; got != 0 {
			t.Errorf("%d wait", got)
		}
		time.Sleep(time.Second)
		if !l.Allow() {
			t.Error("there is somebody in front who does not exist")
		}
	})
}
