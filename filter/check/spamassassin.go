package check

// The client of spamd, the daemon of SpamAssassin (its protocol is described in
// spamd/PROTOCOL). Only an answer that is whole, is about this message and
// names the rules that matched gives a score.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/filter/mail"
)

func init() {
	register("spamassassin", func() Options {
		return &SpamAssassinOptions{Address: []string{"tcp:127.0.0.1:783"}, Timeout: time.Minute, MaxSize: 500 << 10}
	}, mail.Spam, mail.Spammy)
}

// SpamAssassinOptions are the options of the check "spamassassin". Gives mail
// a score, by spamd. By itself spamd tells only the names of the rules that
// matched, and the score with one decimal. The points of each rule, and so all
// decimals, come with this line in its local.cf:
//
//	add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTSSCORES_ autolearn=_AUTOLEARN_ version=_VERSION_"
type SpamAssassinOptions struct {
	// Servers: unix:/path of spamd's socket or tcp:host:port. When one fails
	// the next is asked.
	Address []string `yaml:"address"`
	// Longest time for the answer of one server. It should be less than the
	// time_limit of SpamAssassin.
	Timeout time.Duration `yaml:"timeout"`
	// Larger messages are not given to spamd and have no score.
	MaxSize mail.Size `yaml:"max_size"`
	// User whose preferences spamd goes by; empty: those of the user that it
	// runs as.
	User string `yaml:"user"`
	// Go by the preferences of the recipient, named by the address, for
	// messages with one recipient. Those with several are scanned once, for
	// the user above.
	UserByRecipient bool `yaml:"user_by_recipient"`
}

// Validate says what is wrong with the options.
func (o *SpamAssassinOptions) Validate() error {
	if err := validAddresses("address", o.Address); err != nil {
		return err
	}
	if o.User != "" && !visible(o.User) {
		return errors.New("user: want visible US-ASCII characters")
	}
	if o.MaxSize <= 0 {
		return errors.New("max_size: must be more than 0")
	}
	return validTimeout(o.Timeout)
}

// New returns the check.
func (o *SpamAssassinOptions) New() (Check, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &spamAssassin{options: *o}
	for _, a := range o.Address {
		network, address, _ := splitAddress(a)
		c.servers = append(c.servers, &spamd{Server{network: network, address: address}})
	}
	return c, nil
}

type spamAssassin struct {
	options SpamAssassinOptions
	servers []*spamd
}

// spamd is one server.
type spamd struct{ Server }

func (s *spamd) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("spamd %v: %w", &s.Server, err)
}

// Servers returns them as configured.
func (c *spamAssassin) Servers() []*Server { return allServers(c.servers) }

// Check has one of the servers give the message a score.
func (c *spamAssassin) Check(ctx context.Context, in *Input) (Answer, error) {
	if m := in.Tx.Message; m.Size() > int64(c.options.MaxSize) {
		return Answer{Skipped: fmt.Sprintf("larger than max_size %v", c.options.MaxSize)}, nil
	}
	request := c.request(in)
	return askInTurn(ctx, c.options.Timeout, inOrder(c.servers), func(ctx context.Context, s *spamd) (Answer, error) {
		answer, err := s.dialogue(ctx, request, int64(len(in.Tx.Message.HeaderBytes())))
		if err != nil {
			return Answer{}, err
		}
		score, err := parseSpamd(answer, in.Tx.Message.Header())
		return Answer{Score: score}, err
	})
}

// request is all that is sent for one message.
//
// HEADERS answers with the header of the message as SpamAssassin would pass it
// on, which names the rules and shows whose message it is. SpamAssassin takes
// out all X-Spam-* that came with the message. The envelope can be told only in
// the message itself.
func (c *spamAssassin) request(in *Input) net.Buffers {
	added, message := spamdFields(in), in.Tx.Message.Bytes()
	head := fmt.Sprintf("HEADERS SPAMC/1.5\r\nContent-length: %d\r\n", len(added)+len(message))
	if user := c.user(in.Tx.Rcpts); user != "" {
		head += "User: " + user + "\r\n"
	}
	return net.Buffers{[]byte(head + "\r\n"), added, message}
}

// user is whose preferences count.
func (c *spamAssassin) user(rcpts []mail.Recipient) string {
	if c.options.UserByRecipient && len(rcpts) == 1 {
		if a := string(rcpts[0].Address); visible(a) {
			return a
		}
	}
	return c.options.User
}

