package health

import "time"

// Monitor is the algorithm of one check, for tables and simulations.
type Monitor struct{ monitor }

// NewMonitor returns one for a check of a Health with this Config, which needs no Func.
func NewMonitor(cfg Config, check Check, random func() float64) *Monitor {
	h := &Health{cfg: cfg.filled()}
	return &Monitor{newMonitor(h.rules(check.filled()), random)}
}

// The methods of a Monitor, by their names in the code.
func (m *Monitor) Start(now time.Duration)                { m.start(now) }
func (m *Monitor) Begin(now time.Duration)                { m.begin(now) }
func (m *Monitor) End(now time.Duration, ok bool) bool    { return m.end(now, ok) }
func (m *Monitor) Tick(now time.Duration) bool            { return m.tick(now) }
func (m *Monitor) Pause() time.Duration                   { return m.pause() }
func (m *Monitor) Due(now time.Duration) time.Duration    { return m.due(now) }
func (m *Monitor) Status(now time.Duration) Status        { return m.status(now) }
func (m *Monitor) WantsOut(now time.Duration) bool        { return m.wantsOut(now) }
func (m *Monitor) Leave(now time.Duration, total, un int) { m.leave(now, total, un) }
func (m *Monitor) Running() bool                          { return m.running }

const (
	Forever   = forever
	RampSteps = rampSteps
)
