package check

// The client of virus scanners that speak ICAP (RFC 3507): the message goes to
// them as the body of a response (RESPMOD).

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/filter/mail"
)

func init() {
	register("icap", func() Options {
		return &ICAPOptions{URL: []string{"icap://127.0.0.1:1344/avscan"}, Timeout: time.Minute, MaxSize: 5 << 20}
	}, mail.Infected)
}

// ICAPOptions are the options of the check "icap". Looks for viruses by a
// scanner that speaks ICAP, such as those of c-icap, Kaspersky, Trend Micro or
// Sophos. What else it would do with the message is UNCHECKED.
type ICAPOptions struct {
	// Services: icap://host:port/service. When one fails the next is asked.
	URL []string `yaml:"url"`
	// Longest time for the answer of one server.
	Timeout time.Duration `yaml:"timeout"`
	// Messages and parts that are larger are not given to the scanner, and so
	// UNCHECKED, over limits. It must not be above what the scanner takes: many
	// let larger ones pass unscanned and do not say so (virus_scan.MaxObjectSize
	// of c-icap is 5M).
	MaxSize mail.Size `yaml:"max_size"`
}

// Validate says what is wrong with the options.
func (o *ICAPOptions) Validate() error {
	if len(o.URL) == 0 {
		return errors.New("url: want icap://host:port/service")
	}
	for _, u := range o.URL {
		if _, err := newICAP(u); err != nil {
			return fmt.Errorf("url: %w", err)
		}
	}
	if o.MaxSize <= 0 {
		return errors.New("max_size: must be more than 0")
	}
	return validTimeout(o.Timeout)
}

// New returns the check.
func (o *ICAPOptions) New() (Check, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &icap{timeout: o.Timeout, maxSize: int64(o.MaxSize)}
	for _, u := range o.URL {
		s, err := newICAP(u)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

type icap struct {
	servers []*icapServer
	timeout time.Duration
	maxSize int64
}

// icapServer is one service.
type icapServer struct {
	Server
	url string
}

func newICAP(s string) (*icapServer, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "icap" || u.User != nil || u.Fragment != "" || len(u.Path) < 2 || !visible(s) {
		return nil, fmt.Errorf("want icap://host:port/service, not %q", s)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "1344")
	}
	_, address, err := splitAddress("tcp:" + host)
	if err != nil {
		return nil, fmt.Errorf("want icap://host:port/service, not %q", s)
	}
	return &icapServer{Server: Server{network: "tcp", address: address}, url: s}, nil
}

func (s *icapServer) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("icap %v: %w", &s.Server, err)
}

// Scanner says that this is a virus scanner.
func (*icap) Scanner() bool { return true }

// Servers returns them as configured.
func (c *icap) Servers() []*Server { return allServers(c.servers) }

// Check has one of the servers scan the parts and the message.
func (c *icap) Check(ctx context.Context, in *Input) (Answer, error) {
	parts, missing := handed(in.Parts)
	return askInTurn(ctx, c.timeout, inOrder(c.servers), func(ctx context.Context, s *icapServer) (Answer, error) {
		findings, err := s.scan(ctx, in.Tx.Message, parts, c.maxSize)
		if missing != "" && (err == nil || len(findings) > 0) {
			findings = append(findings, mail.Finding{Category: mail.Unchecked, Minor: mail.OverLimits, Check: "icap", Detail: missing, Rcpt: mail.AllRcpts})
		}
		return Answer{Findings: findings}, err
	})
}

// scan scans each part and the message as it is, if they are not larger than
// most.
func (s *icapServer) scan(ctx context.Context, m *mail.Message, parts []*mail.Part, most int64) ([]mail.Finding, error) {
	var inParts []mail.Finding
	tooLarge := func(place string) mail.Finding {
		return mail.Finding{Category: mail.Unchecked, Minor: mail.OverLimits, Check: "icap", Part: place, Detail: fmt.Sprintf("larger than max_size %v", mail.Size(most)), Rcpt: mail.AllRcpts}
	}
	for _, p := range parts {
		if int64(len(p.Data)) > most {
			inParts = append(inParts, tooLarge(p.Path()))
			continue
		}
		found, err := s.object(ctx, "application/octet-stream", p.Data)
		for _, f := range found {
			f.Part = p.Path()
			inParts = append(inParts, f)
		}
		if err != nil {
			return inParts, err
		}
	}
	if m.Size() > most {
		return withParts(inParts, []mail.Finding{tooLarge("")}), nil
	}
	whole, err := s.object(ctx, "message/rfc822", m.Bytes())
	return withParts(inParts, whole), err
}

// maxICAPHead bounds all of an answer but the object that may come back.
const maxICAPHead = 64 << 10

// object has one object scanned, on a connection of its own.
func (s *icapServer) object(ctx context.Context, media string, data []byte) ([]mail.Finding, error) {
	conn, release, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	sendErr := s.send(conn, media, data)
	limited := &io.LimitedReader{R: conn, N: 2*int64(len(data)) + maxICAPHead}
	whole := limited.N
	found, err := readICAP(bufio.NewReader(limited), data)
	switch _, ours := errors.AsType[*Failure](err); {
	case err == nil, ours:
		return found, err
	case limited.N <= 0:
		return found, fail(FailedTooLong, "the answer is too long")
	case sendErr != nil:
		return found, ioFailure("sending", sendErr)
	case isTimeout(err):
		return found, ioFailure("waiting for the answer", err)
	case limited.N == whole:
		return found, fail(FailedEmpty, "closed without an answer")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return found, fail(FailedCut, "the answer ends in its middle")
	}
	return found, fail(FailedGarbage, "the answer: %w", err)
}

