package shedhttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

// received returns what a handler knows of who has sent a request.
func received(t *testing.T, m *shedhttp.Middleware, r *http.Request) hop.Sender {
	t.Helper()
	if m.Shedder == nil {
		m.Shedder = by(nil)
	}
	got, called := hop.Sender{}, false
	serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, called = hop.SenderOf(r.Context()), true
	})), r)
	if !called {
		t.Fatal("the handler was not called")
	}
	return got
}

const (
	none          = uint8(0)
	bestEffort    = uint8(shed.BestEffort)
	sheddable     = uint8(shed.Sheddable)
	sheddablePlus = uint8(shed.SheddablePlus)
	critical      = uint8(shed.Critical)
	criticalPlus  = uint8(shed.CriticalPlus)
)

// The class of a request by what it says and by what the server knows: from anybody it
// is never above the server's, and of those who are trusted it is what they say.
func TestCriticality(t *testing.T) {
	said := func(values ...string) []string {
		var fields []string
		for _, value := range values {
			fields = append(fields, "Stormjib-Criticality", value)
		}
		return fields
	}
	for _, test := range []struct {
		name            string
		fields          []string
		own             shed.Criticality // by the server's function
		anybody, friend uint8
	}{
		{"says nothing", nil, 0, none, none},
		{"a lower one", said("sheddable"), 0, sheddable, sheddable},
		{"the lowest", said("best-effort"), 0, bestEffort, bestEffort},
		{"the default", said("critical"), 0, none, critical},
		{"a higher one", said("critical-plus"), 0, none, criticalPlus},
		{"above its route's", said("critical"), shed.Sheddable, sheddable, critical},
		{"below its route's", said("critical"), shed.CriticalPlus, critical, critical},
		{"far below", said("best-effort"), shed.CriticalPlus, bestEffort, bestEffort},
		{"nothing, with its route's", nil, shed.SheddablePlus, sheddablePlus, sheddablePlus},
		{"a route's that is none", nil, 6, none, none},
		{"a route's that is far from one", said("sheddable"), 255, sheddable, sheddable},

		{"unknown", said("urgent"), 0, none, none},
		{"unknown, with its route's", said("urgent"), shed.Sheddable, sheddable, sheddable},
		{"out of range", said("6"), 0, none, none},
		{"by number", said("1"), 0, none, none},
		{"empty", said(""), 0, none, none},
		{"overlong", said(strings.Repeat("best-effort", 1e5)), 0, none, none},
		{"overlong parameters", said("best-effort;" + strings.Repeat("v;", 1e5)), 0, none, none},
		{"twice", said("sheddable", "critical-plus"), 0, none, none},
		{"a list", said("sheddable, critical-plus"), 0, none, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &shedhttp.Middleware{
				Criticality: func(*http.Request) shed.Criticality { return test.own },
			}
			if got := received(t, m, incoming(test.fields...)); got.Criticality != test.anybody {
				t.Errorf("from anybody: %d, want %d", got.Criticality, test.anybody)
			}
			m.Trust = anybody
			if got := received(t, m, incoming(test.fields...)); got.Criticality != test.friend {
				t.Errorf("from a friend: %d, want %d", got.Criticality, test.friend)
			}
		})
	}
}

