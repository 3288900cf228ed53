package healthhttp

import (
	"net/http"
	"strings"

	"github.com/stormjib/stormjib/health"
)

// Middleware has clients leave while a server drains. It refuses nothing: in that time they
// are still served, and told in each reply to come to another replica the next time.
//
// Over HTTP/1 the reply has Connection: close, and net/http closes the connection after it.
// Over HTTP/2 net/http makes a GOAWAY of the same field: what is under way goes on, and what
// is next opens a new connection. The alternative, SetKeepAlivesEnabled(false), closes
// idle connections at once too, and with them those on which a request is on its way.
//
// A reply that had begun, or was being made, when the drain did does not say so. The next
// one on its connection does.
//
// Put it around everything but the probes; it does not mind if they are inside. It passes
// the ResponseWriter on as it is, and allocates nothing but for requests that stay long.
//
// It is safe for concurrent use; set its fields before the first call of Handler.
type Middleware struct {
	// Drain is what the server is drained by. It is required.
	Drain *health.Drain

	// LongLived reports whether a request stays for so long that nobody can wait for it
	// to end by itself. It joins the drain, see [health.Drain.Join]: its context ends
	// when it is asked to leave, and it is waited for until its handler returns. A handler
	// that hijacks the connection and returns has left, and should join by itself. If nil,
	// [LongLived].
	LongLived func(*http.Request) bool
}

// Handler returns next with the connections of its clients closed while the server drains.
// It panics if Drain is nil.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	if m.Drain == nil {
		panic("healthhttp: Middleware.Drain is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A proxy would send it on beside the Connection: upgrade of a 101.
		if m.Drain.Draining() && !upgrades(r) {
			w.Header().Set("Connection", "close")
		}
		if m.longLived(r) {
			m.join(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (m *Middleware) longLived(r *http.Request) bool {
	if m.LongLived != nil {
		return m.LongLived(r)
	}
	return LongLived(r)
}

func (m *Middleware) join(w http.ResponseWriter, r *http.Request, next http.Handler) {
	ctx, leave := m.Drain.Join(r.Context())
	defer leave()
	inside := r.WithContext(ctx)
	// net/http removes the files of the form that it finds in its own request, and
	// telemetry looks at the pattern there.
	defer func() { r.MultipartForm, r.Pattern = inside.MultipartForm, inside.Pattern }()
	next.ServeHTTP(w, inside)
}

// LongLived is what a [Middleware] without a LongLived goes by. It reports true for what
// asks for an upgrade of its connection, as websockets do, for CONNECT, and for a GET of
// text/event-stream. Clients of those come back by themselves; that is what an event
// stream is made for. A POST whose answer is streamed is work that somebody waits for, and
// is left to end.
func LongLived(r *http.Request) bool {
	if upgrades(r) {
		return true
	}
	return r.Method == http.MethodGet &&
		strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// upgrades reports whether a connection may become something else. One to HTTP/2 does not:
// net/http answers as if it had not been asked.
func upgrades(r *http.Request) bool {
	to := r.Header.Get("Upgrade")
	return r.Method == http.MethodConnect || to != "" && !strings.EqualFold(to, "h2c")
}
