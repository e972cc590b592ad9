package ask

// What there is to say about a configuration that is free of mistakes: what
// cannot work on this host, and what would work but is most likely not meant.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"postern/filter"
	"postern/filter/mail"
	"postern/policy"
)

// Remark is one thing to tell about a configuration, in the form of its JSON.
type Remark struct {
	Place string `json:"place,omitempty"` // FILE:LINE or FILE:LINE:COLUMN
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
}

// String returns one line: "place: what; hint".
func (r Remark) String() string {
	s := r.What
	if r.Place != "" {
		s = r.Place + ": " + s
	}
	if r.Hint != "" {
		s += "; " + r.Hint
	}
	return s
}

// Unwritable says why the spool or the log could not be written on this host.
func Unwritable(cfg *policy.Config) []Remark {
	var out []Remark
	if dir := cfg.Spool.Dir; dir != "" {
		if what, hint := folderMissing(dir); what != "" {
			out = append(out, Remark{cfg.Origin("spool.dir").String(), "spool: " + what, hint})
		}
	}
	if to := cfg.Log.To; to != "stderr" && to != "syslog" {
		what, hint := folderMissing(filepath.Dir(to))
		if info, err := os.Stat(to); err == nil && info.IsDir() {
			what = to + " is a folder"
		}
		if what != "" {
			out = append(out, Remark{cfg.Origin("log.to").String(), "log: " + what, hint})
		}
	}
	return out
}

// Remarks makes remarks of an error whose messages bring place and hint with
// them: the mistakes of a [policy.ConfigError], or one message a line.
func Remarks(err error) []Remark {
	var out []Remark
	if config, ok := errors.AsType[*policy.ConfigError](err); ok {
		for _, m := range config.Mistakes {
			out = append(out, Remark{m.Place(), m.What, m.Hint})
		}
		return out
	}
	for line := range strings.Lines(err.Error()) {
		r := Remark{What: strings.TrimSuffix(line, "\n")}
		if m := placed.FindStringSubmatch(r.What); m != nil {
			r.Place, r.What = m[1], m[2]
		}
		for _, mark := range []string{"; ", " (hint: "} {
			if i := strings.LastIndex(r.What, mark); i >= 0 && r.Hint == "" {
				r.What, r.Hint = r.What[:i], strings.TrimSuffix(r.What[i+len(mark):], ")")
			}
		}
		out = append(out, r)
	}
	return out
}

// placed is a message that begins with its place.
var placed = regexp.MustCompile(`^(\S+:\d+(?::\d+)?): (.*)$`)

func folderMissing(dir string) (what, hint string) {
	if info, err := os.Stat(dir); err != nil {
		return err.Error(), "mkdir " + dir
	} else if !info.IsDir() {
		return dir + " is no folder", ""
	}
	return "", ""
}

// Doubts says what would work but is most likely not meant, and apart what must not
// be: accepted mail that would vanish. Of f the policy is needed, the keys and the
// checks are looked at as far as they could be made. An error comes with the
// remarks so far.
func Doubts(ctx context.Context, f *filter.Filter) (out, mistakes []Remark, err error) {
	cfg := f.Policy
	for _, w := range Warnings(cfg) {
		out = append(out, Remarks(errors.New(w))...)
	}
	for _, m := range cfg.Doubts() {
		out = append(out, Remark{m.Place(), m.What, m.Hint})
	}
	for _, w := range f.Keys.Warnings(time.Now()) {
		out = append(out, Remark{cfg.Origin("dkim_keys").String(), w, ""})
	}
	out = append(out, missingFolders(cfg)...)
	out = append(out, missingSockets(f)...)
	lost, mistakes, err := lostAndReturned(ctx, f)
	return append(out, lost...), mistakes, err
}

// missingFolders finds listeners whose socket cannot be made, or whose requests
// name files that cannot be there.
func missingFolders(cfg *policy.Config) []Remark {
	var out []Remark
	for _, l := range cfg.Listeners {
		if socket, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			if what, hint := folderMissing(filepath.Dir(socket)); what != "" {
				out = append(out, Remark{l.Origin.String(), "listener " + l.Address + ": " + what, hint})
			}
		}
		for _, dir := range l.Folders {
			if what, _ := folderMissing(dir); what != "" {
				out = append(out, Remark{l.Origin.String(), "listener " + l.Address + ": folders: " + what, "name the folder in which amavisd-milter puts its messages (option -w)"})
			}
		}
	}
	return out
}

