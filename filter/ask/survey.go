package ask

// A survey tries the mail that a configuration can tell apart, in a dry run:
// each listener, client network, kind of sender and recipient, and each thing
// that checks may find. Check judges what comes of it, and compares.

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/filter/mail"
	"postern/policy"
)

// survey asks one configuration, or several about the same mail.
type survey struct {
	runs       []*DryRun
	listeners  []*policy.Listener // that all of them have
	clients    []sample[origin]
	logins     []sample[string]
	daemons    []sample[string]
	senders    []sample[mail.Address]
	recipients []sample[mail.Address]
	untried    bool // there are more kinds of mail than are tried
}

// sample stands for all that the configurations treat alike.
type sample[T any] struct {
	value T
	names []string
}

// String names what the sample stands for.
func (s sample[T]) String() string {
	const most = 3
	if len(s.names) > most {
		return strings.Join(s.names[:most], ", ") + fmt.Sprintf(" and %d more", len(s.names)-most)
	}
	return strings.Join(s.names, ", ")
}

// origin is where mail comes from.
type origin struct {
	client netip.Addr
	local  bool // there is no connection
}

// anyOther names the clients that are in no list, unknown ones among them.
const anyOther = "any other"

// localMail names mail that has no client.
const localMail = "none, mail of the machine itself"

// noLogin names who has not authenticated himself.
const noLogin = "none"

// maxSamples bounds the kinds of clients, senders and recipients, maxTold those
// of logins and daemons.
const (
	maxSamples = 50
	maxTold    = 10
)

const tooMany = "there are too many kinds of clients, logins, daemons, senders or recipients: not all were tried"

// content is what checks may have found.
type content struct {
	name     string
	findings []mail.Finding
}

var contents = []content{
	{"clean mail", nil},
	{"INFECTED", []mail.Finding{{Category: mail.Infected, Name: "virus"}}},
	{"BANNED", []mail.Finding{{Category: mail.Banned, Name: "file"}}},
	{"UNCHECKED", []mail.Finding{{Category: mail.Unchecked, Minor: mail.Encrypted}}},
	{"failed checks", []mail.Finding{{Category: mail.Unchecked, Minor: mail.CheckFailed}}},
	{"SPAM", []mail.Finding{{Category: mail.Spam}}},
	{"SPAMMY", []mail.Finding{{Category: mail.Spammy}}},
	{"BAD-HEADER", []mail.Finding{{Category: mail.BadHeader}}},
}

func init() {
	for i := range contents {
		for k := range contents[i].findings {
			contents[i].findings[k].Check, contents[i].findings[k].Rcpt = "survey", mail.AllRcpts
		}
	}
}

// situation is one mail of the survey.
type situation struct {
	listener  *policy.Listener
	client    sample[origin]
	login     sample[string]
	daemon    sample[string]
	sender    sample[mail.Address]
	recipient sample[mail.Address]
	content   content
}

// outcome is what comes of it under one configuration.
type outcome struct {
	selection *policy.Selection
	settings  *policy.Settings // of the recipient
	result    *dryResult
	verdict   *policy.Verdict
}

// newSurvey collects the samples of all configurations.
func newSurvey(ctx context.Context, runs ...*DryRun) (*survey, error) {
	s := &survey{runs: runs}
	var cfgs []*policy.Config
	for _, run := range runs {
		cfgs = append(cfgs, run.filter.Policy)
	}
	for i := range cfgs[0].Listeners {
		l := &cfgs[0].Listeners[i]
		if !slices.ContainsFunc(cfgs, func(c *policy.Config) bool { return c.Listener(l.Address) == nil }) {
			s.listeners = append(s.listeners, l)
		}
	}
	clients, senders, recipients := map[string]origin{}, map[string]mail.Address{}, map[string]mail.Address{}
	logins, daemons := map[string]string{noLogin: ""}, map[string]string{anyOther: ""}
	local, foreign := domainsOf(cfgs)
	for _, cfg := range cfgs {
		for name, a := range cfg.ClientSamples() {
			clients[name] = origin{client: a}
		}
		for i := range cfg.Listeners {
			if cfg.Listeners[i].LocalBank != "" {
				clients[localMail] = origin{local: true}
			}
		}
		if slices.ContainsFunc(s.listeners, s.hears) {
			for _, name := range cfg.LoginSamples() {
				logins[name] = name
			}
			for _, name := range cfg.DaemonSamples() {
				daemons[name] = name
			}
		}
		from, to := cfg.AddressSamples(local)
		for _, a := range from {
			senders[string(a)] = a
		}
		for _, a := range to {
			recipients[string(a)] = a
		}
		for _, k := range cfg.DKIMKeys {
			d := strings.TrimPrefix(k.Domain, ".")
			senders[d] = mail.Address("someone@" + d)
		}
		for _, d := range cfg.LocalDomains {
			d = strings.TrimPrefix(d, ".")
			if a := mail.Address("someone@" + d); d != "" && cfg.IsLocal(a) {
				senders[d], recipients[d] = a, a
			}
		}
	}
	if local != "" {
		senders["local"], recipients["local"] = mail.Address("someone@"+local), mail.Address("someone@"+local)
	}
	senders["foreign"], recipients["foreign"] = mail.Address("someone@"+foreign), mail.Address("someone@"+foreign)
	clients[anyOther] = origin{}
	var err error
	if s.clients, err = group(ctx, s, maxSamples, clients, []string{anyOther, localMail}, s.clientKey); err != nil {
		return nil, err
	}
	if s.logins, err = group(ctx, s, maxTold, logins, []string{noLogin}, func(ctx context.Context, name string) (string, error) {
		return s.toldKey(ctx, policy.Request{Login: name})
	}); err != nil {
		return nil, err
	}
	if s.daemons, err = group(ctx, s, maxTold, daemons, []string{anyOther}, func(ctx context.Context, name string) (string, error) {
		return s.toldKey(ctx, policy.Request{Daemon: name})
	}); err != nil {
		return nil, err
	}
	if s.senders, err = group(ctx, s, maxSamples, senders, []string{"local", "foreign"}, s.senderKey); err != nil {
		return nil, err
	}
	s.recipients, err = group(ctx, s, maxSamples, recipients, []string{"local", "foreign"}, s.recipientKey)
	return s, err
}

