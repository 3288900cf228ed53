package shed_test

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
)

func TestZeroConfigWorks(t *testing.T) {
	if err := (shed.Config{}).Validate(); err != nil {
		t.Fatal(err)
	}
	var filled shed.Config
	cfg := shed.Config{Algorithm: func(c shed.Config) shed.Algorithm {
		filled = c
		return shed.RateVegas(c)
	}}
	s := shed.New(cfg)
	if filled.Min != 1 || filled.Max != 1000 || filled.Initial != 20 ||
		filled.MaxWait != 100*time.Millisecond || filled.Classify == nil {
		t.Errorf("%+v", filled)
	}
	if got := s.Stats().Limit; got != 20 {
		t.Errorf("the limit is %d", got)
	}
	if err := s.Do(t.Context(), ok); err != nil {
		t.Error(err)
	}
}

// The limit to begin with is within Min and Max if nothing is said of it.
func TestInitialIsWithinBounds(t *testing.T) {
	for _, test := range []struct {
		cfg  shed.Config
		want int
	}{
		{shed.Config{}, 20},
		{shed.Config{Max: 5}, 5},
		{shed.Config{Min: 30}, 30},
		{shed.Config{Min: 30, Max: 30}, 30},
		{shed.Config{Min: 2000}, 2000},
		{shed.Config{Max: 65535}, 20},
		{shed.Config{Initial: 7}, 7},
		{shed.Config{Initial: 1000}, 1000},
		{shed.Config{Max: 65535, Initial: 65535}, 65535},
	} {
		if got := shed.New(test.cfg).Stats().Limit; got != test.want {
			t.Errorf("%+v: %d, want %d", test.cfg, got, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  shed.Config
		want string
	}{
		{shed.Config{Min: -1}, "Min is -1, but must be from 1 to 65535"},
		{shed.Config{Max: -1}, "Max is -1, but must be from 1 to 65535"},
		{shed.Config{Max: 65536}, "Max is 65536, but must be from 1 to 65535"},
		{shed.Config{Min: 10, Max: 9}, "Min is 10, but must not be above Max, which is 9"},
		{shed.Config{Initial: -1}, "Initial is -1, but must be from Min to Max"},
		{shed.Config{Initial: 1001}, "Initial is 1001, but must be from Min to Max"},
		{shed.Config{Min: 5, Initial: 4}, "Initial is 4, but must be from Min to Max"},
		{shed.Config{MaxLatency: -1}, "MaxLatency is -1ns, but must not be negative"},
		{shed.Config{MaxWait: -time.Second}, "MaxWait is -1s, but must not be negative"},
		{
			shed.Config{Learned: shed.Snapshot{Latency: -1}},
			"Learned.Latency is -1ns, but must not be negative",
		},
		{shed.Config{Learned: shed.Snapshot{Rate: -1}}, "Learned.Rate is -1, but must be a number"},
		{shed.Config{Learned: shed.Snapshot{Rate: math.NaN()}}, "Learned.Rate is NaN, but must"},
		{shed.Config{Learned: shed.Snapshot{Rate: math.Inf(1)}}, "Learned.Rate is +Inf, but must"},
	} {
		err := test.cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
			continue
		}
		if !strings.HasPrefix(err.Error(), "shed: Config: ") {
			t.Errorf("%v does not begin with the package's name", err)
		}
		if got := panicOf(func() { shed.New(test.cfg) }); got != err.Error() {
			t.Errorf("New panics with %v, want %v", got, err)
		}
	}
	for _, cfg := range []shed.Config{
		{Queue: -1},
		{Queue: math.MaxInt},
		{MaxWait: math.MaxInt64},
		{Min: 65535, Max: 65535},
		{Learned: shed.Snapshot{Latency: time.Hour, Rate: math.MaxFloat64}},
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// All that is wrong is named at once, and whose it is.
func TestValidateNamesAll(t *testing.T) {
	cfg := shed.Config{Name: "api", Min: -3, Max: 70_000, MaxLatency: -1, MaxWait: -1}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	for _, want := range []string{
		`shed: Config "api": `, "Min is -3", "Max is 70000", "MaxLatency is -1", "MaxWait is -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// A Config is a value: two Shedders of one have nothing to do with each other.
func TestOneConfigForTwo(t *testing.T) {
	cfg := shed.Config{Name: "two", Initial: 2}
	made := 0
	cfg.Algorithm = func(c shed.Config) shed.Algorithm {
		made++
		return shed.Fixed(c)
	}
	a, b := shed.New(cfg), shed.New(cfg)
	if made != 2 {
		t.Errorf("%d algorithms for two", made)
	}
	takeAll(t, a)
	a.Close()
	take(t, b)
	wantUse(t, a, 2, 0)
	wantUse(t, b, 1, 0)
	if cfg.Max != 0 || cfg.MaxWait != 0 || cfg.Classify != nil {
		t.Errorf("New has changed it: %+v", cfg)
	}
}

// Each built-in algorithm begins with Initial, and has something to say of any window.
func TestBuiltInAlgorithms(t *testing.T) {
	for name, algorithm := range map[string]func(shed.Config) shed.Algorithm{
		"fixed": shed.Fixed, "vegas": shed.Vegas, "rate vegas": shed.RateVegas,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := shed.Config{Algorithm: algorithm, Initial: 33, Queue: -1}
			synctest.Test(t, func(t *testing.T) {
				s := shed.New(cfg)
				if got := s.Stats().Limit; got != 33 {
					t.Errorf("it begins with %d", got)
				}
				for range 20 {
					endWindow(t, s)
				}
				if got := s.Stats().Limit; got < 1 || got > 1000 {
					t.Errorf("the limit is %d", got)
				}
			})
			a := algorithm(shed.Config{Initial: 33, Max: 100})
			for _, w := range []shed.Window{
				{},
				{Length: 1},
				{Length: time.Second, Completed: 50},
				{Length: time.Second, Overloaded: 50, Mean: 33, Limit: 33},
				{Length: time.Second, Refused: 1000, Arrived: 1000, Mean: 33, Limit: 33},
				{Length: 1, Completed: 1 << 30, Mean: 1e9, Variation: 100, Limit: 33},
			} {
				for range 20 {
					a.Update(w) // and does not panic; a Shedder bounds what it says
				}
			}
		})
	}
}
