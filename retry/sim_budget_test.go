package retry_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// load is what a dependency saw of calls, and what came of them.
type load struct{ calls, attempts, succeeded float64 }

func (l load) amplification() float64 { return l.attempts / l.calls }
func (l load) success() float64       { return l.succeeded / l.calls }

// instantly has clients that call at a rate, each with a policy of its own, and whose
// attempts fail with a probability, at once. It takes no time but that between calls.
func instantly(
	t *testing.T, clients, rate int, during time.Duration, p float64, policy func() *retry.Policy,
) (l load) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(clients*rate), 2022))
		policies := make([]*retry.Policy, clients)
		for i := range policies {
			policies[i] = policy()
		}
		ctx := t.Context()
		pause := time.Second / time.Duration(rate)
		for began := time.Now(); time.Since(began) < during; time.Sleep(pause) {
			for _, policy := range policies {
				l.calls++
				err := policy.Do(ctx, func(context.Context) error {
					l.attempts++
					if rng.Float64() < p {
						return errBoom
					}
					return nil
				})
				if err == nil {
					l.succeeded++
				}
			}
		}
	})
	return l
}

// atOnce makes policies without a wait, so that what binds is the budget alone.
func atOnce(budget func(*retry.Budget)) func() *retry.Policy {
	return func() *retry.Policy {
		p := &retry.Policy{Backoff: retry.Constant(0)}
		budget(&p.Budget)
		return p
	}
}

// After Brooker, Fixing retries with token buckets and circuit breakers, 2022: 100 clients
// with 10 calls a second for 10 s, by the share of attempts that fail.
func TestSimBudgetByFailureRate(t *testing.T) {
	const second = time.Second
	strict := atOnce(func(*retry.Budget) {})
	refund := atOnce(func(b *retry.Budget) { b.Refund = true })
	none := atOnce(func(b *retry.Budget) { b.Off = true })
	t.Log("attempts per call, and the share of calls that succeed")
	t.Logf("%5s  %-15s  %-15s  %-15s  %-15s", "p",
		"no retries", "no budget", "budget", "with refund")
	worst := 1.0
	for _, test := range []struct{ p, strictLeast, refundLeast float64 }{
		{.01, .9995, .9995},
		{.05, .99, .995},
		{.1, .95, .985},
		{.2, .84, .92},
		{.3, .73, .80},
		{.5, .51, .53},
		{.75, .25, .25},
		{1, 0, 0},
	} {
		n := instantly(t, 100, 10, 10*second, test.p, none)
		s := instantly(t, 100, 10, 10*second, test.p, strict)
		r := instantly(t, 100, 10, 10*second, test.p, refund)
		t.Logf("%5.2f  %.3f / %.4f  %.3f / %.4f  %.3f / %.4f  %.3f / %.4f", test.p, 1., 1-test.p,
			n.amplification(), n.success(), s.amplification(), s.success(),
			r.amplification(), r.success())
		// In these ten seconds the burst and the floor are 4 of each client's 100 calls.
		within(t, "the load with a budget", s.amplification(), 1, 1.14)
		within(t, "the load with refund", r.amplification(), 1, 1.30)
		within(t, "success with a budget", s.success(), test.strictLeast, 1)
		within(t, "success with refund", r.success(), max(test.refundLeast, s.success()-.01), 1)
		within(t, "success without", n.success(), max(0, .97-test.p*test.p*test.p), 1)
		worst = max(worst, n.amplification())
		if test.p == 1 {
			within(t, "in an outage, the load with a budget", s.amplification(), 1.02, 1.05)
			within(t, "in an outage, the load with refund", r.amplification(), 1.02, 1.05)
		}
	}
	within(t, "in an outage, the load without a budget", worst, 3, 3)
}

