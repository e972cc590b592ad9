package unpack

import (
	"archive/zip"
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

func unpackWith(l budget.Limits, msg string) *Result {
	return Parts(context.Background(), mail.NewMessage([]byte(msg)), l)
}

func hasMinor(r *Result, minor int) bool {
	return slices.ContainsFunc(r.Findings, func(f mail.Finding) bool { return f.Minor == minor })
}

// TestTree: numbers, types, names and sizes of an ordinary message.
func TestTree(t *testing.T) {
	t.Parallel()
	r := unpackWith(budget.DefaultLimits, withBody(mixedBody("real", "Content-Type: message/rfc822\r\n\r\n"+
		mimeHead+"Content-Type: multipart/mixed; boundary=inner\r\n\r\n"+mixedBody("inner", evilPart()))))
	var got []string
	for _, p := range r.Parts {
		got = append(got, p.Place+" "+strings.Join(p.Media, ",")+" "+p.Name()+" "+p.How+" "+strings.Join(p.Types, ","))
	}
	want := []string{
		"1 multipart/mixed   ",
		"1/1 text/plain  7bit asc",
		"1/2 message/rfc822  7bit ",
		"1/2/1 multipart/mixed   ",
		"1/2/1/1 text/plain  7bit asc",
		"1/2/1/2 application/octet-stream evil.exe base64 exe,exe-ms",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(r.Findings) > 0 {
		t.Errorf("findings %+v", r.Findings)
	}
}

// TestNestedContainers: whatever is found goes the same way again.
func TestNestedContainers(t *testing.T) {
	t.Parallel()
	zipped := func(name string, data []byte) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	eml := []byte(withPart(evilPart()))
	for what, data := range map[string][]byte{
		"mail in zip":            zipped("x.eml", eml),
		"zip in zip":             zipped("a.zip", zipped("b.zip", zipped("evil.exe", specimen.Payload))),
		"zip in mail in zip":     zipped("x.eml", []byte(withPart(octet+"Content-Transfer-Encoding: base64\r\n\r\n"+specimen.Wrap64(zipped("evil.exe", specimen.Payload))))),
		"zip in TNEF":            specimen.TNEF("a.zip", zipped("evil.exe", specimen.Payload)),
		"TNEF in zip":            zipped("winmail.dat", specimen.TNEF("evil.exe", specimen.Payload)),
		"uuencode in zip":        zipped("a.txt", []byte(specimen.UU("evil.exe"))),
		"base64 in zip":          zipped("a.txt", []byte(specimen.Wrap64(specimen.Payload))),
		"mail in Outlook in zip": zipped("x.msg", specimen.OutlookMessage("x.eml", eml)),
		"S/MIME in zip":          zipped("x.p7m", signedData(eml, true)),
	} {
		r := attach("data", data)
		tr := trick{want: plainly}
		if fault := tr.judge(r); fault != "" {
			t.Errorf("%s: %s\n%s", what, fault, describeTree(r))
		}
		checkResult(t, r)
	}
}

// TestAliasing: what was not decoded is not copied.
func TestAliasing(t *testing.T) {
	t.Parallel()
	data := slices.Clip([]byte(withPart("Content-Type: text/plain; name=a.txt\r\n\r\nhello, this is a text\r\n")))
	r := Parts(context.Background(), mail.NewMessage(data), budget.DefaultLimits)
	p := partNamed(r, "a.txt")
	if p == nil || !within(data, p.Data) {
		t.Errorf("the text was copied\n%s", describeTree(r))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	many := withBody(strings.Repeat("--real\r\nContent-Type: text/plain\r\n\r\nx\r\n", 100) + "--real--\r\n")
	for what, tt := range map[string]struct {
		change func(*budget.Limits)
		msg    string
		parts  int // that are still found
	}{
		"parts":   {func(l *budget.Limits) { l.Parts = 50 }, many, 49},
		"depth":   {func(l *budget.Limits) { l.Depth = 1 }, many, 101},
		"fields":  {func(l *budget.Limits) { l.Fields = 5 }, many, 1},
		"header":  {func(l *budget.Limits) { l.Header = 100 }, many, 1},
		"bytes":   {func(l *budget.Limits) { l.Bytes = 100 }, withPart(evilPart()), 2},
		"time":    {func(l *budget.Limits) { l.Time = -time.Second }, many, 1},
		"nesting": {func(l *budget.Limits) { l.Nesting = 0 }, withPart("Content-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.TNEF("a.exe", specimen.Payload))), 3},
		"entries": {func(l *budget.Limits) { l.Entries = 0 }, withPart("Content-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.TNEF("a.exe", specimen.Payload))), 3},
	} {
		l := budget.DefaultLimits
		tt.change(&l)
		r := unpackWith(l, tt.msg)
		if !hasMinor(r, mail.OverLimits) {
			t.Errorf("%s: no finding\n%s", what, describeTree(r))
		}
		if len(r.Parts) < tt.parts {
			t.Errorf("%s: %d parts, want %d\n%s", what, len(r.Parts), tt.parts, describeTree(r))
		}
		checkResult(t, r)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := Parts(ctx, mail.NewMessage([]byte(withPart(evilPart()))), budget.DefaultLimits); !hasMinor(r, mail.OverLimits) {
		t.Errorf("no finding\n%s", describeTree(r))
	}
}

// TestLongName: the end of a name that is cut stays.
func TestLongName(t *testing.T) {
	t.Parallel()
	r := unpackWith(budget.DefaultLimits, withPart("Content-Type: a/b; name=\""+strings.Repeat("x", 3*filetype.MaxName)+".exe\"\r\n\r\nx\r\n"))
	if n := r.Parts[2].Name(); len(n) != filetype.MaxName || !strings.HasSuffix(n, ".exe") {
		t.Errorf("name of %d octets ends in %q", len(n), n[max(0, len(n)-8):])
	}
}

// TestRawName: octets without a charset are shown as clients do, and kept.
func TestRawName(t *testing.T) {
	t.Parallel()
	r := unpackWith(budget.DefaultLimits, withPart("Content-Type: a/b; name=\"\xe4.txt\"\r\n\r\nx\r\n"))
	if got, want := r.Parts[2].Names, []string{"ä.txt", "\xe4.txt"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}

// TestGuard: a panic is a finding and does not take the rest along, nor does
// the use of a buffer that is gone.
func TestGuard(t *testing.T) {
	t.Parallel()
	gone := func() {
		x := &budget.Opener{Budget: budget.New(context.Background(), budget.DefaultLimits, 0)}
		data, err := x.Decode(bytes.NewReader(make([]byte, 2<<20)), -1)
		if err != nil {
			t.Error(err)
		}
		x.Free()
		data[0]++
	}
	for name, f := range map[string]func(){"panic": func() { panic("index out of range") }, "fault": gone} {
		w := &walker{notes: map[*mail.Part]string{}, budget: budget.New(context.Background(), budget.DefaultLimits, 0), depth: 2}
		p := &mail.Part{Place: "1"}
		w.guard(p, func() {
			w.depth++
			f()
		})
		found := w.findings(p)
		if len(found) != 1 || found[0].Category != mail.Unchecked || found[0].Minor != mail.CheckFailed || w.depth != 2 || !p.Flags.Is(mail.PartUndecipherable) {
			t.Errorf("%s: findings %+v, depth %d, flags %v", name, found, w.depth, p.Flags)
		}
	}
}

// TestOrdinary: what ordinary software writes is not in doubt.
func TestOrdinary(t *testing.T) {
	t.Parallel()
	text := "--real\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
	for what, msg := range map[string]string{
		"mailing list footer after the close delimiter": withBody(text + "--real--\r\n_______________\r\nlist mailing list\r\n"),
		"boundary folded in its quotes":                 mimeHead + "Content-Type: multipart/mixed; boundary=\"simple\r\n boundary\"\r\n\r\n" + mixedBody("simple boundary", evilPart()),
		"boundary with a comment in its quotes":         mimeHead + "Content-Type: multipart/mixed; boundary=\"== _ _= 6(15)\"\r\n\r\n" + mixedBody("== _ _= 6(15)", evilPart()),
		"preamble":                                      withBody("This is a multi-part message in MIME format.\r\n\r\n" + text + "--real--\r\n"),
		"left-over boundary":                            withPart("Content-Type: text/html; boundary=\"b1_x\"; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>a=3Db</p>\r\n"),
		"header cut from a bounce":                      withPart("Content-Type: message/rfc822\r\n\r\n" + mimeHead + mixedReal),
		"delivery status":                               withPart("Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\nAction: failed\r\n"),
		"inner boundary begins like the outer":          withBody(text + "--real\r\nContent-Type: multipart/mixed; boundary=real_1\r\n\r\n" + mixedBody("real_1", "\r\nx\r\n") + "--real--\r\n"),
		"mbox line in the top header":                   ">From alice Mon Jun  1 10:00:00 2026\r\n" + withPart(evilPart()),
		"junk line in the header of a text":             mailHead + "junk\r\nX-Y: z\r\n\r\nhello\r\n",
		"unknown transfer encoding":                     withCTE("Content-Transfer-Encoding: iso-8859-1", "text\r\n"),
		"old content type":                              mailHead + "Content-Type: text\r\n\r\nhello\r\n",
		"no close delimiter":                            withBody(text),
		"no body":                                       mimeHead + mixedReal,
		"empty message":                                 "",
		"quoted-printable with bad escapes":             mimeHead + "Content-Transfer-Encoding: quoted-printable\r\n\r\nhttp://a/?b=c&d=e=\r\n\r\n",
		"uuencode words in text":                        mailHead + "\r\nbegin at the beginning\r\nand end at the end\r\n",
		"picture in HTML":                               withPart("Content-Type: text/html\r\n\r\n<html><img src=\"data:image/gif;base64,R0lGODlhAQABAAAAACw=\"></html>\r\n"),
	} {
		r := unpackWith(budget.DefaultLimits, msg)
		if len(r.Findings) > 0 {
			t.Errorf("%s: %+v\n%s", what, r.Findings, describeTree(r))
		}
		checkResult(t, r)
	}
}

// TestSuiteInvariants runs all tricks through the invariants of fuzzing.
func TestSuiteInvariants(t *testing.T) {
	t.Parallel()
	for _, tr := range append(structureTricks(), encodingTricks()...) {
		before := []byte(tr.msg)
		msg := bytes.Clone(before)
		r := Parts(context.Background(), mail.NewMessage(msg), budget.DefaultLimits)
		if !bytes.Equal(before, msg) {
			t.Errorf("%s: the message was changed", tr.id)
		}
		checkResult(t, r)
	}
}
