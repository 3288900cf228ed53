// Package cell routes tenants to cells, by a map that outlives whoever draws it.
//
// A cell is a whole copy of a service, with data of its own, for a part of the tenants. What
// goes wrong in one, a bad release, a poisoned queue, a full disk, is that part's problem
// and nobody else's. All of that hangs on who sends a request to its cell: it is on the way
// of each request, so it has to be the part that fails last. This package is that part. It
// knows a map of who is where, and a few rules about what may come after it.
//
// At the edge, a [Router] pulls the map and answers from memory:
//
//	router := cell.New(cell.Config{Source: pull, Path: "/var/lib/edge/cells"})
//	go router.Run(ctx)
//
//	route, err := router.Route(tenant)
//	if err != nil {
//		return err // no map, and so no cell: there is no default one
//	}
//	return send(ctx, route.Address, route.Epoch, request)
//
// In a cell, a [Gate] lets in what belongs there, with the epoch that came along:
//
//	gate := cell.NewGate(cell.GateConfig{Cell: "cell-3", Router: router})
//
//	err := gate.Do(ctx, cell.Request{Tenant: tenant, Epoch: epoch, Write: true}, write)
//
// Use it where a tenant's data is in one place, and a part of all tenants may fail but not
// all of them. Do not use it for what any replica can serve: package shuffle isolates
// tenants there, and moves nothing. Nor to spread keys evenly: a placement of package
// hashring computes an owner, and so gives keys to others when the list changes, but data
// does not follow by itself. Here a slot has its cell until somebody moves it, and a new
// cell has nothing until it is given something. Who plans moves, and carries them out, is
// another package's job, on the other side of the Source: it changes often, and may be
// down.
//
// Vocabulary: a map is a [Snapshot]. A slot stands for all tenants whose names hash to it.
// The active cell of a tenant is the one that serves it; an epoch is the version of the map
// that made it so. A replica is one process of a cell. What began, and has not ended, is
// under way.
//
// # Algorithm
//
// Static stability, as Amazon's builders have it: the map is pulled whole, at a fixed
// period, changed or not, so that a day with a thousand changes, and the minute after an
// outage, are like any other. A map is taken if it is whole, valid, later than the one in
// force and something that can follow it ([Snapshot.Follows]), and does not move too much
// at a time. It is put in force by one atomic store, and then written to a file, where a
// restart finds it. A tenant's own entry decides first, then the longest prefix of its
// name, and then its slot: for all of them the work is one hash and one or two loads.
//
// # Moves
//
// Two cells must not both accept writes of a tenant, and a replica that cannot be reached
// cannot be told to stop. If a lease was what lets it write, it would stop by itself; but
// with leases for all, an outage of the control plane would stop all writes everywhere. So
// only what is being moved is leased, and no move goes on until those concerned have said
// that they know it:
//
//  1. In phase [Stable], a replica that the map lists in Cell.Replicas writes without a
//     lease. One that is not listed, where others are, never writes.
//  2. A move begins with the phase [Replicating]. A replica that has such a map writes for
//     that tenant only under the lease: for Snapshot.Lease from when its last good pull
//     was sent. What it let in before had no deadline, so it counts what is under way, and
//     [Gate.Settled] names the version only when that has ended.
//  3. Nobody may publish [Flipping] before each replica listed in the source has reported
//     such a version. One that is cut off from the beginning so stops the move, and not the
//     writes of a tenant at rest. To go on without it takes somebody who knows that its
//     process has ended, and takes it off the list.
//  4. In phase Flipping the source accepts no write. The target is opened, by [Draining]
//     with a new epoch, when each listed replica reports that version as settled; or when a
//     Lease has passed since Flipping was published, and a tenth of it more for clocks that
//     run apart. A replica that was cut off in between had no answer with the old map after
//     that moment, so its lease has ended, and with it all that it let in.
//  5. From then on, requests with the old epoch are refused with a [MovedError], by the
//     source and by the target.
//
// Where a cell lists nobody, each write is leased, at rest too, and the only way to flip is
// to wait. In phase [Cleaning] the target writes without a lease. To go back after Draining
// is a move like any other.
//
// What this cannot hold is a process that was let in, sleeps through its deadline, and then
// writes. The data has to fence: keep the highest epoch of each tenant with its data, and
// refuse a write with a lower one. Nor does it hold if the Source answers from a cache, if
// two processes have the same replica's name, or if the file at Path goes back in time, as
// in a copy of a machine.
//
// # Defaults
//
// A map is pulled every 5 s and is stale after 50 s. It may have 16 MiB, and move a fifth
// of the slots and a thousand tenants in an hour. Each field of [Config] says why.
//
// # Failure modes
//
//   - A control plane that is down, slow, or answers with something older, damaged or too
//     large, changes no route. Routes become stale, which shows and has no other effect.
//     Tenants that are in the midst of a move cannot be written to after a Lease.
//   - Two maps of one version: the first one stays, and each pull is a rejection that
//     Stats counts.
//   - A map that moves more than an hour's bound is rejected until it is Forced; so are
//     those after it.
//   - A damaged or torn file at Path is passed over for the one before it, and that for
//     the Seed. By those a replica does not write until a pull has confirmed them, since it
//     may have agreed to later ones.
//   - A disk that is read-only or full: routes are as they were. A replica with a Path then
//     settles no new version, so moves from its cell wait.
//   - A disk that is not kept over restarts: the process begins with the Seed, and is not
//     Ready, unless AllowSeed says so.
//   - Two processes with one Path: the file has the later map, or that of the one who wrote
//     last. A replica does not write by what another one has left there.
//   - A replica with a map that is behind refuses what comes with a later epoch, and pulls
//     at once.
//
// Stable: the API changes only with a major version.
package cell
