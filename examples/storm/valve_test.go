package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is on its way waits while a valve is shut, and arrives when it is open again.
func TestValve(t *testing.T) {
	var v valve
	address, err := v.listen("")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	ask := func() {
		if _, err := fmt.Fprint(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() {
		t.Helper()
		if line, err := answers.ReadString('\n'); !strings.HasPrefix(line, "+PONG") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	ask()
	answer()
	v.shut()
	ask()
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if line, err := answers.ReadString('\n'); err == nil {
		t.Fatalf("%q came through", line)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	v.open()
	answer()
}

func TestValveLeadsNowhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	var v valve
	if _, err := v.listen(nobody); err == nil || !strings.Contains(err.Error(), "no Redis") {
		t.Error(err)
	}
	p := stormjibQuota(Topology{Redis: nobody})
	if err := p.Start(t.Context(), time.Now()); err == nil {
		t.Error("the run goes on without a Redis")
	}
}

// In bare each replica has the whole burst, in tuned a tenth of it.
func TestQuotaVariants(t *testing.T) {
	for _, test := range []struct {
		variant func(Topology) Protection
		want    int
	}{{bareQuota, quotaReplicas * quotaBurst}, {tunedQuota, quotaBurst}} {
		synctest.Test(t, func(t *testing.T) {
			served := 0
			h := test.variant(Topology{}).Server(http.HandlerFunc(
				func(http.ResponseWriter, *http.Request) { served++ }))
			for range 2000 {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			}
			if served != test.want {
				t.Errorf("%d at once, want %d", served, test.want)
			}
		})
	}
}
