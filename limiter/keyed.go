package limiter

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// KeyedConfig configures a [Keyed].
type KeyedConfig[K comparable] struct {
	// Name is carried in errors, results and Stats. It is for people, and need not be
	// unique.
	Name string

	// Limit is what passes for each key. If zero, nothing does.
	Limit Limit

	// LimitFor returns the limit of a key, where they differ. It is called for each call,
	// on its goroutine and under no lock, so it should look up and not ask. A limit that
	// is not valid lets nothing through, and is counted. If nil, Limit is for all.
	LimitFor func(K) Limit

	// MaxKeys is how many keys may be short of tokens at the same time. Those whose
	// bucket is full take no room. So count the keys that come within the time in which
	// a bucket fills: a second for 100/s with a burst of 100, an hour for ten an hour. Each
	// takes 22 bytes, whatever the key. If zero, 65536: 1.4 MB.
	MaxKeys int

	// Shadow lets everything through, but counts what would not have been: for finding
	// out what a limit would do. If zero, the limit holds.
	Shadow bool
}

const (
	defaultKeys = 1 << 16

	// maxKeys is what a table can be made for: 2^30 keys, or 2^24 where an int has 32 bits.
	maxKeys = 1 << (24 + 6*(^uint(0)>>63))
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewKeyed] panics with the same text.
func (c KeyedConfig[K]) Validate() error {
	err := c.Limit.Validate()
	if c.MaxKeys < 0 || c.MaxKeys > maxKeys {
		err = errors.Join(err, fmt.Errorf(
			"limiter: KeyedConfig%s: MaxKeys is %d, but must be at least 1 and at most %d",
			quoted(c.Name), c.MaxKeys, maxKeys))
	}
	return err
}

// Keyed has a bucket for each key: a client, a tenant, an address. Make it with [NewKeyed]
// and use it from any number of goroutines. It has no goroutine, and nothing to close.
//
// A key that comes for the first time has a full bucket. The empty string is a key like any
// other: see to it that callers who can't be told apart do not all come as that. For what
// has several parts use a struct, such as {tenant, route}. Of strings that are joined
// somebody can make up two that give the same.
//
// All memory is taken when it is made. Of a key it keeps 64 bits of a hash, by a seed of its
// own, so that nobody can look for keys that fall together. A key that is an interface
// must hold something that can be compared, or there is a panic, as with a map; and its
// type does not count, so that 1 and int64(1) may be the same.
//
// A call costs a hash, a reading of the clock and a compare-and-swap. It allocates nothing,
// and takes a lock only for a key that has no place yet. A refusal writes nothing, so that
// however many are refused do not slow each other. Calls are therefore not counted here;
// count them where you call.
//
// # Failure modes
//
// There may be more keys short of tokens than there are slots, of which a Keyed has four for
// every three MaxKeys. Then:
//
//   - A key without a slot takes that of one of sixteen others, the one that owes least. If
//     that is up to half of a burst it is forgotten. A key that has used up its burst and
//     goes on calling stays as it is, under a flood of any size. One that waits until it
//     has half of it back can be forgotten, and so have up to twice its rate.
//   - If all sixteen owe more than half, what the least of them owes goes over to the new
//     key, and it is refused if that leaves too little. [KeyedStats] counts it as Crowded.
//   - A flood of keys, each with up to half of a burst, thus keeps nobody out. One whose
//     keys use more does, if more of them come in a second than all slots together get
//     tokens: then those, and all who had a full bucket or were never there, share the
//     tokens of the slots. If twice as many come, half of them get one. With a limit of
//     100/s and MaxKeys as it is, that takes 8.7 million keys a second; with one of ten in
//     an hour, 240. Then set MaxKeys higher.
//   - Keys whose buckets fill in a second find no slot among those that take a day. Give
//     them a Keyed of their own.
//
// Where a key's limit changes, by LimitFor or Take, what it owes stays the same as a time,
// not as a number of tokens; and is at most the time in which the new bucket fills. So a
// key should not be used with two limits in turn: make the limit's name a part of the key.
type Keyed[K comparable] struct {
	keyed    keyed
	seed     maphash.Seed
	limitFor func(K) Limit
}

// keyed is a Keyed without the type of its key.
type keyed struct {
	table  *table
	name   string
	base   time.Time
	shadow bool

	invalid atomic.Uint64

	mu   sync.Mutex // held to replace the level
	cost int64      // of a token, when debts were written; 0: none were yet
}

