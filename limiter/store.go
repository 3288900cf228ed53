package limiter

import "context"

// Store keeps buckets by their keys: in memory, as [Keyed] of string does, or where a
// whole fleet shares them.
type Store interface {
	// Take takes as many tokens as there are in key's bucket, from least to most, or
	// none if there are fewer than least. Taking 1 to 1 is a request, 1 to 50 a lease, and
	// 0 to 0 takes nothing and tells how things are.
	//
	// The bucket goes by limit. If that is another one than before, what was used stays
	// used for as long as it would have by the limit that it was taken by, but for no
	// longer than the new bucket takes to fill. That is not as many tokens as before: a
	// limit that is ten times slower finds a bucket that was empty nine tenths full.
	//
	// That there are too few is no error, but a Result that is not OK. An error says that
	// nobody knows: the limit is not valid, the numbers are not 0 <= least <= most, ctx
	// is done, or the store can't be reached. A caller must not take it for a refusal.
	Take(ctx context.Context, key string, limit Limit, most, least int) (Result, error)
}
