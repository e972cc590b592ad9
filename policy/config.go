package policy

import (
	"errors"
	"io/fs"
	"net/netip"
	"time"

	"postern/filter/mail"
	"postern/policy/banned"
	"postern/policy/lookup"
	"postern/policy/strict"
	"postern/policy/virusname"
)

// Config is the whole configuration. Once it is loaded nobody writes to it, so
// that it can be swapped as one pointer; lists keep the order of the file, and
// domains are in lower case as A-labels (RFC 5890). The comments of its fields
// are also the text of the sample file, of the manual and of the schema.
type Config struct {
	// Name of this host in greetings, Received fields and reports; empty: the
	// name that the system has.
	Hostname string `yaml:"hostname"`
	// Name of the mail system in X-Virus-Scanned and in notices; empty: the
	// hostname without its first label.
	Domain string `yaml:"domain"`
	// Domains whose recipients are ours. A leading dot means the domain and
	// all below it, "file:PATH" a list with one domain on each line.
	LocalDomains []string `yaml:"local_domains"`
	// Networks of clients that are our own senders (Amavis: @mynetworks). The
	// first entry that holds the client's address decides, "!" in front
	// excludes. They select bank MYNETS, unless client_banks is given.
	// Loopback does not belong here on a listener whose feed does not tell
	// the client's address.
	OwnNetworks []string `yaml:"own_networks"`
	// What parts a user name from an address_extension, as in Postfix; of several
	// characters the first is written. Empty: extensions are not used.
	RecipientDelimiter string `yaml:"recipient_delimiter"`
	// Addresses on which mail comes in.
	Listeners []Listener `yaml:"listeners"`
	// Banks by the address of the client; the first entry whose networks hold
	// it is taken (Amavis: @client_ipaddr_policy).
	//
	//	client_banks:
	//	  - {networks: ["!192.0.2.7", 192.0.2.0/24], bank: MYNETS}
	ClientBanks []ClientBank `yaml:"client_banks"`
	// Banks by the name with which the client has authenticated itself (SASL).
	// Only a milter hears of it: XFORWARD does not tell it, and amavisd-milter
	// names a bank SMTP_AUTH instead, see allow_banks. The first entry that
	// holds the name is taken. Mail of somebody who has authenticated himself
	// is not originating by that; a bank must say so.
	//
	//	auth_banks:
	//	  - {users: ["!newsletter", "*"], bank: ORIGINATING}
	AuthBanks []AuthBank `yaml:"auth_banks"`
	// Banks by the name of the Postfix service that took the mail, which only
	// a milter hears. The first entry that holds the name is taken. All
	// services have the same name until milter_macro_daemon_name is set for
	// each of them in master.cf.
	//
	//	daemon_banks:
	//	  - {daemons: submission, bank: ORIGINATING}
	DaemonBanks []DaemonBank `yaml:"daemon_banks"`
	// Banks by the domain of a valid DKIM signature of the author; the first
	// entry that names the domain is taken (Amavis:
	// @author_to_policy_bank_maps). Only signatures count that settings of the
	// other banks have verified, see dkim.verify.
	//
	//	signer_banks:
	//	  - {domains: [.example.com], bank: MYNETS}
	SignerBanks []SignerBank `yaml:"signer_banks"`

	// The base bank: what holds where no bank says otherwise.
	Settings Settings `yaml:"settings"`
	// Policy banks: a name and the settings that it changes. They are laid
	// over the base in this order: bank of the listener, of the daemon, of the
	// client, banks named by an AM.PDP request or by local_bank, bank of the
	// login, MYUSERS (when it is given, for originating mail of a sender in
	// local_domains), of the DKIM signer, of the recipient. Mappings merge key by key, scalars and lists replace, null
	// or "" empties. ORIGINATING and MYNETS exist with originating: true.
	//
	//	banks:
	//	  MYNETS: {virus: {admin: postmaster@example.org}}
	//	  PARTNER: {originating: false, spam: {bypass: true}}
	Banks map[string]*Overlay `yaml:"banks"`
	// Settings by recipient address. Each key is taken from the entry with
	// the most specific pattern.
	//
	//	recipients:
	//	  - match: [abuse@, postmaster@example.org]
	//	    settings: {spam: {lover: true}, virus: {admin: ""}}
	Recipients []Rule `yaml:"recipients"`
	// Settings by envelope sender, matched as the recipients are. Anybody can
	// write any sender: let it decide nothing that matters.
	//
	//	senders:
	//	  - {match: .bank.example, settings: {virus: {admin: abuse@example.org}}}
	Senders []Rule `yaml:"senders"`

	// Settings and sender lists of recipients in a database.
	//
	//	lookups:
	//	  sql: {type: postgresql, dsn: "file:/etc/postern/sql.dsn"}
	Lookups Lookups `yaml:"lookups"`

	// Keys that sign mail, by domain of the author.
	//
	//	dkim_keys:
	//	  - {domain: example.org, selector: s2026, key: dkim/example.org.pem}
	DKIMKeys []DKIMKey `yaml:"dkim_keys"`
	// Name under which Authentication-Results are written (RFC 8601); empty:
	// the hostname. Fields that come in under this name, in any spelling, are
	// forged and removed, unless they are in trusted_results, or stand above
	// the Received field of the Postfix that feeds us.
	AuthservID string `yaml:"authserv_id"`
	// Names of programs before us whose Authentication-Results stay. OpenDKIM
	// and OpenDMARC write theirs under the name of the host unless told
	// otherwise, and remove what others have forged: name the host then, or
	// give one of them another name.
	//
	//	trusted_results: [mail.example.org]
	TrustedResults []string `yaml:"trusted_results"`
	// Who is asked for keys and records.
	DNS DNS `yaml:"dns"`
	// Scanners by name, each with its own options. An entry builtin: {} finds
	// the EICAR and GTUBE test strings. Without any entry nothing is scanned.
	//
	//	engines:
	//	  clamav: {address: "unix:/run/clamav/clamd.ctl"}
	Engines map[string]any `yaml:"engines"`
	// How often the engines are asked for what they must find: the test strings
	// EICAR and GTUBE, and whether Rspamd knows the settings_id. An alarm in the
	// log says when one does not. 0: never.
	ProbeInterval time.Duration `yaml:"probe_interval"`

	// Passwords to try on encrypted zip, 7-Zip and RAR archives and PDFs,
	// beside those that the text of a message gives ("Password: ..."). What
	// opens is looked into as any other archive; what does not is UNCHECKED.
	// Rules find both as is: [encrypted], but not PDFs that readers open
	// without asking.
	//
	//	archive_passwords: [infected, "2026"]
	ArchivePasswords []string `yaml:"archive_passwords"`
	// Author of notices and non-delivery reports; empty: postmaster at the
	// hostname.
	NotifyFrom mail.Address `yaml:"notify_from"`
	// What to do with a message that holds an LF without a CR before it:
	// normalize makes it CRLF, reject answers 550 (Postfix:
	// smtpd_forbid_bare_newline).
	BareNewline BareNewline `yaml:"bare_newline"`
	// What is kept over a restart.
	State State `yaml:"state"`
	// Store of blocked mail.
	Quarantine Quarantine `yaml:"quarantine"`
	// Where a message is kept while it is in work.
	Spool Spool `yaml:"spool"`
	// Bounds for one message and for all sessions.
	Limits Limits `yaml:"limits"`
	// The log.
	Log Log `yaml:"log"`

	dir      string                  // of the main file: where relative paths begin
	places   map[string]strict.Place // by dotted key, of the last file that sets it
	selector *selector               // what Select asks, made by compile when all is valid

	templates []TemplateDir
}

