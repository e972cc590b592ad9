package ask

// What a running program takes from a new configuration, and what it does not.

import (
	"fmt"
	"slices"
	"strings"

	"postern/policy"
)

// TakenAtStart names what differs and is read only at the start: by the
// listeners, the log and the room for taking messages apart.
func TakenAtStart(start, cfg *policy.Config) []string {
	a, b := start.Limits, cfg.Limits
	store := func(q policy.Quarantine) policy.Quarantine {
		q.Digest, q.DigestTo = "", "" // looked at when it is due
		return q
	}
	var out []string
	for _, x := range []struct {
		key         string
		before, now any
	}{
		{"hostname", start.Hostname, cfg.Hostname},
		{"limits.message_size", a.MessageSize, b.MessageSize}, {"limits.recipients", a.Recipients, b.Recipients},
		{"limits.sessions", a.Sessions, b.Sessions}, {"limits.sessions_per_client", a.SessionsPerClient, b.SessionsPerClient},
		{"limits.idle", a.Idle, b.Idle}, {"limits.data_idle", a.DataIdle, b.DataIdle}, {"limits.deadline", a.Deadline, b.Deadline},
		{"limits.unpack.memory", a.Unpack.Memory, b.Unpack.Memory},
		{"state", start.State, cfg.State}, {"quarantine", store(start.Quarantine), store(cfg.Quarantine)}, {"spool", start.Spool, cfg.Spool}, {"bare_newline", start.BareNewline, cfg.BareNewline}, {"log", start.Log, cfg.Log},
	} {
		if x.before != x.now {
			out = append(out, x.key)
		}
	}
	for i := range min(len(start.Listeners), len(cfg.Listeners)) {
		if x, y := &start.Listeners[i], &cfg.Listeners[i]; x.Address == y.Address && len(otherOptions(x, y)) > 0 {
			out = append(out, strings.Join(otherOptions(x, y), " and ")+" of listener "+y.Address)
		}
	}
	return out
}

// otherOptions names the keys that a listener reads once, and that differ.
func otherOptions(a, b *policy.Listener) []string {
	var out []string
	for _, x := range []struct {
		key  string
		same bool
	}{
		{"split", a.Split == b.Split}, {"local_bank", a.LocalBank == b.LocalBank},
		{"folders", slices.Equal(a.Folders, b.Folders)}, {"allow_banks", slices.Equal(a.AllowBanks, b.AllowBanks)},
	} {
		if !x.same {
			out = append(out, x.key)
		}
	}
	return out
}

// OtherListeners reports whether the listeners are not those with which a
// program was started. It then refuses the whole of the new configuration.
func OtherListeners(start, cfg *policy.Config) bool {
	return !slices.Equal(places(start), places(cfg))
}

// places names the listeners with all that is read only at start.
func places(cfg *policy.Config) []string {
	var out []string
	for _, l := range cfg.Listeners {
		out = append(out, fmt.Sprintf("%s %s %o %s", l.Protocol, l.Address, l.Mode, l.Owner))
	}
	return out
}

// restarts says what of a change a reload does not bring.
func restarts(a, b *policy.Config) []Difference {
	var out []Difference
	if OtherListeners(a, b) {
		out = append(out, Difference{"the listeners are not the same: a running program refuses the new configuration at a reload, start it anew", nil})
	}
	if late := TakenAtStart(a, b); len(late) > 0 {
		out = append(out, Difference{"only a new start brings, no reload: " + strings.Join(late, ", "), nil})
	}
	return out
}
