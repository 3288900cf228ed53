package stormjib

import (
	"context"

	"github.com/stormjib/stormjib/internal/hop"
)

// WithTenant returns a context for work that is done for a tenant: a customer, a project,
// whoever should not take what belongs to others. A load shedder is fair between the
// tenants of a class, and the adapters of this module that say what a request is, such as
// shedhttp.Transport, pass the tenant on to the services that are asked for its sake.
//
// Give it what has been authenticated. Of who may choose a tenant, each request can be
// that of a new one, or of a competitor. One that is longer than 256 bytes is none, and so
// is "": then the context has none, whatever ctx had.
func WithTenant(ctx context.Context, tenant string) context.Context {
	s := hop.SenderOf(ctx)
	s.Tenant = hop.BoundTenant(tenant)
	return hop.WithSender(ctx, s)
}

// Tenant returns the tenant of ctx, or "" if it has none.
func Tenant(ctx context.Context) string { return hop.SenderOf(ctx).Tenant }