// What browsers say lowers a class and never raises it.
func TestBrowsers(t *testing.T) {
	for _, test := range []struct {
		fields []string
		want   uint8
	}{
		{[]string{"Priority", "u=0, i"}, none},
		{[]string{"Priority", "u=3"}, none},
		{[]string{"Priority", "u=4"}, none},
		{[]string{"Priority", "u=5, i"}, sheddablePlus},
		{[]string{"Priority", "i, u=6"}, sheddable},
		{[]string{"Priority", "i,\tu=7;x=1 ,y"}, bestEffort},
		{[]string{"Priority", "u=7, u=1"}, none}, // the last counts
		{[]string{"Priority", "u=1", "Priority", "u=6"}, sheddable},
		{[]string{"Priority", "u=7, u=x"}, bestEffort},
		{[]string{"Priority", "u=8"}, none},
		{[]string{"Priority", "u=7, u=8"}, bestEffort},
		{[]string{"Priority", "u=7, u=10"}, bestEffort},
		{[]string{"Priority", "u=-7"}, none},
		{[]string{"Priority", "u=7.0"}, none},
		{[]string{"Priority", "u=07"}, none},
		{[]string{"Priority", "u"}, none},
		{[]string{"Priority", "u="}, none},
		{[]string{"Priority", "U=7"}, none},
		{[]string{"Priority", "xu=7"}, none},
		{[]string{"Priority", "u=7" + strings.Repeat(",i", 1e5)}, none},
		{[]string{"Sec-Purpose", "prefetch"}, bestEffort},
		{[]string{"Sec-Purpose", "prefetch;prerender"}, bestEffort},
		{[]string{"Sec-Purpose", " prefetch ; anonymous-client-ip"}, bestEffort},
		{[]string{"Sec-Purpose", "prefetched"}, none},
		{[]string{"Sec-Purpose", "prefetch, other"}, none},
		{[]string{"Sec-Purpose", "prefetch", "Priority", "u=0"}, bestEffort},
		{[]string{"Stormjib-Criticality", "sheddable", "Priority", "u=0"}, sheddable},
		{[]string{"Stormjib-Criticality", "critical-plus", "Priority", "u=7"}, bestEffort},
	} {
		r := incoming(test.fields...)
		if got := received(t, &shedhttp.Middleware{}, r); got.Criticality != test.want {
			t.Errorf("%.80q: %d, want %d", test.fields, got.Criticality, test.want)
		}
	}
	// Of who is trusted the field for it says all there is to say: a proxy has seen the others.
	m := &shedhttp.Middleware{Trust: anybody}
	r := incoming("Stormjib-Criticality", "critical-plus", "Priority", "u=7")
	if got := received(t, m, r); got.Criticality != criticalPlus {
		t.Errorf("from a friend: %d", got.Criticality)
	}
	if got := received(t, m, incoming("Priority", "u=7")); got.Criticality != bestEffort {
		t.Errorf("from a friend without the field: %d", got.Criticality)
	}
}

// A tenant is believed of those who are trusted: who may choose one has no share to keep to.
func TestTenant(t *testing.T) {
	megabyte := `"` + strings.Repeat("x", 1<<20) + `"`
	for _, test := range []struct {
		name            string
		fields          []string
		own             string // by the server's function
		anybody, friend string
	}{
		{"none", nil, "", "outside", "outside"},
		{"says one", []string{"Stormjib-Tenant", `"acme"`}, "", "outside", "acme"},
		{"its own", nil, "gateway", "gateway", "gateway"},
		{"for another", []string{"Stormjib-Tenant", `"acme"`}, "gateway", "gateway", "acme"},
		{"a megabyte", []string{"Stormjib-Tenant", megabyte}, "gateway", "gateway", "gateway"},
		{"a megabyte of its own", nil, megabyte, "", ""},
		{
			"twice",
			[]string{"Stormjib-Tenant", "a", "Stormjib-Tenant", "b"},
			"gateway", "gateway", "gateway",
		},
		{"broken", []string{"Stormjib-Tenant", `"acme`}, "gateway", "gateway", "gateway"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &shedhttp.Middleware{Tenant: func(*http.Request) string { return test.own }}
			send := func() string {
				r := incoming(test.fields...)
				r = r.WithContext(stormjib.WithTenant(t.Context(), "outside"))
				return received(t, m, r).Tenant
			}
			if got := send(); got != test.anybody {
				t.Errorf("from anybody: %.20q, want %q", got, test.anybody)
			}
			m.Trust = anybody
			if got := send(); got != test.friend {
				t.Errorf("from a friend: %.20q, want %q", got, test.friend)
			}
		})
	}
}

