package listen

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"postern/filter/mail"
)

// xforwardNames is what the EHLO reply announces. LOGIN and others that
// Postfix knows for XCLIENT are not asked for.
const xforwardNames = "NAME ADDR PORT PROTO HELO IDENT SOURCE"

// maxXforward bounds one value, see Postfix' XFORWARD_README.
const maxXforward = 255

// xforward returns c with the attributes of one XFORWARD command. An attribute
// that is not named keeps its value: Postfix spreads them over several commands.
// One whose value makes no sense, or is too long, is unknown, and named in lost:
// a stranger chooses some of them, and must not take away the others. wrong is
// for a command that is none, which changes nothing.
func xforward(c mail.Client, arg string) (changed mail.Client, lost []string, wrong *refusal) {
	attrs := strings.Fields(arg)
	if len(attrs) == 0 {
		return c, nil, noAttribute
	}
	changed = c
	for _, attr := range attrs {
		name, value, ok := strings.Cut(attr, "=")
		if !ok {
			return c, nil, badAttribute
		}
		name = strings.ToUpper(name)
		if strings.EqualFold(value, "[UNAVAILABLE]") || strings.EqualFold(value, "[TEMPUNAVAIL]") {
			value = ""
		}
		if !slices.Contains(strings.Fields(xforwardNames), name) {
			return c, nil, badAttribute
		}
		value = xtext(value)
		if len(value) > maxXforward || !setXforward(&changed, name, value) {
			setXforward(&changed, name, "")
			lost = append(lost, cut(attr))
		}
	}
	return changed, lost, nil
}

// setXforward sets one attribute; the empty value means unknown.
func setXforward(c *mail.Client, name, value string) bool {
	switch name {
	case "NAME":
		c.Name = value
	case "HELO":
		c.Helo = value
	case "IDENT":
		c.Ident = value
	case "ADDR":
		c.Addr = netip.Addr{}
		if value == "" {
			return true
		}
		if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
			value = value[5:]
		}
		addr, err := netip.ParseAddr(value)
		if err != nil || addr.Zone() != "" {
			return false
		}
		c.Addr = addr.Unmap()
	case "PORT":
		c.Port = 0
		if value == "" {
			return true
		}
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return false
		}
		c.Port = uint16(port)
	case "PROTO":
		// SMTP and ESMTP; a proxy in between may say ESMTPS and the like
		if len(value) > 32 || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			return false
		}
		c.Proto = value
	case "SOURCE":
		value = strings.ToUpper(value)
		if value != "" && value != "LOCAL" && value != "REMOTE" {
			return false
		}
		c.Source = value
	default:
		return false
	}
	return true
}

// xtext decodes RFC 3461 xtext. What is no xtext stays as it is: Postfix
// before 2.3 sent the values as they were, and a plus sign is no reason to
// forget who the client is. Characters that are not printable become "?".
func xtext(s string) string { return printable(mail.Xtext(s)) }

// printable makes a "?" of every character that is not printable.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
