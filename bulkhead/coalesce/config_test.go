package coalesce_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  coalesce.Config
		want string // after "coalesce: Config"; empty: it is valid
	}{
		{coalesce.Config{}, ""},
		{coalesce.Config{Jitter: -1, Timeout: -1}, ""},
		{coalesce.Config{TTL: 1, Stale: 1, StaleOnError: 1, ErrorTTL: 1, MaxEntries: 1}, ""},
		{coalesce.Config{TTL: 1, ErrorTTL: 1, Timeout: -1}, ""},
		{coalesce.Config{Name: "a", TTL: -1}, ` "a": TTL is -1ns, but must not be negative`},
		{coalesce.Config{Jitter: 1}, ": Jitter is 1, but must be below 1"},
		{coalesce.Config{Jitter: math.NaN()}, ": Jitter is NaN, but must be below 1"},
		{coalesce.Config{Stale: time.Second}, ": Stale is 1s, but must have a TTL beside it"},
		{coalesce.Config{StaleOnError: 1}, ": StaleOnError is 1ns, but must have a TTL beside it"},
		{coalesce.Config{ErrorTTL: 1}, ": ErrorTTL is 1ns, but must have a TTL beside it"},
		{
			coalesce.Config{TTL: 1, Stale: -1, StaleOnError: -2, ErrorTTL: -3, MaxEntries: -4},
			": Stale is -1ns, but must not be negative; " +
				"StaleOnError is -2ns, but must not be negative; " +
				"ErrorTTL is -3ns, but must not be negative; " +
				"MaxEntries is -4, but must be at least 1",
		},
		{
			coalesce.Config{TTL: 1, Stale: 1, Timeout: -1},
			": Timeout is -1ns, but must not be off where refreshes run in the background",
		},
		{
			coalesce.Config{TTL: 1, StaleOnError: 1, Timeout: -1},
			": Timeout is -1ns, but must not be off where refreshes run in the background",
		},
	} {
		err := test.cfg.Validate()
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.cfg, err)
			}
			_ = coalesce.New[string, int](test.cfg)
			continue
		}
		want := "coalesce: Config" + test.want
		if err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", test.cfg, err, want)
		}
		func() {
			defer func() {
				if got, _ := recover().(string); got != want {
					t.Errorf("New panics with %q, want %q", got, want)
				}
			}()
			_ = coalesce.New[string, int](test.cfg)
		}()
	}
}

func TestName(t *testing.T) {
	g := coalesce.New[string, int](coalesce.Config{Name: "pages"})
	if got := g.Stats().Name; got != "pages" {
		t.Errorf("Name = %q", got)
	}
	err := coalesce.Config{Name: "pages", TTL: -1}.Validate()
	if !strings.Contains(err.Error(), `"pages"`) {
		t.Errorf("%v", err)
	}
}
