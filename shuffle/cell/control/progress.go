package control

import (
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// progress is what one who drives a move knows of it, beside the map: since when, and
// since which version, by nobody's account but its own. After a crash it begins with what
// it sees then. That is later than what was, so one waits longer and never too short. It
// has no lock, no clock and no context.
type progress struct {
	a       cell.Assignment // as it was last seen
	version uint64          // of the map in which it was first so
	at      time.Duration   // when that was
	waits   time.Duration   // since when it is not ready for want of replicas; 0: it is not

	// The move has been in phase Replicating or Verifying since then.
	began   uint64
	beganAt time.Duration

	lease time.Duration // the longest of the maps
}

// outcome is what a look at a move says.
type outcome uint8

const (
	hold    outcome = iota // not yet
	ready                  // on to the phase's hook, and the next phase
	expired                // replicas have been silent for too long
)

// see takes note of how the move is at now.
func (p *progress) see(now time.Duration, a cell.Assignment, version uint64, lease time.Duration) {
	p.lease = max(p.lease, lease)
	if p.version != 0 && p.a == a {
		return
	}
	if !copying(p.a) || !copying(a) || p.a.Epoch != a.Epoch {
		p.began, p.beganAt = version, now
	}
	p.a, p.version, p.at, p.waits = a, version, now, 0
}

func copying(a cell.Assignment) bool {
	return a.Phase == cell.Replicating || a.Phase == cell.Verifying
}

// needs returns the version that replicas must have settled, and of which cell.
func (p *progress) needs() (id string, version uint64) {
	switch p.a.Phase {
	case cell.Verifying:
		return p.a.Cell, p.began
	case cell.Flipping:
		return p.a.Cell, p.version
	}
	return p.a.Peer, p.version
}

// over is after how long a lease is over that was given before: a tenth is for clocks that
// run apart.
func (p *progress) over() time.Duration { return p.lease + p.lease/10 }

// look says whether the phase may end, if of the replicas that are listed so many are
// silent.
func (p *progress) look(now time.Duration, listed, silent int, cfg *Config) outcome {
	switch {
	case p.a.Phase == cell.Replicating:
		return ready
	case p.a.Phase == cell.Flipping || p.a.Phase == cell.Draining:
		if listed > 0 && silent == 0 || now-p.at >= p.over() {
			return ready
		}
		return hold
	case silent > 0:
		return p.patience(now, cfg.SettleTimeout)
	case p.early(now, listed, cfg.Keep):
		return hold
	}
	return ready
}

// early reports whether something has to pass yet, of Verifying and Cleaning.
func (p *progress) early(now time.Duration, listed int, keep time.Duration) bool {
	if p.a.Phase == cell.Verifying {
		// Who was listed before the move knows of it. Who was not may have a lease from
		// when nobody was listed.
		return now-p.beganAt < p.over()
	}
	return now-p.at < keep || listed == 0 && now-p.at < p.over()
}

func (p *progress) patience(now, timeout time.Duration) outcome {
	if p.waits == 0 {
		p.waits = max(now, 1)
	}
	if now-p.waits < timeout {
		return hold
	}
	return expired
}

// after returns what becomes of an assignment when its phase has ended well, if that is
// stored as a version.
func after(a cell.Assignment, version uint64) cell.Assignment {
	switch a.Phase {
	case cell.Replicating:
		a.Phase = cell.Verifying
	case cell.Verifying:
		a.Phase = cell.Flipping
	case cell.Flipping:
		return cell.Assignment{Cell: a.Peer, Epoch: version, Phase: cell.Draining, Peer: a.Cell}
	case cell.Draining:
		a.Phase = cell.Cleaning
	default:
		a.Phase, a.Peer = cell.Stable, ""
	}
	return a
}

// aborted returns what becomes of an assignment whose move is given up. It gets a new
// epoch, although its cell stays: CatchUp may have made that refuse the one it has. Its
// phase is Cleaning since there is something to clean: what was copied.
func aborted(a cell.Assignment, version uint64) cell.Assignment {
	a.Epoch, a.Phase = version, cell.Cleaning
	return a
}

// repeated goes back to copy again.
func repeated(a cell.Assignment, _ uint64) cell.Assignment {
	a.Phase = cell.Replicating
	return a
}
