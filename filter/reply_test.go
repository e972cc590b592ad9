package filter

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/filter/mail"
)

func receipt(d mail.Disposal, code int, text string) mail.Receipt {
	return mail.Receipt{Disposal: d, Reply: mail.NewReply(code, 0, 0, "%s", text)}
}

// Promise 1: 2xx only with a receipt. Every pair of disposal and reply that
// does not fit must leave the message in the feeding queue.
func TestFinalReplyNeedsReceipt(t *testing.T) {
	t.Parallel()
	fits := map[mail.Disposal]int{
		mail.Relayed: 2, mail.Quarantined: 2, mail.Bounced: 2, mail.Discarded: 2, mail.Refused: 5, mail.Deferred: 4,
	}
	for d := mail.NotHandled; d <= mail.Discarded; d++ {
		for _, code := range []int{0, 250, 354, 451, 554} {
			got := finalReply(receipt(d, code, "x")).Class()
			want := 4
			if fits[d] != 0 && code/100 == fits[d] {
				want = fits[d]
			}
			if got != want {
				t.Errorf("disposal %d with reply %d: answered %dxx, want %dxx", d, code, got, want)
			}
		}
	}
	if got := finalReply(mail.Receipt{}).Class(); got != 4 {
		t.Errorf("no receipt: answered %dxx", got)
	}
}

func TestMergeReplies(t *testing.T) {
	t.Parallel()
	relayed := receipt(mail.Relayed, 250, "from MTA(x): 250 2.0.0 Ok")
	refused := receipt(mail.Refused, 554, "Reject")
	deferred := receipt(mail.Deferred, 451, "later")
	bounced := receipt(mail.Bounced, 250, "Ok <a>, DSN was sent")
	discarded := receipt(mail.Discarded, 250, "Ok, discarded")
	for _, c := range []struct {
		name string
		in   []mail.Receipt
		want string
	}{
		{"one relayed", []mail.Receipt{relayed}, "250 2.0.0 from MTA(x): 250 2.0.0 Ok"},
		{"any delay delays all", []mail.Receipt{relayed, refused, deferred}, "451 4.0.0 later"},
		{"all refused", []mail.Receipt{refused, refused}, "554 5.0.0 Reject"},
		{"refused and discarded", []mail.Receipt{discarded, refused}, "554 5.0.0 Reject"},
		{"all discarded", []mail.Receipt{discarded, discarded}, "250 2.0.0 Ok, discarded"},
		{"all reported", []mail.Receipt{bounced, bounced}, "250 2.0.0 Ok <a>, DSN was sent"},
		{"relayed and reported", []mail.Receipt{bounced, relayed}, "250 2.0.0 from MTA(x): 250 2.0.0 Ok, but 1 BOUNCE"},
		{"all kinds", []mail.Receipt{relayed, bounced, discarded, discarded}, "250 2.0.0 from MTA(x): 250 2.0.0 Ok, but 1 BOUNCE, and 2 DISCARD"},
		{"reported and discarded", []mail.Receipt{bounced, discarded}, "250 2.5.0 Ok, id=ID, 1 BOUNCE, and 1 DISCARD"},
		{"nothing handled", []mail.Receipt{relayed, {}}, "451 4.3.0 Error in processing"},
	} {
		if got := mergeReplies(c.in, "ID").String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Only replies may make a final reply: a success written anywhere else would
// not be backed by a receipt.
func TestSuccessIsWrittenInOnePlace(t *testing.T) {
	t.Parallel()
	success := regexp.MustCompile(`NewReply\(2|Code: *2\d\d`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source", err)
	}
	for _, f := range files {
		if f == "reply.go" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m := success.Find(data); m != nil {
			t.Errorf("%s writes a success itself: %s", f, m)
		}
	}
}
