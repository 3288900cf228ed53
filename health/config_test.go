package health_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

func TestValidate(t *testing.T) {
	one := func(c health.Check) health.Config {
		if c.Name == "" {
			c.Name = "db"
		}
		c.Func = nothing
		return health.Config{Checks: []health.Check{c}}
	}
	tests := []struct {
		cfg  health.Config
		want string // "" if valid; what is common to all is left out
	}{
		{health.Config{}, ""},
		{one(health.Check{}), ""},
		{one(health.Check{Interval: 10 * time.Millisecond}), ""},
		{one(health.Check{Interval: 24 * time.Hour, Timeout: 24 * time.Hour, Failures: 1000}), ""},
		{one(health.Check{Interval: time.Second, Timeout: time.Second}), ""},
		{one(health.Check{StaleAfter: 21 * time.Second}), ""},
		{one(health.Check{StaleAfter: -1, Shed: true, Class: health.Shared}), ""},
		{health.Config{StartupTimeout: -1, HoldDown: -1, MaxUnreadyFor: -1, MaxUnready: 1}, ""},
		{health.Config{Ramp: health.Ramp{Over: -1, From: 1}}, ""},
		{health.Config{Ramp: health.Ramp{Over: 24 * time.Hour, From: 1e-9}}, ""},
		{
			health.Config{Checks: []health.Check{{}}},
			`Checks[0].Name is "", but must have a name; ` +
				"Checks[0].Func is nil, but must be a function",
		},
		{
			health.Config{
				Name: "shop", Gates: []string{"a", "b", "a", ""},
				Checks: []health.Check{{Name: "b", Func: nothing}},
			},
			`Gates[2] is "a", but must not be there twice; Gates[3] is "", but must have a name; ` +
				`Checks[0].Name is "b", but must not be there twice`,
		},
		{one(health.Check{Class: 4}), "Checks[0].Class is gate, but must be a class"},
		{one(health.Check{Class: -1}), "Checks[0].Class is Class(-1), but must be a class"},
		{
			one(health.Check{Interval: time.Millisecond}),
			"Checks[0].Interval is 1ms, but must be from 10ms to 24h",
		},
		{
			one(health.Check{Interval: -1}),
			"Checks[0].Interval is -1ns, but must be from 10ms to 24h",
		},
		{
			one(health.Check{Interval: 24*time.Hour + 1}),
			"Checks[0].Interval is 24h0m0.000000001s, but must be from 10ms to 24h",
		},
		{
			one(health.Check{Interval: time.Second, Timeout: 2 * time.Second}),
			"Checks[0].Timeout is 2s, but must not be longer than the Interval, 1s",
		},
		{
			one(health.Check{Timeout: 11 * time.Second}),
			"Checks[0].Timeout is 11s, but must not be longer than the Interval, 10s",
		},
		{one(health.Check{Timeout: -1}), "Checks[0].Timeout is -1ns, but must not be negative"},
		{one(health.Check{Failures: -1}), "Checks[0].Failures is -1, but must be from 1 to 1000"},
		{
			one(health.Check{Successes: 1001}),
			"Checks[0].Successes is 1001, but must be from 1 to 1000",
		},
		{
			one(health.Check{StaleAfter: 20 * time.Second}),
			"Checks[0].StaleAfter is 20s, but must be at least 21s, two Intervals and the Timeout",
		},
		{
			one(health.Check{Shed: true, Class: health.Local}),
			"Checks[0].Shed is true, but must be of class shared",
		},
		{
			health.Config{MaxUnready: 1.5},
			"MaxUnready is 1.5, but must be above 0 and at most 1",
		},
		{
			health.Config{MaxUnready: math.NaN(), Ramp: health.Ramp{From: -1, Over: 1}},
			"MaxUnready is NaN, but must be above 0 and at most 1; " +
				"Ramp.Over is 1ns, but must be from 10ms to 24h; " +
				"Ramp.From is -1, but must be above 0 and at most 1",
		},
	}
	for _, test := range tests {
		want := test.want
		if want != "" {
			want = "health: Config: " + want
			if test.cfg.Name != "" {
				want = strings.Replace(want, "Config", fmt.Sprintf("Config %q", test.cfg.Name), 1)
			}
		}
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		func() {
			defer func() {
				r := recover()
				if want != "" && r != want || want == "" && r != nil {
					t.Errorf("New: %v\nwant %s", r, want)
				}
			}()
			health.New(test.cfg)
		}()
	}
}

// A Config belongs to its caller again when New has returned.
func TestConfigIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		cfg := health.Config{
			Gates: []string{"a"}, Checks: []health.Check{{Name: "db", Func: db.check}},
		}
		h := health.New(cfg)
		if cfg.Checks[0].Interval != 0 {
			t.Error("the defaults are in the caller's slice")
		}
		cfg.Gates[0], cfg.Checks[0] = "z", health.Check{}
		h.Start(t.Context())
		h.Gate("a")()
		synctest.Wait()
		wantPhase(t, h, "ready")
		if db.runs.Load() != 1 {
			t.Error("a slice is shared with the caller")
		}
	})
}

func TestStrings(t *testing.T) {
	got := fmt.Sprint(health.Shared, health.Local, health.Liveness, health.Info, health.Class(4),
		health.Class(5), fail, warn, pass, health.Status(7))
	want := "shared local liveness info gate Class(5) fail warn pass fail"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
