package filter

// Promises 1 and 2 over the combinations of what three recipients want, what
// the next hop says to each, what becomes of a report, how mail comes in and
// who sent it.

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/filter/mail"
	"postern/policy"
)

// matrixCase is one combination; codes are those of the next hop.
type matrixCase struct {
	input     mail.Input
	category  mail.Category
	sender    string // ours, list (one of ours that is no person), never (wants no report), stranger, strange list, null
	kinds     [3]string
	codes     [3]int
	report    int
	store     bool // the quarantine can be written
	deaths    int  // 0: none, else the program dies in the n-th act of a transport or the quarantine, after it was done
	delivered [3]int
	reported  [3]int
	kept      [3]int
	acts      int
}

// died is the panic that stands for the death of the program.
type died struct{}

// act counts what cannot be taken back, and dies.
func (c *matrixCase) act() {
	if c.acts++; c.acts == c.deaths {
		panic(died{})
	}
}

// memory is a journal that outlives the program.
type memory map[mail.TraceKey]mail.Trace

func (m memory) Find(k mail.TraceKey) (mail.Trace, bool) { t, ok := m[k]; return t, ok }
func (m memory) Note(t mail.Trace, keys ...mail.TraceKey) {
	for _, k := range keys {
		m[k] = t
	}
}

func (c *matrixCase) rcpt(i int) mail.Address {
	return mail.Address(fmt.Sprintf("%s%d@example.net", c.kinds[i], i))
}

// mayReport is promise 2 in one line, and wouldTell whether a queue tells.
func (c *matrixCase) mayReport() bool { return c.sender == "ours" }
func (c *matrixCase) wouldTell() bool { return c.sender != "null" && c.sender != "never" }
func (c *matrixCase) passes(i int) bool {
	// a fault of form is no reason to lose mail that nobody waits for an answer to
	excused := c.category == mail.BadHeader && c.kinds[i] == "bounce" && (strings.HasSuffix(c.sender, "list") || c.sender == "null")
	return c.kinds[i] == "pass" || c.kinds[i] == "bypass" || excused
}

// Send is the next hop.
func (c *matrixCase) Send(_ context.Context, o *mail.Outgoing) []mail.Receipt {
	var data strings.Builder
	_, _ = o.WriteTo(&data) // a Builder never fails
	own := strings.Contains(data.String(), "\r\nAuto-Submitted: ")
	out := make([]mail.Receipt, len(o.Rcpts))
	var codes []int
	for i, r := range o.Rcpts {
		code := c.report
		if !own {
			code = c.code(int(r.Address.Local()[len(r.Address.Local())-1] - '0'))
		}
		codes = append(codes, code)
		out[i] = matrixReceipt(code)
	}
	for _, stop := range []struct {
		asked bool
		code  int
	}{{o.AllOrNone, 450}, {o.RefuseAll, 550}} {
		if stop.asked && slices.Contains(codes, stop.code) {
			for i := range out {
				out[i], codes[i] = matrixReceipt(stop.code), stop.code
			}
		}
	}
	var dot []int
	for k, code := range codes {
		if code == 250 {
			dot = append(dot, k)
		}
	}
	if len(dot) > 0 && o.BeforeDot != nil {
		o.BeforeDot(dot)
	}
	for i := range c.kinds {
		at := slices.IndexFunc(o.Rcpts, func(r mail.Recipient) bool { return r.Address == c.rcpt(i) })
		if at >= 0 && codes[at] == 250 {
			c.delivered[i]++
		}
		if own && codes[0] == 250 && strings.Contains(data.String(), "Final-Recipient: rfc822;"+string(c.rcpt(i))) {
			c.reported[i]++
		}
	}
	c.act()
	return out
}

// code is what the next hop says to recipient i. An MTA that has asked goes on with
// the message for whom we let it.
func (c *matrixCase) code(i int) int {
	if c.back() {
		return 250
	}
	return c.codes[i]
}

func (c *matrixCase) back() bool {
	return c.input == mail.InputMilter || c.input == mail.InputAMPDP || c.input == mail.InputLocal
}

func matrixReceipt(code int) mail.Receipt {
	d := map[int]mail.Disposal{250: mail.Relayed, 450: mail.Deferred, 550: mail.Refused}[code]
	return mail.Receipt{Disposal: d, Reply: mail.NewReply(code, 1, 1, "from MTA")}
}

// Keep is the quarantine.
func (c *matrixCase) Keep(k *mail.Kept, _ *mail.Message) (string, error) {
	if !c.store {
		return "", errors.New("disk full")
	}
	for _, r := range k.Rcpts {
		if r.Due {
			c.kept[r.Address.Local()[len(r.Address.Local())-1]-'0'] = 1 // under one id it is one copy
		}
	}
	c.act()
	return "x/other-" + k.MailID, nil
}