func (s *icapServer) send(conn net.Conn, media string, data []byte) error {
	const asked = "GET http://postern.invalid/message HTTP/1.1\r\nHost: postern.invalid\r\n\r\n"
	answered := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", media, len(data))
	chunk, end := fmt.Sprintf("%x\r\n", len(data)), "\r\n0\r\n\r\n"
	if len(data) == 0 {
		chunk, end = "", "0\r\n\r\n"
	}
	head := fmt.Sprintf("RESPMOD %s ICAP/1.0\r\nHost: %s\r\nUser-Agent: Postern\r\nConnection: close\r\nAllow: 204\r\nEncapsulated: req-hdr=0, res-hdr=%d, res-body=%d\r\n\r\n",
		s.url, s.address, len(asked), len(asked)+len(answered))
	b := net.Buffers{[]byte(head + asked + answered + chunk), data, []byte(end)}
	_, err := b.WriteTo(conn)
	return err
}

// noSignatures is in the tag of c-icap's virus_scan when none of its engines was
// there at its start: the digest (MD5, base64) of no signatures. It then says of
// everything that it need not be changed.
const noSignatures = "-1B2M2Y8AsgTpgAmY7PhCfg"

var icapStatus = regexp.MustCompile(`^ICAP/1\.\d (\d{3})(?: |$)`)

// readICAP reads a whole answer. It is clean if the scanner needs no change
// (204), or sends back what it was sent, and names nothing that it found.
func readICAP(r *bufio.Reader, sent []byte) ([]mail.Finding, error) {
	text := textproto.NewReader(r)
	line, err := text.ReadLine()
	if err != nil {
		return nil, err
	}
	m := icapStatus.FindStringSubmatch(line)
	if m == nil {
		return nil, fail(FailedGarbage, "answer %q", clip([]byte(line)))
	}
	h, err := text.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	findings := infections(http.Header(h))
	switch {
	case strings.Contains(h.Get("ISTag"), noSignatures):
		return findings, fail(FailedSkipped, "c-icap has no scanner behind it, and lets all pass")
	case len(findings) > 0:
		return findings, nil // what it would put in its place is of no use
	case m[1] == "204":
		return nil, nil
	case m[1] != "200":
		return nil, fail(FailedStatus, "answer %q", clip([]byte(line)))
	}
	same, err := echoed(r, h.Get("Encapsulated"), sent)
	if err == nil && !same {
		err = fail(FailedStatus, "it would change the message, and does not say what it found")
	}
	return nil, err
}

// echoed reads the encapsulated response and reports whether it is what was
// sent.
func echoed(r *bufio.Reader, encapsulated string, sent []byte) (bool, error) {
	sections := map[string]int{}
	last, before := "", 0
	for item := range strings.SplitSeq(encapsulated, ",") {
		name, at, _ := strings.Cut(strings.TrimSpace(item), "=")
		n, err := strconv.ParseUint(at, 10, 20)
		if err != nil || int(n) < before || n > maxICAPHead {
			return false, fail(FailedGarbage, "Encapsulated: %q", clip([]byte(encapsulated)))
		}
		if last != "" {
			sections[last] = int(n) - before
		}
		last, before = strings.ToLower(name), int(n)
	}
	if last != "res-body" {
		return false, fail(FailedGarbage, "no body in the answer: %q", clip([]byte(encapsulated)))
	}
	head := make([]byte, before)
	if _, err := io.ReadFull(r, head); err != nil {
		return false, err
	}
	from := before - sections["res-hdr"]
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head[from:])), nil)
	if err != nil {
		return false, fail(FailedGarbage, "the response in the answer: %w", err)
	}
	answer.Body.Close()
	body, err := io.ReadAll(httputil.NewChunkedReader(r))
	if err != nil {
		return false, err
	}
	return answer.StatusCode == http.StatusOK && bytes.Equal(body, sent), nil
}

var threat = regexp.MustCompile(`(?i)(?:^|;)\s*Threat=([^;]+)`)

// infections are what the scanner says that it found, in one of the fields that
// scanners have for it.
func infections(h http.Header) []mail.Finding {
	var names []string
	for _, v := range h["X-Infection-Found"] {
		// Type=0; Resolution=2; Threat=Eicar-Test-Signature;
		if m := threat.FindStringSubmatch(v); m != nil {
			names = append(names, strings.TrimSpace(m[1]))
		} else {
			names = append(names, strings.TrimSpace(v))
		}
	}
	if len(names) == 0 {
		for _, key := range []string{"X-Virus-Id", "X-Virus-Name"} {
			for _, v := range h[key] {
				if v = strings.TrimSpace(v); !strings.EqualFold(v, "no threats") && !strings.EqualFold(v, "none") {
					names = append(names, v)
				}
			}
		}
	}
	if v := h.Get("X-Violations-Found"); len(names) == 0 && v != "" && strings.TrimSpace(v) != "0" {
		// the number, and for each a file, a name, an id and what was done, in
		// lines that are folded
		if words := strings.Fields(v); len(words) > 2 {
			names = append(names, strings.Join(words[2:], " "))
		} else {
			names = append(names, v)
		}
	}
	var out []mail.Finding
	for _, name := range names {
		if name == "" {
			name = "unnamed"
		}
		out = append(out, mail.Finding{Category: mail.Infected, Check: "icap", Name: string(clip([]byte(name))), Rcpt: mail.AllRcpts})
	}
	return out
}
