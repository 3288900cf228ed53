package hashring_test

import (
	"math"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestConfigValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  interface{ Validate() error }
		want string
	}{
		{hashring.RingConfig{}, ""},
		{hashring.RingConfig{VNodes: 1 << 24}, ""},
		{hashring.TableConfig{Slots: 1 << 18, Replicas: 8, Excess: 1000}, ""},
		{hashring.TableConfig{Slots: 32, Replicas: 1, Excess: math.MinInt}, ""},
		{
			hashring.RingConfig{VNodes: -1},
			"hashring: RingConfig: VNodes is -1, but must be from 1 to 16777216",
		},
		{
			hashring.RingConfig{Name: "users", VNodes: 1<<24 + 1},
			`hashring: RingConfig "users": VNodes is 16777217, but must be from 1 to 16777216`,
		},
		{
			hashring.TableConfig{Slots: 100, Replicas: 9, Excess: 1001},
			"hashring: TableConfig: Slots is 100, but must be a power of two from 32 to 262144; " +
				"Replicas is 9, but must be from 1 to 8; Excess is 1001, but must be at most 1000",
		},
		{
			hashring.TableConfig{Name: "users", Slots: 16, Replicas: -1},
			`hashring: TableConfig "users": Slots is 16, but must be a power of two from 32 to ` +
				"262144; Replicas is -1, but must be from 1 to 8",
		},
		{
			hashring.TableConfig{Slots: -65536},
			"hashring: TableConfig: Slots is -65536, but must be a power of two from 32 to 262144",
		},
		{
			hashring.TableConfig{Slots: 1 << 19},
			"hashring: TableConfig: Slots is 524288, but must be a power of two from 32 to 262144",
		},
	} {
		err := test.cfg.Validate()
		if got := text(err); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.cfg, got, test.want)
		}
		if err == nil {
			continue // that they can be made is for other tests: some of them are large
		}
		switch cfg := test.cfg.(type) {
		case hashring.RingConfig:
			_, err = hashring.NewRing(fleet(1, 1), cfg)
		case hashring.TableConfig:
			_, err = hashring.NewTable(fleet(1, 1), cfg)
		}
		if text(err) != test.want {
			t.Errorf("%+v: made with %v", test.cfg, err)
		}
	}
}
