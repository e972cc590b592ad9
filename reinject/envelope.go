package reinject

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
)

// sendable reports whether a can stand between angle brackets without ending
// them or the line: an address is written as it is, whatever else it holds,
// since the feeding MTA has accepted it. The feed lets nothing else in;
// addresses from elsewhere are not trusted to.
func sendable(a mail.Address) bool {
	quoted := false
	for i := 0; i < len(a); i++ {
		switch c := a[i]; {
		case c == '\r' || c == '\n' || c == 0:
			return false
		case c == '\\' && quoted:
			if i++; i == len(a) || a[i] == '\r' || a[i] == '\n' || a[i] == 0 {
				return false
			}
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '<' || c == '>'):
			return false
		}
	}
	return !quoted
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// notify returns the values of NOTIFY: known ones once, NEVER alone (RFC 3461
// section 4.1).
func notify(list []smtp.DSNNotify) []string {
	if slices.Contains(list, smtp.DSNNotifyNever) {
		return []string{string(smtp.DSNNotifyNever)}
	}
	var out []string
	for _, n := range []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed} {
		if slices.Contains(list, n) {
			out = append(out, string(n))
		}
	}
	return out
}

func wantsSuccess(list []smtp.DSNNotify) bool {
	return slices.Contains(notify(list), string(smtp.DSNNotifySuccess))
}

// xforward tells the next hop who the client was. Postfix forgets it after
// each message, so it is said before every MAIL. A refusal costs only a log
// entry there.
func (s *session) xforward(c mail.Client) error {
	s.step = "sending XFORWARD"
	announced, names := s.client.Extension("XFORWARD")
	if !announced {
		return nil
	}
	for _, line := range xforwardLines(c, strings.Fields(strings.ToUpper(names))) {
		rep, err := s.command(s.relay.opts.Timeouts.Command, line)
		if err != nil {
			return err
		}
		if rep.ok() {
			continue
		}
		if err := s.usable(rep); err != nil {
			return err
		}
		s.relay.log.Info("XFORWARD refused", "reply", rep.text())
	}
	return nil
}

// Limits of Postfix' XFORWARD_README.
const (
	maxXforwardLine  = 512
	maxXforwardValue = 255
)

// xforwardLines returns the commands for c with the attributes that the next
// hop knows, none for mail of our own.
func xforwardLines(c mail.Client, names []string) []string {
	if !c.Addr.IsValid() && c.Ident == "" {
		return nil
	}
	addr, port := "", ""
	if c.Addr.IsValid() {
		a := c.Addr.Unmap().WithZone("")
		addr = a.String()
		if a.Is6() {
			addr = "IPV6:" + addr
		}
	}
	if c.Port != 0 {
		port = strconv.Itoa(int(c.Port))
	}
	var lines []string
	for _, a := range []struct{ name, value string }{
		{"NAME", hostName(c.Name)}, {"ADDR", addr}, {"PORT", port}, {"PROTO", c.Proto},
		{"HELO", c.Helo}, {"IDENT", c.Ident}, {"SOURCE", c.Source},
	} {
		if !slices.Contains(names, a.name) {
			continue
		}
		value := xtext(a.value)
		if value == "" {
			// Postfix takes only LOCAL and REMOTE here
			if a.name == "SOURCE" {
				continue
			}
			value = "[UNAVAILABLE]"
		}
		attr := " " + a.name + "=" + value
		if n := len(lines) - 1; n >= 0 && len(lines[n])+len(attr) <= maxXforwardLine {
			lines[n] += attr
		} else {
			lines = append(lines, "XFORWARD"+attr)
		}
	}
	return lines
}

// hostName returns s if Postfix would take it for a host name. Any other would
// cost us the whole command.
func hostName(s string) string {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return ""
		}
	}
	if len(s) > maxXforwardValue {
		return ""
	}
	return s
}

// xtext encodes an attribute (RFC 3461 section 4), whole characters up to 255
// octets. What does not print becomes "?", as Postfix would have it.
func xtext(s string) string {
	var b strings.Builder
	for _, c := range s {
		enc := "?"
		switch {
		case c == '+' || c == '=' || c == ' ':
			enc = fmt.Sprintf("+%02X", c)
		case c > ' ' && c <= '~':
			enc = string(c)
		}
		if b.Len()+len(enc) > maxXforwardValue {
			break
		}
		b.WriteString(enc)
	}
	return b.String()
}
