package demo

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Delivered is one mail that reached the demo's next hop.
type Delivered struct {
	From string
	To   []string
	Data []byte // as it came over the wire, without stuffed dots
}

// NextHop is an SMTP server that accepts everything.
type NextHop struct {
	server *smtp.Server
	dir    string // folder for the mails, empty for none

	mu    sync.Mutex
	mails []Delivered
	n     int
}

// NewNextHop makes a server that keeps mails in memory or, if dir is not empty,
// as files in that folder, with the envelope in header fields.
func NewNextHop(dir string) *NextHop {
	h := &NextHop{dir: dir}
	h.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &session{hop: h}, nil
	}))
	h.server.Domain = "localhost"
	h.server.EnableSMTPUTF8, h.server.EnableDSN = true, true
	h.server.MaxLineLength = 0
	h.server.ReadTimeout, h.server.WriteTimeout = 5*time.Minute, time.Minute
	h.server.ErrorLog = discardLog{}
	return h
}

// Serve answers on l until the server is closed.
func (h *NextHop) Serve(l net.Listener) error { return h.server.Serve(l) }

// Close ends the server and its sessions.
func (h *NextHop) Close() error { return h.server.Close() }

// Take returns the mails that came since the last call: none where they are
// kept in a folder.
func (h *NextHop) Take() []Delivered {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.mails
	h.mails = nil
	return out
}

func (h *NextHop) add(d Delivered) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	id := fmt.Sprintf("DEMO%04d", h.n)
	if h.dir == "" {
		h.mails = append(h.mails, d)
		return id, nil
	}
	var envelope bytes.Buffer
	fmt.Fprintf(&envelope, "Return-Path: <%s>\r\n", d.From)
	for _, to := range d.To {
		fmt.Fprintf(&envelope, "Delivered-To: %s\r\n", to)
	}
	return id, os.WriteFile(filepath.Join(h.dir, id+".eml"), append(envelope.Bytes(), d.Data...), 0o600)
}

type session struct {
	hop  *NextHop
	mail Delivered
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.Data = data
	id, err := s.hop.add(s.mail)
	if err != nil {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "cannot keep the mail"}
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "Ok: queued as " + id}
}

func (s *session) Reset()        { s.mail = Delivered{} }
func (s *session) Logout() error { return nil }

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// Describe says in a few words what arrived, one line for each mail.
func Describe(mails []Delivered) []string {
	if len(mails) == 0 {
		return []string{"nothing"}
	}
	var out []string
	for _, m := range mails {
		text := "the mail"
		switch header := string(m.Data); {
		case strings.Contains(header, "report-type=delivery-status"):
			text = "a report"
		case strings.Contains(header, "Auto-Submitted: auto-generated"):
			text = "a notice"
		}
		if strings.HasPrefix(string(m.Data), "DKIM-Signature:") {
			text += ", signed,"
		}
		out = append(out, text+" for "+strings.Join(m.To, " and "))
	}
	return out
}
