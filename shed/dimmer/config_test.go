package dimmer_test

import (
	"math"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shed/dimmer"
)

func calm() float64 { return 0 }

func TestValidate(t *testing.T) {
	tests := []struct {
		cfg  dimmer.Config
		want string // "" if valid
	}{
		{dimmer.Config{}, ""},
		{dimmer.Config{Target: 1, Period: 10 * time.Millisecond, Features: []string{"a", "b"}}, ""},
		{dimmer.Config{Signal: calm, SetPoint: 0.9, Period: time.Hour}, ""},
		{dimmer.Config{Target: -1}, "dimmer: Config: Target is -1ns, but must not be negative"},
		{
			dimmer.Config{SetPoint: 0.5},
			"dimmer: Config: SetPoint is 0.5, but must have a Signal beside it",
		},
		{
			dimmer.Config{Signal: calm, SetPoint: 1},
			"dimmer: Config: SetPoint is 1, but must be above 0 and below 1",
		},
		{
			dimmer.Config{Signal: calm, SetPoint: math.NaN()},
			"dimmer: Config: SetPoint is NaN, but must be above 0 and below 1",
		},
		{
			dimmer.Config{Name: "shop", Signal: calm, SetPoint: -0.5, Period: time.Millisecond},
			`dimmer: Config "shop": SetPoint is -0.5, but must be above 0 and below 1; ` +
				"Period is 1ms, but must be from 10ms to 1h",
		},
		{
			dimmer.Config{Period: time.Hour + 1},
			"dimmer: Config: Period is 1h0m0.000000001s, but must be from 10ms to 1h",
		},
		{
			dimmer.Config{Features: []string{"a", "", "b", "a", ""}},
			`dimmer: Config: Features[1] is "", but must have a name; ` +
				`Features[3] is "a", but must not be there twice; ` +
				`Features[4] is "", but must have a name`,
		},
	}
	for _, test := range tests {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
		func() {
			defer func() {
				r := recover()
				if test.want != "" && r != test.want || test.want == "" && r != nil {
					t.Errorf("New: %v\nwant %s", r, test.want)
				}
			}()
			dimmer.New(test.cfg)
		}()
	}
}

// A Config belongs to its caller again when New has returned.
func TestConfigIsCopied(t *testing.T) {
	features := []string{"a", "b"}
	d := dimmer.New(dimmer.Config{Features: features})
	features[0] = "z"
	if d.Feature("a") == nil || d.Stats().Features[0].Name != "a" {
		t.Error("the names changed with the caller's slice")
	}
}
