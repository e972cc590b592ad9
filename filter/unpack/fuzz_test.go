package unpack

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
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
