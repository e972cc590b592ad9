package policy

// What the program keeps, and the bounds of all it does.

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"postern/filter/mail"
)

// State is what is kept over a restart.
type State struct {
	// Folder; the daemon makes it, and must be able to write there. Below it are
	// quarantine, journal, ledger and the key by which mail in a loop is known.
	// Empty: that which systemd gives (StateDirectory=), else /var/lib/postern.
	Dir string `yaml:"dir"`
}

// Quarantine is the store of blocked mail.
type Quarantine struct {
	// Folder; empty: quarantine below state.dir.
	Dir string `yaml:"dir"`
	// How long a copy is kept, for example 30d.
	Keep Days `yaml:"keep"`
	// How large all copies together may be. Beyond it the oldest go, but none that
	// is younger than seven days: rather than lose what nobody could have seen yet,
	// mail that would have to be kept is answered 451.
	Size mail.Size `yaml:"size"`
	// How often a list of what was kept is mailed: daily or never.
	Digest Digest `yaml:"digest"`
	// Who gets it; empty: postmaster at domain.
	DigestTo mail.Address `yaml:"digest_to"`
}

// Days is a time of whole days or hours, written 30d or 12h.
type Days time.Duration

// UnmarshalText reads 30d, or what Go reads as a duration.
func (d *Days) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errors.New("want a number of days such as 30d")
		}
		*d = Days(n) * Days(24*time.Hour)
		return nil
	}
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return errors.New("want a number of days such as 30d")
	}
	*d = Days(v)
	return nil
}

// String returns the form that is read.
func (d Days) String() string {
	const day = Days(24 * time.Hour)
	if d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return time.Duration(d).String()
}

// MarshalText returns the form that is read.
func (d Days) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Digest is how often a list of what was kept is mailed.
type Digest string

// The words.
const (
	DigestDaily Digest = "daily"
	DigestNever Digest = "never"
)

// Spool keeps a message while it is in work.
type Spool struct {
	// Folder for temporary files; empty: that of the system.
	Dir string `yaml:"dir"`
	// Up to this size a message stays in memory.
	Memory mail.Size `yaml:"memory"`
}

// Limits bound one message and all sessions.
type Limits struct {
	// Size of a message; beyond it the answer is 552. It must not be below
	// message_size_limit of Postfix.
	MessageSize mail.Size `yaml:"message_size"`
	// Recipients of one message; to more the answer is 452, so that the feed
	// sends to them in another transaction.
	Recipients int `yaml:"recipients"`
	// Sessions at once; beyond it the answer is 421.
	Sessions int `yaml:"sessions"`
	// Sessions at once from one address of another machine; those from this
	// one count for sessions only.
	SessionsPerClient int `yaml:"sessions_per_client"`
	// Wait for the next command.
	Idle time.Duration `yaml:"idle"`
	// Wait for the next block of a message.
	DataIdle time.Duration `yaml:"data_idle"`
	// From the end of the message to our answer. It must be below
	// lmtp_data_done_timeout (and milter_content_timeout) of Postfix.
	Deadline time.Duration `yaml:"deadline"`
	// For all checks of a message together; below deadline, so that time is
	// left to hand the message on. Who answers for the message is found out
	// first, within a quarter of it and ten seconds.
	CheckDeadline time.Duration `yaml:"check_deadline"`
	// Received fields, beyond which a message is taken for a loop.
	Received int `yaml:"received"`
	// Non-delivery reports to one sender in an hour. Beyond it what he is not told of
	// is kept in the quarantine. 0: no limit.
	Reports int `yaml:"reports"`
	// Notices to one administrator or recipient in an hour. What is beyond them is
	// counted, and told in one mail when the hour is over. 0: no limit.
	Notices int `yaml:"notices"`
	// Bounds for taking a message apart. Beyond them it is UNCHECKED.
	Unpack UnpackLimits `yaml:"unpack"`
}

// UnpackLimits bound the work of taking one message apart.
type UnpackLimits struct {
	// Size of all that is decoded.
	Size mail.Size `yaml:"size"`
	// Decoded octets for each octet of the message.
	Ratio int `yaml:"ratio"`
	// MIME parts.
	Parts int `yaml:"parts"`
	// Nesting of MIME parts.
	Depth int `yaml:"depth"`
	// Members of archives.
	Entries int `yaml:"entries"`
	// Nesting of archives.
	Nesting int `yaml:"nesting"`
	// Time for one message.
	Time time.Duration `yaml:"time"`
	// Memory for all messages that are taken apart at a time. The costliest
	// takes 64MiB and three times its size; an ordinary one that much for less
	// than a millisecond. Who waits for it up to check_deadline gets 451. One
	// message at a time may have 128MiB more: large tables need it.
	Memory mail.Size `yaml:"memory"`
}

// Log says where the log goes.
type Log struct {
	// stderr, syslog or the path of a file. The file is opened again at SIGHUP,
	// for logrotate.
	To string `yaml:"to"`
	// Form of the lines. In syslog a long text is cut into lines as Amavis
	// cuts it; a record of json is one message, however long, for which its
	// reader must have room (rsyslog: maxMessageSize).
	Format LogFormat `yaml:"format"`
	// Least weight of what is logged.
	Level LogLevel `yaml:"level"`
	// Name of the program in syslog. Readers made for Amavis look for amavis.
	Ident string `yaml:"ident"`
}

// Split says when a client must send to a recipient in another transaction.
type Split string

// SplitRcpt splits by recipients with other needs.
const SplitRcpt Split = "rcpt"

// BareNewline is the treatment of bare line feeds.
type BareNewline string

// The treatments.
const (
	BareNewlineNormalize BareNewline = "normalize"
	BareNewlineReject    BareNewline = "reject"
)

// LogFormat is the form of log lines.
type LogFormat string

// The formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// LogLevel is the least weight of what is logged.
type LogLevel string

// The levels.
const (
	LogDebug   LogLevel = "debug"
	LogInfo    LogLevel = "info"
	LogWarning LogLevel = "warning"
	LogError   LogLevel = "error"
)
