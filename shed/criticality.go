package shed

import (
	"context"
	"strconv"

	"github.com/stormjib/stormjib/internal/hop"
)

// Criticality is how much it costs if a request is not served. The names are those of
// Google's, with one more at the end. When there is too much, the least critical goes
// first.
type Criticality uint8

// The classes. The zero Criticality stands for Critical.
const (
	BestEffort    Criticality = iota + 1 // may fail for hours: prefetches, backfills
	Sheddable                            // may fail for some time: batch work, which is sent again
	SheddablePlus                        // is missed when it fails, and not more: recommendations
	Critical                             // fails for a user. What nothing is said of is Critical
	CriticalPlus                         // fails for many, or costs money: checkout, login
)

const classes = int(CriticalPlus)

var names = [...]string{ //nolint:gochecknoglobals // A constant, but for the language.
	"critical", "best-effort", "sheddable", "sheddable-plus", "critical", "critical-plus",
}

// String returns the name that crosses a hop, such as "sheddable-plus".
func (c Criticality) String() string {
	if int(c) < len(names) {
		return names[c]
	}
	return "criticality(" + strconv.Itoa(int(c)) + ")"
}

// ParseCriticality returns the class of a name, and false if there is none of that name.
func ParseCriticality(name string) (Criticality, bool) {
	for c := BestEffort; c <= CriticalPlus; c++ {
		if names[c] == name {
			return c, true
		}
	}
	return 0, false
}

// known returns c, or Critical if it is no class.
func (c Criticality) known() Criticality {
	if c < BestEffort || c > CriticalPlus {
		return Critical
	}
	return c
}

// WithCriticality returns a context for work of a class. It overrides what came in with
// the request, and goes out with the requests that are made for it.
func WithCriticality(ctx context.Context, c Criticality) context.Context {
	s := hop.SenderOf(ctx)
	s.Criticality = uint8(c.known())
	return hop.WithSender(ctx, s)
}

// CriticalityOf returns the class of ctx, Critical if it has none.
func CriticalityOf(ctx context.Context) Criticality {
	return Criticality(hop.SenderOf(ctx).Criticality).known()
}
