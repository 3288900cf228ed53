package hop_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
)

func TestParseRefusal(t *testing.T) {
	shed := hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}
	tests := []struct {
		name, value string
		want        hop.Refusal // zero: no refusal
	}{
		{"a reason alone is of this replica", "shed", shed},
		{"replica", "shed;scope=replica", shed},
		{"full", "full;scope=replica", hop.Refusal{Reason: hop.Full, Scope: hop.Replica}},
		{"service", "open;scope=service", hop.Refusal{Reason: hop.Open, Scope: hop.Service}},
		{
			"no retry", "limit;scope=service;retry=?0",
			hop.Refusal{Reason: hop.Limit, Scope: hop.Service, NoRetry: true},
		},
		{
			"in another order", "limit;retry=?0;scope=service",
			hop.Refusal{Reason: hop.Limit, Scope: hop.Service, NoRetry: true},
		},
		{"retry allowed", "shed;retry=?1", shed},
		{"spaces", " shed; scope=replica ", shed},

		// What a later version may send.
		{"a reason not known", "drain-2", hop.Refusal{Reason: "drain-2", Scope: hop.Replica}},
		{"a scope not known is the smallest", "shed;scope=zone", shed},
		{"a parameter not known", "shed;class=batch;scope=replica", shed},
		{"a parameter without a value", "shed;dry;scope=replica", shed},
		{"a name that ends like a known one", "shed;no-retry=?0;myscope=service", shed},
		{"a known parameter inside a string", `shed;text="a;retry=?0;scope=service"`, shed},
		{"the last of the same name counts", "shed;scope=service;scope=replica", shed},

		{"nothing", "", hop.Refusal{}},
		{"only parameters", ";scope=replica", hop.Refusal{}},
		{"a string", `"shed"`, hop.Refusal{}},
		{"a number", "503", hop.Refusal{}},
		{"a boolean", "?1", hop.Refusal{}},
		{"two tokens", "shed open", hop.Refusal{}},
		{"a list", "shed, open", hop.Refusal{}},
		{"a capital", "Shed", hop.Refusal{}},
		{"a line end inside", "sh\r\ned", hop.Refusal{}},
		{"not ASCII", "shéd", hop.Refusal{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := hop.ParseRefusal(test.value)
			if got != test.want || ok != (test.want != hop.Refusal{}) {
				t.Errorf("ParseRefusal(%q) = %+v, %t; want %+v", test.value, got, ok, test.want)
			}
		})
	}
}

func TestRefusalString(t *testing.T) {
	tests := []struct {
		name    string
		refusal hop.Refusal
		want    string
	}{
		{"replica", hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}, "shed;scope=replica"},
		{
			"no retry",
			hop.Refusal{Reason: hop.Open, Scope: hop.Service, NoRetry: true},
			"open;scope=service;retry=?0",
		},
		{"a scope not said", hop.Refusal{Reason: hop.Limit}, "limit;scope=replica"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.refusal.String(); got != test.want {
				t.Errorf("%+v is %q, want %q", test.refusal, got, test.want)
			}
		})
	}
}

// A server and a client that disagree about a refusal are a breaker that opens on a
// server which does its work.
func TestRefusalRoundTrip(t *testing.T) {
	for _, reason := range []string{hop.Shed, hop.Limit, hop.Open, "later_1"} {
		for _, scope := range []string{hop.Replica, hop.Service} {
			for _, noRetry := range []bool{false, true} {
				sent := hop.Refusal{Reason: reason, Scope: scope, NoRetry: noRetry}
				if got, ok := hop.ParseRefusal(sent.String()); got != sent || !ok {
					t.Errorf("ParseRefusal(%q) = %+v, %t; want %+v", sent, got, ok, sent)
				}
			}
		}
	}
}

// The field's name is canonical: header maps are also read without Get.
func TestRefusalField(t *testing.T) {
	if got := http.CanonicalHeaderKey(hop.RefusalField); got != hop.RefusalField {
		t.Errorf("RefusalField is %q, canonical %q", hop.RefusalField, got)
	}
}

