package limiter

import "context"

// Store keeps buckets by their keys: in memory, as [Keyed] of string does, or where a
// whole fleet shares them.
type Store interface {
	// Take takes as many tokens as there are in key's bucket, from least to most, or
	// none if there are fewer than least. The bucket goes by limit, which may be another
	// one each time; its tokens stay what they are as far as they fit. Taking 1 to 1 is a
	// request, 1 to 50 a lease, and 0 to 0 takes nothing and tells how things are.
	//
	// That there are too few is no error, but a Result that is not OK. An error says that
	// nobody knows: the limit is not valid, the numbers are not 0 <= least <= most, ctx
	// is done, or the store can't be reached. A caller must not take it for a refusal.
	Take(ctx context.Context, key string, limit Limit, most, least int) (Result, error)
}
