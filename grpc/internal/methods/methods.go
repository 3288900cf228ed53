// Package methods tells which calls pass an interceptor.
package methods

import (
	"fmt"
	"strings"
)

// Skipped reports whether calls of a method pass: whether list names it, as
// "/package.Service/Method", or its service, as "/package.Service/". A nil list is the
// services by which others look at a server; an empty one is no method at all.
func Skipped(list []string, method string) bool {
	if list == nil {
		return strings.HasPrefix(method, "/grpc.") && observing(method)
	}
	for _, name := range list {
		if method == name || strings.HasSuffix(name, "/") && strings.HasPrefix(method, name) {
			return true
		}
	}
	return false
}

// observing reports whether a method is one of health checking or of reflection: to
// refuse these makes a busy server a dead one, and a broken one a riddle.
func observing(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.Health/") ||
		strings.HasPrefix(method, "/grpc.reflection.v1.ServerReflection/") ||
		strings.HasPrefix(method, "/grpc.reflection.v1alpha.ServerReflection/")
}

// Check panics, in the name of a field, if a name in list can be that of no method: it
// would be passed over in silence for ever.
func Check(field string, list []string) {
	for _, name := range list {
		service, method, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
		if !strings.HasPrefix(name, "/") || !ok || service == "" || strings.Contains(method, "/") {
			const text = "%s: %q is neither \"/package.Service/Method\" nor \"/package.Service/\""
			panic(fmt.Sprintf(text, field, name))
		}
	}
}
