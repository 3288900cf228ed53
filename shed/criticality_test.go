package shed_test

import (
	"context"
	"testing"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

func TestCriticalityNames(t *testing.T) {
	for c, want := range map[shed.Criticality]string{
		0:                  "critical",
		shed.BestEffort:    "best-effort",
		shed.Sheddable:     "sheddable",
		shed.SheddablePlus: "sheddable-plus",
		shed.Critical:      "critical",
		shed.CriticalPlus:  "critical-plus",
		6:                  "criticality(6)",
		255:                "criticality(255)",
	} {
		if got := c.String(); got != want {
			t.Errorf("%d is %q, want %q", c, got, want)
		}
	}
	// They go over the wire as numbers too, and are ordered.
	if shed.BestEffort != 1 || shed.CriticalPlus != 5 || shed.Sheddable >= shed.SheddablePlus {
		t.Error("the numbers have changed")
	}
}

func TestParseCriticality(t *testing.T) {
	for c := shed.BestEffort; c <= shed.CriticalPlus; c++ {
		if got, ok := shed.ParseCriticality(c.String()); got != c || !ok {
			t.Errorf("%v: %v, %v", c, got, ok)
		}
	}
	for _, name := range []string{
		"", "Critical", "critical ", "critical+", "criticality(0)", "criticality(6)", "4",
	} {
		if got, ok := shed.ParseCriticality(name); ok || got != 0 {
			t.Errorf("%q: %v, %v", name, got, ok)
		}
	}
}

// What is no class is Critical, so that a mistake does not have work thrown away.
func TestUnknownClassIsCritical(t *testing.T) {
	for _, c := range []shed.Criticality{0, 6, 77, 255} {
		if got := shed.CriticalityOf(of(t, c)); got != shed.Critical {
			t.Errorf("%d: %v", c, got)
		}
		// As an adapter has it that did not look.
		ctx := sender(t, hop.Sender{Criticality: uint8(c)})
		if got := shed.CriticalityOf(ctx); got != shed.Critical {
			t.Errorf("%d, unseen: %v", c, got)
		}
		s := shed.New(without(1))
		take(t, s)
		_, err := s.TryAcquire(ctx)
		if e := refusedFor(t, err, shed.LimitReached); e.Class != shed.Critical {
			t.Errorf("%d counted for %v", c, e.Class)
		}
	}
}

func TestCriticalityOf(t *testing.T) {
	if got := shed.CriticalityOf(t.Context()); got != shed.Critical {
		t.Errorf("of a context without: %v", got)
	}
	outer := of(t, shed.Sheddable)
	inner := shed.WithCriticality(outer, shed.CriticalPlus)
	if got := shed.CriticalityOf(inner); got != shed.CriticalPlus {
		t.Errorf("the inner one is %v", got)
	}
	if got := shed.CriticalityOf(outer); got != shed.Sheddable {
		t.Errorf("the outer one is %v", got)
	}
	if got := shed.CriticalityOf(context.WithoutCancel(outer)); got != shed.Sheddable {
		t.Errorf("what goes on in the background is %v", got)
	}
}

// It changes the class and nothing else of what is known of who asks.
func TestWithCriticalityKeepsTheRest(t *testing.T) {
	ctx := sender(t, hop.Sender{Criticality: 1, Attempt: 3, Tenant: "a"})
	ctx = shed.WithCriticality(ctx, shed.CriticalPlus)
	want := hop.Sender{Criticality: uint8(shed.CriticalPlus), Attempt: 3, Tenant: "a"}
	if got := hop.SenderOf(ctx); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	ctx = stormjib.WithTenant(of(t, shed.BestEffort), "b")
	if shed.CriticalityOf(ctx) != shed.BestEffort || stormjib.Tenant(ctx) != "b" {
		t.Errorf("%+v", hop.SenderOf(ctx))
	}
}
