package policy

import (
	"slices"
	"testing"
	"time"

	"postern/filter/mail"
)

// The folders of am.pdp have a default, and are relative to the file.
func TestListenerKeys(t *testing.T) {
	t.Parallel()
	c, err := Parse("/etc/postern/postern.yaml", []byte(`listeners:
  - {protocol: am.pdp, address: "unix:/a"}
  - {protocol: am.pdp, address: "unix:/b", folders: [tmp/, /var/lib/am/../am/tmp], allow_banks: ORIGINATING}
  - {protocol: milter, address: "unix:/c", split: rcpt, local_bank: ORIGINATING}
  - {protocol: smtp-proxy, address: "127.0.0.1:10026", allow: 127.0.0.1}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := c.Listeners
	if !slices.Equal(l[0].Folders, []string{"/var/lib/amavis/tmp"}) || len(l[0].AllowBanks) > 0 {
		t.Errorf("%+v", l[0])
	}
	if !slices.Equal(l[1].Folders, []string{"/etc/postern/tmp", "/var/lib/am/tmp"}) || !slices.Equal(l[1].AllowBanks, []string{"ORIGINATING"}) {
		t.Errorf("%+v", l[1])
	}
	if l[2].Split != SplitRcpt || l[2].LocalBank != "ORIGINATING" || l[2].Folders != nil {
		t.Errorf("%+v", l[2])
	}
	if l[3].Protocol != mail.InputProxy {
		t.Errorf("%+v", l[3])
	}
}

// Postfix waits 100 s for the answer of a proxy, and ten of them are for a
// handler that overruns.
func TestDeadlineOfProxy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]time.Duration{
		"":                          {80 * time.Second, 40 * time.Second},
		"limits: {deadline: 10m}\n": {80 * time.Second, 40 * time.Second},
		"limits: {deadline: 60s, check_deadline: 20s}\n": {60 * time.Second, 20 * time.Second},
		"limits: {deadline: 30s, check_deadline: 20s}\n": {30 * time.Second, 15 * time.Second},
	} {
		c := parse(t, text)
		if got := [2]time.Duration{c.Deadline(mail.InputProxy), c.CheckDeadline(mail.InputProxy)}; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		for _, in := range []mail.Input{mail.InputLMTP, mail.InputMilter, mail.InputLocal} {
			if c.Deadline(in) != c.Limits.Deadline || c.CheckDeadline(in) != c.Limits.CheckDeadline {
				t.Errorf("%q: the deadlines of %s are not those of the limits", text, in)
			}
		}
	}
}