// domainsOf returns a domain that is ours everywhere, if there is one, and one
// that is ours nowhere.
func domainsOf(cfgs []*policy.Config) (local, foreign string) {
	isLocal := func(c *policy.Config, domain string) bool { return c.IsLocal(mail.Address("someone@" + domain)) }
	for _, d := range cfgs[0].LocalDomains {
		d = strings.TrimPrefix(d, ".")
		if local == "" && !slices.ContainsFunc(cfgs, func(c *policy.Config) bool { return !isLocal(c, d) }) {
			local = d
		}
	}
	foreign = "elsewhere.example"
	if slices.ContainsFunc(cfgs, func(c *policy.Config) bool { return isLocal(c, foreign) }) {
		foreign = "elsewhere.invalid"
	}
	return local, foreign
}

// group puts the values together that have the same key. The general names
// stand for themselves and take those that are like them.
func group[T any](ctx context.Context, s *survey, most int, values map[string]T, general []string, key func(context.Context, T) (string, error)) ([]sample[T], error) {
	var names []string
	for name := range values {
		if !slices.Contains(general, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []sample[T]
	at := map[string]int{}
	for _, name := range slices.Concat(general, names) {
		v, ok := values[name]
		if !ok {
			continue
		}
		k, err := key(ctx, v)
		if err != nil {
			return nil, err
		}
		i, known := at[k]
		switch {
		case !known && len(out) == most:
			s.untried = true
		case !known:
			at[k] = len(out)
			out = append(out, sample[T]{v, []string{name}})
		case !slices.Contains(general, out[i].names[0]):
			out[i].names = append(out[i].names, name)
		}
	}
	return out, nil
}

// clientKey tells clients apart by banks and settings at every listener.
func (s *survey) clientKey(ctx context.Context, from origin) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", from.local) // it is answered in another way
	for _, run := range s.runs {
		for _, l := range s.listeners {
			tx := (&Envelope{Listener: run.filter.Policy.Listener(l.Address), Client: from.client, Local: from.local}).transaction()
			sel, err := run.filter.Select(ctx, tx, nil)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%s %s\n", sel.BankPath(), sel.Settings.Fingerprint())
		}
	}
	return b.String(), nil
}

// toldKey tells apart what only some listeners hear.
func (s *survey) toldKey(ctx context.Context, req policy.Request) (string, error) {
	var b strings.Builder
	for _, run := range s.runs {
		sel, err := run.filter.Policy.Select(ctx, req)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %s\n", sel.BankPath(), sel.Settings.Fingerprint())
	}
	return b.String(), nil
}

// hears reports whether logins and daemons are told to a listener, in one of the
// configurations.
func (s *survey) hears(l *policy.Listener) bool {
	return slices.ContainsFunc(s.runs, func(run *DryRun) bool {
		return run.filter.Policy.Listener(l.Address).Protocol == mail.InputMilter
	})
}

func (s *survey) senderKey(ctx context.Context, a mail.Address) (string, error) {
	var b strings.Builder
	for _, run := range s.runs {
		sel, err := run.filter.Policy.Select(ctx, policy.Request{From: a})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%v %s %s\n", sel.SenderLocal, sel.Settings.Fingerprint(), keyFor(run.filter.Policy, a))
	}
	return b.String(), nil
}

// keyFor names the domain whose key signs for an author.
func keyFor(cfg *policy.Config, a mail.Address) string {
	for _, k := range cfg.DKIMKeys {
		if name, below := strings.CutPrefix(k.Domain, "."); a.Domain() == name || below && strings.HasSuffix(a.Domain(), k.Domain) {
			return k.Domain
		}
	}
	return ""
}

func (s *survey) recipientKey(ctx context.Context, a mail.Address) (string, error) {
	var b strings.Builder
	for _, run := range s.runs {
		sel, err := run.filter.Policy.Select(ctx, policy.Request{Rcpts: []mail.Address{a}})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%v %s\n", sel.Rcpts[0].Local, sel.Rcpts[0].Settings.Fingerprint())
	}
	return b.String(), nil
}

// each tries all situations; visit gets one outcome for each configuration.
func (s *survey) each(ctx context.Context, visit func(situation, []outcome)) error {
	for _, l := range s.listeners {
		for _, client := range s.clients {
			for _, from := range s.senders {
				for _, to := range s.recipients {
					if err := s.told(ctx, situation{listener: l, client: client, sender: from, recipient: to}, visit); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// told tries a situation with every login and every daemon. Where no listener
// hears of them one try is enough.
func (s *survey) told(ctx context.Context, at situation, visit func(situation, []outcome)) error {
	var all [][]outcome
	var err error
	for _, at.login = range s.logins {
		for _, at.daemon = range s.daemons {
			if all == nil || s.hears(at.listener) {
				if all, err = s.tryAll(ctx, at); err != nil {
					return err
				}
			}
			for i, c := range contents {
				at.content = c
				visit(at, all[i])
			}
		}
	}
	return nil
}

// tryAll tries every content in one situation.
func (s *survey) tryAll(ctx context.Context, at situation) ([][]outcome, error) {
	txs := make([]*mail.Transaction, len(s.runs))
	selections := make([]*policy.Selection, len(s.runs))
	for i, run := range s.runs {
		txs[i] = (&Envelope{
			Listener: run.filter.Policy.Listener(at.listener.Address), Client: at.client.value.client, Local: at.client.value.local,
			Login: at.login.value, Daemon: at.daemon.value, From: at.sender.value, To: []mail.Address{at.recipient.value},
		}).transaction()
		var err error
		if selections[i], err = run.filter.Select(ctx, txs[i], nil); err != nil {
			return nil, err
		}
	}
	all := make([][]outcome, len(contents))
	for k, c := range contents {
		all[k] = make([]outcome, len(s.runs))
		for i, run := range s.runs {
			ex, result := run.suppose(ctx, txs[i], selections[i], c.findings, nil)
			all[k][i] = outcome{selections[i], selections[i].Rcpts[0].Settings, result, &ex.Verdicts[0]}
		}
	}
	return all, nil
}

// action is the word of the log line without the direction.
func (o *outcome) action() string {
	return strings.TrimSuffix(o.result.event.Recipients[0].Action, string(o.selection.Rcpts[0].Direction))
}

// vanishes reports whether an accepted message is dropped although no destiny says
// so, and no copy is kept.
func (o *outcome) vanishes() bool {
	return o.end() == mail.Discarded.String() && o.verdict.Destiny != policy.Discard
}

// lost reports whether an accepted message is dropped, as its destiny says, and
// nobody hears of it.
func (o *outcome) lost() bool {
	return o.end() == mail.Discarded.String() && o.verdict.Destiny == policy.Discard && len(o.result.sent) == 0
}

// unheard reports whether a copy is kept and nobody hears of that at once.
func (o *outcome) unheard() bool {
	return o.end() == mail.Quarantined.String() && len(o.result.sent) == 0
}

func (o *outcome) end() string { return o.result.event.Recipients[0].End }

// refused reports whether the answer is a permanent refusal.
func (o *outcome) refused() bool { return o.result.replies[0].Class() == 5 }

// told says how the sender hears of what was not delivered.
func (o *outcome) told() string {
	switch {
	case len(o.result.reports()) > 0:
		return "by us"
	case o.returned():
		return "by Postfix, with the whole message"
	case o.refused():
		return "in the session"
	}
	return "not"
}

// returned reports whether our refusal makes Postfix send the mail back.
func (o *outcome) returned() bool {
	return o.refused() && o.result.tx.Input.AfterQueue() && o.result.tx.From != ""
}

// place is where the setting stands that decided about content c.
func (o *outcome) place(c content) policy.Origin {
	if len(c.findings) == 0 {
		return o.settings.Origin("forward_to")
	}
	return o.settings.Origin(deciding(o.settings, c.findings[0].Category))
}
