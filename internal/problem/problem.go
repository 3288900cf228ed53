// Package problem writes the body of a refusal: application/problem+json (RFC 9457).
package problem

import (
	"encoding/json"
	"net/http"
)

// Write answers with status, the header fields that w has, and a problem whose detail
// is for the clients of a service: not what exactly went wrong inside it. The answer
// is not to be cached.
func Write(w http.ResponseWriter, status int, detail string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	w.WriteHeader(status)
	// A client that is gone by now needs no answer.
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
}
