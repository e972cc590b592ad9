package check

// The client of Rspamd: one HTTP request to /checkv2 on a connection of its
// own. What the answer means is in rspamdanswer.go.

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

func init() {
	register("rspamd", func() Options {
		return &RspamdOptions{
			URL: []string{"http://127.0.0.1:11333"}, Timeout: time.Minute, TimeLimit: 7900 * time.Millisecond,
			MaxSize: 50 << 20, Scale: 1,
			FailedSymbols: []string{
				"!*SPF*", "!ASN_FAIL", "!P0F_FAIL",
				"!RBL_*", "!*SPAMHAUS*", "!*URIBL*", "!SURBL*", "!DBL*", "!*DNSWL*", "!MAILSPIKE*", "!BLOCKLISTDE*", "!*EBL*", "!*EMAILBL*",
				"*_FAIL",
			},
		}
	}, mail.Spam, mail.Spammy)
}

// RspamdOptions are the options of the check "rspamd". Gives mail a score, by
// Rspamd; its actions are findings of their own, whatever the score. Set
// soft_reject_on_timeout in Rspamd: without it Rspamd answers with half of a
// result when its time is up, and does not say so.
type RspamdOptions struct {
	// Workers that scan (not controllers): http://host:port, https://host:port
	// or unix:/path. When one fails the next is asked.
	URL []string `yaml:"url"`
	// Longest time for the answer of one worker.
	Timeout time.Duration `yaml:"timeout"`
	// A little less than task_timeout of Rspamd. What took longer is not
	// complete.
	TimeLimit time.Duration `yaml:"time_limit"`
	// Larger messages are not given to Rspamd and have no score. Not more than
	// max_message of Rspamd.
	MaxSize mail.Size `yaml:"max_size"`
	// Factor by which the points of Rspamd are multiplied, to fit the levels of
	// settings.spam: 0.42 makes 6.3 of Rspamd's usual 15 for reject.
	Scale float64 `yaml:"scale"`
	// What the actions of Rspamd mean: pass, spammy, spam or unchecked. Built
	// in are no action and greylist as pass, add header and rewrite subject as
	// spammy, reject, quarantine and discard as spam, soft reject as unchecked.
	// An action that is neither built in nor named here is judged by its
	// threshold if Rspamd tells it, else it is unchecked.
	//
	//	actions: {"soft reject": pass, "add header": pass, custom: spam}
	Actions map[string]string `yaml:"actions"`
	// Symbols of 0 points that say that a scanner did not answer Rspamd, so
	// that the message is UNCHECKED; its score counts all the same. Shell
	// patterns: the first that fits decides, one that begins with ! excludes,
	// as do the built-in ones what is found out about the sender, and lists in
	// the DNS, of which one or the other often does not answer.
	FailedSymbols []string `yaml:"failed_symbols"`
	// Settings-ID of Rspamd by policy bank. Of several banks the one that was
	// loaded last counts. An id that Rspamd does not know has no effect, and
	// only Rspamd's log says so.
	//
	//	settings_id: {ORIGINATING: outbound, INT-MTA: internal}
	SettingsID map[string]string `yaml:"settings_id"`
	// Header fields that Rspamd may add; a * at the end stands for any rest.
	// All else that it would change in the message is ignored.
	//
	//	headers: [X-Spamd-*]
	Headers []string `yaml:"headers"`
}

// Validate says what is wrong with the options.
func (o *RspamdOptions) Validate() error {
	if len(o.URL) == 0 {
		return errors.New("url: want http://host:port, https://host:port or unix:/path")
	}
	for _, u := range o.URL {
		if _, err := newRspamd(u); err != nil {
			return fmt.Errorf("url: %w", err)
		}
	}
	if o.TimeLimit <= 0 {
		return errors.New("time_limit: must be more than 0")
	}
	if o.MaxSize <= 0 {
		return errors.New("max_size: must be more than 0")
	}
	if !(o.Scale > 0 && o.Scale <= 1000) {
		return errors.New("scale: must be more than 0 and at most 1000")
	}
	for action, word := range o.Actions {
		if meanings[word] == 0 {
			return fmt.Errorf("actions: want pass, spammy, spam or unchecked for %q, not %q", action, word)
		}
	}
	for _, p := range o.FailedSymbols {
		if _, err := path.Match(strings.TrimPrefix(p, "!"), ""); err != nil {
			return fmt.Errorf("failed_symbols: %q is no pattern", p)
		}
	}
	for bank, id := range o.SettingsID {
		if !visible(id) {
			return fmt.Errorf("settings_id: want a word for %q, not %q", bank, id)
		}
	}
	for _, name := range o.Headers {
		if !fieldName(strings.TrimSuffix(name, "*")) {
			return fmt.Errorf("headers: %q is no name of a header field", name)
		}
	}
	return validTimeout(o.Timeout)
}

