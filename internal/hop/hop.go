// Package hop holds what crosses from one process to the next: the names of the
// header fields, their syntax, and how much of them is believed.
//
// It knows nothing of net/http or gRPC, so that core packages may use it; header
// fields come and go as strings.
package hop

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"time"
)

// RefusalField is the response header field by which a server tells that it
// refused the request rather than failed at it, what refused, for what scope, and
// whether the request may be sent again:
//
//	Stormjib-Refusal: shed;scope=replica
//	Stormjib-Refusal: open;scope=service;retry=?0
//
// It is an Item of RFC 9651, a token with parameters. Parameters that a reader
// does not know are passed over, so that later versions can add to them.
const RefusalField = "Stormjib-Refusal"

// AttemptField is the request header field with the number of the attempt, a decimal
// number, from the second attempt on.
const AttemptField = "Stormjib-Attempt"

// What refused.
const (
	Shed  = "shed"  // the server was overloaded
	Limit = "limit" // a rate limit or a quota
	Full  = "full"  // a bulkhead: as many requests were under way as may be
	Open  = "open"  // the circuit breaker of something behind the server

	// Failed is no refusal: the server tried, and retried, and gave up. It is here to
	// say that nobody else need retry.
	Failed = "failed"
)

// How far a refusal reaches.
const (
	Replica = "replica" // this replica alone: another may answer at once
	Service = "service" // the whole service: another replica would say the same
)

// Refusal is what RefusalField says.
type Refusal struct {
	Reason  string // Shed, Limit, Full, Open, Failed, or a token of a later version
	Scope   string // Replica or Service; Replica if not said
	NoRetry bool   // the request should not be sent again by anyone
}

// Refused reports whether the request was refused, and not tried.
func (r Refusal) Refused() bool { return r.Reason != Failed }

// String formats r as the value of a RefusalField.
func (r Refusal) String() string {
	s := r.Reason + ";scope=" + cmp.Or(r.Scope, Replica)
	if r.NoRetry {
		s += ";retry=?0"
	}
	return s
}

// ParseRefusal reads the value of a RefusalField. A value that is not a token
// with parameters is no refusal.
func ParseRefusal(value string) (Refusal, bool) {
	reason, params, _ := strings.Cut(value, ";")
	r := Refusal{Reason: strings.TrimSpace(reason), Scope: Replica}
	if !token(r.Reason) {
		return Refusal{}, false
	}
	for params != "" {
		var param string
		param, params = cutParameter(params)
		switch name, value, _ := strings.Cut(param, "="); name { // the last of a name counts
		case "scope":
			r.Scope = Replica
			if value == Service {
				r.Scope = Service
			}
		case "retry":
			r.NoRetry = value == "?0"
		}
	}
	return r, true
}

// cutParameter returns the first parameter and those behind its semicolon. One in a
// string, of a parameter of a later version, does not count.
func cutParameter(params string) (first, others string) {
	quoted := false
	for i := 0; i < len(params); i++ {
		switch {
		case quoted && params[i] == '\\':
			i++
		case params[i] == '"':
			quoted = !quoted
		case params[i] == ';' && !quoted:
			return strings.TrimSpace(params[:i]), params[i+1:]
		}
	}
	return strings.TrimSpace(params), ""
}

// token reports whether s is a token of RFC 9651 in the alphabet that the
// reasons are written in.
func token(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ParseRetryAfter reads a Retry-After field: a number of seconds, or a date. A
// date is compared with the sender's own date where the response carries one, so
// that clocks which disagree do not matter, else with now. It reports false for a
// value that is neither; what lies in the past, or below zero, is a delay of 0.
// The result is as the sender has it, without a bound: the caller caps it.
func ParseRetryAfter(value, date string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	// Out of range, ParseInt returns the nearest number there is: a number still.
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		const most = int64(1<<63-1) / int64(time.Second)
		return time.Duration(max(0, min(seconds, most))) * time.Second, true
	}
	at, ok := parseDate(value)
	if !ok {
		return 0, false
	}
	if sent, ok := parseDate(date); ok {
		now = sent
	}
	return max(0, at.Sub(now)), true
}

// parseDate reads the three forms of a date that RFC 9110 section 5.6.7 has a
// recipient accept.
func parseDate(value string) (time.Time, bool) {
	for _, layout := range [...]string{
		"Mon, 02 Jan 2006 15:04:05 GMT",
		"Monday, 02-Jan-06 15:04:05 MST",
		time.ANSIC,
	} {
		if t, err := time.Parse(layout, value); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
