package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// File is a [Store] in a file of a local file system: for one machine, or for a disk that
// one machine at a time has. What is in the file is [cell.Snapshot.Encode], so it does for
// the Seed of a router too, and people can read it. Make it with [NewFile].
//
// Any number of processes may use the same file. Each holds a lock of the operating system
// on a second one, with ".lock" at its end, while it compares and replaces, and while it
// reads. A file that is there for as long as it is locked would need no system's help, but
// stay when its process is killed, and then somebody has to decide whether to remove it;
// the system's lock ends with whoever holds it, however that ends. Over a network some
// file systems grant it to two at a time: that is why they are not for this.
type File struct {
	path string
	last atomic.Pointer[versioned] // known to last
}

// lockPoll is how often a lock is tried that another process holds, which it does for the
// time of a few writes to the disk.
const lockPoll = 5 * time.Millisecond

// errLocked is what tryLock returns if another one holds the lock.
var errLocked = errors.New("control: the lock is held")

// NewFile returns a store at path. Neither the file nor the one beside it needs to be
// there, but the directory does.
func NewFile(path string) *File { return &File{path: path} }

// Load returns what is in the file. If that is damaged, the error matches
// [cell.ErrInvalid]: there is no older map to take in its place, since those who pull may
// have the newest already.
func (f *File) Load(ctx context.Context) (Record, error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	return f.read()
}

// CompareAndSwap replaces the file if its version is old.
func (f *File) CompareAndSwap(ctx context.Context, old uint64, next Record) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	has, err := f.read()
	if err != nil {
		return err
	}
	if has.Version != old {
		return conflict(has.Version, old)
	}
	v, err := decode(next, nil)
	if err != nil { // it would be damaged from the beginning
		return err
	}
	f.sweep()
	temporary, err := f.write(next.Map)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, f.path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return err
	}
	v.record.Map = bytes.Clone(v.record.Map)
	f.last.Store(v)
	return nil
}

// read is called under the lock. Whoever wrote a version may have been killed, or failed,
// before it was known to last, and the system has it all the same; if it were handed out,
// and the power failed then, there would be two maps of that version. So the first to read
// it here has it last.
func (f *File) read() (Record, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, err
	}
	if last := f.last.Load(); last != nil && bytes.Equal(b, last.record.Map) {
		return last.record, nil
	}
	s, err := cell.Decode(b)
	if err != nil {
		return Record{}, fmt.Errorf("control: %s: %w", f.path, err)
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return Record{}, err
	}
	v := &versioned{Record{s.Version, b}, s}
	f.last.Store(v)
	return v.record, nil
}

// write returns the name of a file of its own that lasts, but for its name.
func (f *File) write(b []byte) (name string, err error) {
	t, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, t.Close()); err != nil {
			err = errors.Join(err, os.Remove(t.Name()))
		}
	}()
	if _, err := t.Write(b); err != nil {
		return "", err
	}
	return t.Name(), t.Sync()
}

// sweep removes what those have left who were killed while they wrote. Under the lock
// nobody else is writing.
func (f *File) sweep() {
	dir, base := filepath.Dir(f.path), filepath.Base(f.path)
	files, _ := os.ReadDir(dir) // without them there is nothing to remove
	for _, e := range files {
		rest, ok := strings.CutPrefix(e.Name(), base+".")
		if ok && strings.HasSuffix(rest, ".tmp") {
			_ = os.Remove(filepath.Join(dir, e.Name())) // the next one tries again
		}
	}
}

// lock waits for the lock until ctx ends. It asks again and again since to wait in the
// system could not be ended.
func (f *File) lock(ctx context.Context) (unlock func(), err error) {
	for {
		if ctx.Err() != nil {
			return nil, ended.New(ctx, "control", true)
		}
		unlock, err := tryLock(f.path + ".lock")
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		if err := wait(ctx, lockPoll); err != nil {
			return nil, err
		}
	}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended.New(ctx, "control", false)
	}
}

// syncDir makes renames last.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // which has no such thing
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
