package check

// How old what virus scanners know is. A scanner that no longer gets news finds
// less with every day, and says that all is well.

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"postern/filter/mail"
)

// Signatures is what one server of a virus scanner knows.
type Signatures struct {
	Server  string
	Version string    // of program and signatures, foreign text; empty: unknown
	Date    time.Time // of the signatures; zero: unknown
}

// Dated is implemented by checks that can say how old their signatures are. An
// error means that some server does not answer; one that does not tell is
// unknown, which is no error.
type Dated interface {
	Signatures(ctx context.Context) ([]Signatures, error)
}

// Signatures asks all servers, those that stand in for others too.
func (c *clamAV) Signatures(ctx context.Context) ([]Signatures, error) {
	var out []Signatures
	var failed failures
	for _, s := range append(append([]*clamd(nil), c.servers...), c.backup...) {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		reply, err := s.dialogue(ctx, nil, func(conn net.Conn, _ *mail.Message) error {
			_, err := conn.Write([]byte("zVERSION\x00"))
			return err
		})
		cancel()
		if err != nil {
			failed = append(failed, s.wrap(err))
			continue
		}
		version, date, err := parseVersion(reply)
		if err != nil {
			failed = append(failed, s.wrap(err))
			continue
		}
		out = append(out, Signatures{Server: s.String(), Version: version, Date: date})
	}
	if len(failed) > 0 {
		return out, failed
	}
	return out, nil
}

// ClamAV 1.4.6/27812/Mon Nov 23 09:00:00 2026, the numbers missing where there
// is no daily database
var clamVersion = regexp.MustCompile(`^(ClamAV [^/\x00]{1,100}(?:/\d{1,10})?)(?:/([^/\x00]{1,100}))?$`)

// parseVersion reads the answer to VERSION. A clamd that may not answer it (1.5
// and later can be told so) is unknown.
func parseVersion(reply []byte) (version string, date time.Time, err error) {
	text, whole := strings.CutSuffix(string(reply), "\x00")
	if !whole {
		return "", time.Time{}, fail(FailedCut, "incomplete answer %q", clip(reply))
	}
	if strings.HasPrefix(text, "UNKNOWN COMMAND") || strings.HasPrefix(text, "COMMAND UNAVAILABLE") {
		return "", time.Time{}, nil
	}
	m := clamVersion.FindStringSubmatch(text)
	if m == nil {
		return "", time.Time{}, fail(FailedGarbage, "answer %q", clip(reply))
	}
	if m[2] != "" {
		if date, err = time.ParseInLocation(time.ANSIC, m[2], time.Local); err != nil {
			return m[1], time.Time{}, fmt.Errorf("date of the signatures: %w", err)
		}
	}
	return m[1], date, nil
}
