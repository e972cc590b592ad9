package check

// Scanning of parts by clamd, all in one session (IDSESSION). Each part waits
// for the answer to the one before: a session then never holds more than one
// of clamd's threads, and answers need no sorting.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"postern/filter/mail"
)

// scanParts scans each part by itself. An error means that not all were
// scanned.
func (s *clamd) scanParts(ctx context.Context, parts []*mail.Part) ([]mail.Finding, error) {
	var out []mail.Finding
	for len(parts) > 0 {
		n, findings, err := s.session(ctx, parts)
		out = append(out, findings...)
		if err != nil {
			return out, err
		}
		parts = parts[n:]
	}
	return out, nil
}

// session scans parts until clamd ends it, as it does after one that is too
// large for it. It returns how many are done, at least one.
func (s *clamd) session(ctx context.Context, parts []*mail.Part) (done int, out []mail.Finding, err error) {
	conn, release, err := s.dial(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer release()
	answers := bufio.NewReaderSize(conn, 4096)
	command := []byte("zIDSESSION\x00zINSTREAM\x00")
	for i, p := range parts {
		b := net.Buffers{command, binary.BigEndian.AppendUint32(nil, uint32(len(p.Data))), p.Data, make([]byte, 4)}
		command = []byte("zINSTREAM\x00")
		_, sendErr := b.WriteTo(conn)
		answer, err := answers.ReadSlice(0)
		if err != nil {
			return i, out, ioFailure("part "+p.Place, errors.Join(sendErr, err))
		}
		text, ok := bytes.CutPrefix(answer, []byte(strconv.Itoa(i+1)+": "))
		if !ok {
			return i, out, fail(FailedGarbage, "part %s: answer %q", p.Place, clip(answer))
		}
		findings, err := parseReply(text)
		for _, f := range findings {
			f.Part = p.Path()
			out = append(out, f)
		}
		if err != nil {
			return i, out, fmt.Errorf("part %s: %w", p.Place, err)
		}
		if sendErr != nil || slices.ContainsFunc(findings, func(f mail.Finding) bool { return f.Minor == mail.OverLimits && f.Name == "" }) {
			return i + 1, out, nil
		}
	}
	_, _ = conn.Write([]byte("zEND\x00"))
	return len(parts), out, nil
}

// withParts joins what was found in parts and in the whole message: a virus
// that was found in both is told once, with its place.
func withParts(parts, whole []mail.Finding) []mail.Finding {
	out := parts
	for _, f := range whole {
		if !slices.ContainsFunc(parts, func(p mail.Finding) bool { return p.Category == f.Category && p.Minor == f.Minor && p.Name == f.Name }) {
			out = append(out, f)
		}
	}
	return out
}
