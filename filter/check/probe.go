package check

// Does an engine find what it must? One that is there and finds nothing says
// "clean" to every mail.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

// prober is implemented by checks for which the test strings are not all there
// is to ask.
type prober interface {
	// probe is given a harmless message.
	probe(ctx context.Context, harmless *Input) error
}

// Probe has c look at the test strings EICAR and GTUBE, as far as it is to find
// such, and says in a few words what it found. The error is a [Failure] if it
// has not answered; any other says what it does not find.
func Probe(ctx context.Context, c Named, hostname string) (said string, took time.Duration, err error) {
	var texts []string
	finds := mail.SetOf(c.Categories...)
	if finds.Has(mail.Infected) {
		texts = append(texts, eicar)
	}
	if finds.Has(mail.Spam) {
		texts = append(texts, gtube)
	}
	var found []string
	for _, text := range texts {
		r := Run(ctx, []Named{c}, probeInput(hostname, text))[0]
		took += r.Took
		name := foundIn(&r, text)
		switch {
		case name != "":
			found = append(found, name)
		case r.Err != nil:
			return "", took, r.Err
		case text == eicar:
			return "", took, errors.New("did not find the EICAR test string: has it loaded its signatures?")
		default:
			return "", took, errors.New("did not find the GTUBE test string")
		}
	}
	if p, ok := c.Check.(prober); ok {
		if err := p.probe(ctx, probeInput(hostname, "This mail is sent by Postern to see whether it is scored.")); err != nil {
			return "", took, err
		}
	}
	if len(found) == 0 {
		return "answers", took, nil
	}
	return "found " + strings.Join(found, " and "), took, nil
}

// foundIn returns the name under which the text was found, empty if it was not.
func foundIn(r *Result, text string) string {
	for _, f := range r.Findings {
		if text == eicar && f.Category == mail.Infected {
			return f.Name
		}
		if text == gtube && f.Category == mail.Spam {
			return "GTUBE"
		}
	}
	if text == gtube && r.Score != nil && r.Score.Value >= gtubeScore/2 {
		return "GTUBE"
	}
	return ""
}

// probeInput is a mail from and to this host.
func probeInput(hostname, text string) *Input {
	address := mail.Address("postern-probe@" + hostname)
	now := time.Now()
	m := mail.NewMessage(fmt.Appendf(nil, "Date: %s\r\nFrom: %s\r\nTo: %s\r\nSubject: test of the engines\r\nMessage-ID: <probe.%d@%s>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n", now.Format(time.RFC1123Z), address, address, now.UnixNano(), hostname, text))
	return &Input{Hostname: hostname, Tx: &mail.Transaction{
		ID: "probe", Received: now, Input: mail.InputLMTP, From: address, Rcpts: []mail.Recipient{{Address: address}}, Message: m,
		Client: mail.Client{Name: hostname, Helo: hostname, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	}}
}

// probe scores the message with each Settings-ID and without. One that Rspamd
// does not know changes nothing, and only Rspamd's own log says so.
func (c *rspamd) probe(ctx context.Context, in *Input) error {
	ids := slices.Compact(slices.Sorted(maps.Values(c.options.SettingsID)))
	if len(ids) == 0 {
		return nil
	}
	plain, err := c.settings(ctx, in, "")
	if err != nil {
		return err
	}
	for _, id := range ids {
		with, err := c.settings(ctx, in, id)
		if err != nil {
			return err
		}
		if reflect.DeepEqual(plain, with) {
			return fmt.Errorf("scores mail with Settings-ID %q as without: does Rspamd know it?", id)
		}
	}
	return nil
}

// rspamdSettings are what the settings of Rspamd change in an answer.
type rspamdSettings struct {
	required float64
	points   map[string]float64 // by symbol
}

// settings asks the first server that answers.
func (c *rspamd) settings(ctx context.Context, in *Input, id string) (s rspamdSettings, err error) {
	_, err = askInTurn(ctx, c.options.Timeout, inOrder(c.servers), func(ctx context.Context, server *rspamdServer) (Answer, error) {
		header := c.header(in)
		if id != "" {
			header["Settings-ID"] = []string{id}
		}
		status, body, took, err := server.dialogue(ctx, header, in.Tx.Message.Bytes())
		if err != nil {
			return Answer{}, err
		}
		r, err := readRspamd(status, body)
		if err != nil {
			return Answer{}, err
		}
		if err := c.options.incomplete(r, took); err != nil && !partial(err) {
			return Answer{}, err
		}
		s = rspamdSettings{required: r.Required, points: map[string]float64{}}
		for name, symbol := range r.Symbols {
			s.points[name] = symbol.Score
		}
		return Answer{}, nil
	})
	return s, err
}