// TemplateDir is a folder of texts that some settings name.
type TemplateDir struct {
	Dir    string
	Origin Origin
}

// TemplateDirs returns the folders that any settings name.
func (c *Config) TemplateDirs() []TemplateDir { return c.templates }

// Listener is one address on which mail comes in.
type Listener struct {
	// How mail comes in. After the queue, by content_filter: lmtp, which answers
	// EHLO too, and smtp, which answers LHLO. Before the queue, where a client
	// that is refused hears of it himself: milter (smtpd_milters), am.pdp
	// (amavisd-milter) and smtp-proxy (smtpd_proxy_filter), which hands mail to
	// the next hop before it answers, and answers within 90 seconds whatever
	// limits.deadline says.
	Protocol mail.Input `yaml:"protocol"`
	// IP address and port, for example 127.0.0.1:10024 or [::1]:10024, or a
	// socket, for example unix:/run/postern/lmtp.sock.
	Address string `yaml:"address"`
	// Bank for all that comes in here; empty: none.
	Bank string `yaml:"bank"`
	// Permissions of the socket, octal; empty: as the umask leaves them.
	Mode fs.FileMode `yaml:"mode"`
	// Owner of the socket as user:group; empty: who started the program.
	Owner string `yaml:"owner"`
	// For milter. rcpt makes the client send in several transactions to
	// recipients who have other settings than the first, or another direction,
	// by 452 for those who must wait. Empty: they share the message, and the
	// header of the one who needs to be warned most.
	Split Split `yaml:"split"`
	// For milter: bank of mail that has no connection, that of the sendmail
	// command and reports of Postfix' own (non_smtpd_milters); empty: none.
	LocalBank string `yaml:"local_bank"`
	// For am.pdp: folders in which the messages of the requests lie. Nothing
	// else is opened. Empty: /var/lib/amavis/tmp.
	Folders []string `yaml:"folders"`
	// For am.pdp: banks that a request may name; others are ignored.
	// amavisd-milter names SMTP_AUTH for a client that has authenticated
	// itself, and with its option -B what policy_bank of Postfix says.
	AllowBanks []string `yaml:"allow_banks"`
	// Networks from which mail may come in (Amavis: @inet_acl), as in
	// own_networks; the others get 421. Empty: this machine alone, by its
	// loopback and all its other addresses. Whoever may come in can send in
	// the name of any client: name the machines of your Postfix only.
	Allow []string `yaml:"allow"`

	Origin Origin `yaml:"-"`

	allow *lookup.Networks // nil where Allow is empty; made by compile
}

