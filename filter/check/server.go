package check

// What the clients of all engines share: asking one server after the other, and
// connections that end when ctx does.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// splitAddress reads unix:/path, /path or tcp:host:port.
func splitAddress(s string) (network, address string, err error) {
	if path := strings.TrimPrefix(s, "unix:"); strings.HasPrefix(path, "/") {
		return "unix", path, nil
	}
	if address, ok := strings.CutPrefix(s, "tcp:"); ok {
		host, port, err := net.SplitHostPort(address)
		if n, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil && n != 0 && host != "" {
			return "tcp", address, nil
		}
	}
	return "", "", fmt.Errorf("want unix:/path or tcp:host:port, not %q", s)
}

// validAddresses says what is wrong with the addresses of the option key.
func validAddresses(key string, addresses []string) error {
	if len(addresses) == 0 {
		return errors.New(key + ": want unix:/path or tcp:host:port")
	}
	for _, a := range addresses {
		if _, _, err := splitAddress(a); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func validTimeout(d time.Duration) error {
	if d <= 0 {
		return errors.New("timeout: must be more than 0")
	}
	return nil
}

// remote is a server of some engine.
type remote interface {
	self() *Server
	wrap(error) error
}

const dialTimeout = 5 * time.Second

// askInTurn asks the servers, those that failed last behind the others, until
// one gives an answer that counts. Each gets its share of the time that is left,
// so that one that hangs leaves some to the next. One that is down is not asked.
func askInTurn[S remote](ctx context.Context, timeout time.Duration, servers []S, ask func(context.Context, S) (Answer, error)) (Answer, error) {
	var failed failures
	for i, s := range servers {
		if err := s.self().enter(); err != nil {
			failed = append(failed, s.wrap(err))
			continue
		}
		share := timeout
		if end, ok := ctx.Deadline(); ok {
			share = min(timeout, time.Until(end)/time.Duration(len(servers)-i))
		}
		answer, err := askOne(ctx, share, s, ask)
		if err == nil || len(answer.Findings) > 0 || partial(err) {
			s.self().leave(nil)
			return answer, s.wrap(err)
		}
		failed = append(failed, s.wrap(err))
		if ctx.Err() != nil || FailureWord(err) == FailedTimeLimit {
			s.self().abandon()
			break // the next one would not get further with the same message
		}
		s.self().leave(err)
	}
	return Answer{}, failed
}

func askOne[S remote](ctx context.Context, timeout time.Duration, s S, ask func(context.Context, S) (Answer, error)) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer s.self().abandon() // also where ask panics
	return ask(ctx, s)
}

var errDial = errors.New("no connection")

// dial connects; what is read and written then fails when ctx ends. release
// must be called before the connection is of no more use.
func (s *Server) dial(ctx context.Context) (conn net.Conn, release func(), err error) {
	conn, err = (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, nil, &Failure{Word: FailedConnect, Err: fmt.Errorf("%w: %w", errDial, err)}
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			conn.Close()
			return nil, nil, ioFailure("setting the deadline", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() {
		stop()
		conn.Close()
	}, nil
}
