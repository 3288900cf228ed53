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

func TestProblemWrite(t *testing.T) {
	for _, test := range []struct {
		name string
		p    problem.Problem
		want string
	}{
		{
			"all of it",
			problem.Problem{
				Type: "https://example.com/t", Title: "Title", Status: 429, Detail: "Detail.",
				ViolatedPolicies: []string{"a", `"b"`},
			},
			`{"type":"https://example.com/t","title":"Title","status":429,"detail":"Detail.",` +
				`"violated-policies":["a","\"b\""]}`,
		},
		{
			"a type without a title",
			problem.Problem{Type: "https://example.com/t", Status: 429},
			`{"type":"https://example.com/t","title":"Too Many Requests","status":429,"detail":""}`,
		},
	} {
		w := httptest.NewRecorder()
		test.p.Write(w)
		if w.Code != test.p.Status || w.Body.String() != test.want+"\n" {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
		if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}
