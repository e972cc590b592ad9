package check

// The client of clamd. Only a complete "OK" counts as clean; everything that
// is not understood in full is an error.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"postern/filter/mail"
)

func init() {
	register("clamav", func() Options {
		return &ClamAVOptions{Address: []string{"unix:/run/clamav/clamd.ctl"}, Timeout: time.Minute}
	}, mail.Infected)
}

// ClamAVOptions are the options of the check "clamav". Set AlertExceedsMax in
// clamd.conf: without it clamd calls what is beyond its own limits OK.
type ClamAVOptions struct {
	// Servers: unix:/path of clamd's socket or tcp:host:port. When one fails
	// the next is asked.
	Address []string `yaml:"address"`
	// Servers that are asked only when all of address have failed.
	Backup []string `yaml:"backup"`
	// Longest time for the answer of one server.
	Timeout time.Duration `yaml:"timeout"`
}

// Validate says what is wrong with the options.
func (o *ClamAVOptions) Validate() error {
	if err := validAddresses("address", o.Address); err != nil {
		return err
	}
	if len(o.Backup) > 0 {
		if err := validAddresses("backup", o.Backup); err != nil {
			return err
		}
	}
	return validTimeout(o.Timeout)
}

// New returns the check.
func (o *ClamAVOptions) New() (Check, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &clamAV{timeout: o.Timeout}
	for _, a := range o.Address {
		c.servers = append(c.servers, newClamd(a))
	}
	for _, a := range o.Backup {
		c.backup = append(c.backup, newClamd(a))
	}
	return c, nil
}

func newClamd(s string) *clamd {
	network, address, _ := splitAddress(s)
	return &clamd{Server: Server{network: network, address: address}}
}

type clamAV struct {
	servers, backup []*clamd
	timeout         time.Duration
}

// Scanner says that this is a virus scanner.
func (*clamAV) Scanner() bool { return true }

// Servers returns those that stand in for others too.
func (c *clamAV) Servers() []*Server { return allServers(c.servers, c.backup) }

// Check asks the servers, and then those that stand in for them, until one
// gives a complete answer.
func (c *clamAV) Check(ctx context.Context, in *Input) (Answer, error) {
	parts, missing := handed(in.Parts)
	servers := append(inOrder(c.servers), inOrder(c.backup)...)
	return askInTurn(ctx, c.timeout, servers, func(ctx context.Context, s *clamd) (Answer, error) {
		findings, err := s.scan(ctx, in.Tx.Message, parts)
		if missing != "" && (err == nil || len(findings) > 0) {
			findings = append(findings, overLimits(missing)...)
		}
		return Answer{Findings: findings}, err
	})
}

// restAfterRefusal is how long a server that did not take a descriptor (AppArmor,
// another root, or a moment of trouble) gets the bytes of all messages.
const restAfterRefusal = 10 * time.Minute

// clamd is one server.
type clamd struct {
	Server
	refusedFD atomic.Int64 // when it did not take our descriptor last, but the bytes
}

// scan scans parts and then the message: clamd remembers what it has found
// clean, so that it does not scan the attachments again.
func (s *clamd) scan(ctx context.Context, m *mail.Message, parts []*mail.Part) ([]mail.Finding, error) {
	inParts, err := s.scanParts(ctx, parts)
	if err != nil {
		return inParts, err
	}
	whole, err := s.scanMessage(ctx, m)
	return withParts(inParts, whole), err
}

// scanMessage scans the message as it is.
func (s *clamd) scanMessage(ctx context.Context, m *mail.Message) ([]mail.Finding, error) {
	if m.Size() > math.MaxUint32 {
		return overLimits("larger than clamd can be told of"), nil
	}
	var reply []byte
	var err error
	if s.network == "unix" && time.Since(time.Unix(0, s.refusedFD.Load())) >= restAfterRefusal {
		var findings []mail.Finding
		if reply, err = s.dialogue(ctx, m, sendFile); err == nil {
			if findings, err = parseReply(reply); err == nil || len(findings) > 0 {
				return findings, err
			}
		}
		if ctx.Err() != nil || errors.Is(err, errDial) {
			return nil, err
		}
		// perhaps it may not read our descriptor: it can always have the bytes
	}
	if reply, err = s.dialogue(ctx, m, sendStream); err != nil {
		return nil, err
	}
	findings, err := parseReply(reply)
	if err == nil {
		s.refusedFD.Store(time.Now().UnixNano())
	}
	return findings, err
}

func (s *clamd) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("clamd %v: %w", &s.Server, err)
}

const maxReply = 64 << 10

// dialogue sends one message and returns all that comes back until the server
// closes the connection. An error while sending counts only if nothing comes
// back: clamd answers and closes as soon as a message is too large for it.
func (s *clamd) dialogue(ctx context.Context, m *mail.Message, send func(net.Conn, *mail.Message) error) ([]byte, error) {
	conn, release, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	sendErr := send(conn, m)
	reply, err := readAll(conn, maxReply)
	switch {
	case FailureWord(err) == FailedTooLong:
		return nil, err
	case len(reply) > 0 && bytes.HasSuffix(reply, nul):
		// complete, even if the connection was reset after it
		return reply, nil
	case sendErr != nil:
		return nil, ioFailure("sending the message", sendErr)
	case err != nil:
		return nil, ioFailure("waiting for the answer", err)
	}
	return reply, nil
}

