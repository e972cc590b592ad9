package policy

import (
	"time"

	"postern/filter/mail"
	"postern/policy/banned"
	"postern/policy/senderlist"
	"postern/policy/virusname"
)

// Destiny is what becomes of a message in a category (Amavis: D_PASS, ...).
type Destiny string

// The destinies.
const (
	Pass     Destiny = "pass"     // hand on
	Reject   Destiny = "reject"   // refuse with 5xx
	Bounce   Destiny = "bounce"   // accept, tell the sender by a non-delivery report of ours where that is safe
	Discard  Destiny = "discard"  // accept and drop, with a log line
	Tempfail Destiny = "tempfail" // refuse with 4xx, the feeding MTA tries again
)

// Settings are the values that a policy bank, a sender or a recipient can
// change. Everything that is the same for all messages stands in [Config].
type Settings struct {
	// Mail of this bank comes from our own people: it is signed, its senders
	// may get non-delivery reports, its direction is Internal or Outbound.
	Originating bool `yaml:"originating"`
	// Next hop of mail that passes: smtp://host:port, lmtp://host:port,
	// smtp:unix:/path or lmtp:unix:/path.
	ForwardTo string `yaml:"forward_to"`
	// Next hop of notices and non-delivery reports.
	NotifyTo string `yaml:"notify_to"`
	// Folder with texts in the place of ours, for people who read another language:
	// ndr.txt, and for one category ndr-virus.txt, ndr-banned.txt, ndr-spam.txt,
	// ndr-unchecked.txt, ndr-bad_header.txt, ndr-oversized.txt; notice.txt for
	// administrators and recipient.txt. The first line is "Subject: ...", the second
	// is empty. Fields such as {{.Sender}} are filled in; postern check names them
	// where one is wrong. Empty: our own texts.
	Templates string `yaml:"templates"`
	// What to do when a check fails or times out: tempfail answers 451, pass
	// goes on as UNCHECKED by the destiny of that category. It holds for all
	// checks; virus, banned and spam can have an on_error of their own. Built in
	// is that mail passes without its spam score: on_error for all, once it is
	// set, holds for spam engines too.
	OnError OnError `yaml:"on_error"`

	// Mail with a virus, category INFECTED.
	Virus VirusSettings `yaml:"virus"`
	// Mail with files of a forbidden name or type.
	Banned BannedSettings `yaml:"banned"`
	// Mail by its spam score, categories SPAM and SPAMMY.
	Spam SpamSettings `yaml:"spam"`
	// Mail whose header breaks the rules.
	BadHeader CategorySettings `yaml:"bad_header"`
	// Mail that could not be checked: encrypted, too large, ambiguous, or a
	// check has failed and on_error is pass. Mail that its sender encrypted for
	// the reader (PGP, S/MIME) gets no subject_tag, which would break the
	// signature of the sender; mail with an encrypted archive does.
	Unchecked CategorySettings `yaml:"unchecked"`
	// Mail of more octets than message_size.
	Oversized CategorySettings `yaml:"oversized"`
	// Size beyond which mail for a recipient is OVERSIZED (Amavis:
	// message_size_limit_maps); 0: no limit but that of limits.
	MessageSize mail.Size `yaml:"message_size"`
	// Whether a request to release mail from the quarantine (AM.PDP) must name
	// its secret_id. Only the bank of the listener counts.
	AuthRequiredRelease bool `yaml:"auth_required_release"`
	// DKIM signatures (RFC 6376).
	DKIM DKIMSettings `yaml:"dkim"`
	// Whether the client may send for the domains of HELO and MAIL FROM (RFC
	// 7208).
	SPF SPFSettings `yaml:"spf"`
	// What the domain of the author wishes for mail that it does not answer for
	// (RFC 9989).
	DMARC DMARCSettings `yaml:"dmarc"`

	origins []Origin // by number of leaf; nil: all built-in
}

// OnError is the answer to a check that failed.
type OnError string

// The answers.
const (
	OnErrorTempfail OnError = "tempfail"
	OnErrorPass     OnError = "pass"
)

// CategoryOnError is the answer to a check for one category that failed: an
// [OnError], or OnErrorDefault.
type CategoryOnError OnError

// OnErrorDefault says that the on_error for all checks holds.
const OnErrorDefault CategoryOnError = "default"

