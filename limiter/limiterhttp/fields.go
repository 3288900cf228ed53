package limiterhttp

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

// The names as a Header's map has them. Set and Add would find that out, and allocate,
// for each response.
const (
	policyField = "Ratelimit-Policy"
	limitField  = "Ratelimit"
)

// maxInteger is the largest that an Integer of RFC 9651 can be.
const maxInteger = 999_999_999_999_999

// setFields adds what a result says. Without a limit there is nothing to say.
func setFields(h http.Header, policy string, result *limiter.Result) {
	if result.Limit.Rate >= rate.Inf {
		return
	}
	addMember(h, policyField, policy)
	addMember(h, limitField, limitItem(result))
}

// addMember adds a member to a List. It does so within the line that is there, though List
// fields may have several: Header.Get and its like in other languages see one.
func addMember(h http.Header, field, member string) {
	if others := h[field]; len(others) > 0 {
		member = strings.Join(others, ", ") + ", " + member
	}
	h[field] = []string{member}
}

// almost is what rounding overlooks, since rate.Every(49*time.Second) is not exactly that.
// Otherwise it is to the side of the lower rate.
const almost = 1e-6

// policyItem is the member of RateLimit-Policy for a limit. One that lets nothing through
// has no window.
func policyItem(name string, l limiter.Limit) string {
	var buf [64]byte
	b := append(appendString(buf[:0], name), ";q="...)
	if l.Rate <= 0 || l.Rate >= rate.Inf {
		return string(append(b, '0'))
	}
	w := window(l, l.Burst)
	q := math.Floor(float64(w)*float64(l.Rate) + almost)
	b = strconv.AppendInt(b, integer(max(q, float64(l.Burst))), 10)
	b = append(b, ";w="...)
	return string(strconv.AppendInt(b, w, 10))
}

// limitItem is the member of RateLimit for a result. That t is in how long r comes back, and
// not in how long the bucket is full, keeps r/t at the Rate: with one token used
// of a hundred, the bucket is full in the time of one, and 99 in that time would be a
// hundred times the Rate. Of a refusal, t is never more than its Retry-After.
func limitItem(result *limiter.Result) string {
	var buf [64]byte
	b := append(appendString(buf[:0], result.Name), ";r="...)
	r := max(0, result.Remaining)
	b = strconv.AppendInt(b, integer(float64(r)), 10)
	var t int64
	switch {
	case !result.OK && result.RetryAfter < rate.InfDuration:
		t = seconds(result.RetryAfter)
	case result.Limit.Rate > 0:
		t = window(result.Limit, max(1, r))
	default: // there will never be more
		return string(b)
	}
	b = append(b, ";t="...)
	return string(strconv.AppendInt(b, t, 10))
}

// window returns in how many seconds n tokens come back.
func window(l limiter.Limit, n int) int64 {
	return integer(max(1, math.Ceil(float64(n)/float64(l.Rate)-almost)))
}

// integer is x as an Integer.
func integer(x float64) int64 { return int64(min(x, maxInteger)) }

// seconds rounds up, to 1 at least: 0 would be at once, which it was not.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return max(1, s)
}

// setRetryAfter asks to stay away for so long and, up to a fifth longer, for a time
// that differs from client to client. It does not if no time, or none at all, is known.
func setRetryAfter(h http.Header, d time.Duration) {
	if d <= 0 || d == rate.InfDuration {
		return
	}
	s := seconds(d)
	s += rand.Int64N(min(s/5, 60) + 1)
	h.Set("Retry-After", strconv.FormatInt(s, 10))
}

// appendString appends name as a String of RFC 9651.
func appendString(b []byte, name string) []byte {
	b = append(b, '"')
	for _, c := range []byte(printable(name)) {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

// printable returns name with what a String cannot hold percent-encoded, as a Display
// String has it, which is what a name should be but for the draft. A field that is not
// well-formed is dropped as a whole, with what other limits say in it.
func printable(name string) string {
	const hex = "0123456789abcdef"
	if strings.IndexFunc(name, unprintable) < 0 {
		return name
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if unprintable(rune(c)) {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func unprintable(c rune) bool { return c < ' ' || c > '~' }
