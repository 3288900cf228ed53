package secondhttp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/secondhttp"
)

func request(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://name/path?q=1", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPurse(t *testing.T) {
	var p secondhttp.Purse
	p.Success() // it is full
	for i := range 3 {
		if !p.Take() {
			t.Errorf("no token %d", i)
		}
	}
	for range 9 {
		p.Success()
	}
	if p.Take() {
		t.Error("a token after nine tenths")
	}
	p.Success()
	if !p.Take() || p.Take() {
		t.Error("not one token after ten tenths")
	}
}

func TestNotSent(t *testing.T) {
	dial, read := &net.OpError{Op: "dial"}, &net.OpError{Op: "read"}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
		{dial, true},
		{read, false},
		{fmt.Errorf("get: %w", dial), true},
		{errors.Join(dial, read), false},
		{fmt.Errorf("get: %w", &net.OpError{Op: "read", Err: dial}), false},
	} {
		if got := secondhttp.NotSent(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
}

// The request is the caller's; what is sent is not.
func TestAgain(t *testing.T) {
	r := request(t, http.MethodPut, strings.NewReader("body"))
	for n, want := range map[int]string{1: "", 2: "2", 3: "3"} {
		sent, ok := secondhttp.Again(r, "b:1", n)
		if !ok {
			t.Fatal("no body")
		}
		text, _ := io.ReadAll(sent.Body)
		if sent.URL.String() != "http://b:1/path?q=1" || sent.Host != "name" ||
			string(text) != "body" || sent.Header.Get(hop.AttemptField) != want {
			t.Errorf("attempt %d: %v, %s, %v", n, sent.URL, text, sent.Header)
		}
	}
	if r.URL.Host != "name" || len(r.Header) != 0 {
		t.Errorf("it has changed: %v, %v", r.URL, r.Header)
	}
	r.Header = nil
	r = r.WithContext(hop.WithAttempt(r.Context(), 4))
	if sent, _ := secondhttp.Again(r, "b:1", 2); sent.Header.Get(hop.AttemptField) != "5" {
		t.Errorf("%v", sent.Header)
	}
	r.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }
	if _, ok := secondhttp.Again(r, "b:1", 2); ok {
		t.Error("there is a body")
	}
	if r.GetBody = nil; secondhttp.Replayable(r) {
		t.Error("replayable")
	}
	if !secondhttp.Replayable(request(t, http.MethodPost, http.NoBody)) {
		t.Error("without a body, and not replayable")
	}
}
