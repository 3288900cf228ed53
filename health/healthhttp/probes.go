package healthhttp

import (
	"net/http"
	"strings"

	"github.com/stormjib/stormjib/health"
)

// Probes answers the probes of one replica:
//
//	/livez                    should the process be left running?
//	/readyz                   should it be sent requests?
//	/startupz                 is start-up over?
//	/readyz/<name>            the same for one check or gate alone, as for the other two
//	/readyz?exclude=<name>    without one, or, given again, several
//	/readyz?verbose           with all of them
//	/readyz?format=json       as application/health+json, as with that in Accept
//
// It has no state, and is safe for concurrent use; set its fields before the first request.
type Probes struct {
	// Health is asked. It is required.
	Health *health.Health

	// Details says whether who sends the request may see what errors say; there can be
	// names, addresses and more in that. Names of checks and what they are at, everybody
	// may see. If nil, nobody may see details.
	Details func(*http.Request) bool

	// ReleaseID is the version of what runs, for the member releaseId. If empty, there is
	// none.
	ReleaseID string

	// ServiceID identifies the replica, for the member serviceId. If empty, there is none.
	ServiceID string
}

// Handler returns a handler for all requests: it answers the probes, and leaves the rest to
// next. Make it the outermost one, so that nothing that limits or sheds requests turns away
// a probe: that a replica is busy is no reason to restart it. It panics if Health is nil.
func (p *Probes) Handler(next http.Handler) http.Handler {
	p.check()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.serve(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// ServeHTTP answers the probes, and any other path with 404: for a port that is for probes
// alone, or a mux. It panics if Health is nil.
func (p *Probes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.check()
	if !p.serve(w, r) {
		http.NotFound(w, r)
	}
}

func (p *Probes) check() {
	if p.Health == nil {
		panic("healthhttp: Probes.Health is nil")
	}
}

// serve reports whether r is a probe. If so, it is answered.
func (p *Probes) serve(w http.ResponseWriter, r *http.Request) bool {
	kind, name, ok := parse(r.URL.Path)
	if !ok {
		return false
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "a probe is GET or HEAD", http.StatusMethodNotAllowed)
		return true
	}
	if name == "" && r.URL.RawQuery == "" && !wantsJSON(r) && p.passes(kind) {
		reply(w, r, http.StatusOK, plainText, "ok\n") // what nearly all of them come to
		return true
	}
	p.answer(w, r, kind, name)
	return true
}

// A probe is one of the three questions.
type probe string

const (
	livez    probe = "livez"
	readyz   probe = "readyz"
	startupz probe = "startupz"
)

// parse takes a path apart. The name may have slashes in it.
func parse(path string) (kind probe, name string, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return "", "", false
	}
	first, name, more := strings.Cut(path[1:], "/")
	switch kind = probe(first); kind {
	case livez, readyz, startupz:
		return kind, name, !more || name != ""
	}
	return "", "", false
}

// passes is the whole answer where nothing is left out.
func (p *Probes) passes(kind probe) bool {
	switch kind {
	case livez:
		return p.Health.Live()
	case startupz:
		return p.Health.Started()
	}
	return p.Health.Ready()
}

// counts reports whether the probe has to do with the result at all.
func (kind probe) counts(r health.Result) bool {
	switch kind {
	case livez:
		return r.Class == health.Liveness
	case startupz:
		return r.Class != health.Liveness && r.Class != health.Info
	}
	return true
}

// status returns what the probe makes of a result.
func (kind probe) status(report *health.Report, r health.Result) health.Status {
	if kind == startupz && report.Started && r.Status == health.Fail {
		return health.Warn // what fails since then is not the start-up's
	}
	return r.Status
}

const (
	plainText  = "text/plain; charset=utf-8"
	healthJSON = "application/health+json"
)

func reply(w http.ResponseWriter, r *http.Request, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		// A client that is gone by now needs no answer.
		_, _ = w.Write([]byte(body))
	}
}

// wantsJSON reports whether JSON is asked for, in the query or as the type that is accepted.
// What accepts anything gets text.
func wantsJSON(r *http.Request) bool {
	if r.URL.RawQuery != "" && r.URL.Query().Get("format") == "json" {
		return true
	}
	for _, value := range r.Header["Accept"] {
		for part := range strings.SplitSeq(value, ",") {
			mediaType, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(mediaType)) {
			case healthJSON, "application/json":
				return true
			}
		}
	}
	return false
}
