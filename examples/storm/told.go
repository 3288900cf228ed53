package main

import (
	"net/http"
	"strconv"
	"strings"
)

// tells reports whether the header of a 429 says all that a client needs to behave: how
// many seconds to wait, which of the limits it has met and when there is more of it, and
// what that limit is. The fields are those of RFC 9110 and of the draft on
// RateLimit fields for HTTP, lists such as
//
//	RateLimit: "client";r=0;t=1
//	RateLimit-Policy: "client";q=10;w=1
//
// It is strict where they leave a choice: a Retry-After as a date is of no use to a clock
// that is wrong, and without t, or one that comes no later, who obeys is refused again.
func tells(h http.Header) bool {
	wait, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || wait < 1 {
		return false
	}
	policies := items(h.Values("RateLimit-Policy"))
	limits := items(h.Values("RateLimit"))
	for name, limit := range limits {
		remaining, some := limit["r"]
		until, timed := limit["t"]
		policy := policies[name]
		if !some || remaining < 0 || !timed || until > wait || policy["q"] < 1 || policy["w"] < 1 {
			return false
		}
	}
	return len(limits) > 0
}

// items reads a list of strings with whole numbers as parameters. What is not one, it
// leaves out. Names with commas or semicolons in them nobody here uses.
func items(lines []string) map[string]map[string]int {
	found := make(map[string]map[string]int)
	for item := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(item), ";")
		name, err := strconv.Unquote(name)
		if err != nil {
			continue
		}
		found[name] = make(map[string]int)
		for parameter := range strings.SplitSeq(rest, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if n, err := strconv.Atoi(value); err == nil {
				found[name][key] = n
			}
		}
	}
	return found
}