// engineSocket is a Unix socket behind which an engine is.
type engineSocket struct{ engine, path string }

// engineSockets lists them, in order. The options of engines that speak to a
// server name it by one of these words.
func engineSockets(cfg *policy.Config) []engineSocket {
	var out []engineSocket
	for _, name := range slices.Sorted(maps.Keys(cfg.Engines)) {
		v := reflect.Indirect(reflect.ValueOf(cfg.Engines[name]))
		if v.Kind() != reflect.Struct {
			continue
		}
		for _, option := range []string{"Address", "Backup", "URL"} {
			var addresses []string
			switch a := v.FieldByName(option); {
			case a.IsValid() && a.Kind() == reflect.String:
				addresses = []string{a.String()}
			case a.IsValid() && a.Type() == reflect.TypeFor[[]string]():
				addresses = a.Interface().([]string)
			}
			for _, a := range addresses {
				if path := strings.TrimPrefix(a, "unix:"); strings.HasPrefix(path, "/") {
					out = append(out, engineSocket{name, path})
				}
			}
		}
	}
	return out
}

// missingSockets finds engines behind a socket that does not exist.
func missingSockets(f *filter.Filter) []Remark {
	var out []Remark
	cfg := f.Policy
	for _, s := range engineSockets(cfg) {
		var finds mail.CategorySet
		for _, c := range f.Checks {
			if c.Name == s.engine {
				finds = mail.SetOf(c.Categories...)
			}
		}
		if info, err := os.Stat(s.path); err != nil || info.Mode()&os.ModeSocket == 0 {
			out = append(out, Remark{cfg.Origin("engines." + s.engine).String(), "engine " + s.engine + ": there is no socket " + s.path, "is its service running? " + WithoutEngine(cfg, finds)})
		}
	}
	return out
}

// WithoutEngine says, as the hint of a remark, what becomes of mail while an
// engine does not answer that finds these categories.
func WithoutEngine(cfg *policy.Config, missing mail.CategorySet) string {
	s := cfg.Settings
	if key := s.WaitsFor(missing); key != "" {
		return "until it answers, all mail gets 451 (" + key + ": tempfail)"
	}
	if missing != 0 && missing&^mail.SetOf(mail.Spam, mail.Spammy) == 0 {
		return "until it answers, mail passes without its spam score"
	}
	return fmt.Sprintf("until it answers, mail is UNCHECKED (on_error: pass, unchecked.destiny: %s)", s.Unchecked.Destiny)
}

// canFind says which categories some check of f can report: any where the checks
// could not be made. What is in a message and in its header is looked at without
// any engine.
func canFind(f *filter.Filter) map[mail.Category]bool {
	out := map[mail.Category]bool{mail.Unchecked: true, mail.Banned: true}
	if f.Checks == nil {
		return map[mail.Category]bool{mail.Unchecked: true, mail.Banned: true, mail.Infected: true, mail.Spam: true, mail.Spammy: true, mail.BadHeader: true}
	}
	for _, c := range f.Checks {
		for _, category := range c.Categories {
			out[category] = true
		}
	}
	return out
}

// lostAndReturned tries all mail and says where it would be dropped without a word to
// anybody, and where a refusal makes Postfix send a virus back.
func lostAndReturned(ctx context.Context, f *filter.Filter) (out, mistakes []Remark, err error) {
	run, err := New(f)
	if err != nil {
		return nil, nil, err
	}
	s, err := newSurvey(ctx, run)
	if err != nil {
		return nil, nil, err
	}
	// by listener and reason: what is lost, and from whom
	type key struct {
		listener, why string
		fate          fate
	}
	var order []key
	lost := map[key]*lostMail{}
	returned := map[string][]string{} // listeners by place
	possible := canFind(f)
	err = s.each(ctx, func(at situation, outcomes []outcome) {
		if len(at.content.findings) > 0 && !possible[at.content.findings[0].Category] {
			return
		}
		o := &outcomes[0]
		place := o.place(at.content).String()
		fate, silent := vanishes, true
		switch {
		case o.vanishes():
		case o.lost():
			fate = lostInSilence
		case o.unheard() && f.Policy.Quarantine.Digest == policy.DigestNever:
			fate = keptInSilence
		default:
			silent = false
		}
		if silent {
			if fate == vanishes {
				place = o.settings.Origin(policy.CategoryKey(at.content.findings[0].Category) + ".quarantine").String()
			}
			k := key{at.listener.Address, o.result.event.Recipients[0].NoReport, fate}
			if lost[k] == nil {
				lost[k] = &lostMail{place: place}
				order = append(order, k)
			}
			lost[k].add(at, o)
		}
		if at.content.name == "INFECTED" && o.returned() {
			returned[place] = include(returned[place], at.listener.Address+" ("+o.selection.BankPath()+")")
		}
	})
	for _, place := range slices.Sorted(maps.Keys(returned)) {
		out = append(out, Remark{place, fmt.Sprintf("infected mail of our own people is refused after the queue on %s: Postfix returns it to the sender with the virus",
			strings.Join(returned[place], ", ")), "destiny bounce: our own report holds the header only"})
	}
	for _, k := range order {
		if r := lost[k].remark(k.listener, k.why, k.fate); k.fate == vanishes {
			mistakes = append(mistakes, r)
		} else {
			out = append(out, r)
		}
	}
	if s.untried {
		out = append(out, Remark{f.Policy.Origin("recipients").String(), tooMany, ""})
	}
	return out, mistakes, err
}

