package policy

// What is to be asked outside of the configuration: how it is judged.

import (
	"fmt"
	"strings"
	"time"
)

// sqlLookup judges lookups.sql.
func (l *loader) sqlLookup() {
	const key = "lookups.sql"
	s := &l.cfg.Lookups.SQL
	if s.Type == NoSQL {
		if s.DSN != "" && !l.BadBelow(key) {
			l.At(key, "no type", "want postgresql or mariadb")
		}
		return
	}
	path, isFile := strings.CutPrefix(s.DSN, "file:")
	name, isEnv := strings.CutPrefix(s.DSN, "env:")
	switch {
	case s.DSN == "" && !l.BadBelow(key):
		l.At(key, "no dsn: where is the server?", `want dsn: "file:PATH" or "env:NAME"`)
	case isFile && path != "":
		s.DSN = "file:" + l.resolve(path)
	case isEnv && name != "":
	case s.DSN != "":
		// what is written there may be a password
		l.At(key+".dsn", "the address of the server does not stand here", `want "file:PATH", a file with it, or "env:NAME", the name of an environment variable`)
	}
	l.query(key+".select_policy", s.SelectPolicy, "%k")
	if s.SelectSenders != "" {
		l.query(key+".select_senders", s.SelectSenders, "?")
	}
	for _, x := range []struct {
		key   string
		value time.Duration
	}{{"timeout", s.Timeout}, {"cache_for", s.CacheFor}, {"connections", time.Duration(s.Connections)}, {"cache_rows", time.Duration(s.CacheRows)}} {
		if x.value <= 0 {
			l.At(key+"."+x.key, "must be above 0", "")
		}
	}
	switch {
	case s.Timeout >= lookupTimeout:
		l.At(key+".timeout", fmt.Sprintf("must be below %s, the time for all lookups of a message", lookupTimeout), "")
	case s.StaleFor < 0:
		l.At(key+".stale_for", "must not be below 0", "0: an answer holds for cache_for only")
	}
}

// query judges the text of a question, which must have the placeholder needs.
func (l *loader) query(key, text, needs string) {
	q, err := ParseQuery(text)
	list := needs == "?"
	switch {
	case err != nil:
		l.At(key, err.Error(), "")
	case list && q.Has("k"):
		l.At(key, "a sender list is asked for as a whole, so that it is known while the server is away: no %k", "want the columns email and wb of all rows: SELECT mailaddr.email, wblist.wb ... WHERE wblist.rid = ? ...")
	case list && (!q.Has("?") || len(q.Wants()) > 1):
		l.At(key, `want "?", the id of the user, and no other placeholder`, "")
	case !list && q.Has("?"):
		l.At(key, `"?" has no meaning here`, "want %k, the keys of the address, or %a, %l, %u, %e, %d")
	case len(q.Wants()) == 0:
		l.At(key, "nothing in it is about the address", "want %k, the keys of the address, or %a, %l, %u, %e, %d")
	}
}

// Query is the text of a question to a database, cut at its placeholders.
type Query struct {
	texts []string // one more than wants
	wants []string
}

// ParseQuery cuts a question at its placeholders: "?", %k, %a, %l, %u, %e and
// %d; %% is a percent sign. What stands in quotes is left alone.
func ParseQuery(text string) (*Query, error) {
	q := &Query{}
	var b strings.Builder
	cut := func(want string) {
		q.texts, q.wants = append(q.texts, b.String()), append(q.wants, want)
		b.Reset()
	}
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
			b.WriteByte(c)
		case c == '\'' || c == '"' || c == '`':
			quote = c
			b.WriteByte(c)
		case c == '?':
			cut("?")
		case c == '%':
			i++
			switch {
			case i < len(text) && text[i] == '%':
				b.WriteByte('%')
			case i < len(text) && strings.IndexByte("kalude", text[i]) >= 0:
				cut(text[i : i+1])
			default:
				return nil, fmt.Errorf("placeholder %q is not known; known are %%k, %%a, %%l, %%u, %%e, %%d and %%%%", text[i-1:min(i+1, len(text))])
			}
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	q.texts = append(q.texts, b.String())
	return q, nil
}

// Has reports whether a placeholder stands in the question: its letter, or "?".
func (q *Query) Has(want string) bool {
	for _, w := range q.wants {
		if w == want {
			return true
		}
	}
	return false
}

// Wants returns the placeholders in their order, without the percent sign.
func (q *Query) Wants() []string { return q.wants }

// Text puts marks of a server where the placeholders are. mark gives the text
// for the placeholder of that letter.
func (q *Query) Text(mark func(want string) string) string {
	var b strings.Builder
	for i, want := range q.wants {
		b.WriteString(q.texts[i])
		b.WriteString(mark(want))
	}
	b.WriteString(q.texts[len(q.texts)-1])
	return b.String()
}
