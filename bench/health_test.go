package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	alex "github.com/alexliesenfeld/health"
	hellofresh "github.com/hellofresh/health-go/v5"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

func BenchmarkProbe(b *testing.B)         { serial(b, probing(b)) }
func BenchmarkProbeParallel(b *testing.B) { parallel(b, probing(b)) }

const (
	probed   = "A probe of readiness, three checks"
	budgeted = "An event for an error budget"
)

func addHealth(tb testing.TB, rs *rows) {
	tb.Helper()
	rs.add(probed, 0, probing(tb))
	find(*rs, probed, "stormjib").goals = []goal{atMost(1000)}
	rs.add(budgeted, 0, budgets())
}

// probing are handlers with three checks that pass, as they are asked by a balancer. The check
// does nothing, so that what is measured is what a library adds.
func probing(tb testing.TB) []contender {
	tb.Helper()
	return []contender{
		{"stormjib", probe("/readyz", ourProbes(tb, passes))},
		{"stormjib-json", probe("/readyz?verbose&format=json", ourProbes(tb, passes))},
		{"alexliesenfeld-periodic", probe("/", alexPeriodic(tb, passes))},
		{"alexliesenfeld-cached", probe("/", alexInline(passes))},
		{"hellofresh", probe("/", hellofreshInline(passes))},
	}
}

func passes(context.Context) error { return nil }

var errProbe = errors.New("not ready")

// probe sends requests to a handler, whose answers are not kept.
func probe(target string, h http.Handler) func(int) error {
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	return func(n int) error {
		// One for each goroutine of a benchmark.
		w := &discard{header: http.Header{}}
		for range n {
			clear(w.header)
			h.ServeHTTP(w, r)
		}
		if w.status >= http.StatusBadRequest {
			return errProbe
		}
		return nil
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header            { return d.header }
func (d *discard) Write(text []byte) (int, error) { return len(text), nil }
func (d *discard) WriteHeader(status int)         { d.status = status }

func ourProbes(tb testing.TB, check func(context.Context) error) http.Handler {
	tb.Helper()
	var cfg health.Config
	for i := range 3 {
		cfg.Checks = append(cfg.Checks, health.Check{Name: "check" + strconv.Itoa(i), Func: check})
	}
	h := health.New(cfg)
	h.Start(context.Background())
	tb.Cleanup(h.Stop)
	for range h.Watch(tb.Context()) {
		if h.Ready() || check(context.Background()) != nil {
			break
		}
	}
	return &healthhttp.Probes{Health: h}
}

func alexChecks(
	with func(alex.Check) alex.CheckerOption, check func(context.Context) error,
	options ...alex.CheckerOption,
) alex.Checker {
	for i := range 3 {
		options = append(options, with(alex.Check{Name: "check" + strconv.Itoa(i), Check: check}))
	}
	return alex.NewChecker(options...)
}

func alexInline(check func(context.Context) error) http.Handler {
	// It is started for periodic checks alone, and otherwise runs all of them once while it
	// holds the lock that probes take.
	return alex.NewHandler(alexChecks(alex.WithCheck, check, alex.WithDisabledAutostart()))
}

func alexPeriodic(tb testing.TB, check func(context.Context) error) http.Handler {
	tb.Helper()
	checker := alexChecks(func(c alex.Check) alex.CheckerOption {
		return alex.WithPeriodicCheck(10*time.Second, 0, c)
	}, check)
	tb.Cleanup(checker.Stop)
	return alex.NewHandler(checker)
}

func hellofreshInline(check func(context.Context) error) http.Handler {
	var checks []hellofresh.Config
	for i := range 3 {
		checks = append(checks, hellofresh.Config{
			Name: "check" + strconv.Itoa(i), Check: check, Timeout: time.Second,
		})
	}
	h, err := hellofresh.New(hellofresh.WithChecks(checks...))
	if err != nil {
		panic(err)
	}
	return h.Handler()
}

// BenchmarkProbeHung is a thousand probes while one check hangs: the metric is the time below
// which 99 of 100 are. With checks that run for a probe it is their timeout, and nothing to
// measure; see TestDifferenceHungCheck.
func BenchmarkProbeHung(b *testing.B) {
	over := make(chan struct{})
	defer close(over)
	h := health.New(health.Config{Checks: []health.Check{
		{Name: "good", Func: passes},
		{Name: "hung", Class: health.Info, Func: func(context.Context) error {
			<-over
			return nil
		}},
	}})
	h.Start(b.Context())
	for range h.Watch(b.Context()) {
		if h.Ready() {
			break
		}
	}
	ask := probe("/readyz", &healthhttp.Probes{Health: h})
	var slowest time.Duration
	for b.Loop() {
		times := make([]time.Duration, 1000)
		for i := range times {
			begun := time.Now()
			if ask(1) != nil {
				b.Fatal("not ready")
			}
			times[i] = time.Since(begun)
		}
		slices.Sort(times)
		slowest = max(slowest, times[989])
	}
	b.ReportMetric(float64(slowest.Nanoseconds()), "p99-ns")
}

// TestDifferenceHungCheck is about probes of a replica one of whose checks hangs.
func TestDifferenceHungCheck(t *testing.T) {
	took := func(h http.Handler) time.Duration {
		begun := time.Now()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return time.Since(begun)
	}
	heeds := func(ctx context.Context) error { // or the peer's goroutines would outlive the test
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Checks: []health.Check{{Name: "hung", Func: heeds}}})
		h.Start(t.Context())
		fact(t, took(&healthhttp.Probes{Health: h}) == 0, "a probe of stormjib waits for no check")
		fact(t, took(alexInline(heeds)) == 10*time.Second,
			"one of alexliesenfeld/health waits for a check until its timeout, 10s if none is set")
	})
}

// TestDifferenceClientGone is about a client that goes away in the midst of its probe, and
// what the next one is told of a replica that is well.
func TestDifferenceClientGone(t *testing.T) {
	slowly := func(ctx context.Context) error {
		select {
		case <-time.After(100 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	next := func(t *testing.T, h http.Handler) int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		time.Sleep(200 * time.Millisecond)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code
	}
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Checks: []health.Check{{Name: "slow", Func: slowly}}})
		h.Start(t.Context())
		fact(t, next(t, &healthhttp.Probes{Health: h}) == http.StatusOK,
			"a client that goes away does not change what stormjib answers to the next")
		fact(t, next(t, alexInline(slowly)) == http.StatusServiceUnavailable,
			"alexliesenfeld/health runs checks for the client, and keeps that they were cut off")
	})
}