// CategorySettings are what every category has.
type CategorySettings struct {
	// What becomes of a message in this category.
	Destiny Destiny `yaml:"destiny"`
	// Who gets a notice for each message in this category; empty: nobody.
	Admin mail.Address `yaml:"admin"`
	// Do not check for this category (Amavis: bypass_..._checks).
	Bypass bool `yaml:"bypass"`
	// Check and report, but let pass (Amavis: ..._lovers).
	Lover bool `yaml:"lover"`
	// Put in front of the subject for local recipients when mail of this
	// category passes; empty: none. That of spam is for SPAMMY too. _SCORE_ in it is the score, _REQD_ the tag2_level, _YESNO_ and
	// _YESNOCAPS_ whether that is reached, _HOSTNAME_ the hostname, _DATE_ and
	// _U_ the time, _LOGID_ and _MAILID_ the ids of the log line, _SUBJPREFIX_
	// what Rspamd would put there (its action "rewrite subject").
	SubjectTag string `yaml:"subject_tag"`
	// Put behind the user name of local recipients when mail of this category
	// passes, so that it can be sorted: with "spam" mail for user@example.org
	// goes to user+spam@example.org. See recipient_delimiter. Empty: nothing.
	AddressExtension string `yaml:"address_extension"`
	// Whether a copy of mail in this category is kept in the quarantine. auto keeps
	// it where the mail would else be gone: it was accepted, and its sender may not
	// be told. true keeps one whatever becomes of the mail, false none, so that mail
	// of strangers is dropped. With an address it is as with true, but the copies
	// are mailed there, through notify_to.
	Quarantine CopyTo `yaml:"quarantine"`
	// Tell recipients of ours by a notice that mail in this category was kept from
	// them (Amavis: warnvirusrecip, warnbannedrecip, warnbadhrecip).
	WarnRecipient bool `yaml:"warn_recipient"`
}

// CopyTo says whether copies are kept: one of the words, or the address that gets
// them.
type CopyTo string

// The words.
const (
	CopyAuto  CopyTo = "auto"
	CopyTrue  CopyTo = "true"
	CopyFalse CopyTo = "false"
)

// Address returns who gets copies by mail, empty for nobody.
func (c CopyTo) Address() mail.Address {
	switch c {
	case CopyAuto, CopyTrue, CopyFalse, "":
		return ""
	}
	return mail.Address(c)
}

// VirusSettings are for category INFECTED.
type VirusSettings struct {
	CategorySettings `yaml:",inline"`
	// What to do when a check for viruses fails; default: as on_error for all.
	OnError CategoryOnError `yaml:"on_error"`
	// Virus names whose senders are forged, so that no report is sent;
	// shell patterns, for example "*Phish*".
	FakesSender []string `yaml:"fakes_sender"`
	// What the names mean that virus scanners give: some are a guess and not
	// the name of a virus. The first entry that fits decides, and what no entry
	// fits is a virus. A list replaces the one below it; built_in: true stands
	// for the built-in entries, which are those of Amavis
	// (@virus_name_to_spam_score_maps). A message for which a scanner has such
	// names only is not INFECTED; the highest points of each scanner count for
	// its score. What ClamAV says of its own limits and of what it cannot open
	// (Heuristics.Limits.Exceeded.*, Heuristics.Encrypted.*) is UNCHECKED
	// whatever the list says.
	//
	//	names:
	//	  - {match: ["PUA.*", "Heuristics.OLE2.ContainsMacros*"], as: score, score: 2}
	//	  - {match: "Heuristics.Broken.*", as: unchecked}
	//	  - {built_in: true}
	Names []virusname.NameRule `yaml:"names"`
}

// BannedSettings are for category BANNED.
type BannedSettings struct {
	CategorySettings `yaml:",inline"`
	// What to do when a message cannot be searched for files; default: as
	// on_error for all.
	OnError CategoryOnError `yaml:"on_error"`
	// Which files may not pass. Every file of a message is tested, also those
	// inside archives, documents and attached messages: the first rule that
	// fits decides, and a file that no rule fits may pass. A list replaces the
	// one below it; built_in: true stands for the built-in rules.
	//
	// The built-in rules block, in this order: names with two extensions of
	// which the last is a program, and names that end in a class id, because
	// Windows hides the part that counts; the media types of Windows programs
	// and HTML applications; the extensions that Windows always ran; Windows
	// programs by content, whatever their name (these five are Debian's
	// rules for Amavis); scripts that run on a click, also in a zip;
	// shortcuts and settings files that start something else; packages,
	// libraries and add-ins that install or are programs; disk images and notebooks, which take
	// the mark of the internet from what is in them; the same by content;
	// and pieces of a message, which no filter can see whole. The large mail
	// services refuse nearly all of these too. Names do not count for pieces of
	// documents, packages and saved pages, which no click reaches; programs by
	// content count there too.
	//
	// Not blocked are documents with macros, HTML pages and archives with a
	// password: ordinary business mail has them. Block them where you can:
	//
	//	rules:
	//	  - {allow: {name: "setup-*.exe", inside: [zip, 7z]}, comment: our own updates}
	//	  - {block: {is: [macros, html-smuggling, encrypted]}}
	//	  - {block: {name: ["*.wmf", "/^invoice.*[.]html?$/i"]}}
	//	  - {built_in: true}
	Rules []banned.Rule `yaml:"rules"`
}

