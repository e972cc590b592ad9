// Package check looks at a message and reports what it finds. A check decides
// nothing and changes nothing.
//
// Each kind of check is one file that registers itself and brings its own
// options; [Kinds] lists them for the configuration, [New] builds one, and
// [Run] runs those that a message needs. Start with [Check] and [Result].
package check

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"postern/filter/mail"
)

// Check examines one message. An error means that the answer is not complete;
// what it has found until then counts all the same, but for the score: half of
// one is none, unless a [Failure] says that the rest of the answer is whole.
//
// A check should end when ctx does. If it does not, Run goes on without it, and
// the check may go on reading in until it ends.
type Check interface {
	Check(ctx context.Context, in *Input) (Answer, error)
}

// Answer is what a check says about a message.
type Answer struct {
	// Findings that concern all recipients say so (mail.AllRcpts).
	Findings []mail.Finding
	// Score is nil for a check that is no spam engine, and for a message
	// that the engine did not score.
	Score *mail.Score
	// Skipped says why the engine was not asked: it is not meant to be, for a
	// message like this. That is no finding, and the message has no score.
	Skipped string
	// Fields are header fields that the engine would like to see added.
	Fields []mail.Edit
}

// Scanner is implemented by checks that look for viruses with a real scanner:
// if Scanner returns true, a complete answer means that mail was scanned.
type Scanner interface {
	Scanner() bool
}

// Input is what a check may look at. It is read-only.
type Input struct {
	Tx *mail.Transaction
	// Parts is the message taken apart, nil when that was not done. Its data
	// may alias the message and is readable as long as that is.
	Parts *mail.Part
	// Hostname is our name in what engines make for others to read.
	Hostname string
	// Banks are the policy banks of the envelope, in the order in which they
	// were loaded.
	Banks []string
	// Login is the name of a client that has authenticated itself with our
	// mail system; empty if it has not, or nobody says so who knows.
	Login string
}

// Options are the settings of one check: a pointer to a struct with yaml tags.
// If it has a method Validate() error, the configuration calls it.
type Options interface {
	// New builds the check. It opens nothing that would need closing.
	New() (Check, error)
}

// Named is a check with its place in the configuration.
type Named struct {
	Name       string // key of the engine, for example "clamav"
	Check      Check
	Categories []mail.Category // what it can find; it is not needed where all of them are bypassed
}

// Result is what became of one check.
type Result struct {
	Check   string
	Answer  // with a finding Unchecked, and without a score that is not whole, if there is an error
	Err     error
	Took    time.Duration
	Scanned bool // a virus scanner gave its complete answer
}

type kind struct {
	options    func() Options
	categories []mail.Category
}

// kinds is written by init functions only.
var kinds = map[string]kind{}

func register(name string, options func() Options, categories ...mail.Category) {
	kinds[name] = kind{options, categories}
}

// Kinds returns, for each kind of check, a function that gives its options
// filled with their defaults.
func Kinds() map[string]func() Options {
	out := make(map[string]func() Options, len(kinds))
	for name, k := range kinds {
		out[name] = k.options
	}
	return out
}

// New builds the check of that kind from options that came from [Kinds].
func New(name string, options any) (Named, error) {
	k, ok := kinds[name]
	if !ok {
		return Named{}, fmt.Errorf("no check of kind %q", name)
	}
	o, ok := options.(Options)
	if !ok {
		return Named{}, fmt.Errorf("%T are no options of a check", options)
	}
	c, err := o.New()
	if err != nil {
		return Named{}, err
	}
	return Named{Name: name, Check: c, Categories: slices.Clone(k.categories)}, nil
}

var (
	errDeadline = fail(FailedDeadline, "no answer within the deadline")
	errNoAnswer = fail(FailedNoAnswer, "ended without an answer")
)

// Run runs all checks at once and returns their results in the same order, at
// the latest when ctx ends. A check that fails, panics or has not answered by
// then gives the finding UNCHECKED: silence is never clean.
//
// The message stays readable for checks that overrun, also after the caller
// has closed it.
func Run(ctx context.Context, checks []Named, in *Input) []Result {
	type answer struct {
		i int
		r Result
	}
	// with room for all, so that late ones can end
	answers := make(chan answer, len(checks))
	// the caller goes on using its transaction when a check overruns
	tx := *in.Tx
	shared := *in
	shared.Tx = &tx
	start := time.Now()
	for i, c := range checks {
		release := tx.Message.Hold()
		go func() {
			defer release()
			runOne(ctx, c, &shared, start, func(r Result) { answers <- answer{i, r} })
		}()
	}
	results := make([]Result, len(checks))
	for range checks {
		var a answer
		select {
		case a = <-answers:
		case <-ctx.Done():
			select {
			case a = <-answers: // just in time
			default:
				return withMissing(results, checks, time.Since(start))
			}
		}
		results[a.i] = a.r
	}
	return results
}

// runOne calls done exactly once, whatever the check does.
func runOne(ctx context.Context, c Named, in *Input, start time.Time, done func(Result)) {
	r := Result{Check: c.Name, Err: errNoAnswer}
	defer func() {
		if v := recover(); v != nil {
			r.Err = fail(FailedPanic, "panic: %v in %s", v, panicPlace())
		}
		r.Took = time.Since(start)
		done(finish(r, c))
	}()
	r.Answer, r.Err = c.Check.Check(ctx, in)
}

// finish makes an error a finding and says whether mail was scanned.
func finish(r Result, c Named) Result {
	for i := range r.Findings {
		if r.Findings[i].Check == "" {
			r.Findings[i].Check = c.Name
		}
	}
	s, ok := c.Check.(Scanner)
	r.Scanned = ok && s.Scanner() && r.Err == nil
	for _, f := range r.Findings {
		if f.Category == mail.Unchecked {
			r.Scanned = false
		}
	}
	if r.Err != nil {
		r.Fields = nil
		if !partial(r.Err) {
			r.Score = nil
		}
		minor := mail.CheckFailed
		if FailureWord(r.Err) == FailedSoftReject {
			minor = mail.Later
		}
		r.Findings = append(r.Findings, mail.Finding{
			Category: mail.Unchecked, Minor: minor, Check: c.Name, Detail: r.Err.Error(), Missing: mail.SetOf(c.Categories...), Rcpt: mail.AllRcpts,
		})
	}
	return r
}

func withMissing(results []Result, checks []Named, took time.Duration) []Result {
	for i, c := range checks {
		if results[i].Check == "" {
			results[i] = finish(Result{Check: c.Name, Err: errDeadline, Took: took}, c)
		}
	}
	return results
}

// panicPlace returns the function and line that panicked.
func panicPlace() string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(1, pc)])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicked = true
		case panicked && !strings.HasPrefix(f.Function, "runtime."):
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		if !more {
			return "unknown place"
		}
	}
}