// Allows reports whether a session may come in from a; fromHere says that a is
// an address of this machine.
func (l *Listener) Allows(a netip.Addr, fromHere bool) bool {
	if l.allow == nil {
		return fromHere
	}
	_, ok := l.allow.Match(a)
	return ok
}

// ClientBank gives the banks of clients in some networks.
type ClientBank struct {
	// The first network that holds the client's address decides, "!" in front
	// excludes.
	Networks []string `yaml:"networks"`
	// Name of the bank, or a list of names, loaded in this order.
	Banks []string `yaml:"bank"`

	Origin Origin `yaml:"-"`
}

// AuthBank gives the banks of clients that have authenticated themselves.
type AuthBank struct {
	// Names as Postfix logs them (sasl_username=), whole; the case of letters
	// does not count, as in reject_sender_login_mismatch. "*" is everybody who
	// has authenticated himself, "!" in front excludes, and the first entry
	// that is the name decides. "file:PATH" is a list with one name on each
	// line.
	Users []string `yaml:"users"`
	// Name of the bank, or a list of names, loaded in this order.
	Banks []string `yaml:"bank"`

	Origin Origin `yaml:"-"`
}

// DaemonBank gives the banks of mail that some services of the MTA took.
type DaemonBank struct {
	// Names as milter_macro_daemon_name has them, compared to the letter, since
	// both are written by the same hand; otherwise as the names of users.
	Daemons []string `yaml:"daemons"`
	// Name of the bank, or a list of names, loaded in this order.
	Banks []string `yaml:"bank"`

	Origin Origin `yaml:"-"`
}

// SignerBank gives the banks of mail that its author's domain has signed.
type SignerBank struct {
	// Domains that sign; a leading dot means the domain and all below it.
	Domains []string `yaml:"domains"`
	// Name of the bank, or a list of names, loaded in this order.
	Banks []string `yaml:"bank"`

	Origin Origin `yaml:"-"`
}

// Rule gives settings to some addresses.
type Rule struct {
	// Addresses: user@example.org, user@ (in any domain), /regular
	// expression/, example.org, .example.org (and all below), "." (all) or
	// file:PATH, a list with one of these on each line. Case does not count,
	// and user@... is user+anything@... too.
	Match []string `yaml:"match"`
	// What is different for them, with the keys of the base bank.
	Settings *Overlay `yaml:"settings"`

	Origin Origin `yaml:"-"`
}

// Lookups are sources of settings outside of the configuration.
type Lookups struct {
	// A database with tables as Amavis has them: users and policy, mailaddr and
	// wblist.
	SQL SQLLookup `yaml:"sql"`
}

