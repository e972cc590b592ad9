package mail

import (
	"math"
	"strconv"
)

// Category is a content category. The numbers are those of Amavis' CC_
// constants: a higher one takes precedence.
type Category uint8

// The categories, in rising precedence.
const (
	CatchAll   Category = 0
	Clean      Category = 1
	MTABlocked Category = 2
	Oversized  Category = 3
	BadHeader  Category = 4
	Spammy     Category = 5
	Spam       Category = 6
	Unchecked  Category = 7
	Banned     Category = 8
	Infected   Category = 9
)

// CategorySet is a set of categories.
type CategorySet uint16

// SetOf returns the set of these categories.
func SetOf(categories ...Category) CategorySet {
	var s CategorySet
	for _, c := range categories {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in s.
func (s CategorySet) Has(c Category) bool { return s&(1<<c) != 0 }

// Minors refine a category; 0 is always "unspecified".
const (
	// UNCHECKED
	CheckFailed      = 0 // a check failed, timed out or panicked
	Encrypted        = 1
	OverLimits       = 2
	Ambiguous        = 3
	Suspicious       = 4 // a scanner has a doubt that is no virus
	Later            = 5 // an engine wants to see the message again later
	BadHeaderMIME    = 1
	BadHeader8Bit    = 2
	BadHeaderControl = 3
	BadHeaderSpace   = 4
	BadHeaderLong    = 5
	BadHeaderSyntax  = 6
	BadHeaderMissing = 7
	BadHeaderDup     = 8
	MTATempFailed    = 1
	MTARejected      = 2
)

var categoryNames = [...]string{
	CatchAll: "OTHER", Clean: "CLEAN", MTABlocked: "MTA-BLOCKED", Oversized: "OVERSIZED",
	BadHeader: "BAD-HEADER", Spammy: "SPAMMY", Spam: "SPAM", Unchecked: "UNCHECKED",
	Banned: "BANNED", Infected: "INFECTED",
}

// String returns the word of the log line, for example "INFECTED".
func (c Category) String() string {
	if int(c) < len(categoryNames) {
		return categoryNames[c]
	}
	return "CATEGORY-" + strconv.Itoa(int(c))
}

// Finding is one thing that a check reports about a message. Checks report,
// policy decides.
type Finding struct {
	Category Category
	Minor    int
	Check    string // name of the check, for example "clamav"
	Name     string // virus name, banned file, header complaint; foreign text
	Short    string // Name for replies and reports, where that says the same in several ways; empty: Name
	Part     string // place in the message, for example "1/2 docs.zip/invoice.exe"; foreign text
	Detail   string // for the log and for administrators, never for peers

	// EndToEnd says of what is encrypted that the sender did it for the reader,
	// whose mail program opens it: it is no file with a password.
	EndToEnd bool

	// Missing are the categories that a check would have found, had it not
	// failed; none if that is not known.
	Missing CategorySet

	// Rcpt is the index of the only recipient concerned, or AllRcpts.
	Rcpt int
}

// Score is what a spam engine thinks of a message: the higher, the worse.
type Score struct {
	Value float64
	Tests []ScoreTest // what it is made of, in the order of the engine
	// Autolearn is what SpamAssassin says of its learning, for example "no" or
	// "ham autolearn_force=no"; empty if it says nothing.
	Autolearn string
	// SubjectPrefix is what an engine would put before the subject, empty if it
	// wishes nothing; foreign text.
	SubjectPrefix string
}

// Thousandths rounds a score to the three decimals that people see.
func Thousandths(score float64) float64 { return math.Round(score*1000) / 1000 }

// ScoreText writes a score as people see it.
func ScoreText(score float64) string {
	return strconv.FormatFloat(Thousandths(score), 'f', -1, 64)
}

// ScoreTest is one rule or symbol of a spam engine that matched.
type ScoreTest struct {
	Name  string // foreign text
	Score float64
}

// AllRcpts in Finding.Rcpt says that a finding concerns every recipient.
const AllRcpts = -1