// now is the moment of RFC 9110's own examples of dates.
var now = time.Date(1994, time.November, 6, 8, 49, 37, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	const most = 9223372036 * time.Second
	tests := []struct {
		name, value, date string
		want              time.Duration // below 0: not readable
	}{
		{"seconds", "120", "", 120 * time.Second},
		{"none", "0", "", 0},
		{"spaces", " 7\t", "", 7 * time.Second},
		{
			"a Date does not matter to seconds",
			"7", "Sun, 06 Nov 1994 09:49:37 GMT", 7 * time.Second,
		},
		{"below none", "-5", "", 0},
		{"the most that fits", "9223372036", "", most},
		{"more than a Duration holds", "9223372037", "", most},
		{"more than an int64 holds", "99999999999999999999", "", most},
		{"less than an int64 holds", "-99999999999999999999", "", 0},

		{"a date", "Sun, 06 Nov 1994 08:50:07 GMT", "", 30 * time.Second},
		{"a date of RFC 850", "Sunday, 06-Nov-94 08:50:07 GMT", "", 30 * time.Second},
		{"a date of asctime", "Sun Nov  6 08:50:07 1994", "", 30 * time.Second},
		{"now", "Sun, 06 Nov 1994 08:49:37 GMT", "", 0},
		{"the past", "Sun, 06 Nov 1994 08:49:36 GMT", "", 0},
		{"the far past", "Mon, 01 Jan 0001 00:00:00 GMT", "", 0},
		{"the far future", "Fri, 31 Dec 9999 23:59:59 GMT", "", math.MaxInt64},

		// Clocks disagree by minutes all the time: a server that is an hour ahead
		// must not silence its clients for that hour.
		{
			"a sender whose clock is ahead", "Sun, 06 Nov 1994 09:50:07 GMT",
			"Sun, 06 Nov 1994 09:49:37 GMT", 30 * time.Second,
		},
		{
			"a sender whose clock is behind", "Sun, 06 Nov 1994 07:50:07 GMT",
			"Sunday, 06-Nov-94 07:49:37 GMT", 30 * time.Second,
		},
		{"a Date that is none", "Sun, 06 Nov 1994 08:50:07 GMT", "soon", 30 * time.Second},

		{"empty", "", "", -1},
		{"only spaces", "  ", "", -1},
		{"a word", "soon", "", -1},
		{"a fraction", "1.5", "", -1},
		{"an exponent", "1e3", "", -1},
		{"a base", "0x10", "", -1},
		{"separators", "1_000", "", -1},
		{"a unit", "5s", "", -1},
		{"two numbers", "5, 6", "", -1},
		{"a date of another form", "1994-11-06T08:50:07Z", "", -1},
		{"a day that is not", "Sun, 31 Nov 1994 08:50:07 GMT", "", -1},
		{"a date and more", "Sun, 06 Nov 1994 08:50:07 GMT!", "", -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want, readable := max(test.want, 0), test.want >= 0
			got, ok := hop.ParseRetryAfter(test.value, test.date, now)
			if got != want || ok != readable {
				t.Errorf("ParseRetryAfter(%q, %q) = %v, %t; want %v, %t",
					test.value, test.date, got, ok, want, readable)
			}
		})
	}
}

// Both fields come from whoever answers, so from anybody.
func FuzzParseRefusal(f *testing.F) {
	for _, seed := range []string{
		"shed;scope=replica", "open;scope=service;retry=?0", "shed", "", ";", "shed;;",
		"shed;scope=",
		" limit ; retry=?0 ", `shed;text="a;retry=?0"`, "x-1_y;scope=\x00", "shed, open", "é",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		first, ok := hop.ParseRefusal(value)
		if !ok {
			if first != (hop.Refusal{}) {
				t.Errorf("ParseRefusal(%q) reports false with %+v", value, first)
			}
			return
		}
		if again, ok := hop.ParseRefusal(first.String()); !ok || again != first {
			t.Errorf("%q is %+v, but %q is %+v, %t", value, first, first.String(), again, ok)
		}
	})
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("-5", "")
	f.Add("99999999999999999999", "Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add("Sun, 06 Nov 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add("Sunday, 06-Nov-94 08:50:07 GMT", "Sun Nov  6 08:49:37 1994")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT")
	f.Add("soon", "later")
	f.Fuzz(func(t *testing.T, value, date string) {
		got, ok := hop.ParseRetryAfter(value, date, now)
		if got < 0 || !ok && got != 0 {
			t.Errorf("ParseRetryAfter(%q, %q) = %v, %t", value, date, got, ok)
		}
		// Whatever its form, a delay is the same when it is sent on as a date.
		const day = 24 * time.Hour
		if whole := got.Truncate(time.Second); ok && got <= day {
			sentOn := now.Add(whole).Format(http.TimeFormat)
			if again, ok := hop.ParseRetryAfter(sentOn, "", now); again != whole || !ok {
				t.Errorf("%v sent on as %q is %v, %t", whole, sentOn, again, ok)
			}
		}
	})
}
