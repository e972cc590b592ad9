package ask

// What the user of the daemon may do, asked of the system itself: who runs a
// check is most often root, who may do everything.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"postern/policy"
)

// The kinds of access, as access(2) has them.
const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// need is one thing that the daemon must be able to use.
type need struct {
	place, what, path string
	access            uintptr
}

// NotAccessible says what of all that the configuration names a user cannot
// use: files, keys, sockets, folders. What does not exist is left to others.
// Only root can ask about another user.
func NotAccessible(cfg *policy.Config, name string) ([]Remark, error) {
	uid, groups, err := userIDs(name)
	if err != nil {
		return nil, err
	}
	var out []Remark
	err = as(uid, groups, func() error {
		for _, n := range needs(cfg) {
			err := mayAccess(n.path, n.access)
			switch {
			case err == nil, errors.Is(err, fs.ErrNotExist):
			case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
				out = append(out, Remark{n.place, fmt.Sprintf("%s: user %s cannot %s %s: %v", n.what, name, verb(n), n.path, err), closed(n.path, name)})
			default:
				return fmt.Errorf("asking for access to %s: %w", n.path, err)
			}
		}
		return nil
	})
	return out, err
}

func verb(n need) string {
	switch {
	case n.access&mayRead != 0:
		return "read"
	case n.access&mayEnter != 0:
		return "write into"
	case strings.HasPrefix(n.what, "engine"):
		return "connect to"
	}
	return "write"
}

// closed names the folder on the way that keeps the user out, if it is one.
func closed(path, name string) string {
	var way []string
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		way = append(way, dir)
	}
	for i := len(way) - 1; i >= 0; i-- {
		if err := mayAccess(way[i], mayEnter); errors.Is(err, fs.ErrPermission) {
			return "the folder " + way[i] + " is closed to that user"
		}
	}
	return "give it to that user, or to a group that " + name + " is in"
}

// needs lists what the daemon uses.
func needs(cfg *policy.Config) []need {
	var out []need
	for _, f := range cfg.Files() {
		out = append(out, need{f, "configuration", f, mayRead})
	}
	for _, k := range cfg.DKIMKeys {
		out = append(out, need{k.Origin.String(), "DKIM key for " + strings.TrimPrefix(k.Domain, "."), k.Key, mayRead})
	}
	if path, ok := strings.CutPrefix(cfg.Lookups.SQL.DSN, "file:"); ok && cfg.Lookups.SQL.Type != policy.NoSQL {
		out = append(out, need{cfg.Origin("lookups.sql.dsn").String(), "lookups.sql.dsn", path, mayRead})
	}
	for _, t := range cfg.TemplateDirs() {
		if t.Dir != "" {
			out = append(out, need{t.Origin.String(), "templates", t.Dir, mayRead | mayEnter})
		}
	}
	for _, s := range engineSockets(cfg) {
		out = append(out, need{cfg.Origin("engines." + s.engine).String(), "engine " + s.engine, s.path, mayWrite})
	}
	for _, l := range cfg.Listeners {
		if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			out = append(out, need{l.Origin.String(), "listener " + l.Address, filepath.Dir(path), mayWrite | mayEnter})
		}
		for _, dir := range l.Folders {
			out = append(out, need{l.Origin.String(), "listener " + l.Address, dir, mayRead | mayEnter})
		}
	}
	for _, x := range []struct{ key, dir string }{{"quarantine", cfg.Quarantine.Dir}, {"spool", cfg.Spool.Dir}, {"state", cfg.State.Dir}} {
		if x.dir == "" {
			continue
		}
		if _, err := os.Stat(x.dir); errors.Is(err, fs.ErrNotExist) && x.key == "state" {
			x.dir = filepath.Dir(x.dir) // the daemon makes it
		}
		out = append(out, need{cfg.Origin(x.key + ".dir").String(), x.key, x.dir, mayWrite | mayEnter})
	}
	if to := cfg.Log.To; filepath.IsAbs(to) {
		n := need{cfg.Origin("log.to").String(), "log", to, mayWrite}
		if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
			n.path, n.access = filepath.Dir(to), mayWrite|mayEnter
		}
		out = append(out, n)
	}
	return out
}

// userIDs finds a user and all his groups, his own first.
func userIDs(name string) (uid int, groups []int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, nil, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return 0, nil, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, id := range append([]string{u.Gid}, ids...) {
		n, err := strconv.Atoi(id)
		if err != nil {
			return 0, nil, err
		}
		groups = append(groups, n)
	}
	return uid, groups, nil
}

// as runs f with the access to files that a user has. It does so on a thread of
// its own, which ends with it: the rest of the program stays who it is.
func as(uid int, groups []int, f func() error) error {
	if uid == os.Geteuid() {
		return f()
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can ask what another user may do")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		done <- func() error {
			list := make([]uint32, len(groups))
			for i, g := range groups {
				list[i] = uint32(g)
			}
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])), 0); errno != 0 {
				return os.NewSyscallError("setgroups", errno)
			}
			// these two say who it was before, not whether they did it
			const nobodyNew = ^uintptr(0)
			syscall.RawSyscall(syscall.SYS_SETFSGID, uintptr(groups[0]), 0, 0)
			syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0)
			gid, _, _ := syscall.RawSyscall(syscall.SYS_SETFSGID, nobodyNew, 0, 0)
			now, _, _ := syscall.RawSyscall(syscall.SYS_SETFSUID, nobodyNew, 0, 0)
			if int(now) != uid || int(gid) != groups[0] {
				return errors.New("this system does not let root look as another user")
			}
			return f()
		}()
	}()
	return <-done
}

// mayAccess asks whether the user of this thread may use a file so.
func mayAccess(path string, mode uintptr) error {
	// package syscall has neither; the numbers are the same everywhere
	const faccessat2, asEffective = 439, 0x200
	at := -100 // AT_FDCWD
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(faccessat2, uintptr(at), uintptr(unsafe.Pointer(name)), mode, asEffective, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
