package healthhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// A switchable is a check that tests can turn off.
type switchable struct{ down atomic.Bool }

func (s *switchable) check(context.Context) error {
	if s.down.Load() {
		return errors.New("dial tcp 10.0.0.7:5432:\nrefused")
	}
	return nil
}

// A replica has a check of each class and a gate.
type replica struct {
	db, disk, dog, cert switchable
	*health.Health
	probes *healthhttp.Probes
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{}
	r.Health = health.New(health.Config{
		Gates: []string{"cache"},
		Checks: []health.Check{
			{Name: "db", Func: r.db.check},
			{Name: "disk/data", Func: r.disk.check, Class: health.Local},
			{Name: "dog", Func: r.dog.check, Class: health.Liveness},
			{Name: "cert", Func: r.cert.check, Class: health.Info},
		},
	})
	r.probes = &healthhttp.Probes{Health: r.Health}
	return r
}

// up starts the replica and opens the gate.
func (r *replica) up(t *testing.T) {
	t.Helper()
	r.Start(t.Context())
	r.Gate("cache")()
	synctest.Wait()
}

func ask(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func want(t *testing.T, h http.Handler, target string, status int, text string) {
	t.Helper()
	w := ask(h, http.MethodGet, target)
	if w.Code != status || w.Body.String() != text {
		t.Errorf("%s: %d\n%s\nwant %d\n%s", target, w.Code, w.Body, status, text)
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s: may be cached", target)
	}
}

func TestText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		p := r.probes
		want(t, p, "/livez", 200, "ok\n")
		want(t, p, "/readyz", 503, "[-]cache fail: reason withheld\n[-]db fail: reason withheld\n"+
			"[-]disk/data fail: reason withheld\nreadyz failed: starting\n")
		want(t, p, "/startupz", 503, "[-]cache fail: reason withheld\n"+
			"[-]db fail: reason withheld\n[-]disk/data fail: reason withheld\n"+
			"startupz failed: starting\n")
		r.up(t)
		for _, target := range []string{"/livez", "/readyz", "/startupz"} {
			want(t, p, target, 200, "ok\n")
		}
		const wellVerbose = "[+]cache pass\n[+]db pass\n[+]disk/data pass\n[+]dog pass\n" +
			"[+]cert pass\nok\n"
		want(t, p, "/readyz?verbose", 200, wellVerbose)
		want(t, p, "/readyz?verbose=1&format=text", 200, wellVerbose)
		want(t, p, "/livez?verbose", 200, "[+]dog pass\nok\n")
		want(t, p, "/startupz?verbose", 200,
			"[+]cache pass\n[+]db pass\n[+]disk/data pass\nok\n")

		r.cert.down.Store(true)
		for r.Report().Checks[4].Failures == 0 {
			time.Sleep(time.Millisecond)
		}
		want(t, p, "/readyz?verbose", 200, wellVerbose) // one failure is none
		r.cert.down.Store(false)
		r.db.down.Store(true)
		r.disk.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, "/livez", 200, "ok\n")
		want(t, p, "/startupz", 200, "ok\n")
		want(t, p, "/startupz?verbose", 200, "[+]cache pass\n[!]db warn: reason withheld\n"+
			"[!]disk/data warn: reason withheld\nok\n")
		want(t, p, "/readyz", 503, "[-]disk/data fail: reason withheld\nreadyz failed: unready\n")
		want(t, p, "/readyz?verbose", 503, "[+]cache pass\n[!]db warn: reason withheld\n"+
			"[-]disk/data fail: reason withheld\n[+]dog pass\n[+]cert pass\n"+
			"readyz failed: unready\n")
		p.Details = func(*http.Request) bool { return true }
		want(t, p, "/readyz", 503, `[-]disk/data fail: "dial tcp 10.0.0.7:5432:\nrefused"`+
			"\nreadyz failed: unready\n")

		r.SetDraining()
		r.disk.down.Store(false)
		r.dog.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		p.Details = func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }
		want(t, p, "/readyz", 503, "[-]dog fail: reason withheld\nreadyz failed: draining\n")
		want(t, p, "/livez", 503, "[-]dog fail: reason withheld\nlivez failed: draining\n")
	})
}

