package main

// A next hop for the demo: it takes every mail and keeps it, in memory and, if
// asked, as files in a folder.

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// delivered is one mail that reached the demo's next hop.
type delivered struct {
	from string
	to   []string
	data []byte
}

// nextHop is an SMTP server that accepts everything.
type nextHop struct {
	server *smtp.Server
	dir    string // folder for the mails, empty for none

	mu    sync.Mutex
	mails []delivered
	n     int
}

func newNextHop(dir string) *nextHop {
	h := &nextHop{dir: dir}
	h.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &nextHopSession{hop: h}, nil
	}))
	h.server.Domain = "localhost"
	h.server.EnableSMTPUTF8, h.server.EnableDSN = true, true
	h.server.MaxLineLength = 0
	h.server.ReadTimeout, h.server.WriteTimeout = 5*time.Minute, time.Minute
	h.server.ErrorLog = discardLog{}
	return h
}

func (h *nextHop) serve(l net.Listener) error { return h.server.Serve(l) }

func (h *nextHop) close() error { return h.server.Close() }

// take returns the mails that came since the last call.
func (h *nextHop) take() []delivered {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.mails
	h.mails = nil
	return out
}

func (h *nextHop) add(d delivered) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	id := fmt.Sprintf("DEMO%04d", h.n)
	if h.dir == "" {
		h.mails = append(h.mails, d)
		return id, nil
	}
	var envelope bytes.Buffer
	fmt.Fprintf(&envelope, "Return-Path: <%s>\r\n", d.from)
	for _, to := range d.to {
		fmt.Fprintf(&envelope, "Delivered-To: %s\r\n", to)
	}
	return id, os.WriteFile(filepath.Join(h.dir, id+".eml"), append(envelope.Bytes(), d.data...), 0o600)
}

type nextHopSession struct {
	hop  *nextHop
	mail delivered
}

func (s *nextHopSession) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.from = from
	return nil
}

func (s *nextHopSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *nextHopSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.data = data
	id, err := s.hop.add(s.mail)
	if err != nil {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "cannot keep the mail"}
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "Ok: queued as " + id}
}

func (s *nextHopSession) Reset()        { s.mail = delivered{} }
func (s *nextHopSession) Logout() error { return nil }

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}