// sendStream sends the message as one chunk.
func sendStream(conn net.Conn, m *mail.Message) error {
	b := net.Buffers{[]byte("zINSTREAM\x00"), binary.BigEndian.AppendUint32(nil, uint32(m.Size())), m.Bytes(), make([]byte, 4)}
	if m.Size() == 0 {
		b = net.Buffers{b[0], b[3]} // an empty chunk is the end already
	}
	_, err := b.WriteTo(conn)
	return err
}

// sendFile passes a descriptor of the message.
func sendFile(conn net.Conn, m *mail.Message) error {
	f, err := descriptor(m)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := conn.Write([]byte("zFILDES\x00")); err != nil {
		return err
	}
	// the descriptor travels with one octet that has no meaning
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte{0}, syscall.UnixRights(int(f.Fd())), nil)
	return err
}

// descriptor returns a file with the message and a read position of its own.
func descriptor(m *mail.Message) (*os.File, error) {
	if f := m.File(); f != nil {
		return os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	}
	number, ok := memfdCreate[runtime.GOARCH]
	if !ok {
		return nil, errors.ErrUnsupported
	}
	name := []byte("postern\x00")
	const closeOnExec = 1 // MFD_CLOEXEC
	fd, _, errno := syscall.Syscall(number, uintptr(unsafe.Pointer(&name[0])), closeOnExec, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("memfd_create", errno)
	}
	f := os.NewFile(fd, "memfd")
	if _, err := f.WriteAt(m.Bytes(), 0); err != nil { // the position stays 0
		f.Close()
		return nil, err
	}
	return f, nil
}

// memfdCreate is the number of the system call, which package syscall lacks.
var memfdCreate = map[string]uintptr{
	"386": 356, "amd64": 319, "arm": 385, "arm64": 279, "loong64": 279, "ppc64le": 360, "riscv64": 279, "s390x": 350,
}

var (
	nul       = []byte{0}
	replyLine = regexp.MustCompile(`^(?:stream|fd\[\d+\]): (.+)$`)
	// words of clamd about one message that exceeds a limit of its own: to
	// try again later would not help
	limitReached = regexp.MustCompile(`(?i)\blimit (exceeded|reached)\b`)
)

// parseReply reads a whole reply: lines that end in NUL. There are findings
// and an error when a virus was found and more came that was not understood.
func parseReply(reply []byte) ([]mail.Finding, error) {
	if len(reply) == 0 {
		return nil, fail(FailedEmpty, "empty answer")
	}
	if !bytes.HasSuffix(reply, nul) {
		return nil, fail(FailedCut, "incomplete answer %q", clip(reply))
	}
	lines := bytes.Split(reply[:len(reply)-1], nul)
	var findings []mail.Finding
	var err error
	clean := 0
	for _, l := range lines {
		var result []byte
		if m := replyLine.FindSubmatch(l); m != nil {
			result = m[1]
		}
		name, found := bytes.CutSuffix(result, []byte(" FOUND"))
		switch {
		case string(result) == "OK":
			clean++
		case found && len(bytes.TrimSpace(name)) > 0:
			findings = append(findings, finding(string(name)))
		case bytes.HasSuffix(l, []byte(" ERROR")) && limitReached.Match(l):
			findings = append(findings, overLimits(string(clip(l)))...)
		case bytes.HasSuffix(l, []byte(" ERROR")):
			err = fail(FailedStatus, "answer %q", clip(l))
		default:
			err = fail(FailedGarbage, "answer %q", clip(l))
		}
	}
	if err == nil && clean > 0 && len(lines) > 1 {
		err = fail(FailedGarbage, "contradictory answer %q", clip(reply))
	}
	return findings, err
}

// finding sorts the name that clamd gives: by some it says that it has not looked
// at everything. What the others mean is for the policy to say.
func finding(name string) mail.Finding {
	f := mail.Finding{Category: mail.Infected, Check: "clamav", Name: name, Rcpt: mail.AllRcpts}
	switch {
	case strings.HasPrefix(name, "Heuristics.Limits.Exceeded"), strings.HasPrefix(name, "Heuristics.Email.ExceedsMax"):
		f.Category, f.Minor = mail.Unchecked, mail.OverLimits
	case strings.HasPrefix(name, "Heuristics.Encrypted."):
		f.Category, f.Minor = mail.Unchecked, mail.Encrypted
	}
	return f
}

func overLimits(detail string) []mail.Finding {
	return []mail.Finding{{Category: mail.Unchecked, Minor: mail.OverLimits, Check: "clamav", Detail: detail, Rcpt: mail.AllRcpts}}
}

func clip(b []byte) []byte { return b[:min(len(b), 200)] }
