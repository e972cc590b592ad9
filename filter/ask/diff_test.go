package ask

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What no mail shows is told too.
func TestDiffAroundMail(t *testing.T) {
	t.Parallel()
	const common = "hostname: mail.example.org\nlocal_domains: [.example.org]\nbanks: {A: {}}\n"
	var many strings.Builder
	for i := range maxSamples + 2 {
		fmt.Fprintf(&many, "  - {match: u%d@example.org, settings: {spam: {kill_level: %d}}}\n", i, i)
	}
	for _, tt := range []struct{ before, after, want string }{
		{`listeners: [{protocol: lmtp, address: "unix:/m"}]`, `listeners: [{protocol: lmtp, address: "unix:/m", mode: "0666", owner: "a:b"}]`, "listener unix:/m: mode as the umask leaves it -> mode 0666, owner a:b"},
		{"", "signer_banks: [{domains: [.example.com, x.y], bank: [A, MYNETS]}]", "signer_banks: none -> .example.com x.y: A/MYNETS"},
		{"archive_passwords: [one]", "archive_passwords: [two]", "archive_passwords: not the same"},
		{"recipients:\n" + many.String(), "", tooMany},
	} {
		all, err := Diff(t.Context(), dryRunOf(t, "postern.yaml", common+tt.before+"\n"), dryRunOf(t, "postern.yaml", common+tt.after+"\n"))
		if err != nil || !slices.ContainsFunc(all, func(d Difference) bool { return d.Change == tt.want && d.Mail == nil }) {
			t.Errorf("%v: %q is not in %+v", err, tt.want, all)
		}
		if strings.Contains(fmt.Sprint(all), "two") {
			t.Errorf("a password is shown: %+v", all)
		}
	}
}
