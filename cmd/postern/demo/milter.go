package demo

import (
	"fmt"
	"strings"

	"github.com/d--j/go-milter"
)

// SendMilter speaks the milter protocol with addr as Postfix' smtpd does while
// its client waits, and returns in words what it answers.
func SendMilter(addr string, m Mail) (answer string, err error) {
	macros := milter.NewMacroBag()
	macros.Set(milter.MacroQueueId, "4DEMO")
	s, err := milter.NewClient("tcp", addr).Session(macros)
	if err != nil {
		return "", err
	}
	defer s.Close()
	step := func(a *milter.Action, failed error) {
		if err == nil {
			err = failed
		}
		if err == nil && a.StopProcessing() {
			err = fmt.Errorf("refused before the end: %s", a.SMTPReply)
		}
	}
	step(s.Conn("client.example.net", milter.FamilyInet, 4711, "192.0.2.7"))
	step(s.Helo("client.example.net"))
	step(s.Mail(m.From, ""))
	for _, to := range m.To {
		step(s.Rcpt(to, ""))
	}
	step(s.DataStart())
	header, body, _ := strings.Cut(m.Text(), "\r\n\r\n")
	for _, field := range strings.Split(strings.ReplaceAll(header, "\r\n\t", "\n\t"), "\r\n") {
		name, value, _ := strings.Cut(field, ":")
		step(s.HeaderField(name, value, nil))
	}
	step(s.HeaderEnd())
	step(s.BodyChunk([]byte(body)))
	if err != nil {
		return "", err
	}
	edits, a, err := s.End()
	switch {
	case err != nil:
		return "", err
	case a.StopProcessing():
		return a.SMTPReply, nil
	case a.Type == milter.ActionDiscard:
		return "discard", nil
	}
	return fmt.Sprintf("accepted, %d changes", len(edits)), nil
}
