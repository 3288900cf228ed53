package retryhttp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

func check(status int, fields ...string) error {
	resp := response(nil, status, fields...)
	defer resp.Body.Close()
	return retryhttp.CheckResponse(resp)
}

func TestCheckResponse(t *testing.T) {
	tests := []struct {
		status int
		fields []string
		want   string // "": no error
	}{
		{200, nil, ""},
		{404, nil, ""},
		{409, []string{"Retry-After", "3"}, ""},
		{408, nil, "408 Request Timeout, 0s, true"},
		{429, nil, "429 Too Many Requests, 0s, false"},
		{429, []string{"Retry-After", "3"}, "429 Too Many Requests, 3s, true"},
		{500, nil, "500 Internal Server Error, 0s, false"},
		{503, nil, "503 Service Unavailable, 0s, true"},
		{503, []string{"Retry-After", "10000000"}, "503 Service Unavailable, 2777h46m40s, true"},
		{
			503,
			[]string{"Retry-After", "3", "Stormjib-Refusal", "shed"},
			"503 Service Unavailable, 0s, true",
		},
		{503, []string{"Stormjib-Refusal", "x;retry=?0"}, "503 Service Unavailable, 0s, false"},
		{599, nil, "599 , 0s, false"},
	}
	for _, test := range tests {
		err := check(test.status, test.fields...)
		got := ""
		if err != nil {
			got = fmt.Sprintf("%s, %v, %t", strings.TrimPrefix(err.Error(), "retryhttp: status "),
				stormjib.RetryAfter(err), retry.Retryable(err))
			if stormjib.NotAttempted(err) {
				t.Errorf("%v: not attempted", err)
			}
		}
		if got != test.want {
			t.Errorf("%d %v is %q, want %q", test.status, test.fields, got, test.want)
		}
	}
}

// What ended a call is told by the response: of what was retried, nobody else need.
func TestTransportMarks(t *testing.T) {
	tests := []struct {
		name   string
		base   *base
		policy *retry.Policy
		want   string
	}{
		{"succeeds", inTurn(503, 200), nil, ""},
		{"retried", always(503), nil, "failed;scope=service;retry=?0"},
		{
			"asks for too long", always(503, "Retry-After", "60"), nil,
			"failed;scope=service;retry=?0",
		},
		{"budget spent", always(503), &retry.Policy{
			SharedBudget: spent(),
		}, "failed;scope=service;retry=?0"},
		// For a breaker a refusal is still one.
		{
			"retried, refused", always(503, "Stormjib-Refusal", "shed;scope=replica"), nil,
			"shed;scope=replica;retry=?0",
		},
		{"not retried by this policy", always(503), &retry.Policy{MaxAttempts: 1}, ""},
		{"not retried by anybody", always(500), nil, ""},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			transport := &retryhttp.Transport{Base: test.base, Policy: test.policy}
			resp, err := transport.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Stormjib-Refusal"); got != test.want {
				t.Errorf("the response says %q, want %q", got, test.want)
			}
		})
	}
}

func spent() *retry.Budget {
	b := &retry.Budget{Burst: 1, Floor: -1}
	b.Take()
	return b
}

func TestFail(t *testing.T) {
	const enough = "failed;scope=service;retry=?0"
	errOpen := retry.After(time.Minute, refusal{}) // as that of a breaker
	once := retry.Policy{MaxAttempts: 1}
	twice := retry.Policy{MaxAttempts: 2, Backoff: retry.Constant(0)}
	do := func(p *retry.Policy, err error) error {
		return p.Do(t.Context(), func(context.Context) error { return err })
	}
	late := fmt.Errorf("late: %w", context.DeadlineExceeded)
	tests := []struct {
		name    string
		err     error
		status  int
		after   string
		refusal string
	}{
		{"tried once", do(&once, errBoom), 503, "", ""},
		{"retried", do(&twice, errBoom), 503, "", enough},
		{"retried, late", do(&twice, late), 504, "", enough},
		{"permanent", retry.Permanent(errBoom), 503, "", enough},
		{"late", late, 504, "", ""},
		{"asks for a delay", retry.After(1500*time.Millisecond, errBoom), 503, "2", ""},
		{"refused by a breaker", errOpen, 503, "60", ""},
		{"refused by a breaker, given up", do(&twice, errOpen), 503, "60", enough},
		{
			"an answer worth a retry",
			check(503, "Retry-After", "7"), 503, "7", "",
		},
		{"an answer that is not", check(500), 503, "", enough},
		{"nothing known", nil, 503, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Length", "1") // of the handler that meant to succeed
			retryhttp.Fail(w, httptest.NewRequest(http.MethodGet, "/", nil), test.err)
			h := w.Header()
			if w.Code != test.status || h.Get("Retry-After") != test.after ||
				h.Get("Stormjib-Refusal") != test.refusal {
				t.Errorf("%d %v", w.Code, h)
			}
			if h.Get("Content-Type") != "application/problem+json" ||
				h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") != "" {
				t.Errorf("the header is %v", h)
			}
			var problem struct {
				Type, Title, Detail string
				Status              int
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil ||
				problem.Status != test.status || problem.Type != "about:blank" ||
				problem.Title != http.StatusText(test.status) || problem.Detail == "" ||
				strings.Contains(w.Body.String(), "boom") {
				t.Errorf("%v; the body is %s", err, w.Body)
			}
		})
	}
}

// closes is a body that counts.
type closes struct {
	io.Reader
	n int
}

func (c *closes) Close() error { c.n++; return nil }

// A function of the user's that panics must not cost a connection each time.
func TestTransportClosesBodyOnPanic(t *testing.T) {
	for name, p := range map[string]*retry.Policy{
		"RetryIf": {RetryIf: func(error) bool { panic("bug") }},
		"Backoff": {Backoff: func(int, time.Duration) time.Duration { panic("bug") }},
		"OnRetry": {OnRetry: func(context.Context, retry.Event) { panic("bug") }},
	} {
		t.Run(name, func(t *testing.T) {
			body := &closes{Reader: strings.NewReader("busy")}
			base := answering(func(r *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: http.StatusBadGateway, Body: body, Request: r}
				return resp, nil
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			func() {
				defer func() {
					if v := recover(); v != "bug" {
						t.Errorf("recovered %v", v)
					}
				}()
				transport := &retryhttp.Transport{Base: base, Policy: p}
				_, _ = transport.RoundTrip(req) //nolint:bodyclose // it panics
			}()
			if body.n != 1 {
				t.Errorf("the body was closed %d times", body.n)
			}
		})
	}
}

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportWithoutURL(t *testing.T) {
	body := &closes{Reader: strings.NewReader("x")}
	req := &http.Request{Method: http.MethodPost, Body: body}
	resp, err := (&retryhttp.Transport{}).RoundTrip(req) //nolint:bodyclose // there is none
	if resp != nil || err == nil || body.n != 1 {
		t.Errorf("%v, %v, closed %d times", resp, err, body.n)
	}
}
