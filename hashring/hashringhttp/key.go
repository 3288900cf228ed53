package hashringhttp

import (
	"net/http"
	"net/url"
	"strings"
)

// Header returns a function that has the value of a header field for the key of a
// request: the first one, if there are several.
func Header(name string) func(*http.Request) string {
	name = http.CanonicalHeaderKey(name)
	return func(r *http.Request) string {
		if values := r.Header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

// Cookie returns a function that has the value of a cookie for the key of a request.
// Clients choose it, as they do all else in a request: with a SipHash in the placement
// they cannot choose their node by it.
func Cookie(name string) func(*http.Request) string {
	return func(r *http.Request) string {
		c, err := r.Cookie(name)
		if err != nil {
			return ""
		}
		return c.Value
	}
}

// PathSegment returns a function that has a segment of the path for the key of a request,
// counted from 0: of /users/42/basket, segment 1 is 42. It is unescaped, so that all ways
// to write it are one key, and a slash that was escaped is a part of it.
func PathSegment(i int) func(*http.Request) string {
	return func(r *http.Request) string {
		if r.URL == nil || i < 0 {
			return ""
		}
		rest := strings.TrimPrefix(r.URL.EscapedPath(), "/")
		for range i {
			var found bool
			if _, rest, found = strings.Cut(rest, "/"); !found {
				return ""
			}
		}
		segment, _, _ := strings.Cut(rest, "/")
		key, err := url.PathUnescape(segment)
		if err != nil {
			return segment // EscapedPath does not return such
		}
		return key
	}
}
