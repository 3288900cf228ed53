package control

import (
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Progress is what is known of a move, for tables.
type Progress struct{ p progress }

// See takes note of how the move is.
func (p *Progress) See(now time.Duration, a cell.Assignment, version uint64, lease time.Duration) {
	p.p.see(now, a, version, lease)
}

// Look says whether it may go on, and which version of which cell that is about.
func (p *Progress) Look(
	now time.Duration, listed, silent int, cfg Config,
) (outcome, id string, version uint64) {
	id, version = p.p.needs()
	return [...]string{"hold", "ready", "expired"}[p.p.look(now, listed, silent, &cfg)], id, version
}
