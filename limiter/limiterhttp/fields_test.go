package limiterhttp_test

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// matches reports whether all of got is described by pattern.
func matches(t *testing.T, pattern, got string) bool {
	t.Helper()
	return regexp.MustCompile("^(" + pattern + ")$").MatchString(got)
}

// fieldsOf returns the fields of a response to a request with such a result.
func fieldsOf(m limiterhttp.Middleware, result limiter.Result) (policy, limit string) {
	m.Store, m.Key = says(result, nil), user
	h := serve(m.Handler(ok), request("a")).Header()
	return strings.Join(h.Values("RateLimit-Policy"), " | "),
		strings.Join(h.Values("RateLimit"), " | ")
}

func TestFields(t *testing.T) {
	minute, day := rate.Every(time.Minute), rate.Every(24*time.Hour)
	granted := func(remaining int) limiter.Result {
		return limiter.Result{OK: true, Granted: 1, Remaining: remaining}
	}
	refused := func(after time.Duration, remaining int) limiter.Result {
		return limiter.Result{RetryAfter: after, Remaining: remaining}
	}
	const never = rate.InfDuration
	tests := []struct {
		name          string
		rate          rate.Limit
		burst         int
		result        limiter.Result
		policy, state string
	}{
		{"ten a second", 10, 50, granted(49), `q=50;w=5`, `r=49;t=5`},
		{"half of it is used: at the same rate", 10, 50, granted(25), `q=50;w=5`, `r=25;t=3`},
		{"one is left", 10, 50, granted(1), `q=50;w=5`, `r=1;t=1`},
		{"none is left: the next one comes soon", 10, 50, granted(0), `q=50;w=5`, `r=0;t=1`},
		{"a burst of less than a second", 100, 20, granted(19), `q=100;w=1`, `r=19;t=1`},
		{"a burst of one and a half", 10, 15, granted(14), `q=20;w=2`, `r=14;t=2`},
		{"two, but for a bit, a second", 1.9, 2, granted(1), `q=3;w=2`, `r=1;t=1`},
		{"a rate that is not exact", minute, 1, granted(0), `q=1;w=60`, `r=0;t=60`},
		{"a bit too low", 1.0 / 49, 10, granted(0), `q=10;w=490`, `r=0;t=49`},
		{"a bit too high", 15.0 / 11, 14, granted(0), `q=15;w=11`, `r=0;t=1`},
		{"a burst that hardly needs more", 1e7, 1e7 + 1, granted(0), `q=10000001;w=1`, `r=0;t=1`},
		{"one each ninety seconds", minute / 1.5, 7, granted(6), `q=7;w=630`, `r=6;t=540`},
		{"a thousand a day", 1000 * day, 1000, granted(999), `q=1000;w=86400`, `r=999;t=86314`},
		{"as fast as it gets", 1e300, 1, granted(1), `q=999999999999999;w=1`, `r=1;t=1`},
		{"as slow as it gets", 1e-7, 7, granted(6), `q=7;w=70000000`, `r=6;t=60000000`},

		{"refused", 0.1, 2, refused(9500*time.Millisecond, 0), `q=2;w=20`, `r=0;t=10`},
		{"refused for a moment", 100, 2, refused(1, 0), `q=100;w=1`, `r=0;t=1`},
		{"refused, with some left", 0.1, 5, refused(11*time.Second, 2), `q=5;w=50`, `r=2;t=11`},
		{"refused for its size", 0.1, 5, refused(never, 2), `q=5;w=50`, `r=2;t=20`},
		{"refused for ever", 0, 0, refused(never, 0), `q=0`, `r=0`},

		{"a store that cannot count", 10, 50, granted(-3), `q=50;w=5`, `r=0;t=1`},
		{
			"nor that", 1e-7, 1, granted(math.MaxInt32),
			`q=1;w=10000000`, `r=2147483647;t=999999999999999`,
		},
		{"nor the time", 10, 50, refused(0, 0), `q=50;w=5`, `r=0;t=1`},
		{"no limit", rate.Inf, 0, granted(math.MaxInt), "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limit := limiter.Limit{Rate: test.rate, Burst: test.burst}
			named := func(params string) string {
				if params == "" {
					return ""
				}
				return `"tenant";` + params
			}
			m := limiterhttp.Middleware{Name: "tenant", Limit: limit}
			policy, state := fieldsOf(m, test.result)
			if policy != named(test.policy) || state != named(test.state) {
				t.Errorf("%s and %s, want %s and %s", policy, state, test.policy, test.state)
			}
			m.HideFields = true
			if policy, state := fieldsOf(m, test.result); policy+state != "" {
				t.Errorf("hidden: %s %s", policy, state)
			}
			m = limiterhttp.Middleware{
				Name:     "tenant",
				LimitFor: func(*http.Request, string) limiter.Limit { return limit },
			}
			if again, _ := fieldsOf(m, test.result); again != policy {
				t.Errorf("with LimitFor %s, without %s", again, policy)
			}
		})
	}
}