// SpamSettings are for categories SPAM and SPAMMY. The score of a message is the
// sum of what the spam engines give, and of virus.names. Scores are compared to
// three decimals, as they are written.
type SpamSettings struct {
	CategorySettings `yaml:",inline"`
	// What to do when a spam engine fails: pass hands the mail on without a
	// score, as UNCHECKED in the log, whatever the destiny of that category;
	// tempfail answers 451. default: as on_error for all if the file sets that,
	// else pass.
	OnError CategoryOnError `yaml:"on_error"`
	// Score from which local recipients get the fields X-Spam-Flag, -Score,
	// -Level and -Status; -999: always.
	TagLevel float64 `yaml:"tag_level"`
	// Score from which mail is called SPAMMY: X-Spam-Flag is YES, and the
	// subject gets its tag.
	Tag2Level float64 `yaml:"tag2_level"`
	// Score from which tag3_subject_tag stands before the subject; 0: none.
	Tag3Level float64 `yaml:"tag3_level"`
	// The tag from tag3_level; empty: subject_tag.
	Tag3SubjectTag string `yaml:"tag3_subject_tag"`
	// Score from which mail is called SPAM, and its destiny holds.
	KillLevel float64 `yaml:"kill_level"`
	// Score from which no non-delivery report is sent; 0: no such limit.
	DSNCutoffLevel float64 `yaml:"dsn_cutoff_level"`
	// Score from which no copy of SPAM is kept in the quarantine, so that nobody
	// hears of it who may not be told; 0: no such limit.
	QuarantineCutoffLevel float64 `yaml:"quarantine_cutoff_level"`
	// What is known beforehand of senders, those of the envelope and those in
	// From (Amavis: whitelist_sender, blacklist_sender, score_sender). The first
	// entry that holds decides. The entries of a bank or a recipient stand before
	// those below it, so that a recipient can have his own opinion; neutral ends
	// the search. The list is about spam alone: viruses, banned files and what
	// is UNCHECKED count for every sender.
	//
	//	sender_list:
	//	  - {match: [orders@example.com, .bank.example], as: whitelisted}
	//	  - {match: "file:unwanted", as: blacklisted}
	//	  - {match: .example.net, as: score, score: -1.5}
	SenderList []senderlist.Rule `yaml:"sender_list"`
}

// DKIMSettings switch signing and verification.
type DKIMSettings struct {
	// Sign originating mail when there is a key for its author.
	Sign bool `yaml:"sign"`
	// Only keys with one of these selectors sign; empty: all of the domain.
	Selectors []string `yaml:"selectors"`
	// How long a signature is valid (x=); 0: without end. Mail that waits in a
	// queue for days must still be valid: 168h is the least that makes sense.
	Expire time.Duration `yaml:"expire"`
	// Verify the signatures that a message comes with. They stand in the log
	// as dkim_sd, in Authentication-Results for recipients of ours, and choose
	// signer_banks. A message waits for the DNS, but not long: a signature
	// without an answer is temperror.
	Verify bool `yaml:"verify"`
}

// SPFSettings switch SPF.
type SPFSettings struct {
	// Ask about the client of mail from outside, where it is known: before the
	// queue, and after it by XFORWARD. Clients that are our own people, have
	// authenticated themselves or have a private address are not asked about.
	// Say false in the bank of a relay that takes mail for us, a backup MX for
	// example. Where dkim.verify is true as well, DMARC is evaluated.
	Verify bool `yaml:"verify"`
}

// DMARCSettings say what the result of DMARC means.
type DMARCSettings struct {
	// Points for the spam score when neither DKIM nor SPF speak for the author.
	// Nothing is refused for that alone, since mail of lists and forwarders
	// fails as well; nor is there a point for mail of our own people.
	//
	//	score: {reject: 3, quarantine: 1.5}
	Score DMARCScore `yaml:"score"`
}

// DMARCScore has points by the wish of the author's domain.
type DMARCScore struct {
	// For p=reject; also sp, np.
	Reject float64 `yaml:"reject"`
	// For p=quarantine, and for p=reject that is only tried out (t=y).
	Quarantine float64 `yaml:"quarantine"`
}

// CategoryKey returns the key of the settings of category c, for example
// "virus", and the empty string for a category without settings of its own.
func CategoryKey(c mail.Category) string {
	switch c {
	case mail.Infected:
		return "virus"
	case mail.Banned:
		return "banned"
	case mail.Unchecked:
		return "unchecked"
	case mail.Spam:
		return "spam"
	case mail.BadHeader:
		return "bad_header"
	case mail.Oversized:
		return "oversized"
	}
	return ""
}

// category returns the settings under the key of category c, nil where it has
// none.
func (s *Settings) category(c mail.Category) *CategorySettings {
	switch c {
	case mail.Infected:
		return &s.Virus.CategorySettings
	case mail.Banned:
		return &s.Banned.CategorySettings
	case mail.Unchecked:
		return &s.Unchecked
	case mail.Spam:
		return &s.Spam.CategorySettings
	case mail.BadHeader:
		return &s.BadHeader
	case mail.Oversized:
		return &s.Oversized
	}
	return nil
}

// Category returns the settings common to all categories for c. Spammy shares
// those of Spam; categories without settings of their own pass.
func (s *Settings) Category(c mail.Category) CategorySettings {
	if c == mail.Spammy {
		shared := s.Spam.CategorySettings
		shared.Destiny = Pass
		return shared
	}
	if own := s.category(c); own != nil {
		return *own
	}
	return CategorySettings{Destiny: Pass}
}
