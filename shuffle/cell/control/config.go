package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Config says where a [Controller] keeps its map, and how data is moved.
type Config struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique.
	Name string

	// Store keeps the map. It is required.
	Store Store

	// Hooks move the data. Without them nothing can be moved, but all else can be done. If
	// zero, moves are refused: one without data would lose it.
	Hooks Hooks

	// Tenants calls yield with each tenant there is and how much it takes of the Capacity
	// of a cell. It is called when a plan is made or a report, by whoever asks for it. If
	// nil, each slot, each part and each tenant with an entry of its own counts as one,
	// which is as good as one can do without knowing anybody.
	Tenants func(ctx context.Context, yield func(tenant string, load int)) error

	// Poll is the time from one look at the map to the next while a move has to wait. If
	// zero, 250ms: it is added to the time for which nobody can write.
	Poll time.Duration

	// FlipTimeout is how long CatchUp may take, since writes are refused for as long.
	// Then the move is aborted, whether or not the hook has returned. If zero, 10s: clients
	// that try again do so for longer.
	FlipTimeout time.Duration

	// StepTimeout ends the context of the other hooks. If zero, an hour.
	StepTimeout time.Duration

	// SettleTimeout is for how long replicas are waited for that do not say that they know
	// of a move. Before the flip it is aborted then, and after it the data of the source
	// stays. If zero, 5m: a replica that pulls every few seconds and is silent for as long
	// is cut off.
	SettleTimeout time.Duration

	// Attempts is how often a hook may fail before a move is aborted. If zero, 3.
	Attempts int

	// Keep is for how long the source is kept after a flip, in phase Cleaning, for a
	// [Controller.Rollback] that need not copy much. It begins again when a controller
	// does. If zero, not at all.
	Keep time.Duration

	// Parallel is how many moves Run and Resume drive at a time. If zero, 8: moves wait
	// for most of their time.
	Parallel int

	// MaxSlots bounds the share of the slots that Run begins to move in an hour, but for
	// the first one, since routers reject maps that move too much. If zero, 0.1: half of
	// what they accept, so that somebody else's moves have a place too. If negative, there
	// is no bound.
	MaxSlots float64

	// MaxTenants bounds how many tenants and parts Run begins to move in an hour, in the
	// same way. If zero, 500. If negative, there is no bound.
	MaxTenants int

	// MaxReplicas is how many replicas a cell lists at most: replicas list themselves. If
	// zero, 256.
	MaxReplicas int

	// Headroom is how full a cell may be, as a share of its Capacity, before reports and
	// plans raise an alarm. It refuses nothing. If zero, 0.6: when the fullest of ten
	// such cells fails, the others can take what it had and stay below 0.7; of three,
	// below 0.9.
	Headroom float64

	// OnChange is called with each step of each move that this controller made, after it
	// lasts, by the goroutine that made it, under no lock. Those of one unit come in order,
	// but for an Abort or a Rollback that comes in between: Version has the order. It may
	// call any method; a panic goes to whoever made the step, and the map stays. If nil,
	// changes are not reported.
	OnChange func(Change)
}

// Hooks copy and check data. Each is called again after a crash, or with a second
// controller even at the same time, so each has to come to the same end when it is called
// twice; and each has to fence: what is late must not undo what was done for a later
// Version. They are called under no lock, by the goroutine that drives the move, with a
// context that ends when the move is aborted. If one panics, so does the call that drives;
// the move is where it was, and can be resumed. For as long as one hangs its move stays
// where it is, but for CatchUp, which is not waited for.
type Hooks struct {
	// Copy makes a copy in To of what the unit has in From, and keeps it up with what goes
	// on there. It returns when it is as good as level. What it finds in To is from an
	// earlier try, or from before a rollback. It is required.
	Copy func(context.Context, Move) error

	// Verify compares. If it fails, Copy is called again. It is required: to compare
	// counts is better than nothing.
	Verify func(context.Context, Move) error

	// CatchUp is called when no gate lets a write in. It makes To level with From, and has
	// From refuse for ever what comes with Epoch or an earlier one: a process that slept
	// through its deadline might still write. If the move is aborted then, From gets a
	// later epoch. It is required.
	CatchUp func(context.Context, Move) error

	// Clean removes from From what the unit has there, and what Copy has begun. If nil,
	// it is left there.
	Clean func(context.Context, Move) error
}

// ready returns an error if h cannot move anything.
func (h Hooks) ready() error {
	if h.Copy == nil || h.Verify == nil || h.CatchUp == nil {
		return errNoHooks
	}
	return nil
}

var errNoHooks = errors.New("control: there are no Hooks to move data with")

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [New] panics with the same text.
func (c Config) Validate() error {
	var bad []string
	check := func(ok bool, field string, value any, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, but must %s", field, value, must))
		}
	}
	check(c.Store != nil, "Store", nil, "be set")
	some := c.Hooks.Copy != nil || c.Hooks.Verify != nil || c.Hooks.CatchUp != nil
	check(!some || c.Hooks.ready() == nil, "Hooks", "in part", "have Copy, Verify and CatchUp")
	check(c.Poll == 0 || c.Poll >= time.Millisecond, "Poll", c.Poll, "be at least 1ms")
	check(c.FlipTimeout >= 0, "FlipTimeout", c.FlipTimeout, "not be negative")
	check(c.StepTimeout >= 0, "StepTimeout", c.StepTimeout, "not be negative")
	check(c.SettleTimeout >= 0, "SettleTimeout", c.SettleTimeout, "not be negative")
	check(c.Attempts >= 0, "Attempts", c.Attempts, "not be negative")
	check(c.Keep >= 0, "Keep", c.Keep, "not be negative")
	check(c.Parallel >= 0, "Parallel", c.Parallel, "not be negative")
	check(c.MaxSlots <= 1, "MaxSlots", c.MaxSlots, "be at most 1") // nor NaN
	check(c.MaxReplicas >= 0, "MaxReplicas", c.MaxReplicas, "not be negative")
	check(c.Headroom >= 0 && c.Headroom <= 1, "Headroom", c.Headroom, "be from 0 to 1")
	if bad == nil {
		return nil
	}
	return errors.New("control: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

func (c Config) withDefaults() Config {
	if err := c.Validate(); err != nil {
		panic(err.Error())
	}
	c.Poll = cmp.Or(c.Poll, 250*time.Millisecond)
	c.FlipTimeout = cmp.Or(c.FlipTimeout, 10*time.Second)
	c.StepTimeout = cmp.Or(c.StepTimeout, time.Hour)
	c.SettleTimeout = cmp.Or(c.SettleTimeout, 5*time.Minute)
	c.Attempts = cmp.Or(c.Attempts, 3)
	c.Parallel = cmp.Or(c.Parallel, 8)
	c.MaxSlots = cmp.Or(c.MaxSlots, 0.1)
	c.MaxTenants = cmp.Or(c.MaxTenants, 500)
	c.MaxReplicas = cmp.Or(c.MaxReplicas, 256)
	c.Headroom = cmp.Or(c.Headroom, 0.6)
	return c
}
