// Package problem writes the body of a refusal: application/problem+json (RFC 9457).
package problem

import (
	"cmp"
	"encoding/json"
	"net/http"
)

// Write answers with status, the header fields that w has, and a problem whose detail
// is for the clients of a service: not what exactly went wrong inside it. The answer
// is not to be cached.
func Write(w http.ResponseWriter, status int, detail string) {
	Problem{Status: status, Detail: detail}.Write(w)
}

// Problem is a problem that has more to say.
type Problem struct {
	Type   string `json:"type"`   // a URI; if empty, about:blank
	Title  string `json:"title"`  // the same for all of a type; if empty, that of the status
	Status int    `json:"status"` // of the response
	Detail string `json:"detail"` // as for the function Write

	// ViolatedPolicies is a member of draft-ietf-httpapi-ratelimit-headers' types.
	ViolatedPolicies []string `json:"violated-policies,omitempty"`
}

// Write answers as the function Write does.
func (p Problem) Write(w http.ResponseWriter) {
	p.Type = cmp.Or(p.Type, "about:blank")
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	// A client that is gone by now needs no answer.
	_ = json.NewEncoder(w).Encode(p)
}