// New returns the check.
func (o *RspamdOptions) New() (Check, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &rspamd{options: *o}
	for _, u := range o.URL {
		s, err := newRspamd(u)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

type rspamd struct {
	options RspamdOptions
	servers []*rspamdServer
}

// rspamdServer is one worker.
type rspamdServer struct {
	Server
	host string // in the request
	tls  *tls.Config
}

func newRspamd(s string) (*rspamdServer, error) {
	if network, address, err := splitAddress(s); err == nil && network == "unix" {
		return &rspamdServer{Server: Server{network: network, address: address}, host: "localhost"}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("want http://host:port, https://host:port or unix:/path, not %q", s)
	}
	_, address, err := splitAddress("tcp:" + u.Host)
	if err != nil {
		return nil, fmt.Errorf("want http://host:port with a port, not %q", s)
	}
	out := &rspamdServer{Server: Server{network: "tcp", address: address}, host: u.Host}
	if u.Scheme == "https" {
		out.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	return out, nil
}

func (s *rspamdServer) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("rspamd %v: %w", &s.Server, err)
}

// Servers returns them as configured.
func (c *rspamd) Servers() []*Server { return allServers(c.servers) }

// Check has one of the workers look at the message.
func (c *rspamd) Check(ctx context.Context, in *Input) (Answer, error) {
	if m := in.Tx.Message; m.Size() > int64(c.options.MaxSize) {
		return Answer{Skipped: fmt.Sprintf("larger than max_size %v", c.options.MaxSize)}, nil
	}
	header := c.header(in)
	return askInTurn(ctx, c.options.Timeout, inOrder(c.servers), func(ctx context.Context, s *rspamdServer) (Answer, error) {
		status, body, took, err := s.dialogue(ctx, header, in.Tx.Message.Bytes())
		if err != nil {
			return Answer{}, err
		}
		return c.options.judge(status, body, took, in.Tx.Message.Header())
	})
}

// maxRcptFields is below what Rspamd takes into account (max_recipients).
const maxRcptFields = 1000

// header is what Rspamd is told besides the message. All names are ours:
// some others would make Rspamd read a file of its own host instead.
func (c *rspamd) header(in *Input) http.Header {
	tx := in.Tx
	h := http.Header{"User-Agent": {"Postern"}, "Content-Type": {"text/plain"}}
	set := func(name, value string) {
		if value = oneLine(value); value != "" {
			h[name] = append(h[name], value[:min(len(value), 2000)])
		}
	}
	set("From", tx.From.String())
	for _, r := range tx.Rcpts[:min(len(tx.Rcpts), maxRcptFields)] {
		set("Rcpt", r.Address.String())
	}
	if tx.Client.Addr.IsValid() {
		set("IP", tx.Client.Addr.Unmap().WithZone("").String())
	}
	set("Helo", tx.Client.Helo)
	set("Hostname", tx.Client.Name)
	set("User", in.Login)
	set("Queue-Id", cmp.Or(tx.Client.Ident, tx.ID))
	set("MTA-Name", in.Hostname)
	set("MTA-Tag", strings.Join(in.Banks, "/"))
	for _, bank := range slices.Backward(in.Banks) {
		if id := c.options.SettingsID[bank]; id != "" {
			set("Settings-ID", id)
			break
		}
	}
	return h
}

const maxRspamdAnswer = 4 << 20

// dialogue sends the message and returns the whole answer, and how long it
// took from the last octet that was sent. Rspamd drops a request whose
// connection is closed in one direction.
func (s *rspamdServer) dialogue(ctx context.Context, header http.Header, message []byte) (status int, body []byte, took time.Duration, err error) {
	conn, release, err := s.dial(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	defer release()
	if s.tls != nil {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return 0, nil, 0, &Failure{Word: FailedConnect, Err: fmt.Errorf("%w: %w", errDial, err)}
		}
		conn = secure
	}
	sendErr := s.send(conn, header, message)
	sent := time.Now()
	limited := &io.LimitedReader{R: conn, N: maxRspamdAnswer}
	r, err := http.ReadResponse(bufio.NewReader(limited), &http.Request{Method: http.MethodPost})
	if err == nil {
		status = r.StatusCode
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
	}
	took = time.Since(sent)
	switch {
	case err == nil:
		return status, body, took, nil
	case limited.N <= 0:
		return 0, nil, took, fail(FailedTooLong, "the answer is too long")
	case sendErr != nil:
		return 0, nil, took, ioFailure("sending the message", sendErr)
	case isTimeout(err):
		return 0, nil, took, ioFailure("waiting for the answer", err)
	case limited.N == maxRspamdAnswer:
		return 0, nil, took, fail(FailedEmpty, "closed without an answer")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, took, fail(FailedCut, "the answer ends in its middle")
	}
	if errors.As(err, new(net.Error)) {
		return 0, nil, took, ioFailure("waiting for the answer", err)
	}
	return 0, nil, took, fail(FailedGarbage, "no answer of HTTP: %w", err)
}

func (s *rspamdServer) send(conn net.Conn, header http.Header, message []byte) error {
	var head strings.Builder
	fmt.Fprintf(&head, "POST /checkv2 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n", s.host, len(message))
	if err := header.Write(&head); err != nil {
		return err
	}
	head.WriteString("\r\n")
	b := net.Buffers{[]byte(head.String()), message}
	_, err := b.WriteTo(conn)
	return err
}

// scaled returns points in the scale of our levels.
func (o *RspamdOptions) scaled(points float64) float64 {
	return thousandths(points * o.Scale)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) && math.Abs(f) < 1e9 }
