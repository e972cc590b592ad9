package check

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

// icapRequest is what a scanner is asked, read strictly (RFC 3507 section 4.9).
type icapRequest struct {
	line         string
	header       textproto.MIMEHeader
	req, res     string
	body         string
	encapsulated string
}

func readICAPRequest(r *bufio.Reader) (*icapRequest, error) {
	text := textproto.NewReader(r)
	line, err := text.ReadLine()
	if err != nil {
		return nil, err
	}
	h, err := text.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	q := &icapRequest{line: line, header: h, encapsulated: h.Get("Encapsulated")}
	var res, body int
	if _, err := fmt.Sscanf(q.encapsulated, "req-hdr=0, res-hdr=%d, res-body=%d", &res, &body); err != nil {
		return nil, err
	}
	head := make([]byte, body)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	q.req, q.res = string(head[:res]), string(head[res:])
	data, err := io.ReadAll(httputil.NewChunkedReader(r))
	q.body = string(data)
	return q, err
}

func fakeICAP(t *testing.T, answer func(*icapRequest) string) *fakeEngine {
	return newFakeEngine(t, "tcp", func(conn net.Conn) {
		q, err := readICAPRequest(bufio.NewReader(conn))
		if err != nil {
			t.Errorf("the request: %v", err)
			return
		}
		say(conn, answer(q))
	})
}

func icapClient(t *testing.T, timeout time.Duration, f ...*fakeEngine) Check {
	o := &ICAPOptions{Timeout: timeout, MaxSize: 5 << 20}
	for _, f := range f {
		o.URL = append(o.URL, "icap://"+strings.TrimPrefix(f.address, "tcp:")+"/avscan")
	}
	return newCheck(t, o)
}

const noChange = "ICAP/1.0 204 No Content\r\nISTag: x\r\n\r\n"

// echo sends back what was sent, as servers do that do not know Allow: 204.
func echo(status int, body string) string {
	res := fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Type: message/rfc822\r\n\r\n", status)
	return fmt.Sprintf("ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=%d\r\n\r\n%s%x\r\n%s\r\n0\r\n\r\n", len(res), res, len(body), body)
}

func TestICAP(t *testing.T) {
	t.Parallel()
	found := func(field string) string {
		return "ICAP/1.0 200 OK\r\n" + field + "\r\nEncapsulated: res-hdr=0, res-body=40\r\n\r\nHTTP/1.1 403 Forbidden\r\n"
	}
	for _, tt := range []struct {
		name, answer string
		word         string
		virus        string
	}{
		{"clean", noChange, "", ""},
		{"clean by the same", echo(200, plainMail), "", ""},
		{"infection", found("X-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Signature;"), "", "Eicar-Signature"},
		{"infection and no change", "ICAP/1.0 204 No Content\r\nX-Infection-Found: Type=0; Resolution=0; Threat=A;\r\n\r\n", "", "A"},
		{"infection of another form", found("X-Infection-Found: something"), "", "something"},
		{"id", found("X-Virus-ID: Eicar Test"), "", "Eicar Test"},
		{"no id", "ICAP/1.0 204 x\r\nX-Virus-ID: no threats\r\n\r\n", "", ""},
		{"c-icap without a scanner", "ICAP/1.0 204 Unmodified\r\nISTag: \"CI0001-1B2M2Y8AsgTpgAmY7PhCfgAA\"\r\n\r\n", FailedSkipped, ""},
		{"violations", found("X-Violations-Found: 1\r\n  -\r\n  EICAR\r\n  0\r\n  2"), "", "EICAR 0 2"},
		{"another message", echo(200, plainMail+"x"), FailedStatus, ""},
		{"a page", echo(403, plainMail), FailedStatus, ""},
		{"status", "ICAP/1.0 500 Server error\r\n\r\n", FailedStatus, ""},
		{"unknown service", "ICAP/1.0 404 Service not found\r\n\r\n", FailedStatus, ""},
		{"empty", "", FailedEmpty, ""},
		{"garbage", "HTTP/1.1 200 OK\r\n\r\n", FailedGarbage, ""},
		{"no body", "ICAP/1.0 200 OK\r\nEncapsulated: null-body=0\r\n\r\n", FailedGarbage, ""},
		{"wrong places", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=9, res-body=3\r\n\r\n", FailedGarbage, ""},
		{"cut in the head", "ICAP/1.0 204 No Content\r\n", FailedCut, ""},
		{"cut", echo(200, plainMail)[:150], FailedCut, ""},
		{"cut before the end", strings.TrimSuffix(echo(200, plainMail), "0\r\n\r\n"), FailedCut, ""},
		{"too long", echo(200, strings.Repeat("x", 100<<10)), FailedTooLong, ""},
		{"slow", hang, FailedTimeout, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if tt.answer == hang {
				timeout = time.Second
			}
			f := fakeICAP(t, func(q *icapRequest) string {
				if !strings.HasPrefix(q.line, "RESPMOD icap://127.0.0.1:") || !strings.HasSuffix(q.line, "/avscan ICAP/1.0") || q.body != plainMail ||
					!strings.Contains(q.res, "Content-Type: message/rfc822\r\n") || q.header.Get("Allow") != "204" || q.header.Get("Host") == "" {
					t.Errorf("%+v", q)
				}
				return tt.answer
			})
			r := run(t, "icap", icapClient(t, timeout, f), input(plainMail))
			if FailureWord(r.Err) != tt.word || unchecked(r) != (tt.word != "") || r.Scanned != (tt.word == "") {
				t.Errorf("%+v", r)
			}
			if tt.virus != "" && (len(r.Findings) != 1 || r.Findings[0].Category != mail.Infected || r.Findings[0].Name != tt.virus) {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// TestICAPParts: parts are scanned as they are, and a virus is told with its
// place also if the next scan fails.
func TestICAPParts(t *testing.T) {
	t.Parallel()
	f := fakeICAP(t, func(q *icapRequest) string {
		switch q.body {
		case "virus":
			return "ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=V;\r\n\r\n"
		case plainMail:
			return ""
		}
		return noChange
	})
	root := &mail.Part{Place: "1"}
	for i, data := range []string{"harmless", "virus"} {
		root.Children = append(root.Children, &mail.Part{
			Place: fmt.Sprint("1/", i+1), Parent: root, Names: []string{"x.bin"}, Types: []string{"dat"}, Data: []byte(data), Size: int64(len(data)),
		})
	}
	in := input(plainMail)
	in.Parts = root
	r := run(t, "icap", icapClient(t, time.Minute, f), in)
	if FailureWord(r.Err) != FailedEmpty || len(r.Findings) != 2 || r.Findings[0].Name != "V" || r.Findings[0].Part != "1/2 x.bin" || r.Scanned {
		t.Errorf("%+v", r)
	}
}

func FuzzICAPAnswer(f *testing.F) {
	f.Add([]byte(noChange))
	f.Add([]byte(echo(200, plainMail)))
	f.Add([]byte("ICAP/1.0 200 OK\r\nX-Violations-Found: 1\r\n -\r\n a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		findings, err := readICAP(bufio.NewReader(strings.NewReader(string(answer))), []byte(plainMail))
		// clean is only what says so in full
		if err == nil && len(findings) == 0 && !strings.Contains(string(answer), " 204") && !strings.Contains(string(answer), "hello") {
			t.Errorf("%q is clean", answer)
		}
	})
}
