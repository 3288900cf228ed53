// Package bulkhead bounds how many calls are under way at a time.
//
// When one dependency of a service gets slow, the calls to it pile up: by Little's law
// there are as many under way as come in a second, times the seconds that one takes.
// Each holds a goroutine, memory and a connection, and at some point none are left for
// the calls to dependencies that are well. A bulkhead is the wall of a ship's hull that
// keeps the water of one leak in one compartment: so many calls at a time, and the
// others are refused at once.
//
// Use one for each dependency, or for each tenant, or around work that takes a
// lot of memory:
//
//	var prices = bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 20})
//
//	price, err := bulkhead.Do(ctx, prices, func(ctx context.Context) (Price, error) {
//		return client.Price(ctx, id)
//	})
//	if errors.Is(err, bulkhead.ErrFull) {
//		return lastKnown(id), nil
//	}
//
// Do not use it to protect a server from too much load: what it can do at once changes
// with what it does, and a number that was right when it was measured is wrong after the
// next release; an adaptive limit finds it out. Nor to bound a rate: twenty at a time may
// be ten a second or ten thousand. Nor instead of a timeout: a call that never ends holds
// its slot for ever.
//
// [Queue] is the other half of the pattern: work that need not be done at once, kept until
// one of a few workers has time for it.
//
// Vocabulary: a permit is leave for one call, which holds a slot for it. A heavy call
// holds several.
//
// # Algorithm
//
// The bulkhead is that of Nygard's Release It (2007), a counting semaphore with a bound.
// What is in use, whether somebody waits, and how many calls have ended are one word,
// changed by one atomic operation. Only who must wait takes a lock. Those who wait are
// served first come, first served, also the heavy ones; nobody passes them. A newcomer
// that could pass would be faster at times, and others would wait without end.
//
// # Defaults
//
// MaxConcurrent has none. Nobody waits; where MaxQueue lets some, none waits for more than
// a second. Each field says why.
//
// # Failure modes
//
//   - A call that panics or ends its goroutine gives back its slot.
//   - A call that hangs holds its slot: give it a timeout. When all slots are held so, the
//     bulkhead refuses everything, as it should.
//   - A context that is done never gets a slot, also if one is free, or was just
//     granted: that one goes to the next in line.
//   - With permits within permits of one bulkhead, all may hold one and wait for another.
//     Use two, or weights.
//   - Each process counts for itself. Ten replicas let ten times as many through.
//
// Stable: the API changes only with a major version.
package bulkhead
