package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Store keeps the map. There are [Memory] and [File]; another one, over etcd or Redis, has
// these two methods and no more, so that there is little to get wrong. Both may be called
// from any number of goroutines and processes, and take until ctx ends at most.
//
// The record is bytes beside a version, and not a map, so that a store can compare without
// knowing what it keeps: a transaction over two keys of etcd, or a script over a hash of
// Redis.
type Store interface {
	// Load returns the latest record; the zero Record if there has never been one. It must
	// be linearizable: an answer from a cache, or from a follower that lags, is how a
	// replica has a lease renewed that others have waited out.
	Load(ctx context.Context) (Record, error)

	// CompareAndSwap replaces the record of version old by next, which lasts when it
	// returns nil, and is not to be seen by anybody before it lasts. If the version is
	// another one, the error matches [ErrConflict], and nothing has changed. After any
	// other error either may be the case. Nothing of next is changed later.
	CompareAndSwap(ctx context.Context, old uint64, next Record) error
}

// Record is a map as a [Store] keeps it.
type Record struct {
	Version uint64 // of the map; 0: there is none
	Map     []byte // as [cell.Snapshot.Encode] has it
}

// ErrConflict is matched by the error of a [Store] that has another version by now.
var ErrConflict = errors.New("control: the store has another version")

// ErrEmpty is the error of what needs a map when the store has none: see
// [Controller.Create].
var ErrEmpty = errors.New("control: the store is empty")

func conflict(has, old uint64) error {
	return fmt.Errorf("%w: %d, and not %d", ErrConflict, has, old)
}

// Memory is a [Store] that ends with the process: for tests. The zero Memory is empty. It
// must not be copied.
type Memory struct {
	mu     sync.Mutex
	record Record
}

// Load returns the latest record.
func (m *Memory) Load(context.Context) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record, nil
}

// CompareAndSwap replaces the record if its version is old.
func (m *Memory) CompareAndSwap(_ context.Context, old uint64, next Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.Version != old {
		return conflict(m.record.Version, old)
	}
	m.record = Record{next.Version, bytes.Clone(next.Map)}
	return nil
}

// versioned is a map that was decoded, with what it was decoded from. It is never changed.
type versioned struct {
	record   Record
	snapshot *cell.Snapshot
}

// decode returns the map of a record, which is that of last if nothing has changed.
func decode(r Record, last *versioned) (*versioned, error) {
	if last != nil && last.record.Version == r.Version && bytes.Equal(last.record.Map, r.Map) {
		return last, nil
	}
	s, err := cell.Decode(r.Map)
	if err != nil {
		return nil, fmt.Errorf("control: version %d of the store: %w", r.Version, err)
	}
	if s.Version != r.Version {
		return nil, fmt.Errorf("control: version %d of the store: %w: it has version %d",
			r.Version, cell.ErrInvalid, s.Version)
	}
	return &versioned{r, s}, nil
}