// twice says what cannot be helped under one reply for all, that recipient i gets
// a duplicate: another one has to wait after he got the message.
func (c *matrixCase) twice(i int) bool {
	if c.input == mail.InputLMTP {
		return false
	}
	for k := range c.kinds {
		if c.passes(k) && c.kinds[k] != c.kinds[i] && c.code(k) == 450 { // a transaction of its own
			return true
		}
		// the report, or the copy in its place, fails after others have the message
		toReport := c.kinds[k] == "reject" || c.kinds[k] == "bounce" || c.passes(k) && c.code(k) == 550
		if toReport && (c.mayReport() && c.report != 250 || !c.mayReport() && !c.store) {
			return true
		}
	}
	return false
}

// broken says which promise the reply to recipient i breaks.
func (c *matrixCase) broken(i int, r mail.Reply) string {
	switch {
	case c.reported[i] > 0 && !c.mayReport():
		return "a stranger is told"
	case c.reported[i] > 0 && c.kinds[i] == "discard":
		return "what is to be discarded is reported"
	case c.reported[i] > 0 && c.delivered[i] > 0:
		return "what was delivered is reported"
	case c.reported[i] > 0 && r.Class() == 4:
		return "4xx and reported: the sender is told again with each try"
	case r.Class() == 2 && c.kinds[i] != "discard" && c.delivered[i] == 0 && c.reported[i] == 0 && c.kept[i] == 0:
		return "lost"
	case c.kept[i] > 0 && (c.delivered[i] > 0 || c.reported[i] > 0):
		return "kept, though somebody has it or knows"
	case c.kept[i] > 0 && c.kinds[i] == "discard":
		return "kept, though it is to be discarded"
	case r.Class() == 2 && c.kinds[i] == "tempfail":
		return "lost, though it was to wait"
	case r.Class() == 2 && (c.kinds[i] == "reject" || c.kinds[i] == "bounce") && c.mayReport() && c.reported[i] == 0:
		return "one of ours is not told"
	case c.input.AfterQueue() && (r.Class() == 5 && !c.passes(i) && c.wouldTell() && !c.mayReport() ||
		r.Class() == 5 && strings.HasPrefix(c.sender, "strange")):
		return "a stranger is told by the feeding MTA"
	case c.input.AfterQueue() && r.Class() == 5 && c.kinds[i] == "discard":
		return "what is to be discarded is refused"
	case r.Class() == 5 && c.reported[i] > 0:
		return "told twice"
	case r.Class() != 2 && c.delivered[i] > 0 && !c.twice(i):
		return "comes twice"
	}
	return ""
}

