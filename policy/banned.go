package policy

import (
	"fmt"
	"slices"

	"postern/filter/mail"
	"postern/policy/banned"
)

// BannedFindings tests the files of a message by the rules of each recipient.
// There is a finding for each file that is banned: for all recipients together
// when they have equal rules from one place, else for each. Recipients who
// bypass the check are left out. root is the message.
func BannedFindings(sel *Selection, root *mail.Part) []mail.Finding {
	const none = -1
	groups := make([]bannedGroup, 0, 4)
	groupOf := make([]int, 0, 16) // by recipient
	for i := range sel.Rcpts {
		b := &sel.Rcpts[i].Settings.Banned
		if b.Bypass || len(b.Rules) == 0 {
			groupOf = append(groupOf, none)
			continue
		}
		origin := sel.Rcpts[i].Settings.Origin("banned.rules")
		k := slices.IndexFunc(groups, func(g bannedGroup) bool { return g.origin == origin && banned.Equal(g.rules, b.Rules) })
		if k < 0 {
			k = len(groups)
			groups = append(groups, bannedGroup{rules: b.Rules, origin: origin})
		}
		groups[k].size++
		groupOf = append(groupOf, k)
	}
	var out []mail.Finding
	for k := range groups {
		g := &groups[k]
		if j := slices.IndexFunc(groups[:k], func(h bannedGroup) bool { return banned.Equal(h.rules, g.rules) }); j >= 0 {
			g.files = groups[j].files
		} else {
			g.files = banned.Files(g.rules, root)
		}
		if g.size == len(sel.Rcpts) {
			return g.findings(out, mail.AllRcpts)
		}
		for i, of := range groupOf {
			if of == k {
				out = g.findings(out, i)
			}
		}
	}
	return out
}

// bannedGroup are recipients with equal rules from one place.
type bannedGroup struct {
	rules  []banned.Rule
	origin Origin
	size   int // recipients
	files  []banned.Hit
}

// findings adds one for each file that is banned for the group.
func (g *bannedGroup) findings(out []mail.Finding, rcpt int) []mail.Finding {
	for _, f := range g.files {
		out = append(out, mail.Finding{
			Category: mail.Banned, Check: "banned", Name: f.Name(), Short: f.Short(), Part: f.Part.Path(),
			Detail: fmt.Sprintf("banned.rules, %s: %s", g.origin.source(), f.Why()),
			Rcpt:   rcpt,
		})
	}
	return out
}
