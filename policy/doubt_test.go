package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestDoubts(t *testing.T) {
	t.Parallel()
	const head = "hostname: mail.ours.test\nlocal_domains: [.ours.test]\n"
	for name, tt := range map[string]struct {
		text string
		want []string // without the file
	}{
		"nothing":             {"", nil},
		"the built-in banks":  {"own_networks: [192.0.2.0/24]\n", nil},
		"a bank for requests": {"listeners: [{protocol: am.pdp, address: unix:/m, allow_banks: SMTP_AUTH}]\nbanks: {SMTP_AUTH: {originating: true}}\n", nil},
		"a bank that no request may name": {"listeners: [{protocol: am.pdp, address: unix:/m}, {protocol: milter, address: unix:/n}]\nbanks: {SMTP_AUTH: {originating: true}}\n", []string{
			"4:20: banks.SMTP_AUTH: no mail gets this bank; a request of amavisd-milter may name it if allow_banks of the am.pdp listener does",
		}},
		"banks of a milter": {"listeners: [{protocol: milter, address: unix:/m, bank: A, local_bank: B}]\nauth_banks: [{users: ann, bank: C}]\ndaemon_banks: [{daemons: s, bank: D}]\nbanks: {A: {}, B: {}, C: {}, D: {}}\n", nil},
		"nobody hears of logins": {"listeners: [{protocol: am.pdp, address: unix:/m}, {protocol: smtp-proxy, address: \"127.0.0.1:1\"}]\nauth_banks: [{users: ann, bank: MYNETS}]\ndaemon_banks: [{daemons: s, bank: MYNETS}]\n", []string{
			"4:13: auth_banks: no listener hears of a login; only protocol: milter does",
			"5:15: daemon_banks: no listener hears of a daemon; only protocol: milter does",
		}},
		"names in two entries": {"listeners: [{protocol: milter, address: unix:/m}]\nauth_banks:\n  - {users: [Ann, \"!bob\"], bank: MYNETS}\n  - {users: [ann, bob], bank: MYNETS}\n  - {users: \"*\", bank: MYNETS}\n  - {users: [cid, \"*\"], bank: MYNETS}\ndaemon_banks: [{daemons: S, bank: MYNETS}, {daemons: s, bank: MYNETS}]\n", []string{
			"6:13: auth_banks[1].users: ann is never asked, since Ann is in auth_banks[0]; the first entry that holds a name decides",
			"8:13: auth_banks[3].users: cid is never asked, since * is in auth_banks[2]; the first entry that holds a name decides",
		}},
		"levels in a strange order": {"settings:\n  spam: {tag_level: 9, tag2_level: 8, tag3_level: 7, kill_level: 5}\nbanks:\n  MYNETS: {spam: {kill_level: -1}}\nown_networks: [192.0.2.0/24]\n", []string{
			"4: settings.spam.kill_level: 5 is below tag2_level 8: mail is blocked before it is marked; kill_level is most often the highest of the levels",
			"4: settings.spam.tag3_level: 7 is below tag2_level 8: its tag would stand on mail that is not SPAMMY yet; 0 is no such level",
			"4: settings.spam.tag_level: 9 is above tag2_level 8: mail is SPAMMY without its fields; -999 is always",
			"6: banks.MYNETS.spam.kill_level: -1 is below tag2_level 8: mail is blocked before it is marked; kill_level is most often the highest of the levels",
			"6: banks.MYNETS.spam.kill_level: -1 is what ordinary mail reaches: all of it would be SPAM; 6.31 is built in",
		}},
		"everybody is whitelisted": {"settings:\n  spam:\n    sender_list:\n      - {match: ., as: whitelisted, verified: false}\n      - {match: a.test, as: whitelisted}\n", []string{
			"6: settings.spam.sender_list: postern.yaml:6: everybody is whitelisted, nothing is ever spam; bypass: true says so in words",
		}},
		"nobody can be whitelisted": {"settings:\n  dkim: {verify: false}\n  spf: {verify: false}\n  spam: {sender_list: [{match: a.test, as: whitelisted}]}\n", []string{
			"6: settings.spam.sender_list: postern.yaml:6: a whitelisted sender must be verified, and nothing is verified; dkim: {verify: true} or spf: {verify: true}; verified: false believes what anybody can write",
		}},
		"MYUSERS":                 {"banks: {MYUSERS: {virus: {lover: true}}}\n", nil},
		"a bank that nobody gets": {"banks:\n  NOBODY: {originating: true}\n", []string{"4:11: banks.NOBODY: no mail gets this bank; give it to a listener, a client, a login or a daemon, or remove it"}},
		"MYNETS without networks": {"banks:\n  MYNETS: {virus: {lover: true}}\n", []string{"4:11: banks.MYNETS: no mail gets this bank; set own_networks"}},
		"own_networks without effect": {"own_networks: [192.0.2.0/24]\nclient_banks: [{networks: [198.51.100.0/24], bank: ORIGINATING}]\nbanks:\n  MYNETS: {virus: {lover: true}}\nlisteners: [{protocol: milter, address: unix:/m}]\n", []string{
			"3:15: own_networks: they choose no bank, since client_banks are given; add {networks: [...], bank: MYNETS} to client_banks, or remove own_networks",
			"6:11: banks.MYNETS: no mail gets this bank; give it to a listener, a client, a login or a daemon, or remove it",
		}},
		"hidden in the same list": {"own_networks: [192.0.2.0/24, \"!192.0.2.7\", 192.0.2.0/24, 192.0.2.0/23]\n", []string{
			"3:30: own_networks[1]: !192.0.2.7 is never asked, since 192.0.2.0/24 is in an earlier entry of the same list; the first entry that holds an address decides: put the smaller network first",
			"3:16: own_networks[0]: 192.0.2.0/24 is never asked, since 192.0.2.0/24 is in an earlier entry of the same list; the first entry that holds an address decides: put the smaller network first",
		}},
		"hidden by an earlier entry": {"client_banks:\n  - {networks: [\"!192.0.2.7\", 192.0.2.0/24], bank: ORIGINATING}\n  - {networks: [192.0.2.8, 192.0.2.7, 192.0.2.0/28, 192.0.2.128/25, 192.0.0.0/16], bank: MYNETS}\n", []string{
			"5:17: client_banks[1].networks[0]: 192.0.2.8 is never asked, since 192.0.2.0/24 is in postern.yaml:4; the first entry that holds an address decides: put the smaller network first",
			"5:53: client_banks[1].networks[3]: 192.0.2.128/25 is never asked, since 192.0.2.0/24 is in postern.yaml:4; the first entry that holds an address decides: put the smaller network first",
		}},
		"loopback": {"own_networks: [127.0.0.0/8, \"::1\"]\n", []string{
			"3:15: own_networks: 127.0.0.0/8 holds loopback: what a proxy, a container or another filter on this host hands to Postfix would count as mail of our own people; leave loopback out unless only local programs submit mail there",
			"3:15: own_networks: ::1 holds loopback: what a proxy, a container or another filter on this host hands to Postfix would count as mail of our own people; leave loopback out unless only local programs submit mail there",
		}},
		"everybody": {"own_networks: [\"!192.0.2.7\", 0.0.0.0/0, \"::/0\"]\n", []string{
			"3:15: own_networks: 0.0.0.0/0 is everybody: mail of all strangers would be signed and count as that of our own people; name your networks only",
		}},
		"everybody, but not ours": {"client_banks: [{networks: [\"::/0\", 0.0.0.0/0], bank: A}]\nbanks: {A: {originating: false}}\n", nil},
		"only exclusions": {"client_banks:\n  - {networks: [\"!192.0.2.0/24\"], bank: ORIGINATING}\n", []string{
			"4:16: client_banks[0].networks: only exclusions: no client is in this list; name the networks that are meant after them; all are 0.0.0.0/0 and \"::/0\"",
		}},
		"banks that look the same": {"own_networks: 192.0.2.0/24\nbanks:\n  mynets: {originating: true}\n  MyUsers: {}\n  A: {}\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:1\", bank: A}]\n", []string{
			"5:11: banks.mynets: only the case of letters tells this bank from MYNETS; give it another name, or write MYNETS",
			"6:12: banks.MyUsers: only the case of letters tells this bank from MYUSERS; give it another name, or write MYUSERS",
		}},
		"open doors": {"listeners:\n" +
			"  - {protocol: lmtp, address: \"0.0.0.0:1\"}\n" +
			"  - {protocol: lmtp, address: \":2\", allow: [192.0.2.0/24, \"::/0\"]}\n" +
			"  - {protocol: lmtp, address: \"127.0.0.1:3\", allow: [192.0.2.0/24]}\n" +
			"  - {protocol: lmtp, address: \"192.0.2.1:4\", allow: [127.0.0.0/8, 192.0.2.0/24]}\n" +
			"  - {protocol: lmtp, address: \"127.0.0.1:5\"}\n" +
			"  - {protocol: lmtp, address: \"unix:/a:6\"}\n", []string{
			"4:31: listeners[0].address: 0.0.0.0:1 can be reached from other machines, and no allow says which of them may come in: all but this one get 421; write allow: [networks of your Postfix], or address: 127.0.0.1:1",
			"5:44: listeners[1].allow: THE DOOR IS OPEN: ::/0 lets in strangers, who would send past Postfix in the name of any client; name the machines of your Postfix only",
			"6:53: listeners[2].allow: it leaves out 127.0.0.1, which is all that can reach this address: all mail gets 421; add 127.0.0.1, or leave allow out",
		}},
		"a user like a domain": {"recipients:\n  - {match: [boss, a@, b@ours.test, x.y, .], settings: {spam: {lover: true}}}\n", []string{
			"4: recipients[0].match[0]: \"boss\" is taken for a domain; for the user in any domain write boss@",
		}},
		"an address twice": {"recipients:\n  - {match: [Boss@ours.test, x.y, x.y], settings: {spam: {lover: true}, virus: {lover: true}}}\n  - {match: boss@OURS.test, settings: {spam: {lover: false}}}\n  - {match: X.y, settings: {banned: {lover: true}}}\n", []string{
			"5: recipients[1].match[0]: spam.lover of boss@OURS.test is taken from recipients[0]; of two entries for one address the first decides",
		}},
		"names of viruses": {"settings:\n  virus: {names: [{match: Heuristics.Limits.*, as: infected}, {built_in: true}, {match: [PUA.*, Sanesecurity.Rogue.*, \"Win.?ool\"], as: unchecked}, {match: Win.Tool, as: infected}, {match: PUA.Win.*, as: infected}]}\n" +
			"recipients:\n  - {match: a@ours.test, settings: {virus: {names: [{match: \"*\", as: score, score: 0}, {match: X, as: infected}]}}}\n", []string{
			"4: virus.names[0]: \"Heuristics.Limits.*\" is never asked for: it says that not all was looked at, which is UNCHECKED; its destiny is unchecked.destiny",
			"4: virus.names[2]: \"Sanesecurity.Rogue.*\" is never asked, since \"Sanesecurity.Rogue.*\" stands before it; the first entry that fits a name decides: put the special ones first",
			"4: virus.names[4]: \"PUA.Win.*\" is never asked, since \"PUA.*\" stands before it; the first entry that fits a name decides: put the special ones first",
			"6: recipients[0]: virus.names[1]: \"X\" is never asked, since \"*\" stands before it; the first entry that fits a name decides: put the special ones first",
		}},
		"a small limit": {"limits: {message_size: 50}\n", []string{
			"3:24: limits.message_size: mail of more than 50 octets is refused; RFC 5321 wants 64KiB taken; units are KiB, MiB and GiB",
		}},
		"loopback that is not ours": {"client_banks: [{networks: [127.0.0.0/8], bank: A}]\nbanks: {A: {originating: false}}\n", nil},
		"signers":                   {"settings: {dkim: {verify: false}}\nsigner_banks: [{domains: a.test, bank: MYNETS}]\n", []string{"4:15: signer_banks: no settings have signatures verified, so nothing is chosen by them; dkim: {verify: true}"}},
		"verified signers":          {"settings: {dkim: {verify: false}}\nsigner_banks: [{domains: a.test, bank: MYNETS}]\nrecipients: [{match: \"b@\", settings: {dkim: {verify: true}}}]\n", nil},
		"keys": {"dkim_keys:\n  - {domain: ours.test, selector: a, key: k}\n  - {domain: .sub.ours.test, selector: a, key: k}\n  - {domain: else.test, selector: a, key: k}\n", []string{
			"6:14: dkim_keys[2].domain: else.test is not in local_domains: its mail is signed, but its senders are strangers and never get a report; add it to local_domains if it is yours",
		}},
	} {
		var got []string
		for _, m := range parse(t, head+tt.text).Doubts() {
			if !strings.Contains(m.What, "no DKIM key") { // see TestDomainsWithoutKeys
				got = append(got, strings.TrimPrefix(m.String(), "postern.yaml:"))
			}
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
		}
	}
}

