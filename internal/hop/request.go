package hop

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
)

// The header fields by which a request says what it is, each an Item of RFC 9651:
//
//	Stormjib-Criticality: sheddable-plus
//	Stormjib-Tenant: "acme"
//	Stormjib-Timeout-Ms: 1500
//
// They travel on: who works for such a request says the same of the requests it makes.
// The number of the attempt, AttemptField, does not, for theirs are first attempts.
const (
	// CriticalityField has the class, a Token: one of the names of package shed.
	CriticalityField = "Stormjib-Criticality"

	// TenantField has the tenant, a String, or a Byte Sequence where it is not of
	// printable ASCII. A Token is understood too, for those who write the field by hand.
	TenantField = "Stormjib-Tenant"

	// TimeoutField has the time that is left until nobody waits for the answer, an
	// Integer, in milliseconds. It is not a date: clocks disagree. What the request
	// spends on its way is not taken off; that has to be short for a service to be of use
	// at all.
	TimeoutField = "Stormjib-Timeout-Ms"
)

// What Envoy writes: the number of the attempt, and how long it will wait, in
// milliseconds.
const (
	EnvoyAttemptField = "X-Envoy-Attempt-Count"
	EnvoyTimeoutField = "X-Envoy-Expected-Rq-Timeout-Ms"
)

// MaxTenant is how many bytes a tenant has at most. What is longer is no name, and would
// have to be hashed, kept and sent on with each request.
const MaxTenant = 256

// No value of a field that is read here is longer: that of a tenant with an escape in
// each place is 514, and there may be parameters.
const maxValue = 1024

// maxTimeout is the longest time that is a limit at all. Not the longest that is
// believed: to take a day for two would end a request too early.
const maxTimeout = 24 * time.Hour

var criticalities = [...]string{ //nolint:gochecknoglobals // A constant, but for the language.
	"", "best-effort", "sheddable", "sheddable-plus", "critical", "critical-plus",
}

// FormatCriticality returns the value of a CriticalityField, or "" if c is no class.
func FormatCriticality(c uint8) string {
	if int(c) >= len(criticalities) {
		return ""
	}
	return criticalities[c]
}

// ParseCriticality reads the value of a CriticalityField. It reports false for what is no
// class, such as one of a later version: what it may be worth is not to be guessed.
func ParseCriticality(value string) (uint8, bool) {
	name, ok := item(value)
	if !ok || name == "" {
		return 0, false
	}
	for c, known := range criticalities {
		if name == known {
			return uint8(c), true
		}
	}
	return 0, false
}

// BoundTenant returns tenant, or "", which is none, if it is longer than MaxTenant. A
// part of it would be the name of somebody else.
func BoundTenant(tenant string) string {
	if len(tenant) > MaxTenant {
		return ""
	}
	return tenant
}

// FormatTenant returns the value of a TenantField, or "" if tenant is none.
func FormatTenant(tenant string) string {
	tenant = BoundTenant(tenant)
	if tenant == "" {
		return ""
	}
	escapes := 0
	for i := range len(tenant) {
		switch c := tenant[i]; {
		case c < ' ' || c > '~':
			return ":" + base64.StdEncoding.EncodeToString([]byte(tenant)) + ":"
		case c == '"' || c == '\\':
			escapes++
		}
	}
	if escapes > 0 {
		tenant = strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(tenant)
	}
	return `"` + tenant + `"`
}

// ParseTenant reads the value of a TenantField. It reports false for what is none, or
// longer than MaxTenant.
func ParseTenant(value string) (string, bool) {
	bare, ok := item(value)
	if !ok || bare == "" {
		return "", false
	}
	switch bare[0] {
	case '"':
		bare, ok = unquote(bare)
	case ':':
		bare, ok = decode(bare)
	default:
		ok = wideToken(bare)
	}
	if bare = BoundTenant(bare); !ok || bare == "" {
		return "", false
	}
	return bare, true
}

// FormatTimeout returns the value of a TimeoutField, or "" for a time that is no limit.
// Less than a millisecond counts as one, unless there is nothing left: to round it down
// would be to say that.
func FormatTimeout(left time.Duration) string {
	switch {
	case left > maxTimeout:
		return ""
	case left <= 0:
		return "0"
	}
	return strconv.FormatInt(max(1, left.Milliseconds()), 10)
}

// ParseTimeout reads the value of a TimeoutField, or that of Envoy's. It reports false if
// it is none, or more than a day. If it is below zero the result is 0: the time is up.
func ParseTimeout(value string) (time.Duration, bool) {
	ms, ok := integer(value)
	if !ok || ms > maxTimeout.Milliseconds() {
		return 0, false
	}
	return time.Duration(max(0, ms)) * time.Millisecond, true
}

// ParseAttempt reads the value of an AttemptField, or that of Envoy's. It reports false
// if it is none, or less than 1. What is above 65535 counts as that.
func ParseAttempt(value string) (int, bool) {
	n, ok := integer(value)
	if !ok || n < 1 {
		return 0, false
	}
	return int(min(n, math.MaxUint16)), true
}

// item returns the value of an Item without its parameters, of which none is known so
// far.
func item(value string) (string, bool) {
	if len(value) > maxValue {
		return "", false
	}
	bare, _ := cutParameter(value)
	return bare, true
}

// integer reads an Integer: of at most 15 digits, so that it fits the numbers of
// everybody.
func integer(value string) (int64, bool) {
	bare, ok := item(value)
	digits := strings.TrimPrefix(bare, "-")
	if !ok || digits == "" || len(digits) > 15 {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' { // as "+1", which ParseInt takes
			return 0, false
		}
	}
	n, err := strconv.ParseInt(bare, 10, 64)
	return n, err == nil
}

// unquote reads a String.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", false
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, printable(s) && strings.IndexByte(s, '"') < 0
	}
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return "", false
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		text.WriteByte(s[i])
	}
	return text.String(), printable(s)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// decode reads a Byte Sequence.
func decode(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != ':' {
		return "", false
	}
	b, err := base64.StdEncoding.DecodeString(s[1 : len(s)-1])
	return string(b), err == nil
}

// wideToken reports whether s is a Token, in all of its alphabet.
func wideToken(s string) bool {
	const marks = "!#$%&'*+-.^_`|~:/"
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '*'
		if !letter && (i == 0 || (c < '0' || c > '9') && strings.IndexByte(marks, c) < 0) {
			return false
		}
	}
	return s != ""
}