// The attempt is believed of anybody: it makes a request go later.
func TestAttempt(t *testing.T) {
	for _, test := range []struct {
		fields []string
		want   int
	}{
		{nil, 0},
		{[]string{"Stormjib-Attempt", "2"}, 2},
		{[]string{"X-Envoy-Attempt-Count", "3"}, 3},
		{[]string{"Stormjib-Attempt", "4", "X-Envoy-Attempt-Count", "3"}, 4},
		{[]string{"Stormjib-Attempt", "2", "X-Envoy-Attempt-Count", "3"}, 3},
		{[]string{"Stormjib-Attempt", "999999999999999"}, 65535},
		{[]string{"Stormjib-Attempt", "99999999999999999999"}, 0},
		{[]string{"Stormjib-Attempt", "-3"}, 0},
		{[]string{"Stormjib-Attempt", "many"}, 0},
	} {
		got := received(t, &shedhttp.Middleware{}, incoming(test.fields...)).Attempt
		if got != test.want {
			t.Errorf("%q: %d, want %d", test.fields, got, test.want)
		}
	}
	r := incoming("Stormjib-Attempt", "2")
	r = r.WithContext(hop.WithSender(t.Context(), hop.Sender{Attempt: 3}))
	if got := received(t, &shedhttp.Middleware{}, r).Attempt; got != 3 {
		t.Errorf("known outside: %d, want 3", got)
	}
}

// A time that is shorter than the server's is believed of anybody, and a longer one of nobody.
func TestTimeLeft(t *testing.T) {
	const own = time.Minute
	for _, test := range []struct {
		fields  []string
		want    time.Duration // 0: none
		wantOwn time.Duration // where the server has one
	}{
		{nil, 0, own},
		{[]string{"Stormjib-Timeout-Ms", "1500"}, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{[]string{"Stormjib-Timeout-Ms", "3600000"}, time.Hour, own},
		{[]string{"Stormjib-Timeout-Ms", "86400001"}, 0, own},
		{[]string{"Stormjib-Timeout-Ms", "999999999999999"}, 0, own},
		{[]string{"Stormjib-Timeout-Ms", "soon"}, 0, own},
		{[]string{"Stormjib-Timeout-Ms", "0.5"}, 0, own},
		{[]string{"Stormjib-Timeout-Ms", "1", "Stormjib-Timeout-Ms", "2"}, 0, own},
		{[]string{"X-Envoy-Expected-Rq-Timeout-Ms", "1000"}, time.Second, time.Second},
		{[]string{"X-Envoy-Expected-Rq-Timeout-Ms", "0"}, 0, own},
		{
			[]string{"Stormjib-Timeout-Ms", "20", "X-Envoy-Expected-Rq-Timeout-Ms", "10"},
			10 * time.Millisecond, 10 * time.Millisecond,
		},
		{
			[]string{"Stormjib-Timeout-Ms", "10", "X-Envoy-Expected-Rq-Timeout-Ms", "20"},
			10 * time.Millisecond, 10 * time.Millisecond,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			check := func(ctx context.Context, want time.Duration) {
				called := false
				m := &shedhttp.Middleware{Shedder: by(nil)}
				serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					called = true
					got := time.Duration(0)
					if d, ok := r.Context().Deadline(); ok {
						got = time.Until(d)
					}
					if got != want {
						t.Errorf("%q: %v is left, want %v", test.fields, got, want)
					}
				})), incoming(test.fields...).WithContext(ctx))
				if !called {
					t.Errorf("%q: refused", test.fields)
				}
			}
			check(t.Context(), test.want)
			ctx, cancel := context.WithTimeout(t.Context(), own)
			defer cancel()
			check(ctx, test.wantOwn)
		})
	}
}

// Who is believed on one thing has not said the others.
func TestTrustedSaysLittle(t *testing.T) {
	m := &shedhttp.Middleware{
		Trust: anybody, Tenant: func(*http.Request) string { return "gateway" },
		Criticality: func(*http.Request) shed.Criticality { return shed.CriticalPlus },
	}
	got := received(t, m, incoming("Stormjib-Criticality", "sheddable"))
	if want := (hop.Sender{Criticality: sheddable, Tenant: "gateway"}); got != want {
		t.Errorf("a class: %+v, want %+v", got, want)
	}
	got = received(t, m, incoming("Stormjib-Tenant", `"acme"`))
	if want := (hop.Sender{Criticality: criticalPlus, Tenant: "acme"}); got != want {
		t.Errorf("a tenant: %+v, want %+v", got, want)
	}
}

