// Package control changes the map that package cell routes by: it plans who is where, and
// moves tenants with their data while they are being served.
//
//	controller := control.New(control.Config{
//		Store: control.NewFile("/var/lib/control/cells"),
//		Hooks: control.Hooks{Copy: copyData, Verify: compare, CatchUp: catchUp, Clean: remove},
//	})
//	go controller.Resume(ctx) // what the process before has left
//
//	plan, err := controller.Plan(ctx, control.Goal{Drain: []string{"cell-3"}})
//	fmt.Print(plan)
//	err = controller.Run(ctx, plan)
//
// Routers and gates have the map from [Controller.Pull], by way of their Source.
//
// It is the part that changes often and may be down: nothing here is on the way of a
// request, and routers go on by the map they have. So it may be slow, ask a store each
// time, and be thrown away; only tenants in the midst of a move depend on it.
//
// Use it where package cell is used, by as few processes as will do: one, and another that
// waits. Do not use it to route: that is what a Router is for. Nor for what has no data to
// move: for that, an Update of the map is all it takes.
//
// # Algorithm
//
// Everything is in the map, and the map is in a [Store] that compares and swaps. A step of
// a move is one such swap, of one assignment, if that is still what it was when the step
// was decided: cell, epoch, phase and peer. So it is stored before anybody can see it; two
// who drive the same move get no further than one; and after a crash, between whichever
// two steps, a new controller reads where the move is and goes on ([Controller.Resume]).
// There is no journal that could say something else.
//
// The steps are those of the documentation of package cell, under "Moves":
//
//	phase        hook     goes on when
//	Replicating  Copy     the copy is as good as level
//	Verifying    Verify   each replica that the source lists has settled the move, a lease
//	                      has passed, and then the copy is verified
//	Flipping     CatchUp  each has settled this version, or a lease has passed; and then
//	                      the target is level with the source
//	Draining              each has settled this version, or a lease has passed
//	Cleaning     Clean    each has settled this version, Keep has passed, and then the
//	                      source is clean
//
// A lease is Snapshot.Lease and a tenth of it. What a controller waits for it counts from
// when it has seen a phase in the store: after a crash it waits from the beginning. What
// replicas have settled is not stored. They say it again with the next pull.
//
// An [Controller.Abort], up to Flipping, leaves the cell and gives it a new epoch, and goes
// on to Cleaning, of the target. A [Controller.Rollback], after it, is a move of its own in
// the other direction. No epoch is ever used for two cells.
//
// A plan gives each unit to the cell that would be the least full with it, the largest unit
// first. It is greedy, so there may be a better one, but it is the same one each time.
//
// # Defaults
//
// The map is looked at four times in a second while a move waits; a hook may fail three
// times; CatchUp has 10 s and replicas have 5 minutes. In an hour at most a tenth of the
// slots and 500 tenants are moved, eight at a time. The alarm is at 0.6 of a Capacity: the
// headroom has to hold what one other cell leaves behind. Each field of [Config] says why.
//
// # Failure modes
//
//   - The store is down: nothing changes, and pulls fail, so routes become stale. Moves try
//     again until their context ends. Of what they move, writes end with the lease.
//   - A swap fails and nobody knows whether it was made: the map says. OnChange and Stats
//     may miss such a step.
//   - The process ends: moves stay where they are until somebody resumes them.
//   - A replica is cut off or dead: no move from its cell begins to flip. Retire it when its
//     process is known to have ended.
//   - A hook panics: so does the call that drives, and a program whose Run or Resume it was
//     ends; the move can be resumed. One that hangs holds up its own move, and no writes.
//   - Two controllers call a hook for the same step at the same time. What they do to the
//     map is safe; what hooks do has to be, see [Hooks].
//   - A store that is set back in time: a replica that knows better has its pull refused.
//   - A cell that is gone with all its data: Retire its replicas, have Copy restore a
//     backup, and drain it.
//
// Stable: the API changes only with a major version.
package control
