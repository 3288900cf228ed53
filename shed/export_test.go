package shed

import (
	"hash/maphash"
	"time"
)

// ShareFlow reports whether two tenants share a flow by bad luck, so that tests of what is
// fair between two can take others.
func (s *Shedder) ShareFlow(a, b string) bool {
	l := new(line)
	flow := func(tenant string) *flow {
		return s.queue.flow(l, call{tenant: maphash.String(s.seed, tenant)})
	}
	return flow(a) == flow(b)
}

// SetLimit has the limit be n from now on, as an update would.
func (s *Shedder) SetLimit(n int) {
	raised := n > int(s.limit.Load())
	s.limit.Store(uint64(n))
	if raised && s.word.Load()&waiting != 0 {
		s.pass(s.clock(), nil, 0, OK, false)
	}
}

// Age has the Shedder be as old as this, as far as its count of calls goes: it begins to
// wrap around.
func (s *Shedder) Age(ended uint64) { s.word.Add(ended * oneCall) }

// MostEnded is the highest count of calls that have ended before it begins again.
const MostEnded = mostEnded

// The numbers that the model goes by.
const (
	Standing = time.Duration(standing)
	EveryNth = everyNth
)
