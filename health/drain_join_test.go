package health

import (
	"slices"
	"testing"
	"time"
)

// In each step it is the second after the one before, and so many have come and gone; of a
// time of ten seconds.
func TestSpread(t *testing.T) {
	tests := []struct {
		name    string
		unasked []int // before each step; -1: as many as are left
		want    []int // who is asked
	}{
		{"none", []int{0, 0, 0}, []int{0, 0, 0}},
		{
			"ten",
			[]int{10, -1, -1, -1, -1, -1, -1, -1, -1, -1},
			[]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		},
		{
			"a hundred",
			[]int{100, -1, -1, -1, -1, -1, -1, -1, -1, -1},
			[]int{10, 10, 10, 10, 10, 10, 10, 10, 10, 10},
		},
		{
			"two",
			[]int{2, -1, -1, -1, -1, -1, -1, -1, -1, -1},
			[]int{0, 0, 0, 0, 1, 0, 0, 1, 0, 0},
		},
		{
			"more come",
			[]int{10, -1, 26, -1, -1, -1, -1, -1, -1, -1},
			[]int{1, 1, 3, 3, 3, 4, 3, 3, 4, 3},
		},
		{
			"they leave by themselves",
			[]int{100, 45, -1, 7, 0, 0, 0, 0, 0, 0},
			[]int{10, 5, 5, 1, 0, 0, 0, 0, 0, 0},
		},
		{
			"the last one comes at the end",
			[]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
			[]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		},
		{
			"and others after it",
			[]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 3},
			[]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 3},
		},
	}
	for _, test := range tests {
		s := spread{end: 10 * time.Second}
		var got []int
		left := 0
		for i, unasked := range test.unasked {
			if unasked >= 0 {
				left = unasked
			}
			n := s.due(time.Duration(i+1)*time.Second, left)
			got = append(got, n)
			left -= n
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: asked %v, want %v", test.name, got, test.want)
		}
	}
}

// However it is ticked and whoever comes and goes, nobody is asked who is not there, all are
// at the end, and no sooner than in proportion.
func FuzzSpread(f *testing.F) {
	f.Add(uint16(1000), []byte{1, 0, 9, 3, 40, 2})
	f.Add(uint16(3), []byte{1, 1, 1, 1, 1, 1})
	f.Add(uint16(0), []byte{0, 255, 0, 0, 255, 255})
	f.Fuzz(func(t *testing.T, waiting uint16, script []byte) {
		s := spread{end: 10 * time.Second}
		left, came, asked := int(waiting), int(waiting), 0
		now := time.Duration(0)
		for ; len(script) >= 2; script = script[2:] {
			now += time.Duration(script[0]) * time.Millisecond * 10
			came += int(script[1] & 3)
			left += int(script[1] & 3)
			n := s.due(now, left)
			if n < 0 || n > left {
				t.Fatalf("%d of %d are asked", n, left)
			}
			left -= n
			asked += n
			share := float64(now) / float64(s.end)
			if now < s.end && float64(asked) > float64(came)*share+1 {
				t.Fatalf("at %v %d of %d have been asked", now, asked, came)
			}
		}
		if n := s.due(s.end, left); n != left {
			t.Fatalf("at the end %d of %d are asked", n, left)
		}
	})
}
