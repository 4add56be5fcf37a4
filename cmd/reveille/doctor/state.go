package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"reveille/sip/location"
)

// state looks whether state_dir can be written, and whether another process
// has the database. It writes a file there only to remove it at once.
func (e *examination) state(context.Context) []Finding {
	name := "state_dir " + e.StateDir
	if e.StateDir == "" {
		return []Finding{warn("state_dir", `it is "": devices and their push tokens are forgotten at each restart`)}
	}
	dir := e.StateDir
	info, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir { // the bridge makes what is missing
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	switch {
	case err != nil:
		return []Finding{fail(name, "%v; choose a directory that user %s may write", err, userName())}
	case !info.IsDir():
		return []Finding{fail(name, "%s is no directory; choose another name, or remove it", dir)}
	case unix.Access(dir, unix.W_OK|unix.X_OK) != nil:
		return []Finding{fail(name, "user %s may not write to %s: chown %s %s, or run this as the bridge's user", userName(), dir, userName(), dir)}
	}
	if err := writable(dir); err != nil {
		return []Finding{fail(name, "%s cannot be written: %v; is the disk full, or mounted read-only?", dir, err)}
	}
	locked, by, err := locked(filepath.Join(e.StateDir, location.FileName))
	switch {
	case err != nil:
		return []Finding{fail(name, "%v; run this as the bridge's user, or: chown -R %s %s", err, userName(), e.StateDir)}
	case locked && e.running != nil:
		return []Finding{good(name, "in use by the running bridge")}
	case locked:
		return []Finding{fail(name, "the database is in use by %s; stop that, or choose another directory: two bridges cannot share one", by)}
	case dir != e.StateDir:
		return []Finding{good(name, "it will be made; user %s may write to %s", userName(), dir)}
	}
	return []Finding{good(name, "user %s may write to it", userName())}
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".reveille-doctor-*")
	if err != nil {
		return errors.Unwrap(err)
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// locked tries the lock of the database (flock(2), as bbolt takes it), and
// lets go at once.
func locked(file string) (locked bool, by string, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, "", nil
	} else if err != nil {
		return false, "", fmt.Errorf("the database cannot be opened: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		return false, "", syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	} else if !errors.Is(err, syscall.EWOULDBLOCK) {
		return false, "", nil // a file system without locks
	}
	path, err := filepath.EvalSymlinks(file)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if by = holder(path); err != nil || by == "" {
		by = "another process (root sees which: fuser -v " + file + ")"
	}
	return true, by, nil
}
