package throttle_test

import (
	"math"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

// model is the gate as one would write it down, without a thought for speed: a list of
// all calls.
type model struct {
	k        float64
	width    time.Duration
	calls    []call
	touched  map[int64]bool // the buckets in which anything was looked at or counted
	rejected time.Duration  // the last one; below 0: none
	passed   [6]time.Duration
}

type call struct {
	at       time.Duration
	class    int
	accepted bool
}

func (m *model) bucket(at time.Duration) int64 { return int64(at / m.width) }

func (m *model) calm(now time.Duration) bool {
	return m.rejected < 0 || now >= m.rejected+10*m.width
}

// since returns the probability by the calls from a bucket on.
func (m *model) since(bucket int64, class int) float64 {
	var upTo, own, accepted float64
	for _, c := range m.calls {
		if m.bucket(c.at) < bucket {
			continue
		}
		if c.accepted {
			accepted++
		}
		if c.class >= class {
			upTo++
		}
		if c.class == class {
			own++
		}
	}
	return math.Min(1, math.Max(0, (upTo-m.k*accepted)/(own+1)))
}

func (m *model) probability(now time.Duration, class int) float64 {
	if m.calm(now) {
		return 0
	}
	first := m.bucket(now) - 9
	recent := first
	for b := m.bucket(now) - 1; b > first; b-- {
		if m.touched[b] {
			recent = b
			break
		}
	}
	return min(m.since(first, class), m.since(recent, class))
}

func (m *model) admit(now time.Duration, class int, lot float64) (float64, bool) {
	if m.calm(now) {
		return 0, true
	}
	m.touched[m.bucket(now)] = true
	p := m.probability(now, class)
	due := true
	for c := class; c <= 5; c++ {
		due = due && now-m.passed[c] >= time.Second
	}
	if lot >= p || due {
		m.passed[class] = now
		return p, true
	}
	m.calls = append(m.calls, call{now, class, false})
	return p, false
}

func (m *model) count(now time.Duration, class int, outcome throttle.Outcome) {
	if outcome >= throttle.Ignored {
		return
	}
	m.touched[m.bucket(now)] = true
	m.calls = append(m.calls, call{now, class, outcome == throttle.Accepted})
	if outcome == throttle.Rejected {
		m.rejected = now
	}
}

// FuzzGate has a gate and its model do the same. Of each three bytes, one is how much
// later it is, one is what happens and to which class, and one is the lot.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0, 1, 0, 10, 2, 255, 3, 130, 254, 250, 2, 255, 90, 131, 255, 0, 5, 255})
	f.Add([]byte("a server that sheds what it cannot do, and clients that go on asking it"))
	f.Add([]byte{0, 9, 0, 0, 9, 0, 0, 9, 0, 20, 11, 255, 0, 11, 255, 0, 3, 255, 255, 0, 0, 9, 8, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		const k, width = 1.7, 600 * time.Millisecond
		g := throttle.NewGate(k, 10*width)
		m := &model{k: k, width: width, touched: map[int64]bool{}, rejected: -1}
		now := time.Duration(0)
		for i := 0; i+2 < len(data) && i < 3000; i += 3 {
			later, what, lot := data[i], data[i+1], float64(data[i+2])/256
			now += time.Duration(later) * time.Duration(later) * 200 * time.Microsecond
			class := 1 + int(what/8)%5
			if outcome := throttle.Outcome(what % 8); outcome <= throttle.Ignored {
				for range 1 + what/64 {
					g.Count(now, class, outcome)
					m.count(now, class, outcome)
				}
			} else {
				p, ok := g.Admit(now, class, lot)
				wantP, want := m.admit(now, class, lot)
				if math.Abs(p-wantP) > 1e-9 || ok != want {
					t.Fatalf("step %d at %v, class %d, lot %v: %v, %t; the model %v, %t",
						i/3, now, class, lot, p, ok, wantP, want)
				}
			}
			for class := 1; class <= 5; class++ {
				got, want := g.Probability(now, class), m.probability(now, class)
				if math.Abs(got-want) > 1e-9 {
					t.Fatalf("step %d at %v: class %d has probability %v, in the model %v",
						i/3, now, class, got, want)
				}
			}
		}
	})
}
