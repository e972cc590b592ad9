package filter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestHoles: where Amavis loses mail, lets it through or writes to strangers, our
// answer is another. The cases are those of the flow; here stands which of them is
// the answer to what, and what must be in it.
func TestHoles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ hole, flow, want, never string }{
		{"a: milter, tempfail for all, and the mail is discarded", "q30-hole-a", "reply: 451", "reply: 250"},
		{"b: milter, tempfail for one, whose copy is gone", "q31-hole-b", "reply: 451", "back to the client"},
		{"c: the quarantine fails after a recipient was done with", "q32-hole-c", "reply: 451 4.3.0\\reply: 250 2.0.0", ""},
		{"d: the report cannot be sent, and the mail is gone", "q33-hole-d", "reply: 451 4.4.0", "reply: 250"},
		{"e: the same after a part was delivered", "q34-hole-e", "reply: 451 4.4.0\\reply: 250 2.0.0", "DSN"},
		{"f: a refusal becomes 250 because of another recipient's report", "v30-virus-reject-bounce", "reply: 554\\reply: 250 2.5.0 Ok <second@no-uce.de>, DSN was sent", ""},
		{"h: no folder, and the copy is said to be there", "q35-hole-h", "reply: 451", "reply: 250"},
		{"j: the report is refused, and nobody learns of it", "r18-10025-5xx-virus-bounce", "reply: 554", "reply: 250"},
		{"k: the next hop refuses at DATA", "r04-10025-eom-4xx", "reply: 4", "reply: 250"},
		{"finding 1: the scanner is down, and mail passes", "t02-scanner-down", "reply: 451", "gets"},
		{"finding 2: the next hop is down, and a bounce loses the mail", "r10-10025-down-virus-bounce", "reply: 451", "reply: 250"},
		{"finding 2: it refuses the report for now", "r16-10025-4xx-virus-bounce-noadmin", "reply: 451", "reply: 250"},
		{"finding 2: the notice fails as well", "r17-10025-4xx-virus-bounce", "reply: 451", "reply: 250"},
		{"finding 3: the notice cannot be sent, and the log has no line", "r11-10025-down-virus-reject", "reply: 554\\log: (00042-01) Blocked INFECTED", ""},
		{"finding 4: no next hop, and the log says Passed", "a08-clean-inbound-fwd", "reply: 250 2.0.0 from MTA", ""},
		{"finding 5: our own user is not told of a worm", "v06-worm-out-bounce", "DSN was sent", ""},
		{"finding 6: a cut zip with a program passes", "b14-corrupt-zip", "reply: 554", "reply: 250"},
		{"finding 6: a bomb is delivered as if it were checked", "t18-zip-bomb", "UNCHECKED", "Passed CLEAN"},
		{"finding 6: an encrypted zip has no mark", "b10-zip-encrypted", "UNCHECKED-ENCRYPTED", "Passed CLEAN"},
		{"finding 7: an empty message is spam", "h12-empty-message", "reply: 250 2.0.0", "Blocked"},
		{"finding 8: a report to a forged sender, virus", "w01-virus-in-bounce", "quarantine keeps it", "gets <> ->"},
		{"finding 8: banned", "b06-exe-in-bounce", "quarantine keeps it", "gets <> ->"},
		{"finding 8: bad header", "h11-badh-in-bounce", "quarantine keeps it", "gets <> ->"},
		{"finding 8: spam", "s10-gtube-in-bounce-nocutoff", "quarantine keeps it", "gets <> ->"},
		{"finding 8: by milter, which could have refused", "m14-milter-ext-virus-bounce", "reply: 554", "gets <> ->"},
		{"finding 9: the sender gets his virus back", "v03-virus-out-bounce", "gets <> -> <himself@jeanbruenn.info>: own mail", "EICAR"},
	} {
		a, err := txtar.ParseFile(filepath.Join("testdata", "flow", tt.flow+".txtar"))
		if err != nil {
			t.Error(tt.hole, err)
			continue
		}
		want := ""
		for _, f := range a.Files {
			if f.Name == "want" {
				want = string(f.Data)
			}
		}
		rest := want
		for line := range strings.SplitSeq(tt.want, "\\") {
			i := strings.Index(rest, line)
			if i < 0 {
				t.Errorf("%s: %s has no %q in\n%s", tt.hole, tt.flow, line, want)
				break
			}
			rest = rest[i+len(line):]
		}
		if tt.never != "" && strings.Contains(want, tt.never) {
			t.Errorf("%s: %s has %q in\n%s", tt.hole, tt.flow, tt.never, want)
		}
	}
	// g, one reply for several recipients whose mail is too large, and i, a large
	// mail that an engine does not see, are tests of their own
	for file, test := range map[string]string{"listen/limits_test.go": "func TestSizeLimit(", "check/spamassassin_test.go": "func TestSpamAssassinTooLarge("} {
		if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), test) {
			t.Errorf("%s: no %s, %v", file, test, err)
		}
	}
}
