//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package control

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file, which it makes if need be and never removes: who waits for a file
// that is removed gets a lock that the next one does not see.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return func() { _ = f.Close() }, nil // which unlocks it, and it has nothing to lose
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = errLocked
	default:
		err = &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return nil, errors.Join(err, f.Close())
}
