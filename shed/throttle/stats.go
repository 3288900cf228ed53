package throttle

// Counts are numbers of calls. They only grow.
type Counts struct {
	// Offered are the calls that have ended or were refused: the sum of the others.
	Offered uint64

	Accepted uint64 // by the other side
	Rejected uint64 // by the other side
	Ignored  uint64 // they said nothing of the other side
	Refused  uint64 // by the throttle, and not made
}

func (c Counts) plus(d Counts) Counts {
	return Counts{
		Offered:  c.Offered + d.Offered,
		Accepted: c.Accepted + d.Accepted,
		Rejected: c.Rejected + d.Rejected,
		Ignored:  c.Ignored + d.Ignored,
		Refused:  c.Refused + d.Refused,
	}
}

// ClassStats is what a throttle knows of the calls of one class.
type ClassStats struct {
	// Probability is how likely the next call is to be refused, unless it is a probe.
	Probability float64

	Counts Counts // since New
}

// Stats is what a throttle knows of itself at one moment.
type Stats struct {
	Name  string // Config.Name
	Total Counts // of all classes, since New

	// Classes are the classes, the least critical first: Classes[0] is class 1,
	// best-effort, and Classes[3] is critical, the class of calls that have none.
	Classes [classes]ClassStats
}

// Stats returns a snapshot. Calls that end meanwhile may be in it or not.
func (t *Throttle) Stats() Stats {
	s := Stats{Name: t.name}
	now := t.set.clock()
	for i := range s.Classes {
		c := t.gate.window.class[i].counts()
		s.Total = s.Total.plus(c)
		s.Classes[i] = ClassStats{Probability: t.gate.probability(now, i), Counts: c}
	}
	return s
}

func (t *tally) counts() Counts {
	c := Counts{
		Accepted: t.accepted.Load(),
		Rejected: t.rejected.Load(),
		Ignored:  t.ignored.Load(),
		Refused:  t.refused.Load(),
	}
	c.Offered = c.Accepted + c.Rejected + c.Ignored + c.Refused
	return c
}
