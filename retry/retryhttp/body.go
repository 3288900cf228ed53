package retryhttp

import (
	"io"
	"net/http"
	"time"
)

// How much of a response that nobody wants is read, and for how long, to keep its
// connection. An error page fits, and comes along with its header.
const (
	drainBytes = 64 << 10
	drainTime  = 100 * time.Millisecond
)

// discard is done with a response, and with its connection if leave is true. Closing a
// body is what ends a read of it that hangs: the context cannot, for it is the caller's,
// and is still needed.
func discard(resp *http.Response, leave bool) {
	if resp.Body == nil {
		return
	}
	if !leave && resp.ContentLength <= drainBytes {
		hangs := time.AfterFunc(drainTime, func() { closeResponse(resp) })
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, drainBytes))
		if !hangs.Stop() {
			return // closed already
		}
	}
	closeResponse(resp)
}

func closeResponse(resp *http.Response) {
	_ = resp.Body.Close() // it was discarded; there is nobody to tell
}

// closeBody closes the body of a request that no Base has got: a RoundTripper does so
// in any case, and the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }
