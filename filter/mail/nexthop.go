package mail

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// NextHop is where a message goes: "smtp://host:port", "lmtp://host:port",
// "smtp:unix:/path" or "lmtp:unix:/path". It is comparable, so that it can
// name a pool of sessions.
type NextHop struct {
	LMTP    bool
	Network string // "tcp" or "unix"
	Address string // "host:port" or the path of the socket
}

// ParseNextHop reads the written form.
func ParseNextHop(s string) (NextHop, error) {
	var h NextHop
	proto, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && proto == "smtp":
	case ok && proto == "lmtp":
		h.LMTP = true
	default:
		return h, fmt.Errorf("next hop %q: want smtp://host:port, lmtp://host:port, smtp:unix:/path or lmtp:unix:/path", s)
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return h, fmt.Errorf("next hop %q: the path of a socket must be absolute", s)
		}
		h.Network, h.Address = "unix", path
		return h, nil
	}
	addr, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return h, fmt.Errorf("next hop %q: want %s://host:port or %s:unix:/path", s, proto, proto)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return h, fmt.Errorf("next hop %q: want host:port, IPv6 in brackets", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return h, fmt.Errorf("next hop %q: port %q is not a number from 1 to 65535", s, port)
	}
	h.Network, h.Address = "tcp", addr
	return h, nil
}

// Proto returns "smtp" or "lmtp".
func (h NextHop) Proto() string {
	if h.LMTP {
		return "lmtp"
	}
	return "smtp"
}

// String returns the form of Postfix and Amavis that stands in replies:
// "smtp:[127.0.0.1]:10025" or "lmtp:unix:/path".
func (h NextHop) String() string {
	if h.Network == "unix" {
		return h.Proto() + ":unix:" + h.Address
	}
	host, port, _ := net.SplitHostPort(h.Address)
	return h.Proto() + ":[" + host + "]:" + port
}