func TestExclude(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		p := r.probes
		r.Start(t.Context())
		synctest.Wait()
		want(t, p, "/readyz?exclude=cache", 200, "ok\n")
		want(t, p, "/startupz?exclude=cache", 200, "ok\n")
		want(t, p, "/readyz?exclude=db", 503,
			"[-]cache fail: reason withheld\nreadyz failed: starting\n")
		r.Gate("cache")()
		r.disk.down.Store(true)
		r.dog.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, "/readyz?exclude=disk/data", 503,
			"[-]dog fail: reason withheld\nreadyz failed: unready\n")
		want(t, p, "/readyz?exclude=disk%2Fdata&exclude=dog", 200, "ok\n")
		want(t, p, "/livez?exclude=dog", 200, "ok\n")
		want(t, p, "/livez?exclude=disk/data", 503, "[-]dog fail: reason withheld\n"+
			"nothing to exclude by the name \"disk/data\"\nlivez failed: unready\n")
		r.disk.down.Store(false)
		r.dog.down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, "/readyz?exclude=gone%0Aok&exclude=db&verbose", 200, "[+]cache pass\n"+
			"[+]disk/data pass\n[+]dog pass\n[+]cert pass\n"+
			"nothing to exclude by the name \"gone\\nok\"\nok\n")
		r.disk.down.Store(true)
		time.Sleep(time.Minute)
		r.SetDraining()
		want(t, p, "/readyz?exclude=disk/data", 503, "readyz failed: draining\n")
		want(t, p, "/startupz?exclude=disk/data", 200, "ok\n")
		want(t, p, "/livez?exclude=dog", 200, "ok\n")
		r.dog.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, "/livez?exclude=dog", 200, "ok\n")
		r.dog.down.Store(false)
		time.Sleep(time.Minute)
		r.Stop()
		want(t, p, "/readyz?exclude=disk/data", 503, "readyz failed: stopped\n")
		want(t, p, "/livez", 200, "ok\n")
	})
}

// Before Start nothing is ready, and no check is the reason that could be excluded.
func TestBeforeStart(t *testing.T) {
	p := &healthhttp.Probes{Health: health.New(health.Config{})}
	want(t, p, "/readyz", 503, "readyz failed: starting\n")
	want(t, p, "/startupz", 503, "startupz failed: starting\n")
	want(t, p, "/startupz?exclude=db", 503, "nothing to exclude by the name \"db\"\n"+
		"startupz failed: starting\n")
	want(t, p, "/livez", 200, "ok\n")

	h := health.New(health.Config{Gates: []string{"cache"}})
	h.Gate("cache")()
	want(t, &healthhttp.Probes{Health: h}, "/readyz?exclude=cache", 503,
		"readyz failed: starting\n")
}

func TestOneCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		p := r.probes
		r.up(t)
		r.disk.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, "/readyz/db", 200, "[+]db pass\nok\n")
		want(t, p, "/readyz/disk/data", 503,
			"[-]disk/data fail: reason withheld\nreadyz failed: unready\n")
		want(t, p, "/readyz/cache", 200, "[+]cache pass\nok\n")
		want(t, p, "/startupz/disk/data", 200, "[!]disk/data warn: reason withheld\nok\n")
		want(t, p, "/livez/dog", 200, "[+]dog pass\nok\n")
		for _, target := range []string{
			"/livez/db", "/startupz/cert", "/startupz/dog", "/readyz/none", "/readyz/disk",
		} {
			want(t, p, target, 404, "no such check\n")
		}
		r.SetDraining()
		want(t, p, "/readyz/db", 200, "[+]db pass\nok\n") // which is what was asked
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		p := r.probes
		w := ask(p, http.MethodGet, "/readyz?format=json&verbose")
		if strings.Contains(w.Body.String(), "0001-01-01") || !strings.Contains(w.Body.String(),
			`"db":[{"status":"fail","class":"shared","since":"2000-01-01T00:00:00Z",`) {
			t.Errorf("before the first result: %s", w.Body)
		}
		p.ReleaseID, p.ServiceID = "1.4.2", "shop-7"
		r.up(t)
		accept := []string{"Accept", "text/html, Application/Health+JSON;q=0.9"}
		get := func(target string, status int, header ...string) string {
			t.Helper()
			w := ask(p, http.MethodGet, target, header...)
			if w.Code != status || w.Header().Get("Content-Type") != "application/health+json" {
				t.Errorf("%s: %d %s", target, w.Code, w.Header())
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %s", target, w.Body)
			}
			return strings.TrimSpace(w.Body.String())
		}
		const well = `{"status":"pass","releaseId":"1.4.2","serviceId":"shop-7","phase":"ready",` +
			`"since":"2000-01-01T00:00:00Z"}`
		for _, got := range []string{
			get("/readyz", 200, accept...), get("/readyz?format=json", 200),
			get("/readyz", 200, "Accept", "text/plain", "Accept", "application/json"),
		} {
			if got != well {
				t.Errorf("got %s\nwant %s", got, well)
			}
		}
		r.db.down.Store(true)
		r.disk.down.Store(true)
		time.Sleep(time.Minute)
		r.disk.down.Store(false)
		synctest.Wait()
		var got struct {
			Status, Phase string
			Notes         []string
			Checks        map[string][]map[string]any
		}
		unmarshal := func(text string) {
			t.Helper()
			got.Notes, got.Checks = nil, nil
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Error(err)
			}
		}
		unmarshal(get("/readyz?exclude=none", 503, accept...))
		if got.Status != "fail" || got.Phase != "unready" || len(got.Checks) != 1 ||
			got.Checks["disk/data"][0]["output"] != "reason withheld" || len(got.Notes) != 1 {
			t.Errorf("got %+v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		p.Details = func(*http.Request) bool { return true }
		unmarshal(get("/readyz?verbose", 200, accept...))
		db := got.Checks["db"][0]
		if got.Status != "warn" || len(got.Checks) != 5 || db["status"] != "warn" ||
			db["class"] != "shared" || db["output"] != "dial tcp 10.0.0.7:5432:\nrefused" ||
			db["observedUnit"] != "ms" || db["observedValue"] != 0.0 ||
			db["consecutiveFailures"].(float64) < 10 {
			t.Errorf("got %+v", got)
		}
		if disk := got.Checks["disk/data"][0]; disk["output"] != nil || disk["status"] != "pass" {
			t.Errorf("got %+v", disk)
		}
	})
}