// Trust is asked once, about requests that say what it takes trust to believe, or a time, of
// which it makes a difference whose it is.
func TestTrustIsAsked(t *testing.T) {
	for field, want := range map[string]int{
		"Stormjib-Criticality": 1, "Stormjib-Tenant": 1, "Stormjib-Attempt": 0, "Priority": 0,
	} {
		n := 0
		m := &shedhttp.Middleware{Trust: func(*http.Request) bool { n++; return true }}
		received(t, m, incoming(field, map[string]string{
			"Stormjib-Criticality": "critical", "Stormjib-Tenant": "acme",
		}[field]))
		if n != want {
			t.Errorf("%s: asked %d times", field, n)
		}
	}
}

// What was known outside stays known: of a handler before this one, or another Middleware.
func TestKnownOutside(t *testing.T) {
	ctx := stormjib.WithTenant(shed.WithCriticality(t.Context(), shed.Sheddable), "acme")
	inner := &shedhttp.Middleware{Shedder: by(nil)}
	var got hop.Sender
	outer := &shedhttp.Middleware{Shedder: by(nil)}
	type key struct{}
	ctx = context.WithValue(ctx, key{}, "kept")
	r := incoming("Stormjib-Criticality", "critical-plus", "Stormjib-Attempt", "2")
	serve(outer.Handler(inner.Handler(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			got = hop.SenderOf(r.Context())
			if r.Context().Value(key{}) != "kept" {
				t.Error("another value is lost")
			}
		}))), r.WithContext(ctx))
	if want := (hop.Sender{Criticality: sheddable, Attempt: 2, Tenant: "acme"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Whatever anybody writes, he gets no class above the server's, no tenant, no later end.
func FuzzHeader(f *testing.F) {
	f.Add("critical-plus", `"acme"`, "1500", "2", "u=7, i", "prefetch")
	f.Add("sheddable;v", ":Y2Fmw6k=:", "-1", "65536", `x="u=7, u=1"`, "prefetch;prerender")
	f.Add("", "", "86400001", "0", "u=", ";")
	f.Fuzz(func(t *testing.T, criticality, tenant, timeout, attempt, priority, purpose string) {
		r := incoming()
		for name, value := range map[string]string{
			"Stormjib-Criticality": criticality, "Stormjib-Tenant": tenant,
			"Stormjib-Timeout-Ms": timeout, "Stormjib-Attempt": attempt,
			"X-Envoy-Attempt-Count": timeout, "X-Envoy-Expected-Rq-Timeout-Ms": attempt,
			"Priority": priority, "Sec-Purpose": purpose,
		} {
			r.Header.Set(name, value)
		}
		limit := time.Now().Add(time.Hour)
		ctx, cancel := context.WithDeadline(t.Context(), limit)
		defer cancel()
		ctx = shed.WithCriticality(ctx, shed.SheddablePlus)
		r = r.WithContext(ctx)
		m := &shedhttp.Middleware{Shedder: by(nil)}
		check := func(highest shed.Criticality, named bool) {
			serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s := hop.SenderOf(r.Context())
				if s.Criticality < bestEffort || s.Criticality > uint8(highest) {
					t.Errorf("criticality %d", s.Criticality)
				}
				if s.Tenant != "" && !named || len(s.Tenant) > 256 {
					t.Errorf("tenant %q", s.Tenant)
				}
				if s.Attempt < 0 || s.Attempt > 65535 {
					t.Errorf("attempt %d", s.Attempt)
				}
				if d, ok := r.Context().Deadline(); !ok || d.After(limit) {
					t.Errorf("deadline %v", d)
				}
			})), r)
		}
		check(shed.SheddablePlus, false)
		m.Trust = anybody
		check(shed.CriticalPlus, true)
	})
}