// A client that spreads r over t goes at the Rate, but for the whole seconds: never faster,
// whatever is left, and no slower than by the second that t may be too long.
func TestFieldsTellTheRate(t *testing.T) {
	for _, limit := range []limiter.Limit{
		{Rate: 10, Burst: 50},
		{Rate: 0.1, Burst: 1},
		{Rate: 3, Burst: 7},
		{Rate: rate.Every(time.Minute), Burst: 13},
	} {
		for remaining := range limit.Burst {
			_, state := fieldsOf(limiterhttp.Middleware{Limit: limit},
				limiter.Result{OK: true, Remaining: remaining})
			var r, seconds float64
			if _, err := fmt.Sscanf(state, `"default";r=%f;t=%f`, &r, &seconds); err != nil {
				t.Fatal(state, err)
			}
			exact := max(1, r) / float64(limit.Rate)
			if seconds < exact-1e-5 || seconds >= exact+1 {
				t.Errorf("%v: %s, want t to be %.2f, rounded up", limit, state, exact)
			}
		}
	}
}

func TestFieldsName(t *testing.T) {
	for _, test := range []struct{ name, store, want string }{
		{"tenant", "store", `"tenant"`},
		{"", "store", `"default"`},
		{"two words, and more", "", `"two words, and more"`},
		{`a"b`, "", `"a\"b"`},
		{`a\b`, "", `"a\\b"`},
		{`\"`, "", `"\\\""`},
		{"größe", "", `"gr%c3%b6%c3%9fe"`},
		{"a\r\nSet-Cookie: b", "", `"a%0d%0aSet-Cookie: b"`},
		{"\x00\x1f ~\x7f\xff", "", `"%00%1f ~%7f%ff"`},
		{"100%", "", `"100%"`},
	} {
		m := limiterhttp.Middleware{Name: test.name, Limit: tenASecond}
		policy, state := fieldsOf(m, limiter.Result{Name: test.store, OK: true, Remaining: 1})
		if policy != test.want+";q=10;w=1" || state != test.want+";r=1;t=1" {
			t.Errorf("%q: %s and %s, want %s", test.name, policy, state, test.want)
		}
	}
}

// Whatever a name is, it is a String of RFC 9651, and so one line.
func FuzzFieldsName(f *testing.F) {
	for _, seed := range []string{"", "tenant", `"\`, "größe", "\r\n", "\xff", "a;q=1", `\`, `"`} {
		f.Add(seed)
	}
	str := regexp.MustCompile(`^"([ !#-\[\]-~]|\\["\\])*";r=1;t=1$`)
	unescape := strings.NewReplacer(`\\`, `\`, `\"`, `"`)
	f.Fuzz(func(t *testing.T, name string) {
		_, state := fieldsOf(limiterhttp.Middleware{Name: name, Limit: tenASecond},
			limiter.Result{OK: true, Remaining: 1})
		if !str.MatchString(state) {
			t.Fatalf("%q is %s", name, state)
		}
		printable := regexp.MustCompile(`^[ -~]+$`).MatchString(name)
		read := unescape.Replace(strings.TrimSuffix(state, `";r=1;t=1`)[1:])
		if printable && read != name {
			t.Errorf("%q is read as %q", name, read)
		}
	})
}

// Several limits are members of one list, in the order of the chain, on one line.
func TestFieldsOfSeveral(t *testing.T) {
	chain := func(last limiter.Result) http.Handler {
		h := http.Handler(ok)
		for _, m := range []limiterhttp.Middleware{
			{Name: "route", Store: says(last, nil), Limit: limiter.Limit{Rate: 1, Burst: 1}},
			{
				Name: "tenant", Limit: limiter.Limit{Rate: 10, Burst: 50},
				Store: says(limiter.Result{OK: true, Remaining: 49}, nil),
			},
			{
				Name: "address", Limit: limiter.Limit{Rate: 100, Burst: 200},
				Store: says(limiter.Result{OK: true, Remaining: 7}, nil),
			},
		} {
			m.Key = user
			h = m.Handler(h)
		}
		return h
	}
	for _, test := range []struct {
		result limiter.Result
		status int
	}{
		{limiter.Result{OK: true}, 200},
		{limiter.Result{RetryAfter: time.Second}, 429},
	} {
		w := serve(chain(test.result), request("a"))
		h := w.Header()
		policy := `"address";q=200;w=2, "tenant";q=50;w=5, "route";q=1;w=1`
		state := `"address";r=7;t=1, "tenant";r=49;t=5, "route";r=0;t=1`
		if got := h.Values("RateLimit-Policy"); len(got) != 1 || got[0] != policy {
			t.Errorf("%q", got)
		}
		if got := h.Values("RateLimit"); len(got) != 1 || got[0] != state {
			t.Errorf("%q", got)
		}
		refused := w.Code == 429
		if w.Code != test.status ||
			refused != strings.Contains(w.Body.String(), `"violated-policies":["route"]`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// What earlier handlers have set stays as it is, and what they hold on to does too.
func TestFieldsOfOthersStay(t *testing.T) {
	theirs := []string{`"a";r=1`, `"b";r=2`}
	m := limiterhttp.Middleware{
		Name: "c", Store: says(limiter.Result{OK: true}, nil), Key: user, Limit: tenASecond,
	}
	w := discard{"Ratelimit": theirs}
	m.Handler(ok).ServeHTTP(w, request("a"))
	if got := w.Header().Get("RateLimit"); got != `"a";r=1, "b";r=2, "c";r=0;t=1` {
		t.Error(got)
	}
	if theirs[0] != `"a";r=1` {
		t.Errorf("%q was changed", theirs)
	}
}
