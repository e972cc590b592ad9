package ask

// What changes for the mail between two configurations.

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// Difference is a change with the mail that it concerns, in the form of its
// JSON.
type Difference struct {
	Change string   `json:"change"`         // in words: "X -> Y"
	Mail   []string `json:"mail,omitempty"` // descriptions of all such mail; nil where it is around the mail
}

// Diff says what changes between two configurations: around the mail, and then
// for all mail that they can tell apart. The answer is never nil; an error means
// that the settings for some mail could not be found.
func Diff(ctx context.Context, older, newer *DryRun) ([]Difference, error) {
	s, err := newSurvey(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	mails, err := s.differences(ctx)
	if err != nil {
		return nil, err
	}
	all := append([]Difference{}, aroundMail(older.filter.Policy, newer.filter.Policy)...)
	all = append(all, restarts(older.filter.Policy, newer.filter.Policy)...)
	all = append(all, mails...)
	if s.untried {
		all = append(all, Difference{tooMany, nil})
	}
	return all, nil
}

// differences tries all mail with both configurations, and puts the mail
// together that sees the same change.
func (s *survey) differences(ctx context.Context) ([]Difference, error) {
	var order []string
	where := map[string][]situation{}
	err := s.each(ctx, func(at situation, outcomes []outcome) {
		for _, change := range changes(&outcomes[0], &outcomes[1], at.content) {
			if where[change] == nil {
				order = append(order, change)
			}
			where[change] = append(where[change], at)
		}
	})
	var out []Difference
	for _, change := range order {
		out = append(out, Difference{change, s.describe(where[change])})
	}
	return out, err
}

// changes returns what is different: the banks, the direction, and all that
// becomes of the mail.
func changes(a, b *outcome, c content) []string {
	var out, fate []string
	compare := func(list *[]string, what, x, y string) {
		if x != y {
			*list = append(*list, strings.TrimPrefix(what+" ", " ")+x+" -> "+y)
		}
	}
	compare(&out, "banks", orBase(a.selection.BankPath()), orBase(b.selection.BankPath()))
	compare(&out, "direction", string(a.selection.Rcpts[0].Direction), string(b.selection.Rcpts[0].Direction))
	// whether it is tagged is told by the marks
	action := func(o *outcome) string { return strings.TrimSuffix(o.action(), "Tagged") }
	compare(&fate, "", action(a), action(b))
	passes := func(o *outcome) bool { return slices.Contains([]string{"Relayed", "Accepted"}, action(o)) }
	if !passes(a) || !passes(b) {
		compare(&fate, "sender told", a.told(), b.told())
	}
	if len(fate) > 0 {
		out = append(out, strings.Join(fate, ", "))
	}
	compare(&out, "notices to", list(a.result.notices()), list(b.result.notices()))
	if passes(a) && passes(b) {
		compare(&out, "handed to", a.hops(), b.hops())
		compare(&out, "signed by", list(a.result.signers()), list(b.result.signers()))
		compare(&out, "marked with", a.marks(), b.marks())
	}
	// what only shows with the right mail
	for _, key := range unseen[c.name] {
		compare(&out, key, ShowValue(a.settings.Value(key)), ShowValue(b.settings.Value(key)))
	}
	return out
}

// unseen are the settings that no situation of the survey shows by its outcome.
var unseen = map[string][]string{
	"clean mail": {"spam.tag_level", "dkim.verify"},
	"INFECTED":   {"virus.fakes_sender", "virus.names"},
	"SPAM":       {"spam.kill_level", "spam.dsn_cutoff_level"},
	"SPAMMY":     {"spam.tag2_level"},
}

// hops names where the message goes.
func (o *outcome) hops() string {
	var out []string
	for _, s := range o.result.sent {
		if s.out.Kind == mail.KindMessage && !s.back {
			out = append(out, s.hop.String())
		}
	}
	return list(out)
}

// marks names the header fields that the recipient's copy gets for what was
// found in it.
func (o *outcome) marks() string {
	var out []string
	for _, s := range o.result.sent {
		if s.out.Kind != mail.KindMessage {
			continue
		}
		for _, e := range s.out.Edits {
			switch {
			case e.Op == mail.Remove, e.Name == "Received", e.Name == "DKIM-Signature":
			case e.Name == "Subject":
				out = append(out, fmt.Sprintf("Subject %q", strings.TrimSpace(e.Value)))
			default:
				out = append(out, e.Name)
			}
		}
	}
	return list(out)
}

// dimensions are the ways in which situations differ, the general ones first.
var dimensions = []struct {
	of  func(situation) string
	all func(*survey) int
	say string
}{
	{func(s situation) string { return s.content.name }, func(*survey) int { return len(contents) }, "%s"},
	{func(s situation) string { return s.listener.Address }, func(v *survey) int { return len(v.listeners) }, "listener %s"},
	{func(s situation) string { return s.client.String() }, func(v *survey) int { return len(v.clients) }, "client %s"},
	{func(s situation) string { return s.login.String() }, func(v *survey) int { return len(v.logins) }, "login %s"},
	{func(s situation) string { return s.daemon.String() }, func(v *survey) int { return len(v.daemons) }, "daemon %s"},
	{func(s situation) string { return s.sender.String() }, func(v *survey) int { return len(v.senders) }, "sender %s"},
	{func(s situation) string { return s.recipient.String() }, func(v *survey) int { return len(v.recipients) }, "recipient %s"},
}

// describe returns as few descriptions as it can for a set of situations: a
// set that is every combination of its values is one, any other is split.
func (s *survey) describe(set []situation) []string {
	product := 1
	values := make([][]string, len(dimensions))
	for i, d := range dimensions {
		for _, at := range set {
			if v := d.of(at); !slices.Contains(values[i], v) {
				values[i] = append(values[i], v)
			}
		}
		product *= len(values[i])
	}
	if product == len(set) {
		var words []string
		for i, d := range dimensions {
			if len(values[i]) < d.all(s) {
				words = append(words, fmt.Sprintf(d.say, strings.Join(values[i], " or ")))
			}
		}
		if len(words) == 0 {
			words = []string{"all mail"}
		}
		return []string{strings.Join(words, ", ")}
	}
	var best []string
	for i := range dimensions {
		parts := alike(set, i)
		if len(parts) < 2 {
			continue // what makes the set no product lies in another dimension
		}
		var split []string
		for _, part := range parts {
			split = append(split, s.describe(part)...)
		}
		if best == nil || len(split) < len(best) {
			best = split
		}
		if len(set) > manySituations {
			break // any split will do
		}
	}
	return best
}

// manySituations is the size of a set from which on the best split is not
// looked for.
const manySituations = 1000

// alike splits a set by its values of dimension d; values that occur with the
// same others stay together.
func alike(set []situation, d int) [][]situation {
	others := map[string]*strings.Builder{}
	var values []string
	for _, at := range set {
		v := dimensions[d].of(at)
		if others[v] == nil {
			others[v] = &strings.Builder{}
			values = append(values, v)
		}
		for i := range dimensions {
			if i != d {
				others[v].WriteString(dimensions[i].of(at) + "\x00")
			}
		}
	}
	at := map[string]int{}
	var out [][]situation
	for _, v := range values {
		key := others[v].String() // sets are in the order of the survey
		if _, ok := at[key]; !ok {
			at[key] = len(out)
			out = append(out, nil)
		}
	}
	for _, x := range set {
		i := at[others[dimensions[d].of(x)].String()]
		out[i] = append(out[i], x)
	}
	return out
}

// aroundMail compares what is not told by any mail: listeners, engines, keys,
// limits.
func aroundMail(a, b *policy.Config) []Difference {
	var out []Difference
	for _, l := range a.Listeners {
		if b.Listener(l.Address) == nil {
			out = append(out, Difference{"listener " + l.Address + " goes", nil})
		}
	}
	for _, l := range b.Listeners {
		old := a.Listener(l.Address)
		switch {
		case old == nil:
			out = append(out, Difference{"listener " + l.Address + " comes, " + string(l.Protocol) + ", bank " + orNone(l.Bank), nil})
		case old.Protocol != l.Protocol:
			out = append(out, Difference{fmt.Sprintf("listener %s: %s -> %s", l.Address, old.Protocol, l.Protocol), nil})
		default:
			out = append(out, otherKeys(old, &l)...)
		}
	}
	for _, x := range []struct {
		key        string
		older, new any
	}{
		{"hostname", a.Hostname, b.Hostname}, {"domain", a.Domain, b.Domain}, {"notify_from", a.NotifyFrom, b.NotifyFrom},
		{"bare_newline", a.BareNewline, b.BareNewline},
		{"local_domains", a.LocalDomains, b.LocalDomains}, {"own_networks", a.OwnNetworks, b.OwnNetworks},
		{"authserv_id", a.AuthservID, b.AuthservID}, {"trusted_results", a.TrustedResults, b.TrustedResults}, {"dns", a.DNS, b.DNS},
		{"dkim_keys", keyNames(a), keyNames(b)}, {"signer_banks", signerNames(a), signerNames(b)}, {"engines", a.Engines, b.Engines}, {"limits", a.Limits, b.Limits},
		{"quarantine", a.Quarantine, b.Quarantine}, {"lookups", a.Lookups, b.Lookups}, {"spool", a.Spool, b.Spool}, {"log", a.Log, b.Log},
	} {
		if !reflect.DeepEqual(x.older, x.new) {
			out = append(out, Difference{x.key + ": " + briefly(x.older, x.new), nil})
		}
	}
	if !slices.Equal(a.ArchivePasswords, b.ArchivePasswords) {
		out = append(out, Difference{"archive_passwords: not the same", nil}) // nothing to show around
	}
	return out
}

// otherKeys compares what of a listener no mail shows.
func otherKeys(old, l *policy.Listener) []Difference {
	var out []Difference
	for _, x := range []struct{ what, before, now string }{
		{"allow ", allowed(old), allowed(l)},
		{"", access(old), access(l)},
		{"split ", orNone(string(old.Split)), orNone(string(l.Split))},
		{"local_bank ", orNone(old.LocalBank), orNone(l.LocalBank)},
		{"folders ", list(old.Folders), list(l.Folders)},
		{"allow_banks ", list(old.AllowBanks), list(l.AllowBanks)},
	} {
		if x.before != x.now {
			out = append(out, Difference{fmt.Sprintf("listener %s: %s%s -> %s", l.Address, x.what, x.before, x.now), nil})
		}
	}
	return out
}

// access says who may use the socket of a listener.
func access(l *policy.Listener) string {
	mode := "as the umask leaves it"
	if l.Mode != 0 {
		mode = fmt.Sprintf("%04o", l.Mode)
	}
	if l.Owner == "" {
		return "mode " + mode
	}
	return "mode " + mode + ", owner " + l.Owner
}

// allowed says who may come in.
func allowed(l *policy.Listener) string {
	if len(l.Allow) == 0 {
		return "this machine"
	}
	return list(l.Allow)
}

// signerNames does not show through any sample, since none is signed.
func signerNames(c *policy.Config) []string {
	var out []string
	for _, s := range c.SignerBanks {
		out = append(out, strings.Join(s.Domains, " ")+": "+strings.Join(s.Banks, "/"))
	}
	return out
}

func keyNames(c *policy.Config) []string {
	var out []string
	for _, k := range c.DKIMKeys {
		out = append(out, k.Selector+"._domainkey."+strings.TrimPrefix(k.Domain, "."))
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// briefly writes both values; of a structure only the fields that differ.
func briefly(a, b any) string {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() != reflect.Struct {
		return plainly(a) + " -> " + plainly(b)
	}
	var out []string
	for i := range x.NumField() {
		f := x.Type().Field(i)
		if f.IsExported() && !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			out = append(out, strings.Split(f.Tag.Get("yaml"), ",")[0]+" "+briefly(x.Field(i).Interface(), y.Field(i).Interface()))
		}
	}
	return strings.Join(out, ", ")
}

func plainly(v any) string {
	switch v := v.(type) {
	case fmt.Stringer:
		if _, address := v.(mail.Address); !address {
			return v.String()
		}
	case []string:
		return list(v)
	case map[string]any:
		if data, err := json.Marshal(v); err == nil {
			return string(data)
		}
	}
	return fmt.Sprint(v)
}