func TestDoubtsOfDomains(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		`[.ours.test]`: nil,
		`["!x.ours.test", .ours.test, ours.test, .]`: nil,
		`[.ours.test, "!ours.test", "!.x.ours.test", "!xours.test"]`: {
			"1:29: local_domains[1]: !ours.test is never asked, since local_domains[0], .ours.test, holds it; the first entry that holds a domain decides: put the exception first",
			"1:43: local_domains[2]: !.x.ours.test is never asked, since local_domains[0], .ours.test, holds it; the first entry that holds a domain decides: put the exception first",
		},
		`["!.ours.test", x.ours.test]`: {
			"1:32: local_domains[1]: x.ours.test is never asked, since local_domains[0], !.ours.test, holds it; the first entry that holds a domain decides: put the exception first",
		},
		`["!.ours.test"]`: {"1:16: local_domains: no domain is ours: all mail is Outbound or OpenRelay, and no sender gets a report; name your domains"},
		`[]`:              {"1:16: local_domains: no domain is ours: all mail is Outbound or OpenRelay, and no sender gets a report; name your domains"},
	} {
		var got []string
		for _, m := range parse(t, "local_domains: "+list+"\nsettings: {dkim: {sign: false}}\n").Doubts() {
			got = append(got, strings.TrimPrefix(m.String(), "postern.yaml:"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", list, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// A network that is called hidden must never decide: compared with asking for
// each address.
func TestHiddenNetworks(t *testing.T) {
	t.Parallel()
	entries := []string{"10.0.0.0/30", "!10.0.0.1", "10.0.0.0/31", "!10.0.0.2/31", "10.0.0.3", "10.0.0.0/29", "!10.0.0.0/29"}
	for a := range entries {
		for b := range entries {
			for x := range entries {
				c := parse(t, fmt.Sprintf("client_banks:\n  - {networks: [%q, %q], bank: ORIGINATING}\n  - {networks: [%q], bank: MYNETS}\n", entries[a], entries[b], entries[x]))
				hidden := slices.ContainsFunc(c.Doubts(), func(m Mistake) bool { return strings.Contains(m.What, "client_banks[1].networks[0]: ") })
				asked := false
				e := c.selector.clients[1].networks.Entries()[0]
				for addr := e.Prefix.Addr(); e.Prefix.Contains(addr); addr = addr.Next() {
					_, taken := c.selector.clients[0].networks.Match(addr)
					asked = asked || !taken
				}
				if hidden && asked {
					t.Errorf("[%s %s] does not hide %s", entries[a], entries[b], entries[x])
				}
			}
		}
	}
}

func TestDomainsWithoutKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"local_domains: [.a.test, \"!x.a.test\", b.test, c.test, d.c.test]\ndkim_keys:\n  - {domain: a.test, selector: s, key: k}\n  - {domain: .c.test, selector: s, key: k}\n":                "no DKIM key for b.test: mail",
		"local_domains: [g.test, f.test, e.test, d.test, c.test, b.test, .a.test]\n":                                                                                                            "no DKIM key for a.test, b.test, c.test, d.test, e.test and 2 more: mail",
		"local_domains: [a.test]\nsettings: {dkim: {sign: false}}\n":                                                                                                                            "",
		"local_domains: [a.test]\nsettings: {dkim: {sign: false}}\nbanks: {OUT: {originating: true, dkim: {sign: true}}}\nlisteners: [{protocol: lmtp, address: \"127.0.0.1:1\", bank: OUT}]\n": "no DKIM key for a.test: mail",
	} {
		got := fmt.Sprint(parse(t, "hostname: mail.a.test\n"+text).Doubts())
		if want == "" && strings.Contains(got, "no DKIM key") || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
