package check

// Why the answer of an engine does not count, in one word that can be counted.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Failure is an answer of an engine that does not count, or not in full.
type Failure struct {
	// Word names the kind of failure: one of the Failed constants.
	Word string
	Err  error
	// Partial says that the engine did its work but for a part that it names
	// itself: the message is UNCHECKED, but what the engine made of the rest
	// counts, score included. Else one broken service that an engine asks
	// would switch off all of its others.
	Partial bool
}

// The kinds of failure. An answer is complete or it is one of these.
const (
	FailedConnect       = "connect"        // nobody takes the connection
	FailedTimeout       = "timeout"        // no answer in the time that there was
	FailedCut           = "cut"            // the answer ends in its middle
	FailedEmpty         = "empty"          // the connection was closed without an answer
	FailedGarbage       = "garbage"        // not understood
	FailedTooLong       = "too_long"       // longer than any answer is
	FailedStatus        = "status"         // the engine says that it failed
	FailedTimeLimit     = "time_limit"     // the engine stopped before it was done
	FailedNoSymbols     = "no_symbols"     // the engine looked at nothing
	FailedSymbol        = "symbol_failed"  // something that the engine asks did not answer it
	FailedSkipped       = "skipped"        // the engine accepts what it did not look at
	FailedUnknownAction = "unknown_action" // of the engine, which we have no meaning for
	FailedSoftReject    = "soft_reject"    // the engine wants to see the message again later
	FailedOtherMail     = "other_mail"     // the answer is about another message
	FailedNotAsked      = "not_asked"      // the server is down, see [Server]
	FailedDeadline      = "deadline"       // the check did not end in time
	FailedNoAnswer      = "no_answer"      // the check ended without an answer
	FailedPanic         = "panic"          // a mistake of ours
	FailedOther         = "other"
)

func (f *Failure) Error() string { return f.Err.Error() }

func (f *Failure) Unwrap() error { return f.Err }

// FailureWord names the kind of failure that err is, for counting. It is empty
// if err is nil.
func FailureWord(err error) string {
	if err == nil {
		return ""
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Word
	}
	if isTimeout(err) {
		return FailedTimeout
	}
	return FailedOther
}

// partial reports whether err leaves the rest of an answer as it is.
func partial(err error) bool {
	f, ok := errors.AsType[*Failure](err)
	return ok && f.Partial
}

func fail(word, format string, args ...any) *Failure {
	return &Failure{Word: word, Err: fmt.Errorf(format, args...)}
}

// ioFailure is the failure of a connection that was there.
func ioFailure(doing string, err error) *Failure {
	word := FailedCut
	if isTimeout(err) {
		word = FailedTimeout
	}
	return fail(word, "%s: %w", doing, err)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// failures are those of several servers, in one line.
type failures []error

func (f failures) Error() string {
	var all []string
	for _, err := range f {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

func (f failures) Unwrap() []error { return f }

// readAll reads an answer of at most limit octets to its end.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(answer)) > limit {
		return nil, fail(FailedTooLong, "the answer is too long")
	}
	return answer, err
}