// What is no probe is left to the next handler.
func TestHandler(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "page")
	})
	p := &healthhttp.Probes{Health: health.New(health.Config{})}
	h := p.Handler(next)
	for target, text := range map[string]string{
		"/": "page", "/livez": "ok\n", "/livezz": "page", "/livez/": "page", "/LIVEZ": "page",
		"/api/livez": "page", "//livez": "page", "/livez?verbose": "ok\n",
	} {
		if got := ask(h, http.MethodGet, target).Body.String(); got != text {
			t.Errorf("%s: %q, want %q", target, got, text)
		}
		if status := ask(p, http.MethodGet, target).Code; (status == 404) != (text == "page") {
			t.Errorf("%s: %d without a next handler", target, status)
		}
	}
	r := httptest.NewRequest(http.MethodOptions, "/", http.NoBody)
	r.URL.Path = "*"
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Body.String() != "page" {
		t.Errorf("*: %q", w.Body)
	}
	for name, f := range map[string]func(){
		"Handler":   func() { (&healthhttp.Probes{}).Handler(next) },
		"ServeHTTP": func() { ask(&healthhttp.Probes{}, http.MethodGet, "/livez") },
	} {
		func() {
			defer func() {
				if r := recover(); r != "healthhttp: Probes.Health is nil" {
					t.Errorf("%s: %v", name, r)
				}
			}()
			f()
		}()
	}
}

func TestMethods(t *testing.T) {
	p := &healthhttp.Probes{Health: health.New(health.Config{})}
	for _, target := range []string{"/livez", "/readyz", "/readyz?format=json&verbose"} {
		get, head := ask(p, http.MethodGet, target), ask(p, http.MethodHead, target)
		if head.Body.Len() != 0 || head.Code != get.Code ||
			head.Header().Get("Content-Type") != get.Header().Get("Content-Type") {
			t.Errorf("%s: HEAD is %d %q", target, head.Code, head.Body)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, "BREW"} {
			w := ask(p, method, target)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v", method, target, w.Code, w.Header())
			}
		}
	}
}

// No part of an error is told to those who may not know, whatever they ask for.
func TestErrorsAreWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		r.up(t)
		for _, s := range []*switchable{&r.db, &r.disk, &r.dog, &r.cert} {
			s.down.Store(true)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, details := range []func(*http.Request) bool{
			nil, func(*http.Request) bool { return false },
		} {
			r.probes.Details = details
			for _, target := range []string{
				"/livez", "/readyz", "/readyz?verbose", "/readyz?verbose&format=json",
				"/readyz/db", "/readyz/db?format=json", "/startupz?verbose",
				"/readyz?exclude=db&verbose",
			} {
				w := ask(r.probes, http.MethodGet, target)
				if strings.Contains(w.Body.String(), "10.0.0.7") ||
					!strings.Contains(w.Body.String(), "withheld") {
					t.Errorf("%s: %s", target, w.Body)
				}
			}
		}
	})
}

// A thousand probes while a check hangs: none waits, and virtual time would tell.
func TestProbesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "hung",
			Func: func(context.Context) error { <-over; return nil },
		}}})
		p := &healthhttp.Probes{Health: h}
		h.Start(t.Context())
		time.Sleep(10 * time.Second)
		begun := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if w := ask(p, http.MethodGet, "/readyz?verbose"); w.Code != 503 {
					t.Errorf("got %d", w.Code)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("took %v", took)
		}
		h.Stop()
	})
}

// A client that goes away in the midst of its probe leaves everything as it was.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := atomic.Int64{}
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "db", Class: health.Local,
			Func: func(ctx context.Context) error { runs.Add(1); return ctx.Err() },
		}}})
		h.Start(t.Context())
		synctest.Wait()
		p := &healthhttp.Probes{Health: h}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			r := httptest.NewRequest(http.MethodGet, "/readyz?verbose", http.NoBody)
			p.ServeHTTP(gone{httptest.NewRecorder()}, r.WithContext(ctx))
		}
		want(t, p, "/readyz", 200, "ok\n")
		if runs.Load() != 1 || !h.Ready() {
			t.Errorf("%d runs", runs.Load())
		}
		h.Stop()
	})
}

// gone is what is left of a connection.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, net.ErrClosed }

// The real thing, over a connection.
func TestServer(t *testing.T) {
	h := health.New(health.Config{})
	h.Start(t.Context())
	server := httptest.NewServer((&healthhttp.Probes{Health: h}).Handler(http.NotFoundHandler()))
	defer server.Close()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		wanted := map[string]string{http.MethodGet: "ok\n"}[method]
		if response.StatusCode != http.StatusOK || string(body) != wanted {
			t.Errorf("%s: %d %q", method, response.StatusCode, body)
		}
	}
}
