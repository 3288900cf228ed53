package problem_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stormjib/stormjib/internal/problem"
)

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Length", "7") // of what the handler meant to write
	w.Header().Set("Retry-After", "1")
	problem.Write(w, 503, "Try again later.")
	want := `{"type":"about:blank","title":"Service Unavailable","status":503,` +
		`"detail":"Try again later."}` + "\n"
	if w.Code != 503 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h := w.Header()
	if h.Get("Content-Type") != "application/problem+json" ||
		h.Get("Cache-Control") != "no-store" ||
		h.Get("Content-Length") != "" || h.Get("Retry-After") != "1" {
		t.Errorf("%v", h)
	}
}