// matrixConfig gives recipients their kinds by their names.
func matrixConfig(t *testing.T) *policy.Config {
	t.Helper()
	text := "hostname: mail.example.org\nlocal_domains: [example.org]\nsettings: {virus: {admin: \"\"}}\nrecipients:\n"
	for _, k := range matrixKinds {
		var sections []string
		for _, c := range matrixCategories {
			set := "destiny: " + k
			if k == "bypass" && c == mail.Unchecked {
				set = "destiny: reject, lover: true" // it cannot be bypassed
			} else if k == "bypass" {
				set = "bypass: true"
			}
			sections = append(sections, policy.CategoryKey(c)+": {"+set+"}")
		}
		text += fmt.Sprintf("  - {match: [%[1]s0@, %[1]s1@, %[1]s2@], settings: {%[2]s}}\n", k, strings.Join(sections, ", "))
	}
	cfg, err := policy.Parse("postern.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestPromisesHoldForCombinations(t *testing.T) {
	t.Parallel()
	cfg := matrixConfig(t)
	inputs := []mail.Input{mail.InputLMTP, mail.InputSMTP, mail.InputProxy, mail.InputMilter, mail.InputAMPDP, mail.InputLocal}
	// the step divides none of the factors, so each value still meets all others
	for n := 0; n < 5*2*6*6*6*6*6*3*3*3*3; n += 149 {
		rest := n
		next := func(k int) int { i := rest % k; rest /= k; return i }
		c := &matrixCase{input: inputs[next(6)], category: matrixCategories[next(5)], sender: matrixSenders[next(6)], report: matrixCodes[next(3)], store: next(2) == 0}
		for i := range c.kinds {
			c.kinds[i], c.codes[i] = matrixKinds[next(6)], matrixCodes[next(3)]
		}
		replies := c.run(t, cfg, memory{}, []int{0, 1, 2})
		for i := range c.kinds {
			if why := c.broken(i, replies[min(i, len(replies)-1)]); why != "" {
				t.Errorf("%s, recipient %d: %+v: %v", why, i, *c, replies)
			}
		}
	}
}

// What has to wait comes again, and so does all if the program died: then next
// hop and quarantine are well, and everybody's mail must come to one end. Only
// what the journal had begun at the moment of death may come twice.
func TestNothingComesTwice(t *testing.T) {
	t.Parallel()
	cfg := matrixConfig(t)
	inputs := []mail.Input{mail.InputLMTP, mail.InputSMTP}
	doubtful := 0
	for n := 0; n < 5*2*5*2*6*6*6*6*3*3*3*3; n += 907 {
		rest := n
		next := func(k int) int { i := rest % k; rest /= k; return i }
		c := &matrixCase{input: inputs[next(2)], category: matrixCategories[next(5)], sender: matrixSenders[next(6)], report: matrixCodes[next(3)], store: next(2) == 0, deaths: next(5)}
		for i := range c.kinds {
			c.kinds[i], c.codes[i] = matrixKinds[next(6)], matrixCodes[next(3)]
			if c.kinds[i] == "tempfail" {
				c.kinds[i] = "pass" // it would wait for ever
			}
		}
		journal := memory{}
		replies := c.run(t, cfg, journal, []int{0, 1, 2})
		inDoubt := [3]bool{}
		var again []int
		for i := range c.kinds {
			if replies == nil || replies[min(i, len(replies)-1)].Class() == 4 {
				again = append(again, i)
			}
			tr, ok := journal.Find(c.key(i))
			inDoubt[i] = ok && tr.Disposal == mail.NotHandled
			if inDoubt[i] && replies != nil {
				t.Errorf("recipient %d is left in doubt by an answer: %+v", i, *c)
			}
		}
		refused := [3]bool{}
		for i := range c.kinds {
			refused[i] = replies != nil && replies[min(i, len(replies)-1)].Class() == 5
		}
		if len(again) > 0 {
			well := *c
			well.codes, well.report, well.store, well.deaths = [3]int{250, 250, 250}, 250, true, 0
			for k, r := range well.run(t, cfg, journal, again) {
				if r.Class() == 4 {
					t.Errorf("%+v waits again: %s", *c, r)
				}
				for _, i := range again[k : k+map[bool]int{true: len(again), false: 1}[c.input.OneReply()]] {
					refused[i] = r.Class() == 5
				}
			}
			c.delivered, c.reported, c.kept = well.delivered, well.reported, well.kept
		}
		for i := range c.kinds {
			ends := c.delivered[i] + c.reported[i] + c.kept[i]
			if refused[i] {
				ends++
			}
			switch {
			case ends == 0 && c.kinds[i] != "discard":
				t.Errorf("recipient %d has no end: %+v", i, *c)
			case ends > 1 && !inDoubt[i]:
				t.Errorf("recipient %d has %d ends: %+v, then %v", i, ends, *c, again)
			case ends > 1:
				doubtful++
			}
		}
	}
	if doubtful == 0 {
		t.Error("no death left a mail in doubt: the test tries nothing")
	}
}

var (
	matrixKinds   = []string{"pass", "bypass", "reject", "bounce", "discard", "tempfail"}
	matrixSenders = []string{"ours", "list", "never", "stranger", "strange list", "null"}
	matrixCodes   = []int{250, 450, 550}

	matrixCategories = []mail.Category{mail.Infected, mail.Banned, mail.Unchecked, mail.Spam, mail.BadHeader}
)

func (c *matrixCase) text() string {
	text := "From: alice@example.org\r\n"
	if strings.HasSuffix(c.sender, "list") {
		text += "List-Id: <l.example.org>\r\n"
	}
	return text + "\r\n"
}

func (c *matrixCase) from() mail.Address {
	switch c.sender {
	case "stranger", "strange list":
		return "eve@example.com"
	case "null":
		return ""
	}
	return "alice@example.org"
}

// key names a recipient in the journal.
func (c *matrixCase) key(i int) mail.TraceKey {
	return mail.KeyOf("4AAAA", sha256.Sum256([]byte(c.text())), c.from(), &mail.Recipient{Address: c.rcpt(i)})
}

// run takes the message to some of the recipients; no replies: the program died.
func (c *matrixCase) run(t *testing.T, cfg *policy.Config, journal Journal, rcpts []int) (replies []mail.Reply) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(died); !ok {
				panic(p)
			}
		}
	}()
	tx := &mail.Transaction{ID: "1", Input: c.input, Listener: "127.0.0.1:10023", From: c.from(), Message: mail.NewMessage([]byte(c.text()))}
	if strings.HasPrefix(c.sender, "strange") {
		tx.Listener = "127.0.0.1:10024"
	}
	tx.Client.Ident = "4AAAA"
	if c.back() {
		tx.Back = c
	}
	for _, i := range rcpts {
		r := mail.Recipient{Address: c.rcpt(i)}
		if c.sender == "never" {
			r.Opts.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
		}
		tx.Rcpts = append(tx.Rcpts, r)
	}
	f := &Filter{Policy: cfg, Relay: func(mail.NextHop) mail.Transport { return c }, Log: slog.New(slog.DiscardHandler), Quarantine: c, Journal: journal}
	sel, err := f.Select(t.Context(), tx, nil)
	if err != nil {
		t.Fatal(err)
	}
	ex := &Examination{Selection: sel}
	if c.category == mail.Spam {
		ex.Score = &mail.Score{Value: 100}
	} else {
		ex.Findings = []mail.Finding{{Category: c.category, Minor: mail.Encrypted, Name: "Test", Rcpt: mail.AllRcpts}}
	}
	ex.Verdicts = policy.Decide(sel, ex.Findings, ex.Score)
	replies, _ = f.Enact(t.Context(), tx, ex)
	if want := map[bool]int{true: 1, false: len(rcpts)}[c.input.OneReply()]; len(replies) != want {
		t.Fatalf("%+v: %d replies", *c, len(replies))
	}
	return replies
}
