package unpack

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
)

// fuzzLimits keep one input short.
var fuzzLimits = Limits{
	Bytes: 8 << 20, Ratio: 100, Parts: 500, Entries: 100, Depth: 8, Nesting: 5,
	Header: 64 << 10, Fields: 500, Time: 5 * time.Second,
}

func FuzzParts(f *testing.F) {
	for _, list := range [][]trick{structureTricks(), encodingTricks()} {
		for _, tr := range list {
			if len(tr.msg) < 16<<10 {
				f.Add([]byte(tr.msg))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		r := Parts(context.Background(), mail.NewMessage(data), fuzzLimits)
		if !bytes.Equal(before, data) {
			t.Error("the message was changed")
		}
		checkResult(t, r)
	})
}

// checkResult holds for every message.
func checkResult(t *testing.T, r *Result) {
	t.Helper()
	places := map[string]bool{}
	for i, p := range r.Parts {
		if places[p.Place] {
			t.Errorf("two parts at %s", p.Place)
		}
		places[p.Place] = true
		if (p.Parent == nil) != (i == 0) || i > 0 && !strings.HasPrefix(p.Place, p.Parent.Place+"/") {
			t.Errorf("part at %s has the wrong parent", p.Place)
		}
		if p.Data != nil && p.Size != int64(len(p.Data)) {
			t.Errorf("part at %s: size %d, data %d", p.Place, p.Size, len(p.Data))
		}
	}
	if len(r.Findings) > 4*maxFindings {
		t.Errorf("%d findings", len(r.Findings))
	}
	for _, f := range r.Findings {
		if f.Category != mail.Unchecked || f.Rcpt != mail.AllRcpts || f.Check == "" || f.Detail == "" && f.Minor != mail.Encrypted {
			t.Errorf("finding %+v", f)
		}
		if f.Minor == mail.CheckFailed {
			t.Errorf("panic: %s", f.Detail)
		}
	}
}

func FuzzParameters(f *testing.F) {
	for _, s := range []string{`text/plain; charset=utf-8; name="a b"`, `a/b; x*0*=utf-8''%41; x*1="b\"c"`, `=?utf-8?q?a/b?=; (x(y)) x = =?utf-8?b?YQ==?= y="`, "a/b; x=\"\n b\"; x*9999999999=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		word, clean, params := parseValue(s)
		if clean && !isToken(word) {
			t.Errorf("word %q is called clean", word)
		}
		for _, p := range params {
			readings, spelled := lookup(params, p.name)
			for _, v := range append(readings, spelled...) {
				if len(v) > 6*len(s)+16 {
					t.Errorf("value of %d octets from %d", len(v), len(s))
				}
			}
		}
	})
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?a_=41?=", "=?UTF-16BE?B?AGE=?= =?x?y?", "x=?utf-8*en?b?/w?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if out := decodeWords(s); len(out) > 6*len(s)+16 {
			t.Errorf("%d octets from %d", len(out), len(s))
		} else if !strings.Contains(s, "=?") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(mimeHead + " \r\njunk\r\nContent-\r\n Type: x\r\n\r\nbody"))
	f.Add([]byte("\xef\xbb\xbfContent-Type : a\r\r\nb: \rc\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range scanHead(data, headLimits{Header: fuzzLimits.Header, Fields: fuzzLimits.Fields}) {
			if !bytes.HasSuffix(data, h.body) {
				t.Errorf("body %q is not the end of %q", h.body, data)
			}
			for _, fl := range h.fields {
				if !strings.HasPrefix(fl.name, "content-") || fl.at >= len(data) {
					t.Errorf("field %+v", fl)
				}
			}
		}
	})
}

func FuzzDelimiters(f *testing.F) {
	f.Add([]byte("x\r\n--b\r\ny\r\n --b \r\n--b--\r\nz\r\n--b"), "b")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if boundary == "" {
			return
		}
		ds, _ := delimiters(body, boundary)
		for _, strict := range []bool{true, false} {
			s := segments(body, ds, strict)
			end := 0
			for _, p := range s.parts {
				if p.start < end || p.end < p.start || p.end > len(body) {
					t.Fatalf("segments %+v of %d octets", s.parts, len(body))
				}
				end = p.end
			}
			if s.first > len(body) || s.last > len(body) || s.last < end {
				t.Fatalf("preamble %d, epilogue %d of %d octets, parts end at %d", s.first, s.last, len(body), end)
			}
		}
	})
}

func FuzzBase64(f *testing.F) {
	f.Add([]byte("aGVs\r\nbG8=\r\n"))
	f.Add([]byte("aGVsbA==bw==x-_\xff"))
	f.Fuzz(func(t *testing.T, src []byte) {
		list := decodeBase64(src)
		if want, err := base64.StdEncoding.DecodeString(string(src)); err == nil && (len(list) != 1 || !bytes.Equal(list[0], want)) {
			t.Errorf("%q: %q, want %q", src, list, want)
		}
		for _, out := range list {
			if len(out) > len(src) {
				t.Errorf("%d octets from %d", len(out), len(src))
			}
		}
	})
}

func FuzzQuotedPrintable(f *testing.F) {
	f.Add([]byte("a=3Db=\r\nc= \t\r\nd=4"))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, out := range decodeQP(src) {
			if len(out) > len(src) {
				t.Errorf("%d octets from %d", len(out), len(src))
			}
		}
	})
}

func FuzzArmour(f *testing.F) {
	f.Add([]byte(uuencode("a")))
	f.Add([]byte(yenc("a")))
	f.Add([]byte(binhex("a")))
	f.Add([]byte(apple(0x51600, "a", 1)))
	f.Add([]byte(yencPart(1, payload[:50]) + yencPart(2, payload[50:])))
	f.Add([]byte("begin-base64 644 a\nQ2F0\n====\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		binhex, _ := findBinHex(text, 1000)
		for _, list := range [][]hidden{findUU(text), findYEnc(text), findApple(text), binhex} {
			total := 0
			for _, h := range list {
				total += len(h.data)
			}
			if total > 2*len(text)+1000 {
				t.Errorf("%d octets from %d", total, len(text))
			}
		}
	})
}

func fuzzContainer(f *testing.F, word string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := NewBudget(context.Background(), fuzzLimits, int64(len(data)))
		out, err := expand(data, []string{word}, b, func(m member) error { return nil })
		if err != nil || strings.Contains(out.reason, "gave up") {
			t.Errorf("%v, %+v", err, out)
		}
	})
}

func FuzzTNEF(f *testing.F) {
	fuzzContainer(f, "tnef", tnef("evil.exe", payload), tnef("x", nil))
}
