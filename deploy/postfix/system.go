package postfix

// What Postfix has: main.cf and master.cf, and the values that result.

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// System is a Postfix as its files describe it.
type System struct {
	Dir      string // configuration folder, for postconf -c; "" for its default
	Version  Version
	Hostname string            // myhostname where main.cf does not set it; empty: not known
	Main     map[string]string // main.cf, not expanded
	Services []*Service
	// Filters are the targets of FILTER actions by table ("hash:/etc/..."),
	// as far as somebody has looked into the tables.
	Filters map[string][]string
	// Stat looks at a file of this machine; nil where Postfix is elsewhere
	Stat func(path string) (File, bool)
	// OwnerGroups are the groups of the user mail_owner; nil: not known
	OwnerGroups []string
}

// File is what access to a file depends on.
type File struct {
	Mode        fs.FileMode
	User, Group string
}

// Service is one entry of master.cf.
type Service struct {
	Name, Type            string
	Private, Unprivileged string
	Chroot, Wakeup, Limit string // as written, "-" for the default
	Command               string
	Args                  []string // all that follows the command; -o and its word are two
}

func (v *Service) key() string { return v.Name + "/" + v.Type }

// Version is the version of Postfix; the zero value is an unknown one.
type Version struct{ Major, Minor, Patch int }

// ParseVersion reads mail_version: "3.7.11", "3.12-20260821".
func ParseVersion(s string) Version {
	m := regexp.MustCompile(`^(\d+)\.(\d+)(?:\.(\d+))?`).FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return Version{}
	}
	return Version{atoi(m[1]), atoi(m[2]), atoi(m[3])}
}

func (v Version) known() bool { return v != Version{} }

func (v Version) String() string {
	if !v.known() {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
}

// has reports whether a feature that came with these releases, the last of
// which began a line, is in v. A version that is not known has everything.
func (v Version) has(releases ...string) bool {
	if !v.known() {
		return true
	}
	for i, s := range releases {
		r := ParseVersion(s)
		sameLine := v.Major == r.Major && v.Minor == r.Minor
		later := v.Major > r.Major || v.Major == r.Major && v.Minor > r.Minor
		if sameLine && v.Patch >= r.Patch || later && i == len(releases)-1 {
			return true
		}
	}
	return false
}

// logicalLines joins continuation lines and drops comments, as postconf(5)
// says: a comment or an empty line does not end a logical line.
func logicalLines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n\f\v")
		trimmed := strings.TrimLeft(line, " \t\f\v")
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case trimmed != line && len(out) > 0:
			out[len(out)-1] += " " + trimmed
		default:
			out = append(out, trimmed)
		}
	}
	return out
}

// ParseMain reads a main.cf, or what postconf -n prints.
func ParseMain(text string) (map[string]string, error) {
	out := map[string]string{}
	for _, line := range logicalLines(text) {
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("main.cf: %.60q is no \"name = value\"", line)
		}
		out[name] = strings.TrimSpace(value)
	}
	return out, nil
}

// ParseMaster reads a master.cf, or what postconf -M prints.
func ParseMaster(text string) ([]*Service, error) {
	var out []*Service
	for _, line := range logicalLines(text) {
		f, err := words(line, " \t")
		if err != nil {
			return nil, fmt.Errorf("master.cf: %.60q: %w", line, err)
		}
		if len(f) < 8 {
			return nil, fmt.Errorf("master.cf: %.60q has %d fields, want 8 or more", line, len(f))
		}
		out = append(out, &Service{
			Name: f[0], Type: f[1], Private: f[2], Unprivileged: f[3], Chroot: f[4], Wakeup: f[5], Limit: f[6],
			Command: f[7], Args: splitOptions(f[8:]),
		})
	}
	return out, nil
}

// splitOptions writes -oname=value as the two words that the other entries
// have.
func splitOptions(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		rest, option := strings.CutPrefix(args[i], "-o")
		switch {
		case option && rest != "":
			out = append(out, "-o", rest)
		case option && i+1 < len(args):
			out = append(out, "-o", args[i+1])
			i++
		default:
			out = append(out, args[i])
		}
	}
	return out
}

