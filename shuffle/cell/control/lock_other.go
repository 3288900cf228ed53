//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package control

import (
	"errors"
	"os"
)

// tryLock has no lock that ends with its process. Without one, two processes would both
// replace the same version, so there is no [File] here.
func tryLock(path string) (unlock func(), err error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}
