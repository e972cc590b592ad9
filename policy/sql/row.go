package sql

// What the columns of Amavis' tables mean here.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern/filter/mail"
	"postern/policy"
	"postern/policy/senderlist"
)

// column says which setting a column is, and how its text is read.
type column struct {
	key  string
	read func(string) (any, error)
}

// columns are those of Amavis that have a setting here.
var columns = map[string]column{
	"virus_lover": {"virus.lover", flag}, "banned_files_lover": {"banned.lover", flag}, "spam_lover": {"spam.lover", flag},
	"bad_header_lover": {"bad_header.lover", flag}, "unchecked_lover": {"unchecked.lover", flag},
	"bypass_virus_checks": {"virus.bypass", flag}, "bypass_banned_checks": {"banned.bypass", flag},
	"bypass_spam_checks": {"spam.bypass", flag}, "bypass_header_checks": {"bad_header.bypass", flag},
	"spam_tag_level": {"spam.tag_level", level}, "spam_tag2_level": {"spam.tag2_level", level}, "spam_tag3_level": {"spam.tag3_level", level},
	"spam_kill_level": {"spam.kill_level", level}, "spam_dsn_cutoff_level": {"spam.dsn_cutoff_level", level},
	"spam_quarantine_cutoff_level": {"spam.quarantine_cutoff_level", level},
	"spam_subject_tag2":            {"spam.subject_tag", text}, "spam_subject_tag3": {"spam.tag3_subject_tag", text},
	"virus_admin": {"virus.admin", word}, "banned_admin": {"banned.admin", word}, "spam_admin": {"spam.admin", word},
	"bad_header_admin": {"bad_header.admin", word}, "unchecked_admin": {"unchecked.admin", word},
	"addr_extension_virus": {"virus.address_extension", word}, "addr_extension_banned": {"banned.address_extension", word},
	"addr_extension_spam": {"spam.address_extension", word}, "addr_extension_bad_header": {"bad_header.address_extension", word},
	"forward_method": {"forward_to", nextHop}, "message_size_limit": {"message_size", size},
	"virus_quarantine_to": {"virus.quarantine", copyTo}, "banned_quarantine_to": {"banned.quarantine", copyTo},
	"spam_quarantine_to": {"spam.quarantine", copyTo}, "bad_header_quarantine_to": {"bad_header.quarantine", copyTo},
	"unchecked_quarantine_to": {"unchecked.quarantine", copyTo},
	"warnvirusrecip":          {"virus.warn_recipient", flag}, "warnbannedrecip": {"banned.warn_recipient", flag},
	"warnbadhrecip": {"bad_header.warn_recipient", flag},
}

// without are the columns of Amavis for which there is no setting. All others
// belong to the tables, or to somebody else.
var without = []string{
	"spam_subject_tag", "spam_modifies_subj", "banned_rulenames", "newvirus_admin", "disclaimer_options",
	"sa_userconf", "sa_username", "clean_quarantine_to", "archive_quarantine_to",
}

// overlay makes settings of a row, and says what of it has no effect. Where mail
// goes must be understood; any other value that makes no sense has none.
func (s *Source) overlay(r row) (o *policy.Overlay, ignored []string, err error) {
	name := "sql users[" + mail.Escape(r["id"]) + "]"
	if id := r["policy_id"]; id != "" {
		name += " policy[" + mail.Escape(id) + "]"
	}
	o = &policy.Overlay{Name: name, Origin: policy.Origin{Bank: name, File: s.origin.File, Line: s.origin.Line}}
	names := make([]string, 0, len(r))
	for c := range r {
		names = append(names, c)
	}
	slices.Sort(names)
	for _, name := range names {
		value := r[name]
		if name == "local" {
			if v, err := flag(value); err == nil {
				is := v.(bool)
				o.Local = &is
			}
			continue
		}
		c, ours := columns[name]
		if !ours {
			if slices.Contains(without, name) && strings.TrimSpace(value) != "" && value != "N" {
				ignored = append(ignored, "column "+name+" has no effect: there is no such setting")
			}
			continue
		}
		v, err := c.read(value)
		if _, is := v.(bool); is && !plainFlag(value) {
			ignored = append(ignored, fmt.Sprintf("column %s: %s counts as yes, as in Amavis; write Y or N", name, strconv.Quote(mail.Escape(value))))
		}
		if err == nil && v != nil {
			err = o.Set(c.key, v)
		}
		if err != nil {
			err = fmt.Errorf("column %s of %s: %w", name, o.Name, err)
			if c.key == "forward_to" {
				return nil, nil, err
			}
			ignored = append(ignored, err.Error()+"; it has no effect")
		}
	}
	return o, ignored, nil
}

