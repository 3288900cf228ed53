package hop_test

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// The names are those of package shed, by number.
func TestCriticalityIsThatOfShed(t *testing.T) {
	for c := shed.BestEffort; c <= shed.CriticalPlus; c++ {
		name := hop.FormatCriticality(uint8(c))
		if got, ok := shed.ParseCriticality(name); got != c || !ok {
			t.Errorf("%v is %q, which package shed reads as %v", c, name, got)
		}
		if got, ok := hop.ParseCriticality(name); got != uint8(c) || !ok {
			t.Errorf("%q is read as %v", name, got)
		}
	}
	for _, c := range []uint8{0, 6, 255} {
		if got := hop.FormatCriticality(c); got != "" {
			t.Errorf("%d has the name %q", c, got)
		}
	}
}

func TestParseCriticality(t *testing.T) {
	for _, test := range []struct {
		value string
		want  uint8 // 0: none
	}{
		{"sheddable", 2},
		{" sheddable ", 2},
		{"sheddable;v=2", 2},
		{"sheddable;v=2;w", 2},
		{"", 0},
		{";v=2", 0},
		{"Sheddable", 0},
		{`"sheddable"`, 0},
		{"sheddable, critical-plus", 0},
		{"sheddable\x00", 0},
		{"2", 0},
		{"critical-plus-plus", 0},
		{"sheddable;v=" + strings.Repeat("x", 2000), 0},
		{strings.Repeat("critical-plus", 1e5), 0},
	} {
		got, ok := hop.ParseCriticality(test.value)
		if got != test.want || ok != (test.want != 0) {
			t.Errorf("%.40q: %d, %t, want %d", test.value, got, ok, test.want)
		}
	}
}

func TestFormatTenant(t *testing.T) {
	longest := strings.Repeat(`"`, hop.MaxTenant)
	for tenant, want := range map[string]string{
		"":            "",
		"acme":        `"acme"`,
		"12 ~ a;b,c":  `"12 ~ a;b,c"`,
		`a "b" \`:     `"a \"b\" \\"`,
		"café":        ":Y2Fmw6k=:",
		`a\b`:         `"a\\b"`,
		"a\r\nX: y":   ":YQ0KWDogeQ==:", // and no header of its own
		"\x7f":        ":fw==:",
		"\x00":        ":AA==:",
		longest:       `"` + strings.Repeat(`\"`, hop.MaxTenant) + `"`,
		longest + "x": "",
	} {
		if got := hop.FormatTenant(tenant); got != want {
			t.Errorf("%.20q: %q, want %q", tenant, got, want)
		}
	}
}

func TestParseTenant(t *testing.T) {
	longest := strings.Repeat("x", hop.MaxTenant)
	for _, test := range []struct{ value, want string }{ // "": none
		{`"acme"`, "acme"},
		{` "acme" ; v=1`, "acme"},
		{`"a;b"`, "a;b"},
		{`"a\"b\\c";v`, `a"b\c`},
		{`acme`, "acme"},
		{`*a/b:c`, "*a/b:c"},
		{":Y2Fmw6k=:", "café"},
		{`"` + longest + `"`, longest},
		{":" + base64.StdEncoding.EncodeToString([]byte(longest)) + ":", longest},

		{"", ""},
		{";v", ""},
		{`""`, ""},
		{"::", ""},
		{`"`, ""},
		{`:`, ""},
		{`"acme`, ""},
		{`"ac"me"`, ""},
		{`"a\c"`, ""},
		{`"a\\\"`, ""},
		{`"a\"`, ""},
		{`"a"b\\"`, ""},
		{"\"caf\xc3\xa9\"", ""},
		{"\"\\\\\x00\"", ""},
		{":Y2Fmw6k", ""},
		{":Y2Fm!:", ""},
		{"42", ""}, // an Integer
		{"-a", ""},
		{"a b", ""},
		{"a, b", ""},
		{"caf\xc3\xa9", ""},
		{`"` + longest + `x"`, ""},
		{":" + base64.StdEncoding.EncodeToString([]byte(longest+"x")) + ":", ""},
		{strings.Repeat("x", 1<<20), ""},
		{`"` + strings.Repeat("x", 1<<20) + `"`, ""},
		{`"acme";v="` + strings.Repeat("x", 1<<20) + `"`, ""},
	} {
		got, ok := hop.ParseTenant(test.value)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%.40q: %.20q, %t, want %.20q", test.value, got, ok, test.want)
		}
	}
}

