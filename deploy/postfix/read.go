package postfix

// Reading a Postfix that is installed, or its folder, or the output of its
// postconf.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Read asks postconf for what is in dir; "" is the folder that Postfix itself
// uses. Where there is no postconf, it reads main.cf and master.cf of dir.
func Read(ctx context.Context, dir string) (*System, error) {
	postconf, err := exec.LookPath("postconf")
	if err != nil {
		const usual = "/usr/sbin/postconf" // not in everybody's path
		if _, err := os.Stat(usual); err == nil {
			postconf = usual
		} else if dir == "" {
			return nil, errors.New("postconf is not installed here: name a folder with main.cf and master.cf, or files with what postconf has printed")
		} else {
			return ReadFiles(filepath.Join(dir, "main.cf"), filepath.Join(dir, "master.cf"))
		}
	}
	run := func(args ...string) (string, error) {
		if dir != "" {
			args = append([]string{"-c", dir}, args...)
		}
		cmd := exec.CommandContext(ctx, postconf, args...)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w: %.300s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(complaint.Bytes()))
		}
		return string(out), nil
	}
	mainText, err1 := run("-n")
	masterText, err2 := run("-M")
	version, err3 := run("-h", "mail_version")
	hostname, err4 := run("-h", "myhostname")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	s, err := parse(mainText, masterText)
	if err != nil {
		return nil, err
	}
	s.Hostname = strings.TrimSpace(hostname)
	s.Dir, s.Version, s.Stat = dir, ParseVersion(version), stat
	s.OwnerGroups = groupsOf(s.value(nil, "mail_owner"))
	return s, nil
}

// stat is System.Stat for this machine.
func stat(path string) (File, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return File{}, false
	}
	f := File{Mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.User, f.Group = strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
	}
	if u, err := user.LookupId(f.User); err == nil {
		f.User = u.Username
	}
	if g, err := user.LookupGroupId(f.Group); err == nil {
		f.Group = g.Name
	}
	return f, true
}

// groupsOf names the groups of a user; nil if that cannot be found out.
func groupsOf(name string) []string {
	u, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	out := []string{}
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			out = append(out, g.Name)
		}
	}
	return out
}

// ReadFiles reads a main.cf or what "postconf -n" has printed, and a master.cf
// or what "postconf -M" has printed. The version is known if mainFile also has
// what "postconf mail_version" prints.
func ReadFiles(mainFile, masterFile string) (*System, error) {
	mainText, err := os.ReadFile(mainFile)
	if err != nil {
		return nil, err
	}
	masterText, err := os.ReadFile(masterFile)
	if err != nil {
		return nil, err
	}
	return parse(string(mainText), string(masterText))
}

func parse(mainText, masterText string) (*System, error) {
	params, err := ParseMain(mainText)
	if err != nil {
		return nil, err
	}
	services, err := ParseMaster(masterText)
	if err != nil {
		return nil, err
	}
	s := &System{Main: params, Services: services, Version: ParseVersion(params["mail_version"]), Filters: map[string][]string{}}
	delete(s.Main, "mail_version")
	for name := range s.Main {
		s.readTables(s.value(nil, name))
	}
	for _, v := range services {
		for name := range v.options() {
			s.readTables(s.value(v, name))
		}
	}
	return s, nil
}

// Tables that are text, or that are made from a text of the same name.
var textTables = []string{"btree", "cdb", "cidr", "dbm", "hash", "lmdb", "pcre", "regexp", "texthash"}

// Larger tables are lists of addresses, not of a few actions.
const maxTable = 1 << 20

// readTables looks for FILTER in the tables that a value names. What cannot be
// read from here is passed over: it only makes the judgement less complete.
func (s *System) readTables(value string) {
	for _, table := range list(value) {
		kind, path, ok := strings.Cut(table, ":")
		if _, known := s.Filters[table]; known || !ok || !slices.Contains(textTables, kind) || !filepath.IsAbs(path) {
			continue
		}
		s.Filters[table] = nil
		info, err := os.Stat(path)
		if err != nil || info.Mode()&fs.ModeType != 0 || info.Size() > maxTable {
			continue
		}
		if text, err := os.ReadFile(path); err == nil {
			s.Filters[table] = FilterTargets(strings.Join(logicalLines(string(text)), "\n"))
		}
	}
}
