package postfix

// Sockets of ours, and whether Postfix may connect to them.

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// checkSockets looks whether the processes of Postfix, which run as mail_owner,
// may connect. What is there on this machine says more than the configuration;
// where neither tells, nothing is said.
func (c *checker) checkSockets() {
	seen := map[*Listener]bool{}
	for i := range c.all {
		f := &c.all[i]
		l := f.listener
		if l == nil {
			l = f.outOfReach
		}
		if l == nil || seen[l] || c.taker(f.service) {
			continue
		}
		seen[l] = true
		socket, ok := strings.CutPrefix(l.Address, "unix:")
		if !ok {
			continue
		}
		if at := c.shutFolder(socket); at != "" {
			c.add(Finding{
				Rule: "socket-folder", Where: "postern.yaml", What: fmt.Sprintf("user %s does not get to %s: folder %s is shut to it", c.owner(), socket, at),
				Why: "Postfix cannot connect. Let the folder be one that its group may search, as with chgrp " + c.owner() + " and chmod g+x.",
			})
		}
		user, group, _ := strings.Cut(l.Owner, ":")
		file, is := File{l.Mode.Perm(), user, group}, "the listener"
		if l.Mode == 0 {
			file.Mode = 0o755
		}
		if c.system.Stat != nil {
			if there, ok := c.system.Stat(socket); ok {
				file, is = there, "it"
			}
		}
		if c.mayUse(file, 0o2) == no {
			c.add(Finding{
				Rule: "socket-access", Where: "postern.yaml", What: fmt.Sprintf("user %s may not write to the socket %s: %s has mode %04o, owner %s", c.owner(), socket, is, file.Mode.Perm(), file.who()),
				Why: fmt.Sprintf("Postfix cannot connect. Give the listener of Postern mode: \"0660\" and owner: \"%[1]s:%[1]s\".", c.owner()),
			})
		}
	}
}

// owner is the user as whom Postfix' processes run.
func (c *checker) owner() string { return c.system.value(nil, "mail_owner") }

func (f File) who() string {
	if f.User == "" && f.Group == "" {
		return "who starts Postern"
	}
	return f.User + ":" + f.Group
}

// answer is what can be told without being there.
type answer int

const (
	yes answer = iota
	no
	perhaps
)

// mayUse says whether Postfix may do that with a file: 2 is writing, 1 is
// searching a folder.
func (c *checker) mayUse(f File, bit fs.FileMode) answer {
	// the group of Postfix' user has its name, everywhere but where it is not
	groups := append([]string{c.owner()}, c.system.OwnerGroups...)
	switch {
	case f.Mode&bit != 0, f.User == c.owner() && f.Mode&(bit<<6) != 0, slices.Contains(groups, f.Group) && f.Mode&(bit<<3) != 0:
		return yes
	case f.Mode&(bit<<3) != 0 && (f.Group == "" || c.system.OwnerGroups == nil || numeric(f.Group)):
		return perhaps
	case f.Mode&(bit<<6) != 0 && numeric(f.User):
		return perhaps
	}
	return no
}

func numeric(name string) bool { return name != "" && strings.Trim(name, "0123456789") == "" }

// shutFolder is a folder above the socket through which Postfix may not go.
func (c *checker) shutFolder(socket string) string {
	if c.system.Stat == nil {
		return ""
	}
	for dir := path.Dir(socket); dir != "/" && dir != "."; dir = path.Dir(dir) {
		// its own folders are Postfix' business, and its chroot
		if dir == path.Clean(c.system.value(nil, "queue_directory")) {
			return ""
		}
		if f, ok := c.system.Stat(dir); ok && c.mayUse(f, 0o1) == no {
			return dir
		}
	}
	return ""
}