// NewKeyed returns a Keyed in which all buckets are full. It panics if cfg is not valid; see
// [KeyedConfig.Validate].
func NewKeyed[K comparable](cfg KeyedConfig[K]) *Keyed[K] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = defaultKeys
	}
	k := &Keyed[K]{seed: maphash.MakeSeed(), limitFor: cfg.LimitFor}
	plan, _ := cfg.Limit.plan()
	k.keyed.table = newTable(cfg.MaxKeys)
	k.keyed.table.level.Store(&plan)
	k.keyed.name, k.keyed.shadow, k.keyed.cost = cfg.Name, cfg.Shadow, plan.cost
	k.keyed.base = time.Now()
	return k
}

// hash returns what the table knows key by.
func (k *Keyed[K]) hash(key K) uint64 { return max(1, maphash.Comparable(k.seed, key)) }

// For returns the bucket of key, with the limit that the key has now. Ask for it for each
// call.
func (k *Keyed[K]) For(key K) Bucket {
	b := Bucket{keyed: &k.keyed, hash: k.hash(key), own: k.limitFor != nil}
	if b.own {
		b.plan = k.planFor(key)
	}
	return b
}

// planFor returns the plan of a limit from LimitFor. One that is not valid lets nothing
// through.
func (k *Keyed[K]) planFor(key K) plan {
	p, err := k.limitFor(key).plan()
	if err != nil {
		k.keyed.invalid.Add(1)
	}
	return p
}

// Allow takes a token from key's bucket and reports whether there was one.
func (k *Keyed[K]) Allow(key K) bool {
	if k.limitFor != nil {
		return k.For(key).AllowN(1)
	}
	return k.keyed.allowN(k.hash(key), nil, 1)
}

// Check takes n tokens from key's bucket, all or nothing. An n below 1, or above the Burst,
// is refused.
func (k *Keyed[K]) Check(key K, n int) Result {
	if k.limitFor != nil {
		return k.For(key).Check(n)
	}
	return k.keyed.checkN(k.hash(key), nil, int64(n))
}

var _ Store = (*Keyed[string])(nil)

// Take takes from least to most tokens from key's bucket, by a limit that comes with the
// call; Limit and LimitFor are not asked. It makes a Keyed of string a [Store], and is the
// same for keys of any type.
//
// The error is about the arguments, or ctx, if that has ended. Shadow lets calls through
// as elsewhere; Granted is what was taken, which is then nothing.
func (k *Keyed[K]) Take(
	ctx context.Context, key K, limit Limit, most, least int,
) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ended.New(ctx, "limiter", true)
	}
	plan, err := limit.plan()
	if err != nil {
		return Result{}, err
	}
	if least < 0 || most < least {
		return Result{}, fmt.Errorf("limiter: Take: from %d to %d tokens, "+
			"but must be from at least 0 to at least as many", least, most)
	}
	return k.keyed.check(k.hash(key), &plan, int64(most), int64(least)), nil
}

// check takes from least to most tokens and says what came of it.
func (k *keyed) check(hash uint64, own *plan, most, least int64) Result {
	p, debt, n, ok := k.take(hash, own, most, least)
	if !ok {
		return k.refuse(hash, p.result(k.name, debt, least, false))
	}
	return p.result(k.name, debt, n, true)
}

// checkN is Bucket.Check.
func (k *keyed) checkN(hash uint64, own *plan, n int64) Result {
	if n > 0 {
		return k.check(hash, own, n, n)
	}
	p, debt, _, _ := k.take(hash, own, 0, 0)
	return k.refuse(hash, p.result(k.name, debt, n, false))
}

// allowN is Bucket.AllowN.
func (k *keyed) allowN(hash uint64, own *plan, n int64) bool {
	if n > 0 {
		if _, _, _, ok := k.take(hash, own, n, n); ok {
			return true
		}
	}
	return k.spared(hash)
}

// refuse returns r, or what Shadow makes of it.
func (k *keyed) refuse(hash uint64, r Result) Result {
	if k.spared(hash) {
		r.OK, r.Shadowed, r.RetryAfter = true, true, 0
	}
	return r
}

