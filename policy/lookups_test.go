package policy

import (
	"strings"
	"testing"
)

func TestSQLLookupMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{dsn: 'file:x'}":                                                                                        "lookups.sql: no type",
		"{type: mariadb}":                                                                                        "no dsn",
		"{type: mysql, dsn: 'file:x'}":                                                                           "type",
		"{type: mariadb, dsn: 'u:secret@/db'}":                                                                   "the address of the server does not stand here",
		"{type: mariadb, dsn: 'file:'}":                                                                          "does not stand here",
		"{type: mariadb, dsn: 'file:x', timeout: 5s}":                                                            "timeout: must be below 5s",
		"{type: mariadb, dsn: 'file:x', timeout: 0}":                                                             "must be above 0",
		"{type: mariadb, dsn: 'file:x', connections: 0}":                                                         "must be above 0",
		"{type: mariadb, dsn: 'file:x', stale_for: -1s}":                                                         "stale_for",
		"{type: mariadb, dsn: 'file:x', select_policy: 'SELECT 1'}":                                              "nothing in it is about the address",
		"{type: mariadb, dsn: 'file:x', select_policy: 'SELECT %x'}":                                             `placeholder "%x" is not known`,
		"{type: mariadb, dsn: 'file:x', select_policy: 'SELECT %k WHERE a = ?'}":                                 `"?" has no meaning here`,
		`{type: mariadb, dsn: 'file:x', select_policy: "SELECT 'a WHERE a IN (%k)"}`:                             "quote ' is not closed",
		"{type: mariadb, dsn: 'file:x', select_senders: 'SELECT wb FROM w WHERE rid = ? AND email IN (%k)'}":     "as a whole",
		"{type: mariadb, dsn: 'file:x', select_senders: 'SELECT email, wb FROM w WHERE rid = ? AND email = %a'}": "no other placeholder",
	} {
		_, err := Parse("postern.yaml", []byte("lookups:\n  sql: "+text+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "postern.yaml:2:") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is told: %v", err)
		}
	}
	c := mustParse(t, "lookups: {sql: {type: postgresql, dsn: 'file:sub/dsn'}}")
	if c.Lookups.SQL.DSN != "file:sub/dsn" { // beside postern.yaml
		t.Errorf("%s", c.Lookups.SQL.DSN)
	}
}

// What is cut at its placeholders is the same text again, whatever it is.
func FuzzQuery(f *testing.F) {
	f.Add("SELECT * FROM users WHERE email IN (%k) AND x = '?' AND y = ?")
	f.Add("%%'%k")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ParseQuery(text)
		if err != nil {
			return
		}
		got := q.Text(func(want string) string {
			if want == "?" {
				return want
			}
			return "%" + want
		})
		if strings.ReplaceAll(got, "%", "") != strings.ReplaceAll(text, "%", "") {
			t.Errorf("%q became %q", text, got)
		}
	})
}
