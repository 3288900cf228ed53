package controlhttp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
	"github.com/stormjib/stormjib/shuffle/cell/control/controlhttp"
)

func newController() *control.Controller {
	c := control.New(control.Config{Store: &control.Memory{}})
	err := c.Create(context.Background(), &cell.Snapshot{
		Version: 1, Lease: 15 * time.Second,
		Cells: []cell.Cell{{ID: "a", Capacity: 2}, {ID: "b", Capacity: 2}},
		Slots: []cell.Assignment{{Cell: "a", Epoch: 1}, {Cell: "b", Epoch: 1}},
	})
	if err != nil {
		panic(err)
	}
	return c
}

func TestAdmin(t *testing.T) {
	admin := &controlhttp.Admin{Controller: newController()}
	for _, test := range []struct {
		method, target string
		status         int
		want           string
	}{
		{"GET", "/", 200, `"Utilisation": 0.5`},
		{"GET", "/map", 200, "stormjib-cells/1"},
		{"GET", "/explain?tenant=acme", 200, `"Source": "slot"`},
		{"GET", "/explain", 400, "tenant"},
		{"GET", "/simulate?cell=a", 200, `"Unplaced"`},
		{"GET", "/simulate?cell=x", 503, "no cell"},
		{"GET", "/x", 404, ""},
		{"POST", "/", 405, ""},
	} {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequest(test.method, test.target, nil))
		body := w.Body.String()
		if w.Code != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: %d %s", test.method, test.target, w.Code, body)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s can be cached", test.target)
		}
		isJSON := strings.Contains(w.Header().Get("Content-Type"), "json")
		if isJSON != json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %s is no %s", test.target, body, w.Header().Get("Content-Type"))
		}
	}
}

func TestClient(t *testing.T) {
	c := newController()
	server := httptest.NewServer(&controlhttp.Source{Controller: c})
	defer server.Close()
	client := &controlhttp.Client{
		URL: server.URL, Cell: "a", Replica: "a-1", Settled: func() uint64 { return 1 },
		HTTP: server.Client(),
	}
	b, err := client.Pull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := cell.Decode(b)
	if err != nil || len(s.Cells[0].Replicas) != 1 || s.Cells[0].Replicas[0] != "a-1" {
		t.Errorf("%+v, %v", s, err)
	}
	nine := func() uint64 { return 9 }
	for name, wrong := range map[string]*controlhttp.Client{
		"of no cell":    {URL: server.URL, Cell: "x", Replica: "a-1"},
		"of the future": {URL: server.URL, Cell: "a", Replica: "a-1", Settled: nine},
		"too small":     {URL: server.URL, MaxBytes: 10},
		"nowhere":       {URL: "http://127.0.0.1:0/"},
		"no URL":        {URL: ":"},
	} {
		if b, err := wrong.Pull(t.Context()); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
	resp, err := server.Client().Get(server.URL + "?replica=a-1&cell=a&settled=x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("settled=x: %s", resp.Status)
	}
}

func ExampleClient() {
	server := httptest.NewServer(&controlhttp.Source{Controller: newController()})
	defer server.Close()
	pull := &controlhttp.Client{URL: server.URL, Cell: "a", Replica: "a-1"}
	applied := make(chan struct{}, 1)
	router := cell.New(cell.Config{
		Replica: "a-1", Source: pull.Pull, OnEvent: func(cell.Event) { applied <- struct{}{} },
	})
	gate := cell.NewGate(cell.GateConfig{Cell: "a", Router: router})
	pull.Settled = gate.Settled
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go router.Run(ctx)
	<-applied
	route, _ := router.Route("acme")
	fmt.Println("acme is in", route.Cell)
	// Output: acme is in b
}

func ExampleSource() {
	source := &controlhttp.Source{Controller: newController()}
	w := httptest.NewRecorder()
	source.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cells", nil))
	s, err := cell.Decode(w.Body.Bytes())
	fmt.Println(len(s.Cells), "cells", err)
	// Output: 2 cells <nil>
}

func ExampleAdmin() {
	admin := &controlhttp.Admin{Controller: newController()}
	w := httptest.NewRecorder()
	admin.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/explain?tenant=acme", nil))
	var why control.Explanation
	err := json.Unmarshal(w.Body.Bytes(), &why)
	fmt.Println(why.Assignment.Cell, why.Source, err)
	// Output: b slot <nil>
}