// take takes from least to most tokens, by the key's own plan if it has one. It returns the
// plan that it went by, the debt that there is then, and how many it took.
func (k *keyed) take(
	hash uint64, own *plan, most, least int64,
) (p *plan, debt, n int64, ok bool) {
	c := claim{
		hash: hash, now: k.clock(), plan: own, own: own != nil, most: most, least: least,
	}
	for {
		if !c.own {
			c.plan = k.plan()
		}
		if c.plan.cost == 0 { // everything passes, or nothing: no need of a place
			n = min(most, c.plan.burst)
			return c.plan, 0, n, n >= least
		}
		debt, n, what := k.table.take(&c)
		switch what {
		case granted, refused:
			return c.plan, debt, n, what == granted
		case above:
			seen := c.now + debt
			c.now = k.clock()
			k.table.lower(&c, seen)
		}
	}
}

// refund is for All. As that of a Limiter it does nothing if the limit is another one by
// now; nor does the table if the key has lost its place.
func (k *keyed) refund(hash uint64, own *plan, r Result) {
	p := own
	if p == nil {
		p = k.plan()
	}
	if r.Limit == p.limit {
		k.table.refund(hash, int64(r.Granted)*p.cost)
	}
}

// clock returns ticks since k was made, as that of a Limiter does.
func (k *keyed) clock() int64 { return ticks(time.Since(k.base)) }

// spared reports whether a call that was refused goes on all the same.
func (k *keyed) spared(hash uint64) bool {
	if k.shadow {
		a, _ := k.table.pair(hash)
		k.table.stripe(a).shadowed.Add(1)
	}
	return k.shadow
}

// plan returns that of Limit.
func (k *keyed) plan() *plan {
	if p := k.table.level.Load(); p != nil {
		return p
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.table.level.Load()
}

// SetLimit changes Limit. What keys have used of their tokens stays used, as far as it fits
// into the new burst, and who has used none has a full bucket. A limit that lets nothing
// or everything through leaves what is owed as it was. If LimitFor is set it is an error,
// since Limit is for nobody then.
//
// It goes through the whole table, and calls by Limit that begin meanwhile wait for it.
// A key's first call, if it is under way then, may still count by the old limit.
func (k *Keyed[K]) SetLimit(limit Limit) error {
	if k.limitFor != nil {
		return fmt.Errorf("limiter: Keyed%s: SetLimit, but LimitFor decides",
			quoted(k.keyed.name))
	}
	plan, err := limit.plan()
	if err == nil {
		k.keyed.setPlan(&plan)
	}
	return err
}

func (k *keyed) setPlan(p *plan) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.table.level.Store(nil)
	defer k.table.level.Store(p)
	if p.cost == 0 { // nothing to count by; what is owed goes on as it was
		return
	}
	if k.cost != 0 && k.cost != p.cost {
		k.table.rescale(k.clock(), func(debt int64) int64 { return p.debtFrom(debt, k.cost) })
	}
	k.cost = p.cost
}

// debtFrom returns what a debt is under p, of as many tokens as under a plan by which a
// token had another cost. It rounds up: a change should not be worth a token to anybody.
func (p *plan) debtFrom(debt, cost int64) int64 {
	hi, lo := bits.Mul64(uint64(debt), uint64(p.cost))
	lo, carry := bits.Add64(lo, uint64(cost-1), 0)
	if hi += carry; hi >= uint64(cost) {
		return p.full
	}
	used, _ := bits.Div64(hi, lo, uint64(cost))
	return int64(min(used, uint64(p.full)))
}

// KeyedStats is what a Keyed knows of itself at one moment.
type KeyedStats struct {
	Name  string // KeyedConfig.Name
	Limit Limit  // as last set; that of keys without LimitFor
	Keys  int    // that are short of tokens now
	Slots int    // keys that there are places for

	// The others only grow.
	Evicted  uint64 // buckets that were not full and lost their place to another key's
	Crowded  uint64 // calls refused since the table was full of what others owe
	Shadowed uint64 // calls that would have been refused, but for Shadow
	Invalid  uint64 // limits from LimitFor that were not valid
}

// Stats returns a snapshot. It goes through the whole table, to count the keys: ask once
// in a while.
func (k *Keyed[K]) Stats() KeyedStats { return k.keyed.stats() }

func (k *keyed) stats() KeyedStats {
	s := KeyedStats{
		Name:    k.name,
		Limit:   k.plan().limit,
		Keys:    k.table.owing(k.clock()),
		Slots:   slots * len(k.table.sets),
		Invalid: k.invalid.Load(),
	}
	for i := range k.table.stripes {
		stripe := &k.table.stripes[i]
		s.Evicted += stripe.evicted.Load()
		s.Crowded += stripe.crowded.Load()
		s.Shadowed += stripe.shadowed.Load()
	}
	return s
}
