package health

import "time"

// A monitor turns the runs of one check into a status. It has no lock, no clock and no
// context: its times are those since the Health was made.
type monitor struct {
	rules
	random func() float64 // from 0, below 1

	startupEnds time.Duration // until when a Shared check that has not passed is waited for

	running bool
	begun   time.Duration // the run under way, or the last one
	overdue time.Duration // when the run under way counts as failed, again if it is stuck
	stuck   bool          // it has counted already

	returned        time.Duration // when the last run ended
	lastPass        time.Duration
	fails, passes   int // in a row
	passed, settled bool
	down            bool

	outage
}

// rules is a Check made ready, with what Config has for all of them.
type rules struct {
	Check
	holdDown     time.Duration
	maxUnready   float64
	maxOut       time.Duration // negative: no bound
	waitForStart time.Duration // negative: no bound
}

// An outage is what a check with Shed does about one time of being down. It decides once:
// were those that stay to ask again and again, they would all leave at the moment in which
// the first ones come back.
type outage struct {
	decideAt time.Duration
	decided  bool
	out      bool
	outSince time.Duration
}

const forever = time.Duration(1<<63 - 1)

func newMonitor(r rules, random func() float64) monitor {
	return monitor{rules: r, random: random, startupEnds: forever}
}

// start is for the moment of Start.
func (m *monitor) start(now time.Duration) {
	m.returned, m.lastPass = now, now
	if m.waitForStart >= 0 {
		m.startupEnds = later(now, m.waitForStart)
	}
}

func later(now, d time.Duration) time.Duration {
	if d > forever-now {
		return forever
	}
	return now + d
}

// begin is for the beginning of a run.
func (m *monitor) begin(now time.Duration) {
	m.running, m.stuck = true, false
	m.begun, m.overdue = now, now+m.Timeout
}

// end is for the end of a run. One that is late has failed, whatever it says, but has
// not failed again if that was noticed before.
func (m *monitor) end(now time.Duration, ok bool) (late bool) {
	late = now-m.begun >= m.Timeout
	switch {
	case ok && !late:
		m.pass(now)
	case !m.stuck:
		m.fail(now)
	}
	m.running, m.stuck, m.returned = false, false, now
	return late
}

// tick notices a run that is overdue, and reports whether there is one. A run that is stuck
// fails once in the time in which others would have been made. It does once for each tick
// only, so that a process that was suspended for hours has seen one failure.
func (m *monitor) tick(now time.Duration) bool {
	if !m.running || now < m.overdue {
		return false
	}
	m.stuck = true
	m.fail(now)
	m.overdue = now + m.pace() + m.Timeout
	return true
}

func (m *monitor) pass(now time.Duration) {
	m.fails, m.lastPass = 0, now
	m.passes++
	if !m.passed || m.passes >= m.Successes {
		m.passed, m.down = true, false
		m.outage = outage{}
	}
}

func (m *monitor) fail(now time.Duration) {
	m.passes = 0
	m.fails++
	if m.down || m.fails < m.Failures {
		return
	}
	if m.Class == Liveness && now-m.lastPass < time.Duration(m.Failures)*m.Interval {
		return // a restart is for what lasts
	}
	m.down = true
	if !m.passed {
		now = max(now, m.startupEnds) // which decides as long as it lasts
	}
	m.decideAt = later(now, time.Duration(m.random()*float64(m.holdDown)))
}

// pace is the time between runs, without its random part. To look more often would not
// have a dead process restarted sooner, since that has its time; all others come back, or
// are known to be gone, the sooner.
func (m *monitor) pace() time.Duration {
	if m.Class != Liveness && (!m.passed || m.down || m.fails > 0) {
		return m.Interval / 4
	}
	return m.Interval
}

// pause is the time until the next run. The one after the first that passed has all of the
// Interval to choose from: what begins together, as a fleet does, or the checks of one
// replica, is spread over it from then on.
func (m *monitor) pause() time.Duration {
	if m.passed && !m.settled {
		m.settled = true
		return time.Duration(m.random() * float64(m.Interval))
	}
	return time.Duration((0.8 + 0.4*m.random()) * float64(m.pace()))
}

// stale reports whether the last result is too old to go by.
func (m *monitor) stale(now time.Duration) bool {
	return m.StaleAfter > 0 && now-m.returned >= m.StaleAfter
}

// status returns what the check says at now.
func (m *monitor) status(now time.Duration) Status {
	down := m.down || m.stale(now)
	switch {
	case m.Class == Liveness && !down:
		return Pass // also before the first result
	case m.fatal(now, down):
		return Fail
	case down || !m.passed:
		return Warn
	}
	return Pass
}

// fatal reports whether the replica is not ready because of the check.
func (m *monitor) fatal(now time.Duration, down bool) bool {
	switch m.Class {
	case Liveness:
		return down
	case Local:
		return down || !m.passed
	case Shared:
		return !m.passed && now < m.startupEnds || m.isOut(now)
	}
	return false
}

// isOut reports whether the replica is out of rotation for the check.
func (m *monitor) isOut(now time.Duration) bool {
	return m.out && (m.maxOut < 0 || now-m.outSince < m.maxOut)
}

// wantsOut reports whether it is time to ask for leave. While the check is on its way up it
// is not.
func (m *monitor) wantsOut(now time.Duration) bool {
	return m.Shed && m.down && m.fails > 0 && !m.decided && now >= m.decideAt
}

// leave is for the answer, how many of all replicas are not ready; total is 0 if nobody
// knows, and negative if nobody can.
//
// The chance gets smaller on the way to the bound, since what is known is some time old,
// and all others ask in that time. It is that which keeps a fleet from going too far, and
// not the bound itself.
func (m *monitor) leave(now time.Duration, total, unready int) {
	m.decided = true
	chance := 0.0
	switch {
	case m.maxUnready == 1:
		chance = 1
	case total < 0:
		chance = m.maxUnready
	case total > 0 && unready >= 0 && float64(unready+1) <= m.maxUnready*float64(total):
		chance = 1 - float64(unready)/(m.maxUnready*float64(total))
	}
	if m.random() < chance {
		m.out, m.outSince = true, now
	}
}

// due returns when the status can be another without a run that ends, or forever.
func (m *monitor) due(now time.Duration) time.Duration {
	at := forever
	soonest := func(holds bool, t time.Duration) {
		if holds && t > now {
			at = min(at, t)
		}
	}
	soonest(m.running, m.overdue)
	soonest(m.StaleAfter > 0, later(m.returned, m.StaleAfter))
	soonest(m.Class == Shared && !m.passed, m.startupEnds)
	soonest(m.Shed && m.down && !m.decided, m.decideAt)
	soonest(m.out && m.maxOut >= 0, later(m.outSince, m.maxOut))
	return at
}
