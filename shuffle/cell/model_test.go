package cell_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// A model of a move, in ticks: a control plane that goes by the package's documentation,
// and two replicas of the source whose messages are late or lost, which are cut off, restart,
// and have clocks that run apart. They go by the rules that a gate goes by. What must not
// be is a write that is under way at the source when the target has been opened.
type world struct {
	rnd   *rand.Rand
	wrong mistake
	now   float64

	maps     map[uint64]*cell.Snapshot
	known    map[ruleKey]cell.Rules
	version  uint64
	since    float64 // when the version was published
	clock    float64 // how fast the clock of the control plane runs
	settled  map[string]uint64
	opened   float64 // when the target was; 0: not yet
	replicas []*replica
	packets  []packet
}

type replica struct {
	name      string
	clock     float64
	version   uint64 // in force
	own       bool
	disk      uint64 // the version there; 0: none is kept
	settled   uint64
	confirmed float64 // by its own clock, when the pull was sent; below 0: never
	cutOff    float64 // from when on
	nextPull  float64
	begun     int // restarts
	writes    []modelWrite
}

type modelWrite struct {
	leased bool
	end    float64
}

type ruleKey struct {
	version uint64
	name    string
	own     bool
}

// packet is a pull on its way, or the answer to one.
type packet struct {
	from    *replica
	begun   int
	arrives float64
	answer  bool
	version uint64
	settled uint64
	sent    float64 // by the clock of the replica
}

// mistake is what one could do wrong. Each must show, or the model shows nothing.
type mistake int

const (
	none mistake = iota
	noAcknowledgement
	shortWait
	leaseFromTheAnswer
	settledInSpiteOfWrites
	settledBeforeTheDisk
	bySomeoneElsesMap
	freeInAMove
	mistakes
)

const (
	modelLease = 20.0
	modelPull  = 5.0
	sourceSlow = 0.97
)

func newWorld(seed uint64, wrong mistake) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, uint64(wrong))), wrong: wrong,
		maps: map[uint64]*cell.Snapshot{}, settled: map[string]uint64{}, version: 1,
		known: map[ruleKey]cell.Rules{},
	}
	phases := []cell.Assignment{
		{Cell: "a", Epoch: 1},
		{Cell: "a", Epoch: 1, Phase: cell.Replicating, Peer: "b"},
		{Cell: "a", Epoch: 1, Phase: cell.Flipping, Peer: "b"},
		{Cell: "b", Epoch: 4, Phase: cell.Draining, Peer: "a"},
	}
	for i, a := range phases {
		w.maps[uint64(i+1)] = with(uint64(i+1), "acme", a)
	}
	w.clock = w.speed()
	for _, name := range []string{"a-1", "a-2"} {
		r := &replica{
			name: name, clock: w.speed(), version: 1, own: true, confirmed: -1,
			cutOff: 1e9,
		}
		if r.settled = 1; w.rnd.IntN(2) == 0 {
			r.disk = 1
		}
		if w.rnd.IntN(2) == 0 {
			r.cutOff = w.rnd.Float64() * 100
		}
		r.nextPull = w.rnd.Float64() * modelPull
		w.replicas = append(w.replicas, r)
	}
	return w
}

func (w *world) speed() float64 { return sourceSlow + w.rnd.Float64()*(2-2*sourceSlow) }

func (r *replica) local(now float64) float64 { return now * r.clock }

func (w *world) rules(r *replica) cell.Rules {
	own := r.own || w.wrong == bySomeoneElsesMap
	key := ruleKey{r.version, r.name, own}
	rules, ok := w.known[key]
	if !ok {
		rules = cell.RulesOf(w.maps[r.version], "a", r.name, own)
		w.known[key] = rules
	}
	return rules
}

// run returns what went wrong, or "".
func (w *world) run() string {
	for ; w.now < 200; w.now += 0.25 {
		w.deliver()
		w.control()
		for _, r := range w.replicas {
			if bad := w.step(r); bad != "" {
				return bad
			}
		}
	}
	return ""
}