// SQLLookup asks a database for the settings of a recipient. They go over those
// of the file, column by column: NULL leaves a setting as it is. Of several rows
// of users the first of the answer that has a value gives it. Columns are those
// of Amavis (virus_lover, bypass_spam_checks, spam_tag2_level, spam_subject_tag2,
// virus_admin, addr_extension_spam, forward_method, local, ...); one that says
// something we have no setting for is ignored with one warning.
type SQLLookup struct {
	// Which kind of server: postgresql, or mariadb, which is for MySQL too. With
	// none no database is asked.
	Type SQLType `yaml:"type"`
	// Where the server is, and the password: "file:PATH" with one line, or
	// "env:NAME", the name of an environment variable. It is never written here
	// nor logged. For postgresql as libpq has it ("postgres://postern:secret@db/mail"
	// or "host=/run/postgresql dbname=mail user=postern"), for mariadb
	// "postern:secret@tcp(db:3306)/mail" or "postern:secret@unix(/run/mysqld/mysqld.sock)/mail".
	DSN string `yaml:"dsn"`
	// Asks for the rows of a recipient (Amavis: $sql_select_policy), the most
	// specific first. %k is the list of keys of the address: for user+ext@sub.dom
	// user+ext@sub.dom, user@sub.dom, for our domains user+ext and user, then
	// @sub.dom, @.sub.dom, @.dom and "@."; %a is the address, %l its part before
	// the @, %u that without the extension, %e the extension, %d the domain, %% a
	// percent sign. Values are never put into the text. Of columns with the same
	// name the last counts; id is that of the user.
	SelectPolicy string `yaml:"select_policy"`
	// Asks for the sender list of a user, whose id is "?": two columns, the
	// sender as in mailaddr and what it is (W white, B black, a number of points,
	// blank for neither), the most specific first (Amavis:
	// $sql_select_white_black_list, but the whole list at once, so that it is
	// known while the server is away). Empty: there are none.
	SelectSenders string `yaml:"select_senders"`
	// Whether senders are white only if they are verified, as those of
	// spam.sender_list are. In Amavis they need not be.
	Verified bool `yaml:"verified"`
	// For all questions about one recipient.
	Timeout time.Duration `yaml:"timeout"`
	// How long an answer is taken for fresh.
	CacheFor time.Duration `yaml:"cache_for"`
	// Rows that are kept in memory, for all recipients together.
	CacheRows int `yaml:"cache_rows"`
	// How long the last answer about a recipient holds while the server does not
	// answer. Then, and for recipients who were never asked about, on_error holds:
	// 451, or with pass the settings of the file.
	StaleFor time.Duration `yaml:"stale_for"`
	// Connections at once.
	Connections int `yaml:"connections"`
}

// SQLType is a kind of database server.
type SQLType string

// The kinds.
const (
	NoSQL      SQLType = "none"
	PostgreSQL SQLType = "postgresql"
	MariaDB    SQLType = "mariadb"
)

// DKIMKey is a key that signs mail.
type DKIMKey struct {
	// Domain of the author; a leading dot means the domain and all below it.
	Domain string `yaml:"domain"`
	// Selector under which the public key is published.
	Selector string `yaml:"selector"`
	// File with the private key, PEM; RSA or Ed25519.
	Key string `yaml:"key"`
	// The day from which the key signs, and the day from which it does not any
	// more: 2027-01-31 is the start of that day here, 2027-01-31T12:00:00Z a
	// time. Empty: always. Of keys with the same time all sign, so a new one can
	// be brought in beside the old: publish it first, and leave the old one in
	// the DNS for a week after its end.
	From Date `yaml:"from"`
	// See from.
	Until Date `yaml:"until"`

	Origin Origin `yaml:"-"`
}

// Date is a point in time, given as a day or with the time of day.
type Date struct{ time.Time }

// UnmarshalText reads 2027-01-31 or 2027-01-31T12:00:00Z.
func (d *Date) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*d = Date{}
		return nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if d.Time, err = time.ParseInLocation(form, string(text), time.Local); err == nil {
			return nil
		}
	}
	return errors.New("want a day such as 2027-01-31")
}

// String returns the day, empty for none.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// DNS says who is asked. A resolver on this machine, or near it, that validates
// (DNSSEC) serves best.
type DNS struct {
	// IP addresses of resolvers, with a port if it is not 53, asked in turn when
	// one does not answer; empty: those of /etc/resolv.conf.
	//
	//	servers: [127.0.0.1, "[::1]:5353"]
	Servers []string `yaml:"servers"`
}

