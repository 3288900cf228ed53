// Package coalesce makes many concurrent calls for the same key one call, and can keep
// its result for a while.
//
// A page that all users ask for is kept in a cache, and expires. The next request asks
// the store, which takes two seconds; until it has answered, so does every other one. At
// 300 requests a second that is
//
//	bare         600 calls at the same time, for one answer; they slow the store down,
//	             so it takes longer, so there are more of them
//	coalesced    1 call, and up to 600 callers that wait for it
//	Stale set    1 call, and nobody waits
//
// This is the cold-cache stampede, and it is why a cache that fails over, is emptied or
// just started takes its store down. A [Group] lets one call through per key, gives its
// result to all who have asked meanwhile, and with a TTL to those who ask later.
//
//	var pages = coalesce.New[string, *Page](coalesce.Config{
//		Name:  "pages",
//		TTL:   10 * time.Second,
//		Stale: time.Minute,
//	})
//
//	page, err := pages.Do(ctx, path, func(ctx context.Context) (*Page, error) {
//		return store.Page(ctx, path)
//	})
//
// Use it for reads that cost more than a map lookup, are asked for again and again, and
// have the same answer for everybody. Everything that the answer depends on must be in
// the key, for whoever asks first asks for all: do not use it for a function that acts in
// the name of its caller, reads the user from its context or returns what only some may
// see, unless the user is part of the key. Nor for what moves money or is not
// idempotent: two orders would become one. Nor as a store: anything kept here may be
// gone at any time. And results are shared between callers: treat them as read-only,
// slices, maps and what pointers point to included.
//
// A caller that joins a call gets what that has read, perhaps before the caller came. To
// read your own write, call [Group.Forget] after it.
//
// Vocabulary: a call is one run of the function, whoever waits for it. A result is fresh
// during its TTL and then stale; a call for a key with a stale result is a refresh.
//
// # Algorithm
//
// One call per key is groupcache's singleflight (Fitzpatrick, 2013). That of
// golang.org/x/sync is not used, for it knows no contexts: its call is its first
// caller's, and is cancelled with that one though others wait, or never; and what is
// forgotten during a call would be kept by it after all. Here a call lives as long as
// anybody waits for it. To serve what is stale while one refresh runs, and on error, is
// RFC 5861 (Nottingham, 2010).
//
// When there is no room, 16 results picked at random are looked at. An expired one goes
// first, else the one with the fewest uses; but if it has more of them than the new one,
// that is not kept, and the other's uses are halved. It is the sampled approximation of
// LFU with ageing, with admission as in TinyLFU (Einziger, Friedman and Manes, ACM
// Transactions on Storage 13(4), 2017): keys of a flood that are asked for once take their
// places from each other, not from what is used.
//
// # Defaults
//
// The zero [Config] keeps nothing: it coalesces only, and ends a call after 10 s. With a
// TTL, up to a tenth of it is taken off at random and 10,000 results are kept; nothing
// stale is served, and no error is kept. Each field says why.
//
// # Failure modes
//
//   - A caller that leaves does not cancel the call for the others; the last one to leave
//     does, and who comes after that starts a new call.
//   - A call that hangs fails after Timeout for all that wait for it. If it ignores its
//     context too, its goroutine stays until it returns; [Stats] shows it in flight.
//   - A panic of the call goes on in every caller that waits for it, as a [*PanicError],
//     and [runtime.Goexit] ends each of them. A panic that nobody waits for goes on in the
//     next caller for the same key, once, whatever is kept for it, and does not end the
//     program: a request whose client hangs up would do that. It may be lost where there is
//     no room for it, or by Forget, but is always counted.
//   - When the store is down, errors go to the callers, and nothing is evicted by them
//     unless ErrorTTL is set. With StaleOnError callers get the last good result, and each
//     key is tried again after a while, at most a second, by one call at a time.
//   - A function that calls Do for its own key waits for itself, until Timeout.
//   - A flood of different keys is as many calls, since each is a miss; only the results
//     are bounded. A limit on calls belongs in the function, or around Do.
//   - Expired results take their place until it is needed: no goroutine clears them up.
//   - Time is monotonic: wall-clock steps do nothing. While a machine is suspended no time
//     passes, or much, as its system has it.
//   - A restart begins with nothing, and each process has a group of its own: n processes
//     make n calls.
//
// Experimental: the API may change with a minor version.
package coalesce
