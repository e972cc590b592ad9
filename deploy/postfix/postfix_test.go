package postfix

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseMaster(t *testing.T) {
	t.Parallel()
	services, err := ParseMaster(`# a comment
smtp      inet  n       -       y       -       -       smtpd
  -o smtpd_milters=a
# within an entry

	-ocontent_filter=x:[127.0.0.1]:10024 -v
  -o { smtpd_client_restrictions = permit_mynetworks, reject }
  -o smtpd_milters=b
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
`)
	if err != nil || len(services) != 2 {
		t.Fatalf("%d services, %v", len(services), err)
	}
	want := map[string]string{
		"smtpd_milters": "b", "content_filter": "x:[127.0.0.1]:10024", "smtpd_client_restrictions": "permit_mynetworks, reject",
	}
	if got := services[0].options(); !maps.Equal(got, want) {
		t.Errorf("options %v", got)
	}
	if s := services[0]; s.key() != "smtp/inet" || s.Chroot != "y" || s.Limit != "-" || s.Command != "smtpd" {
		t.Errorf("service %+v", s)
	}
	if got := services[1].options(); len(got) != 0 {
		t.Errorf("options of a program: %v", got)
	}
	for text, want := range map[string]string{
		"smtp inet n\n":                               "3 fields",
		"smtp inet n - y - - smtpd -o { a = b\n":      "{ without }",
		"smtp inet n - y - - smtpd -o a = b }\n":      "} without {",
		"smtp inet n - y - - smtpd -o { a = {b} } }{": "} without {",
	} {
		if _, err := ParseMaster(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseMain(t *testing.T) {
	t.Parallel()
	got, err := ParseMain("# c\na = 1,\n  2\n# between\n\t3\nempty =\nb=x = y\n")
	if want := map[string]string{"a": "1, 2 3", "empty": "", "b": "x = y"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	s := &System{Main: map[string]string{
		"a": "1", "empty": "", "list": "x,\n ${a}", "self": "$self", "p": "$q", "q": "$p$p", "dollar": "$$a $", "paren": "$(a)",
		"open": "${a", "compare": "${{$a} == {1} ? {yes} : {no}}",
		"set": "${a?yes}${empty?no}", "unset": "${a:no}${empty:yes}", "both": "${a?{yes}:{no}} ${empty?{no}:{yes}}", "inner": "${a? {<$a>} }",
		"inherits": "$service_name-$a",
	}}
	v := &Service{Name: "feed", Args: []string{"-o", "a=2"}}
	for name, want := range map[string]string{
		"list": "x, 1", "set": "yes", "unset": "yes", "both": "yes yes", "inner": "<1>", "dollar": "$a $", "paren": "1",
		"open": "${a", "compare": "${{1} == {1} ? {yes} : {no}}", "nothing": "", "max_use": "100",
	} {
		if got := s.value(nil, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := s.value(v, "inherits"); got != "feed-2" {
		t.Errorf("in a service: %q", got)
	}
	for _, name := range []string{"self", "p"} {
		if got := s.value(nil, name); len(got) > 1000 {
			t.Errorf("%s, which names itself, has %d octets", name, len(got))
		}
	}
}

func TestVersionHas(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"3.5.22": false, "3.5.23": true, "3.6.12": false, "3.6.13": true, "3.7.8": false, "3.7.9": true, "3.7.11": true, "3.8.3": false,
		"3.8.4": true, "3.9.0": true, "3.10.5": true, "3.12-20260821": true, "2.11.11": false, "4.0.0": true, "": true, "rubbish": true,
	} {
		if got := ParseVersion(version).has(bareNewlineSince...); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

func TestReaches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, listener string
		want           bool
	}{
		{"[127.0.0.1]:10024", "127.0.0.1:10024", true},
		{"inet:localhost:10024", "127.0.0.1:10024", true},
		{"inet:[::1]:10024", "[::1]:10024", true},
		{"127.0.0.1:10024", "0.0.0.0:10024", true},
		{"[::1]:10024", "[::]:10024", true},
		{"127.0.0.1:10024", ":10024", true},
		{"127.0.0.1:10024", "127.0.0.1:10023", false},
		{"127.0.0.1:10024", "[::1]:10024", false},
		{"192.0.2.1:10024", "0.0.0.0:10024", false},
		{"filter.example.org:10024", "filter.example.org:10024", true},
		{"unix:/run/postern//lmtp", "unix:/run/postern/lmtp", true},
		{"unix:/run/postern/lmtp", "127.0.0.1:10024", false},
	} {
		if got := parseEndpoint(c.from, "24").reaches(parseEndpoint(c.listener, "")); got != c.want {
			t.Errorf("%s to %s: %v", c.from, c.listener, got)
		}
	}
	if e := parseEndpoint("[127.0.0.1]", "24"); e.port != "24" || e.host != "127.0.0.1" {
		t.Errorf("without port: %+v", e)
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	for networks, want := range map[string]bool{
		"": false, "127.0.0.0/8": true, "192.0.2.0/24": false, "!127.0.0.1, 127.0.0.0/8": false, "127.0.0.1": true, "localhost": true,
		"[::1]/128": false, "[::1]/128 127.0.0.0/8": true, "192.0.2.1 hash:/etc/postfix/networks": true,
	} {
		if got := holds(networks, netip.MustParseAddr("127.0.0.1")); got != want {
			t.Errorf("%q: %v", networks, got)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{"300": 300 * time.Second, "300s": 300 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour, "2d": 48 * time.Hour, "1w": 168 * time.Hour} {
		if got, ok := duration(s); got != want || !ok {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "s", "1x", "$x"} {
		if _, ok := duration(s); ok {
			t.Errorf("%q is a time", s)
		}
	}
}

func TestEditString(t *testing.T) {
	t.Parallel()
	e := Edit{"-P", "smtp/inet/x=it's $a"}
	if got, want := e.String(), `postconf -P 'smtp/inet/x=it'\''s $a'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A listener is fed by FILTER in a table, too.
func TestReadTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table := write("clients", "# FILTER nothing:1\n192.0.2.1 FILTER a:[127.0.0.1]:10023\n192.0.2.2\n  filter b:[127.0.0.1]:10024\n")
	mainFile := write("main", "tables = cidr:"+table+" cidr:"+dir+"/none cidr:"+dir+" pgsql:"+table+"\n"+
		"smtpd_client_restrictions = check_client_access $tables\nmail_version = 3.9.1\n")
	s, err := ReadFiles(mainFile, write("master", "smtp inet n - n - - smtpd\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Filters["cidr:"+table], []string{"a:[127.0.0.1]:10023", "b:[127.0.0.1]:10024"}; !slices.Equal(got, want) {
		t.Errorf("targets %v, want %v", got, want)
	}
	if (s.Version != Version{3, 9, 1}) {
		t.Errorf("version %v", s.Version)
	}
	c := &checker{postern: &Postern{Listeners: []Listener{{Protocol: "lmtp", Address: "127.0.0.1:10024"}}}, system: s}
	c.system.Services = append(c.system.Services, &Service{Name: "b", Type: "unix", Command: "lmtp", Limit: "-"})
	feeds := c.feeds()
	if len(feeds) != 2 || feeds[0].listener != nil || feeds[1].listener == nil {
		t.Errorf("feeds %+v", feeds)
	}
}

var example = &Postern{
	Listeners: []Listener{
		{Protocol: "lmtp", Address: "127.0.0.1:10023", Bank: "ORIGINATING", Originating: true},
		{Protocol: "lmtp", Address: "127.0.0.1:10024"},
	},
	NextHops: []string{"127.0.0.1:10025"},
	Deadline: 240 * time.Second, Sessions: 100, PeerSessions: 50, MessageSize: 100 << 20, Recipients: 1000,
}

// For the built-in configuration, show prints the files as they are shipped.
func TestShowIsShipped(t *testing.T) {
	t.Parallel()
	text := Show(example, false)
	mainText, rest, ok := strings.Cut(text, "# master.cf, to Postern\n")
	if !ok {
		t.Fatal(text)
	}
	got, err := ParseMain(mainText)
	want, _ := ParseMain(shippedMain)
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("main.cf: %v, %v", got, err)
	}
	services, err := ParseMaster(rest)
	shipped, _ := ParseMaster(shippedMaster)
	if err != nil || !reflect.DeepEqual(services, shipped) {
		t.Errorf("master.cf: %v\n%s", err, rest)
	}
	for _, want := range []string{
		"to the service submission inet that is there: lmtp 127.0.0.1:10023, bank ORIGINATING\n#  -o content_filter=amavisfeed:[127.0.0.1]:10023\n",
		"to the service smtp inet that is there: lmtp 127.0.0.1:10024, no bank\n#  -o content_filter=amavisfeed:[127.0.0.1]:10024\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// A milter that nobody calls is found.
func TestUnfedMilter(t *testing.T) {
	t.Parallel()
	s, err := parse("smtpd_milters = inet:127.0.0.1:8893\n", "smtp inet n - n - - smtpd\n")
	if err != nil {
		t.Fatal(err)
	}
	p := &Postern{Listeners: []Listener{{Protocol: "milter", Address: "unix:/var/spool/postfix/postern/milter.sock"}}}
	found := Check(p, s)
	i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == "listener-unfed" })
	if i < 0 {
		t.Fatal("not found")
	}
	const want = "postconf -P smtp/inet/smtpd_milters=inet:127.0.0.1:8893,unix:postern/milter.sock"
	if mend := found[i].Mend; len(mend) != 1 || mend[0].String() != want {
		t.Errorf("mended by %v, want %s", mend, want)
	}
}

// What is there on this machine says more than the configuration.
func TestSockets(t *testing.T) {
	t.Parallel()
	const socket, folder = "/var/spool/postfix/postern/milter.sock", "/var/spool/postfix/postern"
	open := File{Mode: 0o710, User: "postern", Group: "postfix"}
	for _, c := range []struct {
		name   string
		there  map[string]File
		groups []string
		want   []string
	}{
		{"as told", map[string]File{folder: open, socket: {Mode: 0o660, User: "postern", Group: "postfix"}}, []string{"postfix"}, nil},
		{"not there yet", map[string]File{folder: open}, []string{"postfix"}, nil},
		{"folder shut", map[string]File{folder: {Mode: 0o700, User: "postern", Group: "postern"}}, []string{"postfix"}, []string{"socket-folder"}},
		{"another group", map[string]File{folder: open, socket: {Mode: 0o660, User: "postern", Group: "postern"}}, []string{"postfix"}, []string{"socket-access"}},
		{"a member of that group", map[string]File{folder: open, socket: {Mode: 0o660, User: "postern", Group: "postern"}}, []string{"postfix", "postern"}, nil},
		{"nobody knows who is in that group", map[string]File{folder: open, socket: {Mode: 0o660, User: "postern", Group: "postern"}}, nil, nil},
		{"for reading", map[string]File{folder: open, socket: {Mode: 0o755, User: "postern", Group: "postfix"}}, nil, []string{"socket-access"}},
		{"for all", map[string]File{folder: {Mode: 0o755}, socket: {Mode: 0o666}}, nil, nil},
	} {
		s, err := parse("", "smtp inet n - y - - smtpd -o smtpd_milters=unix:postern/milter.sock\n")
		if err != nil {
			t.Fatal(err)
		}
		s.OwnerGroups = c.groups
		s.Stat = func(path string) (File, bool) { f, ok := c.there[path]; return f, ok }
		var got []string
		for _, f := range Check(&Postern{Listeners: []Listener{{Protocol: "milter", Address: "unix:" + socket, Mode: 0o660, Owner: "postfix:postfix"}}, Sessions: 100}, s) {
			if strings.HasPrefix(f.Rule, "socket-") {
				got = append(got, f.Rule)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, got, c.want)
		}
	}
}

// Show fits the pieces to the configuration.
func TestShowFits(t *testing.T) {
	t.Parallel()
	text := Show(&Postern{
		Listeners: []Listener{
			{Protocol: "lmtp", Address: "unix:/run/postern/lmtp.sock", Bank: "OWN", Originating: true},
			{Protocol: "smtp", Address: "[::1]:1024"},
			{Protocol: "milter", Address: "unix:/var/spool/postfix/postern/milter.sock"},
			{Protocol: "am.pdp", Address: "unix:/run/postern/am.pdp.sock"},
		},
		NextHops: []string{"[::1]:1025"}, Deadline: 20 * time.Minute, Sessions: 4, PeerSessions: 50, MessageSize: 1 << 20, Recipients: 500,
	}, true)
	for _, want := range []string{
		"amavisfeed_destination_concurrency_limit=4\n", "amavisfeed_destination_recipient_limit=500\n", "amavisfeed unix - - n - 4 lmtp -o lmtp_data_done_timeout=2400s ",
		"postconf -M '[::1]:1025/inet=[::1]:1025 inet ", " -o mynetworks=[::1]/128 ", " -o smtpd_authorized_xforward_hosts=[::1]/128 ", " -o syslog_name=postfix/1025 ",
		"submission/inet/content_filter=amavisfeed:unix:/run/postern/lmtp.sock\n", "\n# postconf -P 'smtp/inet/content_filter=amavisfeed:[::1]:1024'\n",
		"\npostconf -P 'smtp/inet/smtpd_milters=$postern_milter'\n", "pickup/unix/content_filter=amavisfeed:unix:/run/postern/lmtp.sock\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "am.pdp") {
		t.Errorf("Postfix does not speak AM.PDP:\n%s", text)
	}
}

// No text of master.cf and main.cf stops the reading or the judgement, and
// what is read and written again is the same.
func FuzzMaster(f *testing.F) {
	f.Add(shippedMaster, shippedMain)
	f.Add("smtp inet n - y - - smtpd -o { a = {b} } -ox=${y?{1}:{2}} -o\n10025 inet n - - - 1 smtpd\n", "y = $(x)${a:$b}$\nsmtpd_milters={ inet:x, default_action=accept },unix:\n")
	f.Add("a unix - - - - - lmtp\nsmtp inet - - - - - smtpd -o content_filter=a:\n", "p = $q$q\nq = $p$p\ncontent_filter = ::\nmynetworks = $p !/x\n")
	f.Add("smtp inet n - - - - smtpd -o smtpd_milters=$m,unix:b\npickup unix - - - - - pickup -o content_filter=a:127.0.0.1:10024\ncleanup unix - - - - - cleanup\n",
		"m = { inet:127.0.0.1:10026, default_action=accept, protocol=2 }\nsmtpd_milters = $m $m inet:x:8891\nnon_smtpd_milters = $smtpd_milters\nmilter_mail_macros = $m\n")
	f.Add("25 inet n - - - - smtpd -o smtpd_proxy_filter=127.0.0.1:10027 -o content_filter=a:127.0.0.1:10023\n", "smtpd_milters = inet:127.0.0.1:10026\nmilter_protocol = x\n")
	p := *example
	p.Listeners = append(slices.Clone(p.Listeners), Listener{Protocol: "milter", Address: "127.0.0.1:10026"}, Listener{Protocol: "smtp-proxy", Address: "127.0.0.1:10027"})
	f.Fuzz(func(t *testing.T, master, main string) {
		s, err := parse("", master)
		if err != nil {
			return
		}
		if s.Main, err = ParseMain(main); err != nil {
			return
		}
		for _, finding := range Check(&p, s) {
			if finding.Rule == "" || finding.Where == "" || finding.What == "" || finding.Why == "" {
				t.Errorf("finding %+v", finding)
			}
		}
		for _, v := range s.Services {
			again, err := ParseMaster(v.line() + "\n")
			if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], v) {
				t.Errorf("%+v written as %q is %+v, %v", v, v.line(), again, err)
			}
		}
	})
}