// words splits at any of the separators outside of { }.
func words(s, separators string) ([]string, error) {
	var out []string
	depth, start := 0, -1
	for i := range len(s) {
		c := s[i]
		if depth == 0 && strings.IndexByte(separators, c) >= 0 {
			if start >= 0 {
				out = append(out, s[start:i])
				start = -1
			}
			continue
		}
		if start < 0 {
			start = i
		}
		switch c {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return nil, fmt.Errorf("} without {")
			}
			depth--
		}
	}
	if depth > 0 {
		return nil, fmt.Errorf("{ without }")
	}
	if start >= 0 {
		out = append(out, s[start:])
	}
	return out, nil
}

// list splits a value at commas and white space outside of { }. A value whose
// braces do not pair is one word.
func list(value string) []string {
	out, err := words(value, ", \t\r\n")
	if err != nil {
		return []string{value}
	}
	return out
}

// unbrace takes one pair of braces and the space within off.
func unbrace(s string) (string, bool) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return s, false
	}
	return strings.TrimSpace(s[1 : len(s)-1]), true
}

// options are the -o settings; of several with one name the last holds.
func (v *Service) options() map[string]string {
	out := map[string]string{}
	for i := 0; i < len(v.Args); i++ {
		if v.Args[i] != "-o" {
			if !strings.HasPrefix(v.Args[i], "-") {
				break
			}
			continue
		}
		if i++; i == len(v.Args) {
			break
		}
		arg, _ := unbrace(v.Args[i])
		if name, value, ok := strings.Cut(arg, "="); ok {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out
}

// option sets one -o setting that the service has.
func (v *Service) option(name, value string) {
	for i := 1; i < len(v.Args); i++ {
		if v.Args[i-1] == "-o" && strings.HasPrefix(v.Args[i], name+"=") {
			v.Args[i] = name + "=" + value
		}
	}
}

// line is the entry on one line, for postconf -M.
func (v *Service) line() string {
	f := []string{v.Name, v.Type, v.Private, v.Unprivileged, v.Chroot, v.Wakeup, v.Limit, v.Command}
	return strings.Join(append(f, v.Args...), " ")
}

// lines is the entry as master.cf has it.
func (v *Service) lines() string {
	return strings.ReplaceAll(v.line(), " -o ", "\n  -o ") + "\n"
}

// builtIn are the defaults of the parameters that are judged here. The
// transports smtp and lmtp have the same ones by other names.
var builtIn = map[string]string{
	"cleanup_service_name":                  "cleanup",
	"compatibility_level":                   "0",
	"default_destination_concurrency_limit": "20",
	"default_destination_recipient_limit":   "50",
	"default_process_limit":                 "100",
	"disable_mime_output_conversion":        "no",
	"inet_interfaces":                       "all",
	"lmtp_data_done_timeout":                "600s",
	"lmtp_line_length_limit":                "998",
	"lmtp_send_xforward_command":            "no",
	"local_header_rewrite_clients":          "permit_inet_interfaces",
	"max_use":                               "100",
	"message_size_limit":                    "10240000",
	"mail_owner":                            "postfix",
	"milter_connect_macros":                 "j {daemon_name} {daemon_addr} v _",
	"milter_content_timeout":                "300s",
	"milter_end_of_data_macros":             "i",
	"milter_helo_macros":                    "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
	"milter_mail_macros":                    "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
	"milter_protocol":                       "6",
	// the real one adds networks by mynetworks_style; loopback is always in
	"mynetworks":                           "127.0.0.0/8 [::1]/128",
	"queue_directory":                      defaultQueue,
	"smtp_data_done_timeout":               "600s",
	"smtp_line_length_limit":               "998",
	"smtp_send_xforward_command":           "no",
	"smtpd_forbid_bare_newline_exclusions": "$mynetworks",
	"smtpd_proxy_timeout":                  "100s",
	"smtpd_relay_restrictions":             "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
}

func (s *System) builtIn(name string) string {
	switch name {
	case "smtpd_forbid_bare_newline":
		if s.Version.known() && s.Version.has("3.9.0") {
			return "normalize"
		}
		return "no"
	case "milter_default_action":
		if s.Version.known() && s.Version.has("3.11.0") {
			return "shutdown"
		}
		return "tempfail"
	}
	return builtIn[name]
}

// value is what a parameter is for a service, or with nil for all that do not
// override it.
func (s *System) value(v *Service, name string) string {
	e := expansion{system: s, left: maxReferences}
	if v != nil {
		e.own = v.options()
		e.own["service_name"] = v.Name
	}
	return strings.Join(strings.Fields(e.expand(e.raw(name))), " ")
}

// overrides reports whether a service has a parameter of its own.
func (v *Service) overrides(name string) bool {
	_, ok := v.options()[name]
	return ok
}

// More than any real value needs, few enough for one that names itself.
const maxReferences = 200

// expansion replaces references to parameters in one value.
type expansion struct {
	system *System
	own    map[string]string // what the service overrides
	left   int               // references that may still be followed
}

func (e *expansion) raw(name string) string {
	if value, ok := e.own[name]; ok {
		return value
	}
	if value, ok := e.system.Main[name]; ok {
		return value
	}
	return e.system.builtIn(name)
}

// expand replaces $name, ${name}, $(name), ${name?text} and ${name:text}. A
// comparison ("${{...} ? ...}") is left as it is.
func (e *expansion) expand(value string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(value, '$')
		if i < 0 {
			return b.String() + value
		}
		b.WriteString(value[:i])
		value = value[i+1:]
		text, n := e.reference(value)
		if n == 0 {
			text = "$"
		}
		b.WriteString(text)
		value = value[n:]
	}
}

var parameterName = regexp.MustCompile(`^[A-Za-z0-9_]+`)

// reference returns what stands for the reference at the start of text, which
// follows a $, and how long it is; 0 if it is none.
func (e *expansion) reference(text string) (string, int) {
	if e.left <= 0 {
		return "", 0
	}
	if strings.HasPrefix(text, "$") {
		return "$", 1
	}
	if name := parameterName.FindString(text); name != "" {
		e.left--
		return e.expand(e.raw(name)), len(name)
	}
	inner, ok := enclosed(text)
	name := parameterName.FindString(inner)
	if !ok || name == "" {
		return "", 0
	}
	e.left--
	current, rest := e.expand(e.raw(name)), strings.TrimSpace(inner[len(name):])
	if rest == "" {
		return current, len(inner) + 2
	}
	if rest[0] != '?' && rest[0] != ':' {
		return "", 0
	}
	yes, no := alternatives(rest[1:])
	if (rest[0] == '?') != (current != "") {
		yes = no
	}
	return e.expand(yes), len(inner) + 2
}

// enclosed returns what the { } or ( ) at the start of text hold.
func enclosed(text string) (string, bool) {
	if text == "" || text[0] != '{' && text[0] != '(' {
		return "", false
	}
	shut := map[byte]byte{'{': '}', '(': ')'}[text[0]]
	level := 0
	for i := range len(text) {
		switch text[i] {
		case text[0]:
			level++
		case shut:
			if level--; level == 0 {
				return text[1:i], true
			}
		}
	}
	return "", false
}

// alternatives splits what follows the ? or : of a reference: "text", "{text}"
// or "{text} : {text}".
func alternatives(s string) (yes, no string) {
	s = strings.TrimSpace(s)
	if w, err := words(s, ": "); err == nil && len(w) == 2 {
		first, ok1 := unbrace(w[0])
		second, ok2 := unbrace(w[1])
		if ok1 && ok2 {
			return first, second
		}
	}
	yes, _ = unbrace(s)
	return yes, ""
}

// duration reads a time value of Postfix; without a unit it is seconds.
func duration(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	unit := time.Second
	switch s[len(s)-1] {
	case 's':
		s = s[:len(s)-1]
	case 'm':
		unit, s = time.Minute, s[:len(s)-1]
	case 'h':
		unit, s = time.Hour, s[:len(s)-1]
	case 'd':
		unit, s = 24*time.Hour, s[:len(s)-1]
	case 'w':
		unit, s = 7*24*time.Hour, s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return time.Duration(n) * unit, err == nil
}

// limit is the process limit of a service; 0 means none.
func (s *System) limit(v *Service) int {
	if v.Limit == "-" {
		return atoi(s.value(nil, "default_process_limit"))
	}
	return atoi(v.Limit)
}

// chrooted: "-" means yes only in the days before compatibility level 1.
func (s *System) chrooted(v *Service) bool {
	if v.Chroot == "-" {
		level := s.value(nil, "compatibility_level")
		return level == "" || level == "0"
	}
	return v.Chroot == "y"
}
