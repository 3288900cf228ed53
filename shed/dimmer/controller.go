package dimmer

// controller turns measurements into a share. It has no lock and no clock: its time is
// the number of periods.
//
// The gains are for any plant, and so for none in particular. They were chosen for queues
// of 2 to 64 servers, for processor sharing, and for optional parts of an eighth to nine
// tenths of the work.
type controller struct {
	share float64 // of all optional work, 0 to 1
	last  float64 // the error of the measurement before
	blind int64   // periods without a measurement
}

const (
	proportional = 0.2
	integral     = 0.1
	most         = 10.0 // targets that a delay counts for

	// A bound for one step, whatever was measured. Down is the faster one.
	down, up = 0.25, 0.1

	// How many periods without a measurement change nothing, and what each one after
	// them brings back.
	hold     = 20
	recovery = 0.05
)

// newController begins with everything lit, and calm: the first measurement of an
// overload is a change from that.
func newController() controller { return controller{share: 1, last: 1} }

// measured takes the measurement of one period, in targets: 1 is where it should be.
func (c *controller) measured(level float64) {
	c.blind = 0
	level = max(0, min(level, most))
	e := (1 - level) / (1 + level)
	step := proportional*(e-c.last) + integral*e
	c.last = e
	c.add(max(-down, min(step, up)))
}

// missed takes n periods without a measurement.
func (c *controller) missed(n int64) {
	if n <= 0 {
		return
	}
	c.blind = min(c.blind+min(n, maxBlind), maxBlind)
	rising := min(n, c.blind-hold)
	if rising <= 0 {
		return
	}
	c.last = 1 // what was known is too old to be compared with
	c.add(recovery * float64(rising))
}

// maxBlind is where blind stops, so that an int of 32 bits holds it.
const maxBlind = 1 << 30

func (c *controller) add(step float64) { c.share = max(0, min(c.share+step, 1)) }
