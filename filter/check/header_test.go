package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

// headerOf puts the lines of a test between the fields that must be there.
func headerOf(lines ...string) string {
	return "Date: Mon, 9 Aug 2021 09:36:36 +0200\r\nFrom: a@example.org\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\nbody \x00\xff\r\n"
}

func complaints(t testing.TB, in *Input) []string {
	t.Helper()
	got, err := headerCheck{}.Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	seen := map[int]bool{}
	for _, f := range got.Findings {
		if f.Category != mail.BadHeader || f.Rcpt != mail.AllRcpts || f.Check != "header" || seen[f.Minor] {
			t.Errorf("%+v", f)
		}
		seen[f.Minor] = true
		if len(f.Name) > 400 || strings.ContainsFunc(f.Name, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not fit to be shown: %q", f.Name)
		}
		out = append(out, fmt.Sprintf("%d %s", f.Minor, f.Name))
	}
	return out
}

func TestHeader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 989)
	for _, tt := range []struct {
		name, message string
		utf8          bool
		want          []string
	}{
		{"clean", headerOf("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "To: b@example.org,", "\tc@example.org", "Received: x", "Received: y"), false, nil},
		{"clean, no body", "From: a\r\nDate: b\r\n", false, nil},
		{"in the body nothing matters", headerOf("X: y", "", "Subject: a", "Subject: b\xff"), false, nil},

		{"8-bit", headerOf("Subject: Gr\xfc\xdfe"), false, []string{`2 Unencoded 8-bit character FC hex (and not UTF-8) in Subject, line 3 column 12: Gr\xFC\xDFe`}},
		{"8-bit with SMTPUTF8", headerOf("Subject: Gr\xfc\xdfe"), true, []string{`2 Unencoded 8-bit character FC hex (and not UTF-8) in Subject, line 3 column 12: Gr\xFC\xDFe`}},
		{"UTF-8", headerOf("Subject: Grüße"), false, nil},
		{"UTF-8 with SMTPUTF8", headerOf("Subject: Grüße"), true, nil},
		{"C1 control in UTF-8", headerOf("Subject: a\u0085b"), false, []string{`2 Unencoded 8-bit character C285 hex (a control character) in Subject, line 3 column 11: a\xC2\x85b`}},
		{"UTF-8, then not", headerOf("Subject: ü\xfc"), true, []string{`2 Unencoded 8-bit character FC hex (and not UTF-8) in Subject, line 3 column 12: \xC3\xBC\xFC`}},
		{"8-bit in a continuation", headerOf("Subject: a", " b \xe9"), false, []string{`2 Unencoded 8-bit character E9 hex (and not UTF-8) in Subject, line 4 column 4: b \xE9`}},
		{"8-bit far behind", headerOf("Subject: " + strings.Repeat("a", 100) + "\xe9" + strings.Repeat("b", 100)), false,
			[]string{`2 Unencoded 8-bit character E9 hex (and not UTF-8) in Subject, line 3 column 110: ...aaaaaaaaaaaaaaaaaaaaaaaaa\xE9bbbbbbbbbbbbbbbbbbbbbbbb...`}},
		{"8-bit name", headerOf("S\xfcbject: a"), true, []string{
			`6 Line is no header field, line 3: S\xFCbject: a`,
			`2 Unencoded 8-bit character FC hex (and not UTF-8), line 3 column 2: S\xFCbject: a`}},

		{"NUL", headerOf("Subject: nul\x00subject"), false, []string{`3 Control character 00 hex in Subject, line 3 column 13: nul\x00subject`}},
		{"escape", headerOf("Subject: \x1b$B"), false, nil},
		{"DEL", headerOf("X-A: b\x7f"), false, nil},
		{"bare CR", headerOf("Subject: a\rBcc: b"), false, []string{`3 Control character 0D hex in Subject, line 3 column 11: a\x0DBcc: b`}},
		{"CR before the end of line", headerOf("Subject: a\r", "X: y"), false, []string{`3 Control character 0D hex in Subject, line 3 column 11: a\x0D`}},
		{"tab", headerOf("Subject:\ta\tb"), false, nil},
		{"tab in an excerpt", headerOf("Subject:\ta\t\xe9"), false, []string{`2 Unencoded 8-bit character E9 hex (and not UTF-8) in Subject, line 3 column 12: a \xE9`}},
		{"8-bit before NUL", headerOf("Subject: \xe9\x00"), false, []string{
			`2 Unencoded 8-bit character E9 hex (and not UTF-8) in Subject, line 3 column 10: \xE9\x00`,
			`3 Control character 00 hex in Subject, line 3 column 11: \xE9\x00`}},

		{"white space", headerOf("Subject: a", " \t ", " b"), false, []string{`4 Line of white space only in Subject, line 4`}},
		{"white space first", " \r\n" + headerOf("X: y"), false, []string{`4 Line of white space only, line 1`}},
		{"empty value", headerOf("Subject:", "X-B: "), false, nil},
		{"empty value, folded", headerOf("Subject:", " a"), false, nil},

		{"998 characters", headerOf("Subject: " + long), false, nil},
		{"999 characters", headerOf("Subject: " + long + "y"), false, []string{
			`5 Line of 999 characters, 998 are allowed, in Subject, line 3: ` + long[:maxExcerpt] + "..."}},
		{"long field of short lines", headerOf("Subject: a" + strings.Repeat("\r\n "+long[:900], 3)), false, nil},

		{"no field", headerOf("Subject: a", "hello there"), false, []string{`6 Line is no header field, line 4: hello there`}},
		{"mailbox line", "From a@example.org Mon Aug  9 09:36:36 2021\r\n" + headerOf("X: y"), false, []string{`6 Line is no header field, line 1: From a@example.org Mon Aug  9 09:36:36 2021`}},
		{"delimiter", headerOf("--=_a:b"), false, []string{`6 Line is no header field, line 3: --=_a:b`}},
		{"blank in the name", headerOf("Sub ject: a"), false, []string{`6 Line is no header field, line 3: Sub ject: a`}},
		{"blank before the colon", headerOf("Subject : a"), false, nil},
		{"no name", headerOf(": a"), false, []string{`6 Empty field name, line 3: : a`}},
		{"backslash", headerOf(`a\b`), false, []string{`6 Line is no header field, line 3: a\\b`}},

		{"nothing", "", false, []string{"7 Missing field Date"}},
		{"empty header", "\r\n", false, []string{"7 Missing field Date"}},
		{"no date", "From: a\r\n\r\n", false, []string{"7 Missing field Date"}},
		{"no author", "dAtE: a\r\n\r\n", false, []string{"7 Missing field From"}},
		{"blank before the colon counts", "Date : a\r\nFrom: b\r\n\r\n", false, nil},

		{"twice", headerOf("Subject: one", "SUBJECT: two", "To: a", "To: b"), false, []string{"8 Field stands more than once, line 4: SUBJECT: two"}},
		{"twice the author", headerOf("From: b@example.org"), false, []string{"8 Field stands more than once, line 3: From: b@example.org"}},
		{"may be there twice", headerOf("Received: a", "Received: b", "Comments: a", "Comments: b", "Resent-To: a", "Resent-To: b", "X-Subject: a", "X-Subject: b"), false, nil},

		{"all", headerOf("Subject: a\xff\x00"+long, " ", "subject: b", "Content-Type: x", "junk") + "\r\n", false, []string{
			`2 Unencoded 8-bit character FF hex (and not UTF-8) in Subject, line 3 column 11: a\xFF\x00` + long[:47] + "...",
			`3 Control character 00 hex in Subject, line 3 column 12: a\xFF\x00` + long[:47] + "...",
			"5 Line of 1001 characters, 998 are allowed, in Subject, line 3: a\\xFF\\x00" + long[:47] + "...",
			"4 Line of white space only in Subject, line 4",
			"8 Field stands more than once, line 5: subject: b",
			"6 Line is no header field, line 7: junk",
			"1 Faulty Content-Type, line 6: Content-Type: x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := input(tt.message)
			in.Tx.FromOpts.UTF8 = tt.utf8
			if got := complaints(t, in); !slices.Equal(got, tt.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if string(in.Tx.Message.Bytes()) != tt.message {
				t.Error("the message changed")
			}
		})
	}
}

func TestHeaderMIME(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{"Content-Type: text/plain; charset=us-ascii (Plain text)"}, ""},
		{[]string{"Content-Type: TEXT/Plain (a \"(nested \\)) comment\")"}, ""},
		{[]string{`Content-Type: application/pdf; name="a (1).pdf"`}, ""},
		{[]string{`Content-Type: application/pdf; name="a \"(1).pdf"`}, ""},
		{[]string{"Content-Type: multipart/mixed;", "\tboundary=\"a b\";"}, ""},
		{[]string{"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b"}, ""},
		{[]string{"Content-Type: text"}, "Faulty Content-Type, line 3: Content-Type: text"},
		{[]string{"Content-Type:"}, "Faulty Content-Type, line 3: Content-Type:"},
		{[]string{"Content-Type: text/plain; charset", "X: y"}, "Faulty Content-Type, line 3: Content-Type: text/plain; charset"},
		{[]string{"X: y", "Content-Type: text/plain;", " name=a b"}, "Faulty Content-Type, line 4: Content-Type: text/plain; name=a b"},
		{[]string{"Content-Type: multipart/mixed"}, "Content-Type without boundary, line 3: Content-Type: multipart/mixed"},
		{[]string{`Content-Type: multipart/mixed; boundary=""`}, `Boundary of wrong length, line 3: Content-Type: multipart/mixed; boundary=""`},
		{[]string{"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 70)}, ""},
		{[]string{"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 71)}, "Boundary of wrong length, line 3: Content-Type: multipart/mixed; boundary=bbbbbbbbbb..."},

		{[]string{"Content-Transfer-Encoding: 8BIT"}, ""},
		{[]string{"Content-Transfer-Encoding: base64 (as always)"}, ""},
		{[]string{"Content-Transfer-Encoding: x-uuencode"}, ""},
		{[]string{"Content-Transfer-Encoding: x-"}, "Unknown Content-Transfer-Encoding, line 3: Content-Transfer-Encoding: x-"},
		{[]string{"Content-Transfer-Encoding: base64; 7bit"}, "Unknown Content-Transfer-Encoding, line 3: Content-Transfer-Encoding: base64; 7bit"},
		{[]string{"Content-Transfer-Encoding:"}, "Unknown Content-Transfer-Encoding, line 3: Content-Transfer-Encoding:"},
		{[]string{"Content-Transfer-Encoding: base64", "Content-Type: multipart/mixed; boundary=a"},
			"Content-Transfer-Encoding is not allowed for multipart/mixed, line 3: Content-Transfer-Encoding: base64"},
		{[]string{"Content-Transfer-Encoding: quoted-printable", "Content-Type: message/rfc822"},
			"Content-Transfer-Encoding is not allowed for message/rfc822, line 3: Content-Transfer-Encoding: quoted-printable"},
		{[]string{"Content-Transfer-Encoding: base64", "Content-Type: message/global"}, ""},
		{[]string{"Content-Transfer-Encoding: binary", "Content-Type: multipart/mixed; boundary=a"}, ""},
	} {
		got := complaints(t, input(headerOf(tt.lines...)))
		want := []string{"1 " + tt.want}
		if tt.want == "" {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\ngot  %q\nwant %q", tt.lines, got, want)
		}
	}
}

// TestHeaderIsNoScanner: a message that only the header check saw was not
// scanned for viruses.
func TestHeaderIsNoScanner(t *testing.T) {
	t.Parallel()
	h := Header()
	r := Run(t.Context(), []Named{h}, input(headerOf("Subject: a", "Subject: b")))
	if len(r) != 1 || r[0].Scanned || r[0].Err != nil || len(r[0].Findings) != 1 || r[0].Check != "header" {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(h.Categories, []mail.Category{mail.BadHeader}) {
		t.Errorf("%v", h.Categories)
	}
	if Kinds()["header"] != nil {
		t.Error("the header check is no engine")
	}
}

// headerGrowth are headers that get longer in one respect.
var headerGrowth = map[string]func(n int) string{
	"fields":        func(n int) string { return strings.Repeat("X: y\r\n", n) },
	"no fields":     func(n int) string { return strings.Repeat("x\r\n", n) },
	"duplicates":    func(n int) string { return strings.Repeat("Subject: y\r\n", n) },
	"long names":    func(n int) string { return strings.Repeat("x", n) + ": y\r\n" },
	"long lines":    func(n int) string { return strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", n/100) },
	"folds":         func(n int) string { return "Subject:" + strings.Repeat(" x\r\n", n) },
	"blank lines":   func(n int) string { return "Subject:" + strings.Repeat(" \r\n", n) },
	"UTF-8":         func(n int) string { return strings.Repeat("X: ü\r\n", n) },
	"UTF-8 line":    func(n int) string { return "X: " + strings.Repeat("ü", n) + "\r\n" },
	"8-bit":         func(n int) string { return strings.Repeat("X: \xff\r\n", n) },
	"bare CR":       func(n int) string { return "X: " + strings.Repeat("\r", n) + "\r\n" },
	"comments":      func(n int) string { return "Content-Type: " + strings.Repeat("(", n) + "\r\n" },
	"parameters":    func(n int) string { return "Content-Type: a/b" + strings.Repeat("; a=b", n) + "\r\n" },
	"continuations": func(n int) string { return "Content-Type: a/b; x*0=y" + strings.Repeat(";x*00=y", n) + "\r\n" },
	"colons":        func(n int) string { return strings.Repeat(":", n) + "\r\n" },
}

// TestHeaderDoubling: twice the header needs no more allocations, so nothing is
// kept or made for each line.
func TestHeaderDoubling(t *testing.T) {
	for name, grow := range headerGrowth {
		for _, smtputf8 := range []bool{false, true} {
			allocs := func(n int) float64 {
				in := input(grow(n))
				in.Tx.FromOpts.UTF8 = smtputf8
				in.Tx.Message.Header() // whose own allocations are no matter here
				return testing.AllocsPerRun(5, func() {
					if _, err := (headerCheck{}).Check(t.Context(), in); err != nil {
						t.Error(err)
					}
				})
			}
			// the rest of the process allocates a little, too
			if once, twice := allocs(20000), allocs(40000); twice > once+200 {
				t.Errorf("%s: %v allocations, %v for twice the header", name, once, twice)
			}
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, grow := range headerGrowth {
		f.Add([]byte(grow(3)), false)
	}
	f.Add([]byte(headerOf("Subject: a\x00\xff", " ", "Content-Type: multipart/mixed; boundary=\"(\"")), true)
	f.Fuzz(func(t *testing.T, data []byte, smtputf8 bool) {
		in := input(string(data))
		in.Tx.FromOpts.UTF8 = smtputf8
		first := complaints(t, in)
		if !slices.Equal(first, complaints(t, in)) {
			t.Error("two answers about one message")
		}
		plain := !strings.ContainsFunc(string(in.Tx.Message.HeaderBytes()), func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r > '~' })
		for _, c := range first {
			if plain && (c[0] == '2') {
				t.Errorf("%s in a header of US-ASCII", c)
			}
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	head := headerOf(
		"Received: from client.example.org (client.example.org [192.0.2.7])",
		"\tby mail.example.org (Postfix) with ESMTPSA id 4AAAA; Mon, 9 Aug 2021 09:36:36 +0200",
		"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org;"+strings.Repeat("\r\n\t"+strings.Repeat("b", 70), 6),
		"To: b@example.org", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Message-ID: <1@example.org>", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
		"MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="----=_Part_1234_567890.1628494596000"`, "Content-Language: de-DE",
		"X-Spam-Status: No, score=-1.9 required=5.0 tests=BAYES_00,DKIM_SIGNED,DKIM_VALID,", "\tDKIM_VALID_AU,SPF_PASS autolearn=ham version=3.4.6")
	message := head + strings.Repeat(strings.Repeat("x", 76)+"\r\n", (4096-len(head))/78)
	b.Run("check", func(b *testing.B) {
		in := input(message)
		b.ReportAllocs()
		for b.Loop() {
			if got, err := (headerCheck{}).Check(b.Context(), in); err != nil || len(got.Findings) > 0 {
				b.Fatal(got, err)
			}
		}
	})
	b.Run("split and check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := (headerCheck{}).Check(b.Context(), input(message)); err != nil || len(got.Findings) > 0 {
				b.Fatal(got, err)
			}
		}
	})
}
