package listen

import (
	"net/netip"
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

// xforward returns c with the attributes of one XFORWARD command, and the
// reply to it. An attribute that is not named keeps its value: Postfix spreads
// them over several commands. A command with a bad attribute changes nothing.
func xforward(c mail.Client, arg string) (mail.Client, mail.Reply) {
	attrs := strings.Fields(arg)
	if len(attrs) == 0 {
		return c, mail.NewReply(501, 5, 4, "Syntax: XFORWARD attribute=value...")
	}
	changed := c
	for _, attr := range attrs {
		name, value, ok := strings.Cut(attr, "=")
		if !ok {
			return c, mail.NewReply(501, 5, 4, "Bad XFORWARD attribute syntax")
		}
		name = strings.ToUpper(name)
		if strings.EqualFold(value, "[UNAVAILABLE]") || strings.EqualFold(value, "[TEMPUNAVAIL]") {
			value = ""
		}
		value = xtext(value)
		if len(value) > maxXforward || !setXforward(&changed, name, value) {
			return c, mail.NewReply(501, 5, 4, "Bad XFORWARD attribute %+.20q", name)
		}
	}
	return changed, mail.NewReply(250, 0, 0, "Ok")
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
func xtext(s string) string {
	if strings.IndexByte(s, '+') >= 0 {
		s = decodeXtext(s)
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return s
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return s
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String()
}
