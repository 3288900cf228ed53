package hashring

import (
	"math/bits"
	"strings"
)

// sketch counts the keys of a stream that come most often. It knows them by their hashes.
type sketch struct {
	total  uint64
	places []place        // a heap: the one with the fewest counts first
	size   int            // how many places there may be
	where  map[uint64]int // in places, by hash
	cells  []uint64       // what keys without a place may have been counted at most
	shift  int            // a cell is that of the hash's upper bits
}

// place is that of a key. It was counted from count-slack to count times.
type place struct {
	hash         uint64
	key          string
	count, slack uint64
}

// one is what an observation counts. It is not 1, for then the halves and quarters to
// which old counts fade would be rounded off.
const one = 1 << 16

func newSketch(size int) sketch {
	log := bits.Len(uint(size*cellsOfKey - 1))
	return sketch{
		places: make([]place, 0, size),
		size:   size,
		where:  make(map[uint64]int, size),
		cells:  make([]uint64, 1<<log),
		shift:  64 - log,
	}
}

func (s *sketch) count(hash uint64, key string) {
	s.total += one
	if i, ok := s.where[hash]; ok {
		s.places[i].count += one
		s.down(i)
		return
	}
	cell := &s.cells[hash>>s.shift]
	full := len(s.places) == s.size
	if full && *cell+one < s.places[0].count {
		*cell += one
		return
	}
	newcomer := place{hash, strings.Clone(key[:min(len(key), keptOfKey)]), *cell + one, *cell}
	if full {
		s.replaceFirst(newcomer)
		return
	}
	s.places = append(s.places, newcomer)
	s.where[hash] = len(s.places) - 1
	s.up(len(s.places) - 1)
}

// replaceFirst gives the place of the key with the fewest counts to another. The cell of
// the one that goes remembers its count: it may come back.
func (s *sketch) replaceFirst(p place) {
	old := &s.places[0]
	cell := &s.cells[old.hash>>s.shift]
	*cell = max(*cell, old.count)
	delete(s.where, old.hash)
	s.places[0] = p
	s.where[p.hash] = 0
	s.down(0)
}

// age halves all counts. A slack is what is left of the count above half of its lower
// bound, so that rounding widens the bounds and never moves them past the truth.
func (s *sketch) age() {
	s.total /= 2
	for i := range s.cells {
		s.cells[i] = (s.cells[i] + 1) / 2
	}
	for i := range s.places { // it stays a heap
		p := &s.places[i]
		least := (p.count - p.slack) / 2
		p.count = (p.count + 1) / 2
		p.slack = p.count - least
	}
}

// shares returns between what shares of all that of p is.
func (s *sketch) shares(p *place) (least, most float64) {
	all := float64(max(1, s.total))
	return float64(p.count-p.slack) / all, min(1, float64(p.count)/all)
}

func (s *sketch) up(i int) {
	for i > 0 && s.places[i].count < s.places[(i-1)/2].count {
		s.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (s *sketch) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(s.places); child++ {
			if s.places[child].count < s.places[least].count {
				least = child
			}
		}
		if least == i {
			return
		}
		s.swap(i, least)
		i = least
	}
}

func (s *sketch) swap(i, j int) {
	s.places[i], s.places[j] = s.places[j], s.places[i]
	s.where[s.places[i].hash], s.where[s.places[j].hash] = i, j
}
