package limiter_test

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/limiter"
)

// flood is what an attacker has: keys that nobody has seen before. Each comes once, and
// takes some of its ten tokens, one at a time, until it is refused.
type flood struct {
	keys   int
	tokens int
	speed  float64 // keys, in the time in which the slots together get a token each
}

// share is what some keys got of what they asked for, or may have.
type share struct{ got, of float64 }

func (s *share) ratio() float64 { return s.got / s.of }

// flooded is what came of a flood for others.
type flooded struct {
	exhausted share // keys without a token that go on calling: of what their rate allows
	resting   share // keys that call for ten when they have half of that: the same
	returning share // keys that call at half of their rate
	fresh     share // as many new keys as flood it
}

func (f *flooded) String() string {
	return fmt.Sprintf("exhausted %.3f, resting %.3f, returning %.3f, new %.3f",
		f.exhausted.ratio(), f.resting.ratio(), f.returning.ratio(), f.fresh.ratio())
}

// others are the keys that are there beside a flood.
type others struct {
	hashes [200]uint64
	at     [200]float64 // when each calls next, in seconds
	every  float64
	tokens int
}

func newOthers(random *rand.Rand, every float64, tokens int) *others {
	o := &others{every: every, tokens: tokens}
	for i := range o.hashes {
		o.hashes[i], o.at[i] = random.Uint64(), random.Float64()*every
	}
	return o
}

// call has those call whose time has come.
func (o *others) call(table limiter.Table, now int64, s *share) {
	for i := range o.hashes {
		if o.at[i]*float64(tableSecond) > float64(now) {
			continue
		}
		o.at[i] += o.every
		for range o.tokens {
			s.call(table, o.hashes[i], now)
		}
	}
}

func (s *share) call(table limiter.Table, hash uint64, now int64) {
	_, n, _ := table.Take(hash, now, perSecond(10), 1, 1)
	s.got += float64(n)
	s.of++
}

// run plays the flood on a table for 8192 keys.
func (f flood) run(random *rand.Rand) (r flooded) {
	table := limiter.NewTable(8192)
	step := float64(tableSecond) / (f.speed * float64(table.Sets()*limiter.TableSlots))
	exhausted := newOthers(random, 0.1, 1)
	resting := newOthers(random, 5.01, 10)
	returning := newOthers(random, 2, 1)
	for _, hash := range exhausted.hashes {
		table.Take(hash, 0, perSecond(10), 10, 10)
	}
	for key := range f.keys {
		now := int64(step * float64(key))
		hash := random.Uint64()
		for range f.tokens {
			if _, n, _ := table.Take(hash, now, perSecond(10), 1, 1); n == 0 {
				break
			}
		}
		r.fresh.call(table, random.Uint64(), now)
		if key%128 == 0 {
			exhausted.call(table, now, &r.exhausted)
			resting.call(table, now, &r.resting)
			returning.call(table, now, &r.returning)
		}
	}
	seconds := step * float64(f.keys) / float64(tableSecond)
	r.exhausted.of = 200 * seconds
	r.resting.of = 200 * (10 + seconds)
	return r
}

func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// The figures are those that the doc of Keyed gives, with some room for chance.
func TestFlood(t *testing.T) {
	for _, test := range []struct {
		flood
		innocent float64 // the share that those who do nothing bad get
	}{
		{flood{keys: 1_000_000, tokens: 1, speed: 2}, 1},
		{flood{keys: 200_000, tokens: 5, speed: 4}, 1},       // half of the burst
		{flood{keys: 50_000, tokens: 10, speed: 0.25}, 1},    // all of it, by few enough
		{flood{keys: 200_000, tokens: 10, speed: 1}, 0.35},   // with the new ones, twice as many
		{flood{keys: 1_000_000, tokens: 11, speed: 2}, 0.15}, // four times
	} {
		t.Run(fmt.Sprintf("%d tokens, speed %g", test.tokens, test.speed), func(t *testing.T) {
			if testing.Short() || underRace() {
				test.keys /= 10 // it is one goroutine
			}
			r := test.run(newTableRandom(t))
			t.Log(r.String())
			if r.exhausted.ratio() > 1.02 {
				t.Errorf("a flood let the exhausted call: %v", r.String())
			}
			if r.resting.ratio() > 2 {
				t.Errorf("a flood let those who rested call: %v", r.String())
			}
			if r.returning.ratio() < test.innocent || r.fresh.ratio() < test.innocent {
				t.Errorf("a flood kept out more than it may: %v", r.String())
			}
		})
	}
}
