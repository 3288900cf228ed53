package cell

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// disk is a map that is kept over restarts, with the one before it. In its file a line
// goes before the encoding that names the replica it was written by:
//
//	replica "cell-3-b"
//
// A file without that line, put there by hand, is a map like any other, but says of no
// replica that it may write.
type disk struct {
	path     string
	replica  string
	maxBytes int
}

const (
	previous  = ".1"
	ownerLine = "replica "
)

// load returns the map of path or path.1, and whether this replica wrote it.
func (d *disk) load(name string) (t *table, own bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }() // it was only read
	const most = len(ownerLine) + 6*256 + 3
	b, err := io.ReadAll(io.LimitReader(f, int64(d.maxBytes)+int64(most)+1))
	if err != nil {
		return nil, false, err
	}
	owner := ""
	if rest, ok := bytes.CutPrefix(b, []byte(ownerLine)); ok {
		line, body, _ := bytes.Cut(rest, []byte("\n"))
		if owner, err = strconv.Unquote(string(line)); err != nil {
			return nil, false, fmt.Errorf("%w: its first line is %.100q", ErrInvalid, line)
		}
		b = body
	}
	t, err = readTable(b, d.maxBytes)
	return t, owner == d.replica, err
}

func readTable(b []byte, maxBytes int) (*table, error) {
	body, sum, err := openBounded(b, maxBytes)
	if err != nil {
		return nil, err
	}
	s, err := decode(body)
	if err != nil {
		return nil, err
	}
	return newTable(s, sum), nil
}

func openBounded(b []byte, maxBytes int) (body []byte, sum [sha256.Size]byte, err error) {
	if len(b) > maxBytes {
		return nil, sum, fmt.Errorf("%w: more than %d bytes", ErrInvalid, maxBytes)
	}
	return open(b)
}

// save puts the map of an encoding in the place of the one on the disk, unless that is
// later, as it is when another process has the same path. Whenever the machine stops, there
// is a whole map at path or path.1.
func (d *disk) save(encoded []byte, version uint64) error {
	if t, _, err := d.load(d.path); err == nil && t.snapshot.Version > version {
		return fmt.Errorf("cell: %s has version %d, after %d: does another process write it?",
			d.path, t.snapshot.Version, version)
	}
	temporary, err := d.write(encoded)
	if err != nil {
		return err
	}
	if err := os.Rename(d.path, d.path+previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, d.path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return syncDir(filepath.Dir(d.path))
}

// write writes a file of its own, so that two processes do not write the same one.
func (d *disk) write(encoded []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(d.path), filepath.Base(d.path)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if d.replica != "" {
		if _, err := fmt.Fprintf(f, "%s%q\n", ownerLine, d.replica); err != nil {
			return "", err
		}
	}
	if _, err := f.Write(encoded); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// syncDir makes renames last. Without it, a file that has been written is there after a
// loss of power, under the name of its beginning.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // which has no such thing
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sweep removes what processes that were killed while they wrote have left. What is young
// may be that of another process.
func (d *disk) sweep() {
	dir, base := filepath.Dir(d.path), filepath.Base(d.path)
	files, _ := os.ReadDir(dir) // without them there is nothing to remove
	for _, f := range files {
		rest, ok := strings.CutPrefix(f.Name(), base+".")
		if !ok || !strings.HasSuffix(rest, ".tmp") {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(dir, f.Name())) // the next start tries again
		}
	}
}
