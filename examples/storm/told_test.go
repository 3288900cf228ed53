package main

import (
	"net/http"
	"testing"
)

func TestTells(t *testing.T) {
	const policy = `"client";q=10;w=1`
	const both = `"all";q=500;w=1, ` + policy
	tests := []struct {
		name                 string
		after, limit, policy string
		want                 bool
	}{
		{"all of it", "1", `"client";r=0;t=1`, policy, true},
		{"in another order", "3", `"client";pk=:YQ==:;t=2;r=0`, `"client";w=1;q=10`, true},
		{"one of two limits", "1", `"client";r=0;t=1`, both, true},
		{"both of them", "2", `"client";r=0;t=1, "all";r=7;t=2`, both, true},
		{"nothing", "", "", "", false},
		{"not for how long", "", `"client";r=0;t=1`, policy, false},
		{"a date", "Mon, 01 Jan 2029 00:00:00 GMT", `"client";r=0;t=1`, policy, false},
		{"at once", "0", `"client";r=0;t=0`, policy, false},
		{"too early", "1", `"client";r=0;t=2`, policy, false},
		{"no limit", "1", "", policy, false},
		{"not what is left", "1", `"client";t=1`, policy, false},
		{"not until when", "1", `"client";r=0`, policy, false},
		{"no policy", "1", `"client";r=0;t=1`, "", false},
		{"another policy", "1", `"client";r=0;t=1`, `"all";q=500;w=1`, false},
		{"a policy without a window", "1", `"client";r=0;t=1`, `"client";q=10`, false},
		{"an older syntax", "1", "limit=10, remaining=0, reset=1", "10;w=1", false},
	}
	for _, tt := range tests {
		h := make(http.Header)
		for field, value := range map[string]string{
			"Retry-After": tt.after, "RateLimit": tt.limit, "RateLimit-Policy": tt.policy,
		} {
			if value != "" {
				h.Set(field, value)
			}
		}
		if got := tells(h); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
