package hop_test

import (
	"math"
	"testing"

	"github.com/stormjib/stormjib/internal/hop"
)

func TestEpoch(t *testing.T) {
	for _, test := range []struct {
		value string
		want  uint64 // 0: none
	}{
		{"1", 1},
		{" 57 ", 57},
		{"57;later=1", 57},
		{"999999999999999", 999_999_999_999_999},
		{"1000000000000000", 0},
		{"", 0},
		{"0", 0},
		{"-1", 0},
		{"+1", 0},
		{"1.5", 0},
		{"1, 2", 0},
		{`"1"`, 0},
	} {
		if got, ok := hop.ParseEpoch(test.value); got != test.want || ok != (test.want > 0) {
			t.Errorf("%q is %d, %t; want %d", test.value, got, ok, test.want)
		}
	}
	for _, epoch := range []uint64{1, 57, 1 << 40} {
		if got, ok := hop.ParseEpoch(hop.FormatEpoch(epoch)); got != epoch || !ok {
			t.Errorf("%d comes back as %d, %t", epoch, got, ok)
		}
	}
	if got := hop.FormatEpoch(math.MaxUint64); got != "999999999999999" {
		t.Errorf("the largest is %s", got)
	}
}