// The same by how many clients there are and how often each calls, which is where a
// large bucket that is full at first fails.
func TestSimBudgetByClients(t *testing.T) {
	strict := atOnce(func(*retry.Budget) {})
	refund := atOnce(func(b *retry.Budget) { b.Refund = true })
	large := atOnce(func(b *retry.Budget) { b.Burst = 100 })
	t.Log("attempts per call over 10 s; a large budget has a burst of 100")
	t.Logf("%7s %5s  %-25s  %-25s", "", "", "30 % fail", "all fail")
	t.Logf("%7s %5s  %7s %7s %9s  %7s %7s %9s", "clients", "rate",
		"budget", "refund", "a large", "budget", "refund", "a large")
	for _, test := range []struct {
		clients, rate int
		most          float64 // in an outage
	}{
		{10, 1, 1.41},
		{10, 10, 1.05},
		{10, 100, 1.01},
		{100, 1, 1.41},
		{100, 10, 1.05},
		{100, 100, 1.01},
		{1000, 1, 1.41},
		{1000, 10, 1.05},
	} {
		var row []float64
		for _, p := range []float64{.3, 1} {
			for _, policy := range []func() *retry.Policy{strict, refund, large} {
				l := instantly(t, test.clients, test.rate, 10*time.Second, p, policy)
				row = append(row, l.amplification())
			}
		}
		t.Logf("%7d %5d  %7.3f %7.3f %9.3f  %7.3f %7.3f %9.3f", test.clients, test.rate,
			row[0], row[1], row[2], row[3], row[4], row[5])
		within(t, "the load in an outage", row[3], 1, test.most)
		within(t, "the load in an outage with refund", row[4], 1, test.most)
		if test.rate >= 10 {
			within(t, "the load", row[0], 1, 1.14)
			within(t, "the load with refund", row[1], 1, 1.33)
		} else {
			within(t, "the load in an outage with a large budget", row[5], 3, 3)
		}
	}
}

// fleet has clients that call at a rate whether or not earlier calls have returned, with
// the waits of their policy, for a dependency that fails every attempt after a while.
func fleet(
	t *testing.T, clients, rate int, during, failsAfter time.Duration,
	do func(client int) func(context.Context, func(context.Context) error) error,
) (amplification float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var calls, attempts atomic.Int64
		fail := func(context.Context) error {
			attempts.Add(1)
			time.Sleep(failsAfter)
			return errBoom
		}
		rng := rand.New(rand.NewPCG(uint64(clients), uint64(rate)))
		var wg sync.WaitGroup
		for client := range clients {
			f := do(client)
			phase := time.Duration(rng.Int64N(int64(time.Second) / int64(rate)))
			wg.Go(func() {
				time.Sleep(phase)
				for began := time.Now(); time.Since(began) < during-phase; {
					calls.Add(1)
					wg.Go(func() { _ = f(t.Context(), fail) })
					time.Sleep(time.Second / time.Duration(rate))
				}
			})
		}
		wg.Wait()
		amplification = float64(attempts.Load()) / float64(calls.Load())
	})
	return amplification
}

func own(int) func(context.Context, func(context.Context) error) error {
	return new(retry.Policy).Do
}

// Nothing answers any more. What the zero policies of all clients together make of that:
// the figures in the package doc.
func TestSimFleetInATotalOutage(t *testing.T) {
	t.Log("attempts per call, each client with a zero Policy of its own")
	t.Logf("%7s %5s %6s %8s  %s", "clients", "rate", "for", "fails in", "load")
	for _, test := range []struct {
		clients, rate      int
		during, failsAfter time.Duration
		least, most        float64
	}{
		{1000, 1, 10 * time.Second, 10 * time.Millisecond, 1.25, 1.35},
		{1000, 1, time.Minute, 10 * time.Millisecond, 1.10, 1.2},
		{10, 100, 10 * time.Second, time.Millisecond, 1, 1.1},
		{10, 100, 10 * time.Second, 0, 1, 1.1},
		{10, 100, 10 * time.Second, time.Second, 1, 1.1},
		{10, 100, time.Minute, time.Millisecond, 1, 1.02},
	} {
		got := fleet(t, test.clients, test.rate, test.during, test.failsAfter, own)
		t.Logf("%7d %5d %6v %8v  %.3f", test.clients, test.rate, test.during, test.failsAfter, got)
		within(t, "the load", got, test.least, test.most)
	}
}

// inFlight is the kind of budget that looks at what is under way: retries are at most 20 %
// of the calls in flight, or three. What waits to be retried counts or does not.
type inFlight struct {
	countsWaits    bool
	calls, retries atomic.Int64
}