// spamdFields are the fields that tell the envelope. SpamAssassin takes the
// sender from Return-Path if no Received stands above it, and knows of the
// client what Received says: a message that has not been queued yet has none
// of our own mail system.
func spamdFields(in *Input) []byte {
	tx := in.Tx
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: %s\r\n", oneLine(tx.From.String()))
	if c := &tx.Client; (tx.Input == mail.InputMilter || tx.Input == mail.InputAMPDP) && c.Addr.IsValid() {
		with := "ESMTP"
		if in.Login != "" {
			with = "ESMTPSA"
		}
		name, address := word(c.Name), c.Addr.Unmap().String()
		if c.Addr.Unmap().Is6() {
			address = "IPv6:" + address
		}
		fmt.Fprintf(&b, "Received: from %s (%s [%s])\r\n\tby %s (Postfix) with %s id %s;\r\n\t%s\r\n",
			word(c.Helo), name, address, word(in.Hostname), with, word(c.Ident), tx.Received.Format(time.RFC1123Z))
	}
	return b.Bytes()
}

// word makes foreign text one word of a Received field.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune("()<>;,\\\"", r) {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "unknown"
	}
	return s[:min(len(s), 255)]
}

// oneLine takes out what would end a line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// visible reports whether s is one word of printable US-ASCII.
func visible(s string) bool {
	return s != "" && len(s) <= 320 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// dialogue sends the request and returns all that comes back. spamd waits for
// the end of what it is sent.
func (s *spamd) dialogue(ctx context.Context, request net.Buffers, header int64) ([]byte, error) {
	conn, release, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	b := append(net.Buffers(nil), request...) // writing uses it up
	_, sendErr := b.WriteTo(conn)
	if half, ok := conn.(interface{ CloseWrite() error }); ok && sendErr == nil {
		sendErr = half.CloseWrite()
	}
	answer, err := readAll(conn, 2*header+256<<10)
	switch {
	case FailureWord(err) == FailedTooLong:
		return nil, err
	case len(answer) > 0 && !isTimeout(err):
		return answer, nil // whether it is whole its own length says
	case sendErr != nil:
		return nil, ioFailure("sending the message", sendErr)
	case err != nil:
		return nil, ioFailure("waiting for the answer", err)
	}
	return nil, fail(FailedEmpty, "empty answer")
}

var (
	spamdStatus = regexp.MustCompile(`^SPAMD/\d+\.\d+ (\d{1,5}) (.*)$`)
	spamdScore  = regexp.MustCompile(`^(True|False|Yes|No) *; *(-?\d{1,9}(?:\.\d{1,9})?) */ *(-?\d{1,9}(?:\.\d{1,9})?)$`)
	ruleName    = regexp.MustCompile(`^[A-Za-z0-9_]{1,200}$`)
)

// spamdTimeout is EX_TIMEOUT, which sysexits.h does not have.
const spamdTimeout = "79"

// timeLimitRule matches when SpamAssassin stopped before it was done.
const timeLimitRule = "TIME_LIMIT_EXCEEDED"

// parseSpamd reads the answer to HEADERS for the message with that header.
func parseSpamd(answer []byte, asked mail.Header) (*mail.Score, error) {
	status, rest, ok := bytes.Cut(answer, []byte("\n"))
	m := spamdStatus.FindSubmatch(bytes.TrimRight(status, "\r"))
	switch {
	case !ok && bytes.HasPrefix([]byte("SPAMD/"), answer[:min(len(answer), len("SPAMD/"))]):
		return nil, fail(FailedCut, "incomplete answer %q", clip(answer))
	case m == nil:
		return nil, fail(FailedGarbage, "answer %q", clip(answer))
	case string(m[1]) == spamdTimeout:
		return nil, fail(FailedTimeLimit, "answer %q", clip(status))
	case string(m[1]) != "0":
		return nil, fail(FailedStatus, "answer %q", clip(status))
	}
	head, body, ok := cutHead(rest)
	if !ok {
		return nil, fail(FailedCut, "incomplete answer %q", clip(answer))
	}
	length, total := int64(-1), math.NaN()
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return nil, fail(FailedGarbage, "Content-length %q", value)
			}
			length = int64(n)
		case "spam":
			m := spamdScore.FindStringSubmatch(value)
			if m == nil {
				return nil, fail(FailedGarbage, "Spam: %q", value)
			}
			total, _ = strconv.ParseFloat(m[2], 64)
		}
	}
	switch {
	case length < 0 || math.IsNaN(total):
		return nil, fail(FailedGarbage, "answer %q", clip(answer))
	case int64(len(body)) < length:
		return nil, fail(FailedCut, "the answer ends after %d of %d octets", len(body), length)
	case int64(len(body)) > length:
		return nil, fail(FailedGarbage, "more than the %d octets of the answer", length)
	}
	return spamdHeader(body, asked, total)
}

