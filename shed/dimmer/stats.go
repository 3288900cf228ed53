package dimmer

// Stats is what a dimmer knows of itself at one moment.
type Stats struct {
	Name string // Config.Name

	// Share is the part of all optional work that is done, of the features that are not
	// forced, from 0 to 1. It means nothing when all are.
	Share float64

	// Measured is the last measurement, in targets: 1 is at the target, 10 the most.
	Measured float64

	// Blind is for how many periods in a row nothing was measured, as far as a call has
	// come since to notice. From the 21st on the shares rise.
	Blind int

	// Ignored is how many delays were negative, from New on.
	Ignored uint64

	// Features are in the order of the Config.
	Features []FeatureStats
}

// FeatureStats is what is known of one feature.
type FeatureStats struct {
	Name  string  // as in Config.Features
	Mode  string  // "auto", "forced on" or "forced off"
	Share float64 // of the requests for which it is lit, from 0 to 1

	// Dimmed is how often Allow said no, from New on. How often it said yes is not
	// counted, since counting would be most of what a yes costs.
	Dimmed uint64
}

// Stats returns a snapshot. It is for exporters and tests. It ends no period: a dimmer
// that nobody calls shows what it was at the last call.
func (d *Dimmer) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{
		Name:     d.cfg.Name,
		Share:    d.control.share,
		Measured: d.measured,
		Blind:    int(d.control.blind),
		Ignored:  d.ignored.Load(),
	}
	for _, f := range d.features {
		s.Features = append(s.Features, FeatureStats{
			Name:   f.name,
			Mode:   f.mode.String(),
			Share:  f.Share(),
			Dimmed: f.dimmed.Load(),
		})
	}
	return s
}
