package ampdp

// The file in which the message of a request lies. Its path comes from the
// client: whoever may write to the socket must not have other files read, or
// removed, than those of the helper.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// within splits a path into one of the folders and the names below it.
func within(folders []string, path string) (folder string, names []string, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", nil, fmt.Errorf("%.200q is no plain absolute path", path)
	}
	for _, f := range folders {
		if f = filepath.Clean(f); filepath.IsAbs(f) {
			if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(f, "/")+"/"); ok && rest != "" {
				return f, strings.Split(rest, "/"), nil
			}
		}
	}
	return "", nil, fmt.Errorf("%.200q is in none of the allowed folders", path)
}

// OpenMail opens a regular file below one of the folders for reading. No link
// is followed below the folder, the file has no second name, and it belongs to
// whom it may.
func OpenMail(folders []string, path string) (f *os.File, size int64, err error) {
	folder, names, err := within(folders, path)
	if err != nil {
		return nil, 0, err
	}
	const dirFlags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	// links in the folder's own path are the postmaster's
	dir, err := openAt(-1, folder, dirFlags)
	if err != nil {
		return nil, 0, fmt.Errorf("opening %s: %w", folder, err)
	}
	var top, st syscall.Stat_t
	if err := syscall.Fstat(dir, &top); err != nil {
		syscall.Close(dir)
		return nil, 0, fmt.Errorf("looking at %s: %w", folder, err)
	}
	for i, name := range names {
		flags := dirFlags | syscall.O_NOFOLLOW
		if i == len(names)-1 {
			// not to wait for the writer of a pipe
			flags = syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC
		}
		next, err := openAt(dir, name, flags)
		syscall.Close(dir)
		if err != nil {
			return nil, 0, fmt.Errorf("opening %.200q in %.200q: %w", name, path, err)
		}
		dir = next
	}
	f = os.NewFile(uintptr(dir), path)
	if err := syscall.Fstat(dir, &st); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("looking at %.200q: %w", path, err)
	}
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		err = errors.New("no regular file")
	case st.Nlink != 1:
		err = errors.New("a file with several names")
	case !mayOwn(st.Uid, top.Uid):
		err = notOwned(st.Uid, folder, top.Uid)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%.200q: %w", path, err)
	}
	return f, st.Size, nil
}

// openAt opens a name in a folder, once more if a signal comes in between.
func openAt(dir int, name string, flags int) (fd int, err error) {
	for {
		if dir < 0 {
			fd, err = syscall.Open(name, flags, 0)
		} else {
			fd, err = syscall.Openat(dir, name, flags, 0)
		}
		if !errors.Is(err, syscall.EINTR) {
			return fd, err
		}
	}
}

// mayOwn says who may own what a client names: the owner of the folder, and who
// could read and remove everything there anyway.
func mayOwn(uid, folder uint32) bool {
	return uid == folder || uid == 0 || uid == uint32(os.Geteuid())
}

func notOwned(uid uint32, folder string, owner uint32) error {
	return fmt.Errorf("it belongs to user %d, not to user %d as %s does, to root or to us", uid, owner, folder)
}

// RemoveTempdir removes a folder that lies right in one of the allowed folders,
// with all that is in it.
func RemoveTempdir(folders []string, path string) error {
	folder, names, err := within(folders, path)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return fmt.Errorf("%.200q is not right below %s", path, folder)
	}
	top, err := os.Stat(folder)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Lstat(names[0])
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%.200q is no folder", path)
	}
	uid, owner := fi.Sys().(*syscall.Stat_t).Uid, top.Sys().(*syscall.Stat_t).Uid
	if !mayOwn(uid, owner) {
		return notOwned(uid, folder, owner)
	}
	return root.RemoveAll(names[0]) // of a link it would remove the link
}