func TestFormatTimeout(t *testing.T) {
	for left, want := range map[time.Duration]string{
		-time.Hour:              "0",
		0:                       "0",
		1:                       "1",
		time.Millisecond:        "1",
		1999 * time.Microsecond: "1",
		1500 * time.Millisecond: "1500",
		24 * time.Hour:          "86400000",
		24*time.Hour + 1:        "",
		1<<63 - 1:               "",
	} {
		if got := hop.FormatTimeout(left); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	const none = -1
	for value, want := range map[string]time.Duration{
		"1500":                             1500 * time.Millisecond,
		" 1500 ; v=1":                      1500 * time.Millisecond,
		"007":                              7 * time.Millisecond,
		"0":                                0,
		"-0":                               0,
		"-1":                               0,
		"-999999999999999":                 0,
		"86400000":                         24 * time.Hour,
		"86400001":                         none, // no limit at all
		"999999999999999":                  none,
		"9999999999999999":                 none, // 16 digits
		"99999999999999999999999999999999": none,
		"":                                 none, "-": none,
		"--1": none, "+1": none, "1.5": none,
		"1e3": none, "1_0": none,
		"0x10": none, "1s": none, "1, 2": none, "٣": none, `"1"`: none,
		strings.Repeat("0", 1<<20) + "1": none,
	} {
		got, ok := hop.ParseTimeout(value)
		if want == none && ok || want != none && (got != want || !ok) {
			t.Errorf("%.40q: %v, %t, want %v", value, got, ok, want)
		}
	}
}

func TestParseAttempt(t *testing.T) {
	for value, want := range map[string]int{ // 0: none
		"1": 1, "2": 2, "65535": 65535, "65536": 65535, "999999999999999": 65535, "3;v": 3,
		"": 0, "0": 0, "-2": 0, "9999999999999999": 0, "two": 0, "2.0": 0,
	} {
		got, ok := hop.ParseAttempt(value)
		if got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t, want %d", value, got, ok, want)
		}
	}
}

func TestAsked(t *testing.T) {
	s := &hop.Sender{Tenant: "acme"}
	if s.Asked("else") != nil || s.Asked(nil) != nil {
		t.Error("it answers what is not asked of it")
	}
	if got := hop.SenderOf(asking{t.Context(), s}); got != *s {
		t.Errorf("got %+v", got)
	}
}

// asking is a context type of an adapter's own.
type asking struct {
	context.Context
	sender *hop.Sender
}

func (a asking) Value(key any) any {
	if s := a.sender.Asked(key); s != nil {
		return s
	}
	return a.Context.Value(key)
}

// Whatever anybody writes is within bounds, and what is read can be written again.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"critical-plus", `"a\"b"`, ":Y2Fmw6k=:", "acme;v=1", "1500", "-1", "café", `a"b\`, "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if c, ok := hop.ParseCriticality(value); ok != (c >= 1 && c <= 5) {
			t.Errorf("criticality %d, %t", c, ok)
		}
		if n, ok := hop.ParseAttempt(value); ok != (n >= 1) || n > 65535 {
			t.Errorf("attempt %d, %t", n, ok)
		}
		left, ok := hop.ParseTimeout(value)
		if left < 0 || left > 24*time.Hour {
			t.Errorf("timeout %v", left)
		}
		if ok {
			want := strconv.FormatInt(left.Milliseconds(), 10)
			if again := hop.FormatTimeout(left); again != want {
				t.Errorf("%v is written as %q", left, again)
			}
		}
		tenant, ok := hop.ParseTenant(value)
		if ok != (tenant != "") || len(tenant) > hop.MaxTenant {
			t.Errorf("tenant %q, %t", tenant, ok)
		}
		for _, tenant := range []string{tenant, hop.BoundTenant(value)} {
			field := hop.FormatTenant(tenant)
			if strings.ContainsFunc(field, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q is written as %q", tenant, field)
			}
			if again, _ := hop.ParseTenant(field); again != tenant {
				t.Errorf("%q is written as %q and read as %q", tenant, field, again)
			}
		}
	})
}
