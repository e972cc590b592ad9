package unpack

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/unpack/armour"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/specimen"
)

// fuzzLimits keep one input short.
var fuzzLimits = budget.Limits{
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

func FuzzArmour(f *testing.F) {
	f.Add([]byte(specimen.UU("a")))
	f.Add([]byte(specimen.YEnc("a")))
	f.Add([]byte(specimen.BinHex("a")))
	f.Add([]byte(specimen.Apple(0x51600, "a", 1)))
	f.Add([]byte(specimen.YEncPart(1, specimen.Payload[:50]) + specimen.YEncPart(2, specimen.Payload[50:])))
	f.Add([]byte("begin-base64 644 a\nQ2F0\n====\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		binhex, _ := armour.FindBinHex(text, 1000)
		for _, list := range [][]armour.File{armour.FindUU(text), armour.FindYEnc(text), armour.FindApple(text), binhex} {
			total := 0
			for _, h := range list {
				total += len(h.Data)
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
		b := budget.New(context.Background(), fuzzLimits, int64(len(data)))
		out, err := expand(data, []string{word}, b, func(m budget.Member) error { return nil })
		if err != nil || strings.Contains(out.Reason, "gave up") {
			t.Errorf("%v, %+v", err, out)
		}
	})
}

func FuzzTNEF(f *testing.F) {
	fuzzContainer(f, "tnef", specimen.TNEF("evil.exe", specimen.Payload), specimen.TNEF("x", nil))
}
