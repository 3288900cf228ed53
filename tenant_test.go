package stormjib_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/shed"
)

func TestTenant(t *testing.T) {
	longest := strings.Repeat("x", 256)
	acme := stormjib.WithTenant(t.Context(), "acme")
	for _, test := range []struct {
		name string
		ctx  context.Context
		want string
	}{
		{"none", t.Context(), ""},
		{"one", acme, "acme"},
		{"what is derived from it", context.WithoutCancel(acme), "acme"},
		{"another", stormjib.WithTenant(acme, "globex"), "globex"},
		{"no more", stormjib.WithTenant(acme, ""), ""},
		{"the longest", stormjib.WithTenant(acme, longest), longest},
		{"too long, and not the one before", stormjib.WithTenant(acme, longest+"x"), ""},
		{"a megabyte", stormjib.WithTenant(acme, strings.Repeat("x", 1<<20)), ""},
		{"beside a class", shed.WithCriticality(acme, shed.Sheddable), "acme"},
	} {
		if got := stormjib.Tenant(test.ctx); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	ctx := stormjib.WithTenant(shed.WithCriticality(t.Context(), shed.Sheddable), "acme")
	if got := shed.CriticalityOf(ctx); got != shed.Sheddable {
		t.Errorf("the tenant has made it %v", got)
	}
}

// The tenant travels in the context, from who has authenticated it to who is fair.
func ExampleWithTenant() {
	ctx := stormjib.WithTenant(context.Background(), "acme")
	fmt.Println(stormjib.Tenant(ctx))
	// Output: acme
}
