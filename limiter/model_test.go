package limiter_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// model is a token bucket as one would write it down: a number of tokens, which grows
// with time up to the burst.
type model struct {
	limit  limiter.Limit
	tokens float64
	at     time.Time
}

// near is how far the two may be apart, in tokens: they round differently.
const near = 1e-3

func (m *model) pass() {
	if m.limit.Rate != rate.Inf {
		came := time.Since(m.at).Seconds() * float64(m.limit.Rate)
		m.tokens = min(m.tokens+came, float64(m.limit.Burst))
	}
	m.at = time.Now()
}

func (m *model) set(l limiter.Limit) {
	m.pass()
	was := m.limit.Rate
	m.limit = l
	switch {
	case l.Rate == rate.Inf:
	case l.Rate == 0 || was == 0:
		m.tokens = 0
	case was == rate.Inf:
		m.tokens = float64(l.Burst)
	}
	m.tokens = min(m.tokens, float64(l.Burst))
}

// check compares what l says of n with what it should, and goes on with what it did.
func (m *model) check(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	m.pass()
	got := l.Check(n)
	missing := float64(n) - m.tokens
	if m.limit.Rate == rate.Inf {
		missing = math.Inf(-1)
	}
	switch {
	case n < 1 || m.limit.Rate == 0 || n > m.limit.Burst && m.limit.Rate != rate.Inf:
		if got.OK || got.RetryAfter != rate.InfDuration {
			t.Fatalf("got %+v for %d, which can't be", got, n)
		}
	case got.OK != (missing <= 0) && math.Abs(missing) > near:
		t.Fatalf("got %+v for %d, with %v missing", got, n, missing)
	case !got.OK:
		wait := missing / float64(m.limit.Rate)
		if math.Abs(got.RetryAfter.Seconds()-wait) > near/float64(m.limit.Rate)+1e-9 {
			t.Fatalf("got %+v for %d, want to wait for %v s", got, n, wait)
		}
	case m.limit.Rate != rate.Inf:
		m.tokens -= float64(n)
	}
	if m.limit.Rate == rate.Inf {
		return
	}
	if whole := float64(got.Remaining); whole > m.tokens+near || whole < m.tokens-1-near {
		t.Fatalf("got %+v, want %v left", got, m.tokens)
	}
	if m.limit.Rate != 0 {
		reset := (float64(m.limit.Burst) - m.tokens) / float64(m.limit.Rate)
		if math.Abs(got.ResetAfter.Seconds()-reset) > near/float64(m.limit.Rate)+1e-9 {
			t.Fatalf("got %+v, want it full in %v s", got, reset)
		}
	}
}

// FuzzModel plays a script, two bytes a step, on a limiter and on the model.
func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		script := make([]byte, 800)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { play(t, script) })
	})
}

func play(t *testing.T, script []byte) {
	t.Helper()
	limits := []limiter.Limit{
		limit(10, 10), limit(1, 10), limit(100, 10), limit(10, 3), limit(10, 50), limit(0.3, 7),
		limit(1000, 1000), limit(3, 3), limit(rate.Inf, 0),
		{},
		limit(7, 20),
	}
	l := limiter.New(limiter.Config{Limit: limits[0]})
	m := &model{limit: limits[0], tokens: 10, at: time.Now()}
	for ; len(script) >= 2; script = script[2:] {
		op, arg := script[0], int(script[1])
		switch {
		case op < 150:
			m.check(t, l, arg%12)
		case op < 155:
			m.check(t, l, -arg)
		case op < 235:
			time.Sleep(time.Duration(arg*arg) * time.Millisecond / 16)
		default:
			to := limits[arg%len(limits)]
			set(t, l, to)
			m.set(to)
		}
		m.pass()
		want := m.tokens
		if m.limit.Rate == rate.Inf {
			want = float64(rate.Inf)
		}
		if s := l.Stats(); math.Abs(s.Tokens-want) > near || s.Limit != m.limit {
			t.Fatalf("%+v, want %v tokens of %v", s, want, m.limit)
		}
	}
}