func (w *world) step(r *replica) string {
	kept := r.writes[:0]
	for _, m := range r.writes {
		if m.end > w.now {
			kept = append(kept, m)
		}
	}
	r.writes = kept
	if w.rnd.IntN(200) == 0 {
		w.restart(r)
	}
	if w.now >= r.nextPull {
		r.nextPull = w.now + modelPull
		w.acknowledge(r)
		w.send(packet{from: r, begun: r.begun, settled: r.settled, sent: r.local(w.now)})
	}
	if w.rnd.IntN(4) == 0 {
		w.write(r)
	}
	if w.opened > 0 && len(r.writes) > 0 {
		return fmt.Sprintf("at %v %s writes by version %d until %v, open since %v",
			w.now, r.name, r.version, r.writes[0].end, w.opened)
	}
	return ""
}

func (w *world) write(r *replica) {
	leased, ok := w.rules(r).Write("acme", 1)
	end := w.now + w.rnd.ExpFloat64()*10
	if leased && w.wrong != freeInAMove {
		until := r.confirmed + modelLease
		if r.confirmed < 0 || r.local(w.now) >= until {
			return
		}
		end = min(end, until/r.clock) // the context ends then
	}
	if ok {
		r.writes = append(r.writes, modelWrite{leased, end})
	}
}

func (w *world) acknowledge(r *replica) {
	if r.confirmed < 0 || r.disk > 0 && r.disk < r.version && w.wrong != settledBeforeTheDisk {
		return
	}
	for _, m := range r.writes {
		if !w.rules(r).Allows("acme", m.leased) && w.wrong != settledInSpiteOfWrites {
			return
		}
	}
	r.settled = max(r.settled, r.version)
}

// restart loses what is not on disk; whoever has none begins with a seed. What was under
// way ends with the process.
func (w *world) restart(r *replica) {
	r.begun++
	r.version, r.own = max(1, r.disk), r.disk > 0
	r.confirmed, r.settled, r.writes = -1, 0, nil
}

func (w *world) send(p packet) {
	if w.now < p.from.cutOff && w.rnd.IntN(10) > 0 {
		p.arrives = w.now + w.rnd.ExpFloat64()*3
		w.packets = append(w.packets, p)
	}
}

func (w *world) deliver() {
	arrived := w.packets
	w.packets = nil
	for _, p := range arrived {
		switch r := p.from; {
		case p.arrives > w.now:
			w.packets = append(w.packets, p)
		case !p.answer:
			w.settled[r.name] = max(w.settled[r.name], p.settled)
			p.answer, p.version = true, w.version
			w.send(p)
		case w.now < r.cutOff && p.begun == r.begun && p.version >= r.version:
			if w.wrong == leaseFromTheAnswer {
				p.sent = r.local(w.now)
			}
			r.version, r.own = p.version, true
			r.confirmed = max(r.confirmed, p.sent)
			if r.disk > 0 && w.rnd.IntN(2) == 0 { // else the disk takes longer, or fails
				r.disk = r.version
			}
		}
	}
}

func (w *world) control() {
	waited := (w.now - w.since) * w.clock
	all := true
	for _, r := range w.replicas {
		all = all && w.settled[r.name] >= w.version
	}
	wait := modelLease * 1.1
	if w.wrong == shortWait {
		wait = modelLease * 0.7
	}
	switch {
	case w.version == 1 && w.now > 20,
		w.version == 2 && (all || w.wrong == noAcknowledgement && waited > wait),
		w.version == 3 && (all || waited > wait):
		w.version++
		w.since = w.now
		if w.version == 4 {
			w.opened = w.now
		}
	}
}

func TestModelOfAMove(t *testing.T) {
	runs := uint64(2000)
	if testing.Short() {
		runs = 200
	}
	opened, cut := 0, 0
	for seed := range runs {
		w := newWorld(seed, none)
		if bad := w.run(); bad != "" {
			t.Fatalf("seed %d: %s", seed, bad)
		}
		if w.opened > 0 {
			opened++
			if min(w.replicas[0].cutOff, w.replicas[1].cutOff) < w.opened {
				cut++
			}
		}
	}
	t.Logf("of %d moves %d came to their end, %d with a replica that was cut off", runs, opened,
		cut)
	if opened < int(runs/4) || cut < int(runs/50) {
		t.Errorf("of %d moves %d came to their end, %d with a replica that was cut off",
			runs, opened, cut)
	}
	for wrong := none + 1; wrong < mistakes; wrong++ {
		found := false
		for seed := uint64(0); seed < 5000 && !found; seed++ {
			found = newWorld(seed, wrong).run() != ""
		}
		if !found {
			t.Errorf("mistake %d does not show", wrong)
		}
	}
}
