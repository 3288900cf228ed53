package wire

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/stormjib/stormjib/internal/hop"
)

// EnvoyAttemptKey is the metadata by which Envoy says which attempt a call is.
const EnvoyAttemptKey = "x-envoy-attempt-count"

// Said returns what a call says of itself, in its metadata, which anybody may have written.
// What is not as it should be, or there more than once, says nothing; for attempts the
// highest number counts.
func Said(md metadata.MD) hop.Sender {
	var s hop.Sender
	if value := only(md, CriticalityKey); value != "" {
		s.Criticality, _ = hop.ParseCriticality(value)
	}
	if value := only(md, TenantKey); value != "" {
		s.Tenant, _ = hop.ParseTenant(value)
	}
	for _, value := range md[PreviousAttemptsKey] {
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			s.Attempt = max(s.Attempt, int(n)+1)
		}
	}
	for _, value := range md[EnvoyAttemptKey] {
		n, _ := hop.ParseAttempt(value)
		s.Attempt = max(s.Attempt, n)
	}
	return s
}

// only returns the value of a key that is there once. One of them could be the client's, and
// the other that of a proxy which meant to replace it.
func only(md metadata.MD, key string) string {
	if values := md[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// Tell returns a context whose calls say what ctx says of its sender, and nothing else: in a
// proxy that copies metadata it would be what a client has written, and those behind it
// believe the proxy.
func Tell(ctx context.Context) context.Context {
	sender := hop.SenderOf(ctx)
	class := hop.FormatCriticality(sender.Criticality)
	tenant := hop.FormatTenant(sender.Tenant)
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if class == "" && tenant == "" && md[CriticalityKey] == nil && md[TenantKey] == nil {
		return ctx
	}
	if md == nil {
		md = metadata.MD{}
	}
	for key, value := range map[string]string{CriticalityKey: class, TenantKey: tenant} {
		delete(md, key)
		if value != "" {
			md[key] = []string{value}
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}
