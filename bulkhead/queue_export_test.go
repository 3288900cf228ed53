package bulkhead

// Line and Meter are the algorithms of a Queue, for their own tests.
type Line[E any] struct{ l line[E] }

func (l *Line[E]) Push(v E) int    { return l.l.push(v) }
func (l *Line[E]) Remove(at int) E { return l.l.remove(at) }
func (l *Line[E]) Len() int        { return l.l.len }
func (l *Line[E]) Places() int     { return len(l.l.places) }
func (l *Line[E]) At(at int) *E    { return l.l.at(at) }
func (l *Line[E]) Next(at int) int { return l.l.next(at) }
func (l *Line[E]) First() int      { return l.l.first() }

type Meter struct{ m meter }

func (m *Meter) Add(now int64)          { m.m.add(now) }
func (m *Meter) Rate(now int64) float64 { return m.m.rate(now) }