// flag reads 'Y' and 'N' as Amavis does: N, F, 0 and blank are no, all else is
// yes.
func flag(s string) (any, error) {
	switch s = strings.TrimSpace(s); {
	case s == "", s == "N", s == "n", strings.Trim(s, "0\x00") == "", strings.HasPrefix(s, "F"), strings.HasPrefix(s, "f"), strings.EqualFold(s, "no"):
		return false, nil
	}
	return true, nil
}

// plainFlag reports whether a flag says what it means: Amavis takes "off" and
// "none" for yes.
func plainFlag(s string) bool {
	v, _ := flag(s)
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "y", "yes", "t", "true", "1", "\x01":
		return true
	}
	return v == false
}

// level reads a score. No text is as NULL.
func level(s string) (any, error) {
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != f || f > 1e9 || f < -1e9 {
		return nil, fmt.Errorf("no number: %s", strconv.Quote(mail.Escape(s)))
	}
	// columns of single precision give 6.3099999
	return mail.Thousandths(f), nil
}

// leastSize is what RFC 5321 section 4.5.3.1.7 wants taken; Amavis raises smaller
// limits to it.
const leastSize = 64 << 10

// size reads a number of octets. No text is as NULL, 0 is no limit.
func size(s string) (any, error) {
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("no number of octets: %s", strconv.Quote(mail.Escape(s)))
	case n <= 0:
		return mail.Size(0), nil
	}
	return mail.Size(max(n, leastSize)), nil
}

// copyTo reads where copies go: an address gets them by mail; a name of a folder or
// of a file is the quarantine, for there is one; no text is none, as in Amavis.
func copyTo(s string) (any, error) {
	switch s = strings.TrimSpace(s); {
	case s == "":
		return policy.CopyFalse, nil
	case strings.Contains(s, "@"):
		return policy.CopyTo(s), nil
	}
	return policy.CopyTrue, nil
}

func text(s string) (any, error) { return s, nil }

func word(s string) (any, error) { return strings.TrimSpace(s), nil }

// nextHop reads smtp:[127.0.0.1]:10025, Amavis' way to write it, and ours. No text
// is as NULL.
func nextHop(s string) (any, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	for _, protocol := range []string{"smtp", "lmtp"} {
		rest, ok := strings.CutPrefix(s, protocol+":[")
		if !ok {
			continue
		}
		host, port, ok := strings.Cut(rest, "]:")
		if !ok || strings.ContainsAny(host+port, "[]/ ") {
			break
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return protocol + "://" + host + ":" + port, nil
	}
	return s, nil
}

// addSenders lays a sender list over the settings of its user. The first row that
// fits a sender decides, so rows of one meaning that follow one another are one
// entry.
func (s *boundSource) addSenders(o *policy.Overlay, id string, list []listed) error {
	if len(list) > maxList {
		return fmt.Errorf("the sender list of user %s has more than %d rows", mail.Escape(id), maxList)
	}
	place := "sql wblist of users[" + mail.Escape(id) + "]"
	type meaning struct {
		as    senderlist.Meaning
		score float64
	}
	var rules []senderlist.Rule
	var run []string
	var last meaning
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		r, err := senderlist.New(place, run, last.as, last.score, s.options.Verified && last.as == senderlist.Whitelisted)
		rules, run = append(rules, r), nil
		return err
	}
	for _, l := range list {
		as, score, err := meaningOf(l.what)
		var key string
		if err == nil {
			key, err = senderlist.Key(strings.ToLower(l.sender))
		}
		if err != nil {
			s.tellIgnored([]string{fmt.Sprintf("a row of wblist of user %s has no effect: %s", mail.Escape(id), mail.Escape(err.Error()))})
			continue
		}
		if now := (meaning{as, score}); now != last {
			if err := flush(); err != nil {
				return err
			}
			last = now
		}
		run = append(run, key)
	}
	if err := flush(); err != nil {
		return err
	}
	if len(rules) == 0 {
		return nil
	}
	return o.Set("spam.sender_list", rules)
}

// meaningOf reads wb as Amavis does: W, Y and T are white, B, N and F black, a
// blank is neither, and a number is points.
func meaningOf(wb string) (as senderlist.Meaning, score float64, err error) {
	wb = strings.TrimSpace(wb)
	switch strings.ToUpper(wb) {
	case "":
		return senderlist.Neutral, 0, nil
	case "W", "Y", "T":
		return senderlist.Whitelisted, 0, nil
	case "B", "N", "F":
		return senderlist.Blacklisted, 0, nil
	}
	v, err := level(wb)
	if err != nil {
		return "", 0, err
	}
	return senderlist.Score, v.(float64), nil
}
