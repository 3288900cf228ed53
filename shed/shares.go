package shed

import "time"

// shares keeps slots free for calls of a high class that would have to wait for those of
// lower ones to end. To be first in the queue is of no use while all slots are held by
// calls that take long.
//
// It learns from what goes wrong: when a call has waited for 50 ms, the classes below it
// have to do with one slot less than they hold. While nothing goes wrong they get more
// again, until there is nothing to keep.
type shares struct {
	held [classes + 1]int // slots of calls that have waited, by class
	most [classes + 1]int // how many a class and those below it may hold; 0: any number
	last int64            // when most has changed
	kept bool             // some class has a most
}

// waited is told of each call that leaves the queue.
func (s *shares) waited(now int64, c Criticality, waited int64) {
	const long = int64(50 * time.Millisecond)
	// What happens within as long has the same reason.
	if c == BestEffort || waited < long || now-s.last < long || !s.allow(c) {
		return
	}
	if below := s.upTo(c - 1); below > 0 {
		s.most[c-1] = max(1, below-1)
		s.last, s.kept = now, true
	}
}

// grow gives back what has been kept for a second for nothing.
func (s *shares) grow(now int64, limit int) {
	if !s.kept || now-s.last < int64(time.Second) {
		return
	}
	s.last, s.kept = now, false
	for c, most := range s.most {
		if most == 0 {
			continue
		}
		s.most[c] = most + 1 + most/4
		if s.most[c] >= limit {
			s.most[c] = 0
		}
		s.kept = s.kept || s.most[c] > 0
	}
}

// allow reports whether a call of class c may have a slot.
func (s *shares) allow(c Criticality) bool {
	if !s.kept {
		return true
	}
	for k := c; k <= CriticalPlus; k++ {
		if s.most[k] > 0 && s.upTo(k) >= s.most[k] {
			return false
		}
	}
	return true
}

// upTo returns how many slots class c and those below it hold.
func (s *shares) upTo(c Criticality) (n int) {
	for k := BestEffort; k <= c; k++ {
		n += s.held[k]
	}
	return n
}
