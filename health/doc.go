// Package health tells whether a replica lives, has started, and should be sent requests.
//
// Others ask that of it: Kubernetes restarts what does not live, balancers leave out what
// is not ready. What they are told decides how far a failure goes. A replica that fails
// its probe when the database is slow makes an outage of that, since all of them fail it,
// and what is restarted comes back with more work for the database. So each [Check] has a
// [Class], its reach, and what others share does not take a replica out of rotation.
//
//	var state = health.New(health.Config{
//		Gates: []string{"cache"},
//		Checks: []health.Check{
//			{Name: "db", Func: db.PingContext},
//			{Name: "disk", Func: canWrite, Class: health.Local},
//		},
//	})
//
//	state.Start(ctx)
//	warm(cache)
//	state.Gate("cache")()
//
// Use one for each process, with healthhttp before everything else. Check what a request
// needs and what stays broken; most services need two or three checks. Do not check what
// answers for itself when it is called, as a breaker's dependency does. Nor use it for
// alerts about what users see: a probe sees one replica, at one moment, and is no user.
//
// [Run] starts a Health and the servers of a [Drain], waits for SIGTERM and ends the
// process without dropping what it was asked to do:
//
//	drain := health.NewDrain(health.DrainConfig{Health: state, GracePeriod: 30 * time.Second})
//	drain.Defer("db", func(context.Context) error { return db.Close() })
//	drain.Serve("http", srv, srv.ListenAndServe)
//	err := health.Run(ctx, drain)
//
// A [Budget] counts how much of what an objective allows to fail has failed, how fast,
// and because of whom. [Downtime], [Series], [Parallel] and [Own] say what an objective
// means.
//
// Vocabulary: a check is run, and a run passes or fails. A check that has failed often
// enough is down. A gate is shut until the program opens it. A replica is live, started,
// ready; it is in rotation while balancers send it requests.
//
// # Algorithm
//
// The classes are those of the AWS Builders' Library, "Implementing health checks":
// shallow ones for whoever takes out of service, deep ones that fail open. Each check
// runs on a goroutine of its own, again and again, at random times about its Interval. It
// is down after so many failures in a row, and up after so many passes, so that what
// flaps does not flip. After a failure it is run four times as often. A run that hangs is
// not helped by a second one: it counts as failed again and again while it is waited for.
//
// After each run all results are put into one immutable value behind an atomic pointer. A
// probe is a load of that. It runs nothing, waits for nobody, and cannot be made to work
// by those who send many.
//
// With Shed a shared check takes the replica out after all, for where others can do
// better. That is bounded three times: by a random time in which the check may come back;
// by the share of replicas that are not ready already, with a chance that gets smaller on
// the way there, since all of them ask at about the same time and what they are told is
// old; and by the length. A replica decides once in an outage. Simulated, of a hundred
// replicas that lose their database for half a minute, two thirds stay.
//
// A drain is that of Kubernetes' API server and of Envoy: readiness off first, then a
// time in which all is served as before, because those who send requests learn of it late
// and one after the other. Connections are closed by replies in that time, not by the
// server: a connection that looks idle here may have a request on its way. Only then are
// the listeners closed.
//
// The burn rates and their alerts are those of The Site Reliability Workbook (2018),
// chapter 5: two windows for each alert, 5m and 1h, 30m and 6h, 2h and 1d, 6h and 3d. The
// thresholds are made of the share of the budget that is gone by then, so that they hold
// for any window. Events are counted by two counters; each window is a list of 120
// readings of them.
//
// # Defaults
//
// A zero [Check] is Shared, runs every 10 s with a timeout of 1 s, is down after three
// failures and up after two passes: that something is refused is known in 4 to 18 s, that
// it hangs in 20 s. What is shared holds up the start for 60 s at most. With Shed a third
// may be out, for two minutes. A ramp takes a minute from a tenth to all. Each field says
// why.
//
// A zero [DrainConfig] delays for 5 s and has 20 s for the rest, within the 30 s that
// Kubernetes gives. A zero [BudgetConfig] allows one in a thousand over 30 days.
//
// # Failure modes
//
//   - A check that panics or ends its goroutine has failed, and runs again.
//   - A check that hangs holds one goroutine and fails; what it returns too late counts
//     for nothing. It is run again when it has returned. A hung Peers or OnChange holds
//     one too.
//   - A check may call any method. So may a hook; it gets changes in order, outside of
//     locks, and what it does cannot stop the checks.
//   - A check that never passed: a Local one, or a gate, keeps the replica from being
//     ready for ever, and Kubernetes' startup probe sees to that; a Shared one for
//     StartupTimeout.
//   - All replicas see the same failure of a Local check: none is ready. If that can be,
//     it is not Local.
//   - Before Start, and after Stop, the replica is not ready; it lives.
//   - A server, hook or OnBegin that panics, ends its goroutine or hangs: an error of the
//     drain, which goes on. What hangs is left behind when its time is over.
//   - A server that fails at the start, or ends by itself, drains the others and ends
//     the process. A second signal ends it at once.
//   - A sidecar that carries the traffic, such as a mesh's proxy, has to end later than
//     the process. Kubernetes sees to that if it is an init container with
//     restartPolicy: Always. Otherwise both get SIGTERM at once, and the sidecar needs a
//     delay of its own, longer than Delay and Timeout.
//   - A client that keeps a connection idle through all of Delay finds it closed when it
//     asks next, as it does after any idle timeout.
//   - A Budget is of one process, and a restart begins with a full one.
//   - Time is monotonic: wall-clock steps do nothing. While a machine is suspended no
//     time passes, or much, as its system has it; much is one failure of a run under
//     way.
//   - A restart forgets everything, and passes through start-up again.
//
// Stable: the API changes only with a major version.
package health
