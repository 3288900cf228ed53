package dimmer_test

import (
	"math"
	"testing"

	"github.com/stormjib/stormjib/shed/dimmer"
)

const none = -1 // a period without a measurement

// The share after each period, by the formula of the package comment.
func TestController(t *testing.T) {
	tests := []struct {
		name   string
		levels []float64
		want   []float64
	}{
		{"calm", []float64{0, 0.2, 0}, []float64{1, 1, 1}},
		{"at the target, from calm", []float64{1, 1, 1}, []float64{0.8, 0.8, 0.8}},
		{"twice the target", []float64{2, 2, 2}, []float64{0.75, 0.7167, 0.6833}},
		{"far above", []float64{10, 10, 10}, []float64{0.75, 0.6682, 0.5864}},
		{"farther is the same", []float64{1e9, math.Inf(1), 10}, []float64{0.75, 0.6682, 0.5864}},
		{"below zero is zero", []float64{1, -5}, []float64{0.8, 0.9}},
		{"a step up is a tenth", []float64{10, 10, 0}, []float64{0.75, 0.6682, 0.7682}},
		{"a stall", []float64{0, 10, 0, 0, 0}, []float64{1, 0.75, 0.85, 0.95, 1}},
		{"a queue that drains is left to", []float64{4, 4, 2}, []float64{0.75, 0.69, 0.71}},
		{"and one that grows is not", []float64{1, 2, 4}, []float64{0.8, 0.7, 0.5867}},
		{"nothing winds up", []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 10}, []float64{
			1, 1, 1, 1, 1, 1, 1, 1, 1, 0.75,
		}},
		{
			"nor at the other end",
			[]float64{
				10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0,
			},
			[]float64{
				0.75, 0.6682, 0.5864, 0.5045, 0.4227, 0.3409, 0.2591, 0.1773, 0.0955,
				0.0136, 0, 0, 0, 0, 0.1,
			},
		},
		{"nothing measured", []float64{10, none, none}, []float64{0.75, 0.75, 0.75}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dimmer.NewController()
			for i, level := range test.levels {
				if level == none {
					c.Missed(1)
				} else {
					c.Measured(level)
				}
				if got := c.Share(); !(math.Abs(got-test.want[i]) <= 1e-4) {
					t.Fatalf("period %d, level %v: share %.4f, want %.4f",
						i, level, got, test.want[i])
				}
			}
		})
	}
}

// dark is a controller that has dimmed everything.
func dark(t *testing.T) *dimmer.Controller {
	t.Helper()
	c := dimmer.NewController()
	for range 20 {
		c.Measured(10)
	}
	if c.Share() != 0 {
		t.Fatalf("share %v at ten times the target", c.Share())
	}
	return c
}

// A sensor that is dead leaves all as it is for a while, and then no feature dark.
func TestControllerBlind(t *testing.T) {
	tests := []struct {
		missed []int64
		want   float64
	}{
		{[]int64{1}, 0},
		{[]int64{20}, 0},
		{[]int64{10, 10}, 0},
		{[]int64{0, -5}, 0},
		{[]int64{21}, 0.05},
		{[]int64{20, 1}, 0.05},
		{[]int64{20, 1, 1}, 0.1},
		{[]int64{5, 20}, 0.25},
		{[]int64{30, 5}, 0.75},
		{[]int64{40}, 1},
		{[]int64{math.MaxInt64}, 1},
		{[]int64{math.MaxInt64, math.MaxInt64}, 1},
	}
	for _, test := range tests {
		c := dark(t)
		for _, n := range test.missed {
			c.Missed(n)
		}
		if got := c.Share(); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("after %v missed: share %v, want %v", test.missed, got, test.want)
		}
	}
	c := dark(t)
	c.Missed(20)
	c.Measured(10) // it lives
	c.Missed(20)
	if c.Share() != 0 {
		t.Errorf("share %v: what was missed before a measurement counts after it", c.Share())
	}
	c.Missed(math.MaxInt64)
	if c.Blind() <= 0 || c.Blind() > math.MaxInt32 {
		t.Errorf("blind for %d periods", c.Blind())
	}
	// As new: an overload is a change from calm again, not from an hour ago.
	c.Measured(10)
	if c.Share() != 0.75 {
		t.Errorf("share %v after the first measurement, want 0.75", c.Share())
	}
}

// Whatever is measured, the share is one, and moves by no more than a step.
func FuzzController(f *testing.F) {
	f.Add([]byte{0, 255, 3, 128, 9})
	f.Add([]byte{200, 200, 200, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, levels []byte) {
		c := dimmer.NewController()
		for _, b := range levels {
			before := c.Share()
			low, high := before-0.25, before+0.1
			switch b {
			case 255:
				c.Missed(1)
				low, high = before, before+0.05
			case 254:
				c.Missed(math.MaxInt64)
				low, high = 1, 1
			default:
				c.Measured(math.Expm1(float64(b) / 16))
			}
			got := c.Share()
			if !(got >= 0 && got <= 1) || got < low-1e-9 || got > high+1e-9 {
				t.Fatalf("%v: share from %v to %v", levels, before, got)
			}
		}
	})
}