// fate is what becomes of accepted mail that nobody gets.
type fate uint8

const (
	vanishes      fate = iota // dropped though no destiny says discard
	lostInSilence             // dropped, and nobody hears of it
	keptInSilence             // kept, and nobody hears of it
)

// lostMail is mail that vanishes for one reason.
type lostMail struct {
	place                           string // of the first setting
	contents, directions, destinies []string
	sections                        []string // of the settings
}

func (l *lostMail) add(at situation, o *outcome) {
	l.contents = include(l.contents, at.content.name)
	l.directions = include(l.directions, string(o.selection.Rcpts[0].Direction))
	l.destinies = include(l.destinies, string(o.verdict.Destiny))
	l.sections = include(l.sections, policy.CategoryKey(at.content.findings[0].Category))
}

// include adds s to a list that does not have it.
func include(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// reasonWords say why the sender is not told.
var reasonWords = map[string]string{
	"":                 "the destiny says so",
	"null-sender":      "it has no sender",
	"not-originating":  "the sender may be forged and is not told",
	"sender-not-local": "a sender who is none of ours is not told",
}

func (l *lostMail) remark(listener, why string, fate fate) Remark {
	word := reasonWords[why]
	if word == "" {
		word = "the sender is not told: " + why
	}
	mail := fmt.Sprintf("%s (%s, destiny %s)", strings.Join(l.contents, ", "), strings.Join(l.directions, ", "), strings.Join(l.destinies, ", "))
	switch fate {
	case vanishes:
		return Remark{l.place, fmt.Sprintf("listener %s drops %s and no copy is kept: %s; accepted mail must not vanish (in Germany section 206 StGB)", listener, mail, word),
			"set " + strings.Join(l.sections, ".quarantine and ") + ".quarantine: auto; destiny: discard says in words that it may vanish"}
	case keptInSilence:
		return Remark{l.place, fmt.Sprintf("listener %s keeps %s in the quarantine and nobody hears of it: %s", listener, mail, word),
			"set quarantine: {digest: daily}, or " + strings.Join(l.sections, ".admin and ") + ".admin"}
	}
	return Remark{l.place, fmt.Sprintf("listener %s drops %s and nobody hears of it: %s; accepted mail must not vanish in silence (in Germany section 206 StGB)", listener, mail, word),
		"set " + strings.Join(l.sections, ".admin and ") + ".admin"}
}

// Warnings says what is configured and not done, loudly enough for the log of a
// start. Each is one line, and a remark by [Remarks].
func Warnings(cfg *policy.Config) []string {
	var out []string
	if len(cfg.Engines) == 0 {
		out = append(out, "NO ENGINE IS CONFIGURED: nothing looks for viruses. Set engines: {clamav: {address: ...}}")
	}
	if cfg.Hostname == "localhost" || !strings.Contains(cfg.Hostname, ".") {
		w := fmt.Sprintf("hostname %q has no domain: other servers may refuse to hear it in greetings", cfg.Hostname)
		if strings.HasSuffix(string(cfg.NotifyFrom), "@"+cfg.Hostname) {
			w += ", and nobody can answer to the author of reports, " + cfg.NotifyFrom.String()
		}
		out = append(out, w+"; set hostname, for example mail.example.org")
	}
	return out
}