// Default returns the built-in configuration as it is written down: names that
// depend on the host are still empty. [Parse] with no data returns it complete.
func Default() *Config {
	return &Config{
		// No network is ours until the file says so: with a feed that does
		// not tell the client, loopback here would make all mail our own.
		OwnNetworks: nil,

		RecipientDelimiter: "+",
		Listeners: []Listener{
			{Protocol: mail.InputLMTP, Address: "127.0.0.1:10023", Bank: "ORIGINATING", Origin: Origin{File: BuiltIn}},
			{Protocol: mail.InputLMTP, Address: "127.0.0.1:10024", Origin: Origin{File: BuiltIn}},
		},
		Settings: Settings{
			ForwardTo: "smtp://127.0.0.1:10025",
			NotifyTo:  "smtp://127.0.0.1:10025",
			OnError:   OnErrorTempfail,
			Virus:     VirusSettings{CategorySettings: CategorySettings{Destiny: Reject, Quarantine: CopyAuto, SubjectTag: "***INFECTED*** "}, OnError: OnErrorDefault, Names: virusname.BuiltIn},
			Banned:    BannedSettings{CategorySettings: CategorySettings{Destiny: Reject, Quarantine: CopyAuto}, OnError: OnErrorDefault, Rules: banned.BuiltIn()},
			Spam:      SpamSettings{CategorySettings: CategorySettings{Destiny: Reject, Quarantine: CopyAuto, SubjectTag: "***SPAM*** "}, OnError: OnErrorDefault, TagLevel: 2, Tag2Level: 6.31, KillLevel: 6.31},
			BadHeader: CategorySettings{Destiny: Pass, Quarantine: CopyAuto},
			Oversized: CategorySettings{Destiny: Bounce, Quarantine: CopyAuto},
			Unchecked: CategorySettings{Destiny: Pass, Quarantine: CopyAuto, SubjectTag: "***UNCHECKED*** "},
			DKIM:      DKIMSettings{Sign: true, Verify: true},
			SPF:       SPFSettings{Verify: true},

			AuthRequiredRelease: true,
		},
		Banks: map[string]*Overlay{
			"ORIGINATING": builtInBank("ORIGINATING"),
			"MYNETS":      builtInBank("MYNETS"),
		},
		Engines: map[string]any{},

		Lookups: Lookups{SQL: SQLLookup{
			Type:          NoSQL,
			SelectPolicy:  "SELECT users.*, policy.*, users.id FROM users LEFT JOIN policy ON users.policy_id = policy.id WHERE users.email IN (%k) ORDER BY users.priority DESC",
			SelectSenders: "SELECT mailaddr.email, wblist.wb FROM wblist JOIN mailaddr ON wblist.sid = mailaddr.id WHERE wblist.rid = ? ORDER BY mailaddr.priority DESC",
			Verified:      true, Timeout: 2 * time.Second, CacheFor: time.Minute, CacheRows: 100000, StaleFor: 4 * time.Hour, Connections: 8,
		}},

		ProbeInterval: 10 * time.Minute,
		BareNewline:   BareNewlineNormalize,
		Quarantine:    Quarantine{Keep: Days(30 * 24 * time.Hour), Size: 10 << 30, Digest: DigestDaily},
		Spool:         Spool{Memory: 256 << 10},
		Limits: Limits{
			MessageSize: 100 << 20, Recipients: 1000, Sessions: 100, SessionsPerClient: 50,
			Idle: 300 * time.Second, DataIdle: 180 * time.Second,
			Deadline: 240 * time.Second, CheckDeadline: 120 * time.Second,
			Received: 50, Reports: 100, Notices: 100,
			Unpack: UnpackLimits{
				Size: 200 << 20, Ratio: 500, Parts: 10000, Depth: 20, Entries: 5000, Nesting: 14,
				Time: 30 * time.Second, Memory: 1 << 30,
			},
		},
		Log: Log{To: "stderr", Format: LogText, Level: LogInfo, Ident: "amavis"},
	}
}

// Bank returns the overlay of that name, or nil.
func (c *Config) Bank(name string) *Overlay { return c.Banks[name] }

// Listener returns the listener with that address as configured, or nil. No
// address is there twice.
func (c *Config) Listener(address string) *Listener {
	for i := range c.Listeners {
		if c.Listeners[i].Address == address {
			return &c.Listeners[i]
		}
	}
	return nil
}

// proxyDeadline is what Postfix' smtpd_proxy_timeout of 100 s leaves: a handler
// that overruns has ten seconds more, and the last octets of the message and the
// answer are under way for a while.
const proxyDeadline = 80 * time.Second

// Deadline returns the time for a message that came in this way, from its end
// to the answer.
func (c *Config) Deadline(in mail.Input) time.Duration {
	if in == mail.InputProxy {
		return min(c.Limits.Deadline, proxyDeadline)
	}
	return c.Limits.Deadline
}

// CheckDeadline returns the part of it that the checks may take. Where the time
// is short one half is left for handing the message on.
func (c *Config) CheckDeadline(in mail.Input) time.Duration {
	if in == mail.InputProxy {
		return min(c.Limits.CheckDeadline, c.Deadline(in)/2)
	}
	return c.Limits.CheckDeadline
}

// Origin returns the place of a key outside the settings: "own_networks",
// "own_networks[1]", "limits.recipients".
func (c *Config) Origin(key string) Origin {
	p, ok := c.places[key]
	if !ok {
		return Origin{File: BuiltIn}
	}
	return Origin{File: p.File, Line: p.Line}
}
