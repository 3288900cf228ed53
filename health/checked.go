package health

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// checked is a check at work. The Health's lock is held around it.
type checked struct {
	monitor
	alarm  *time.Timer   // for what happens while no run ends; nil before Start
	wait   time.Duration // before the next run; the check's own goroutine alone has it
	asking bool          // a goroutine is in Peers

	seen   bool
	at     time.Duration // of the result
	took   time.Duration
	output string
}

func (h *Health) rules(c Check) rules {
	r := rules{
		Check:        c,
		holdDown:     h.cfg.HoldDown,
		maxUnready:   h.cfg.MaxUnready,
		maxOut:       h.cfg.MaxUnreadyFor,
		waitForStart: h.cfg.StartupTimeout,
	}
	if r.holdDown == 0 {
		r.holdDown = 2 * c.Interval
	}
	r.holdDown = max(0, r.holdDown)
	return r
}

// persist calls step, on a goroutine of its own, until it returns false. If it panics or
// ends its goroutine, failed gets the panic, or nil, and another goroutine goes on: neither
// the process nor what the goroutine is there for ends because of the user's code.
func persist(step func() bool, failed func(reason any)) {
	go func() {
		returned := false
		defer func() {
			if !returned {
				defer persist(step, failed) // even if failed does not return
				failed(recover())
			}
		}()
		for step() {
		}
		returned = true
	}()
}

// look waits, runs the check once, and reports whether to go on.
func (h *Health) look(ctx context.Context, c *checked) bool {
	if !wait(ctx, c.wait) {
		return false
	}
	h.mu.Lock()
	now := h.clock()
	c.begin(now)
	h.arm(c, now)
	h.mu.Unlock()
	output, ok := c.call(ctx)
	h.ended(c, output, ok)
	return true
}

// wait reports whether the time has passed, and not the context ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// call calls Func. The text is asked for here too, since that is the user's code as well.
func (c *checked) call(ctx context.Context) (output string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := c.Func(ctx)
	if err == nil {
		return "", true
	}
	return err.Error(), false
}

// broken is for a run that did not return.
func (h *Health) broken(c *checked, reason any) {
	if reason == nil {
		h.ended(c, "ended its goroutine", false)
		return
	}
	h.ended(c, fmt.Sprint("panic: ", reason), false)
}

// ended is for the end of a run, however that came.
func (h *Health) ended(c *checked, output string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	now := h.clock()
	if late := c.end(now, ok); late {
		output = c.lateness()
	}
	if !ok || !c.down || output != "" {
		c.output = shortened(output) // what passes, but is still down, keeps its text
	}
	c.seen, c.at, c.took, c.wait = true, now, now-c.begun, c.pause()
	h.arm(c, now)
	h.update(now)
}

func (c *checked) lateness() string { return fmt.Sprintf("no answer within %v", c.Timeout) }

const maxOutput = 1024

// shortened bounds what an error can have the reports carry.
func shortened(text string) string {
	if len(text) > maxOutput {
		text = text[:maxOutput] + "..."
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// noticed is for the alarm.
func (h *Health) noticed(c *checked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	now := h.clock()
	if c.tick(now) {
		c.seen, c.at, c.took, c.output = true, c.begun, now-c.begun, c.lateness()
	}
	h.arm(c, now)
	h.update(now)
}

// arm sets the alarm, and sends somebody to Peers if it is time to. The lock is held.
func (h *Health) arm(c *checked, now time.Duration) {
	if c.wantsOut(now) && !c.asking {
		c.asking = true
		go h.ask(c)
	}
	if at := c.due(now); at != forever {
		c.alarm.Reset(at - now)
		return
	}
	c.alarm.Stop()
}

// ask asks whether the replica may leave. It is on a goroutine of its own: whatever Peers
// does there, the check goes on, and the replica stays.
func (h *Health) ask(c *checked) {
	total, unready := 0, 0
	defer func() {
		panicked := recover() != nil
		h.mu.Lock()
		defer h.mu.Unlock()
		c.asking = false
		if panicked {
			h.faults.peers++
		}
		if now := h.clock(); !h.stopped && c.wantsOut(now) {
			c.leave(now, total, unready)
			h.arm(c, now)
			h.update(now)
		}
	}()
	if h.cfg.Peers == nil {
		total = -1
		return
	}
	total, unready = h.cfg.Peers()
	total = max(0, total)
}
