// Package controlhttp shows over HTTP what a [control.Controller] knows, and gives routers
// their map.
//
//	mux.Handle("/admin/cells/", http.StripPrefix("/admin/cells",
//		&controlhttp.Admin{Controller: controller}))
//	internal.Handle("GET /cells", &controlhttp.Source{Controller: controller})
//
// and in an edge or a replica
//
//	pull := &controlhttp.Client{URL: "http://control/cells", Cell: "cell-3", Replica: name}
//	router := cell.New(cell.Config{Replica: name, Source: pull.Pull})
//	gate := cell.NewGate(cell.GateConfig{Cell: "cell-3", Router: router})
//	pull.Settled = gate.Settled
//	go router.Run(ctx)
//
// Use Admin for people and dashboards: it changes nothing. Do not give either of them to
// whoever can reach a port: Admin names all tenants with an entry of their own, and Source
// believes what replicas say of themselves. Nothing may stand between a Client and its
// Source that answers from a cache.
//
// # Algorithm
//
// Each answer is read from the store when it is asked for, and marked as not to be kept.
//
// # Defaults
//
// A Client reads at most 16 MiB, as a router does, and uses http.DefaultClient, since the
// router gives each pull a deadline.
//
// # Failure modes
//
// A store that does not answer is 503; a question that makes no sense is 400. What went
// wrong is said in full: those who may ask may know.
//
// Stable: the API changes only with a major version.
package controlhttp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// Admin is a handler that shows the map, for GET and HEAD:
//
//	/                     the cells, how full they are, and the moves, as JSON
//	/map                  the map itself, as routers get it
//	/explain?tenant=acme  why a tenant is where it is; with &key= if it is split
//	/simulate?cell=a      what it would be like without cell a, or several
type Admin struct {
	// Controller is asked. It is required.
	Controller *control.Controller
}

// ServeHTTP answers.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem.Write(w, http.StatusMethodNotAllowed, "This only shows.")
		return
	}
	ctx, query := r.Context(), r.URL.Query()
	var answer any
	var err error
	switch r.URL.Path {
	case "", "/":
		answer, err = a.Controller.Overview(ctx)
	case "/map":
		(&Source{a.Controller}).reply(w, r, control.Report{})
		return
	case "/explain":
		if !query.Has("tenant") {
			problem.Write(w, http.StatusBadRequest, "Of which tenant? Add ?tenant=.")
			return
		}
		answer, err = a.Controller.Explain(ctx, query.Get("tenant"), query.Get("key"))
	case "/simulate":
		answer, err = a.Controller.Simulate(ctx, query["cell"]...)
	default:
		problem.Write(w, http.StatusNotFound, "There are /, /map, /explain and /simulate.")
		return
	}
	reply(w, answer, err)
}

func reply(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	b, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	send(w, append(b, '\n'))
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Cache-Control", "no-store")
	problem.Write(w, http.StatusServiceUnavailable, err.Error())
}

func send(w http.ResponseWriter, b []byte) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // whoever has gone does not need it
}

// Source is the handler that a [Client] pulls from.
type Source struct {
	// Controller has the map. It is required.
	Controller *control.Controller
}

// ServeHTTP answers with the whole map, for GET.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		problem.Write(w, http.StatusMethodNotAllowed, "A pull is a GET.")
		return
	}
	query := r.URL.Query()
	report := control.Report{Cell: query.Get("cell"), Replica: query.Get("replica")}
	if text := query.Get("settled"); text != "" {
		var err error
		if report.Settled, err = strconv.ParseUint(text, 10, 64); err != nil {
			problem.Write(w, http.StatusBadRequest, "What was settled is not a version.")
			return
		}
	}
	s.reply(w, r, report)
}

func (s *Source) reply(w http.ResponseWriter, r *http.Request, report control.Report) {
	b, err := s.Controller.Pull(r.Context(), report)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	send(w, b)
}

// Client pulls the map from a [Source]. Its Pull is the Source of a cell.Config. It is safe
// for concurrent use; set its fields before the first.
type Client struct {
	// URL is that of the Source. It is required.
	URL string

	// Cell and Replica are whose router it is. For an edge they are empty.
	Cell, Replica string

	// Settled is that of the replica's gate. If nil, nothing is reported, and no move from
	// the cell goes on.
	Settled func() uint64

	// HTTP sends the requests. If nil, http.DefaultClient.
	HTTP *http.Client

	// MaxBytes bounds the map. If zero, 16 MiB, as for a router.
	MaxBytes int64
}

// Pull returns the encoded map.
func (c *Client) Pull(ctx context.Context) ([]byte, error) {
	target, err := c.target()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Cache-Control", "no-store")
	resp, err := cmp.Or(c.HTTP, http.DefaultClient).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	most := cmp.Or(c.MaxBytes, 16<<20)
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("controlhttp: the answer is %s: %.200s", resp.Status,
			bytes.TrimSpace(b))
	case int64(len(b)) > most:
		return nil, errTooLarge
	}
	return b, nil
}

var errTooLarge = errors.New("controlhttp: the map has more than MaxBytes")

func (c *Client) target() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", err
	}
	if c.Replica == "" {
		return u.String(), nil
	}
	query := u.Query()
	query.Set("cell", c.Cell)
	query.Set("replica", c.Replica)
	if c.Settled != nil {
		query.Set("settled", strconv.FormatUint(c.Settled(), 10))
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}