func (b *inFlight) begin() bool {
	if float64(b.retries.Add(1)) <= max(3, 0.2*float64(b.calls.Load())) {
		return true
	}
	b.retries.Add(-1)
	return false
}

func (b *inFlight) do(delay time.Duration) func(
	context.Context, func(context.Context) error,
) error {
	return func(ctx context.Context, fn func(context.Context) error) error {
		b.calls.Add(1)
		defer b.calls.Add(-1)
		err := fn(ctx)
		for range 2 {
			if b.countsWaits && !b.begin() {
				return err
			}
			time.Sleep(delay)
			if !b.countsWaits && !b.begin() {
				return err
			}
			err = fn(ctx)
			b.retries.Add(-1)
		}
		return err
	}
}

// A budget on the share of calls in flight does not bind when attempts fail in a
// millisecond: 500 calls a second are half a call in flight. What fails fast is just what
// a dependency does that refuses connections.
func TestSimBudgetOfCallsInFlight(t *testing.T) {
	const clients, rate = 1, 500
	t.Log("500 calls a second for 10 s, all fail; attempts per call")
	t.Logf("%8s  %-19s  %-19s  %-19s", "", "in flight", "waits count too", "ours")
	t.Logf("%8s  %9s %9s  %9s %9s  %9s %9s", "fails in", "no wait", "50ms", "no wait", "50ms",
		"no wait", "jitter")
	for _, failsAfter := range []time.Duration{
		time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second,
	} {
		var row []float64
		run := func(do func(context.Context, func(context.Context) error) error) {
			row = append(row, fleet(t, clients, rate, 10*time.Second, failsAfter,
				func(int) func(context.Context, func(context.Context) error) error { return do }))
		}
		for _, countsWaits := range []bool{false, true} {
			for _, delay := range []time.Duration{0, 50 * time.Millisecond} {
				run((&inFlight{countsWaits: countsWaits}).do(delay))
			}
		}
		run((&retry.Policy{Backoff: retry.Constant(0)}).Do)
		run((&retry.Policy{}).Do)
		t.Logf("%8v  %9.3f %9.3f  %9.3f %9.3f  %9.3f %9.3f", failsAfter,
			row[0], row[1], row[2], row[3], row[4], row[5])
		within(t, "ours, without a wait", row[4], 1, 1.01)
		within(t, "ours", row[5], 1, 1.01)
		if failsAfter == time.Millisecond {
			within(t, "in flight, without a wait", row[0], 2.9, 3)
			within(t, "in flight, after 50ms", row[1], 2.9, 3)
			within(t, "waits count too, without a wait", row[2], 2.9, 3)
		}
	}
}

// Three layers with three attempts each, in an outage. With budgets alone each layer adds
// its share; with one layer that retries there is nothing to multiply.
func TestSimThreeLayers(t *testing.T) {
	const calls = 1000
	always := func(error) bool { return true }
	t.Logf("%-34s %9s", "1000 calls through three layers", "attempts")
	for _, test := range []struct {
		name        string
		policy      func() *retry.Policy
		least, most float64
	}{
		{
			"each retries what fails",
			func() *retry.Policy {
				return with(hasty(), func(p *retry.Policy) { p.RetryIf = always })
			},
			27, 27,
		},
		{
			"each, with a budget",
			func() *retry.Policy {
				return &retry.Policy{Backoff: retry.Constant(0), RetryIf: always}
			},
			1.001, 1.1,
		},
		{"the innermost alone", hasty, 3, 3},
		{
			"the innermost alone, with a budget",
			func() *retry.Policy { return &retry.Policy{Backoff: retry.Constant(0)} },
			1.001, 1.01,
		},
	} {
		policies := []*retry.Policy{test.policy(), test.policy(), test.policy()}
		attempts := 0
		for range calls {
			n, err := stack(t.Context(), boom, policies...)
			if attempts += n; err == nil {
				t.Fatal("success")
			}
		}
		t.Logf("%-34s %9d", test.name, attempts)
		within(t, test.name, float64(attempts)/calls, test.least, test.most)
	}
}