// cutHead parts the lines before the first empty one from what follows.
func cutHead(b []byte) (head string, rest []byte, ok bool) {
	for i := 0; i < len(b); {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return "", nil, false
		}
		if len(bytes.TrimRight(b[i:i+n], "\r")) == 0 {
			return string(b[:i]), b[i+n+1:], true
		}
		i += n + 1
	}
	return "", nil, false
}

// spamdHeader reads the header that SpamAssassin made.
func spamdHeader(header []byte, asked mail.Header, total float64) (*mail.Score, error) {
	// SpamAssassin writes LF in what it adds itself if the message has none
	header = bytes.ReplaceAll(bytes.ReplaceAll(header, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	h, _ := mail.ParseHeader(header)
	if err := sameMessage(asked, h.All("Message-ID")); err != nil {
		return nil, err
	}
	status := h.All("X-Spam-Status")
	if len(status) != 1 {
		return nil, fail(FailedNoSymbols, "%d fields X-Spam-Status in the answer: is it taken out by remove_header or clear_headers?", len(status))
	}
	tests, scored, err := ruleList(status[0])
	if err != nil {
		return nil, err
	}
	score := &mail.Score{Value: total, Tests: tests, Autolearn: autolearn(status[0])}
	if scored && len(tests) > 0 {
		sum := 0.0
		for _, t := range tests {
			sum += t.Score
		}
		// the stated score has one decimal; another difference means that the
		// points of some rule are not what it counted with
		if sum = thousandths(sum); math.Abs(sum-total) < 0.11 {
			score.Value = sum
		}
	}
	for _, t := range tests {
		if t.Name == timeLimitRule {
			return nil, fail(FailedTimeLimit, "SpamAssassin reached its time_limit (%s)", timeLimitRule)
		}
	}
	return score, nil
}

var blanks = regexp.MustCompile(`[ \t\r\n]+`)

// ruleList reads the rules in the value of X-Spam-Status; scored says that all
// come with their points.
func ruleList(value string) (tests []mail.ScoreTest, scored bool, err error) {
	// it is folded anywhere between words, and behind any comma
	value = strings.ReplaceAll(blanks.ReplaceAllString(" "+value, " "), ", ", ",")
	_, list, ok := strings.Cut(value, " tests=")
	if !ok {
		return nil, false, fail(FailedNoSymbols, "no rules in X-Spam-Status: %q", clip([]byte(value)))
	}
	list, _, _ = strings.Cut(list, " ")
	list = strings.TrimSuffix(strings.TrimPrefix(list, "["), "]")
	if list == "none" {
		return nil, true, nil
	}
	scored = true
	for rule := range strings.SplitSeq(list, ",") {
		name, points, with := strings.Cut(rule, "=")
		t := mail.ScoreTest{Name: name}
		if with {
			t.Score, err = strconv.ParseFloat(points, 64)
		}
		if err != nil || !ruleName.MatchString(name) || !(math.Abs(t.Score) < 1e9) {
			return nil, false, fail(FailedGarbage, "rule %q in X-Spam-Status", clip([]byte(rule)))
		}
		scored = scored && with
		tests = append(tests, t)
	}
	return tests, scored, nil
}

var autolearnWords = regexp.MustCompile(`[ \t\r\n]autolearn=([a-z]{1,20})(?:[ \t\r\n]+autolearn_force=([a-z]{1,20}))?(?:[ \t\r\n]|$)`)

// autolearn reads what the value of X-Spam-Status says of learning.
func autolearn(status string) string {
	m := autolearnWords.FindStringSubmatch(status)
	switch {
	case m == nil:
		return ""
	case m[2] != "":
		return m[1] + " autolearn_force=" + m[2]
	}
	return m[1]
}

// thousandths rounds as SpamAssassin does.
func thousandths(f float64) float64 { return math.Round(f*1000) / 1000 }
