package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// The rooms of the house and the doors between them: who may import whom.
// A package of ours that is missing here, or an import that is, is an error.
var mayImport = map[string][]string{
	"postern/cmd/postern":      {"postern/..."},
	"postern/cmd/postern/demo": {},

	"postern/filter":              {"postern/filter/auth", "postern/filter/check", "postern/filter/unpack", "postern/filter/mail", "postern/notify", "postern/policy"},
	"postern/filter/mail":         {},
	"postern/filter/auth":         {"postern/filter/mail"},
	"postern/filter/check":        {"postern/filter/mail"},
	"postern/filter/listen":       {"postern/filter/listen/ampdp", "postern/filter/mail"},
	"postern/filter/listen/ampdp": {},
	"postern/filter/observe":      {"postern/policy", "postern/filter/mail"},
	// auth: throw-away keys sign in a dry run; observe: an explanation has the lines of the log
	"postern/filter/ask": {"postern/filter", "postern/filter/auth", "postern/filter/observe", "postern/policy", "postern/filter/mail"},

	"postern/filter/unpack":          {"postern/filter/unpack/...", "postern/filter/mail"},
	"postern/filter/unpack/archive":  {"postern/filter/unpack/codec", "postern/filter/unpack/filetype", "postern/filter/unpack/budget", "postern/filter/mail"},
	"postern/filter/unpack/document": {"postern/filter/unpack/codec", "postern/filter/unpack/filetype", "postern/filter/unpack/budget", "postern/filter/mail"},
	"postern/filter/unpack/armour":   {"postern/filter/unpack/codec", "postern/filter/mail"},
	"postern/filter/unpack/entity":   {"postern/filter/unpack/codec", "postern/filter/mail"},
	"postern/filter/unpack/filetype": {"postern/filter/unpack/entity", "postern/filter/mail"}, // what looks like mail
	"postern/filter/unpack/budget":   {"postern/filter/mail"},
	"postern/filter/unpack/codec":    {},
	"postern/filter/unpack/specimen": {"postern/filter/unpack/budget", "postern/filter/unpack/filetype"}, // for tests only

	"postern/policy":            {"postern/policy/...", "postern/filter/mail"},
	"postern/policy/lookup":     {"postern/policy/strict", "postern/filter/mail"},
	"postern/policy/strict":     {},
	"postern/policy/banned":     {"postern/policy/strict", "postern/filter/mail"}, // the nearest word, errors with a hint
	"postern/policy/virusname":  {"postern/policy/strict"},
	"postern/policy/sql":        {"postern/policy", "postern/policy/senderlist", "postern/filter/mail"},
	"postern/policy/senderlist": {"postern/policy/lookup", "postern/policy/strict", "postern/filter/mail"},

	"postern/reinject":            {"postern/filter/mail"},
	"postern/reinject/journal":    {"postern/filter/mail"},
	"postern/reinject/quarantine": {"postern/filter/mail"},
	"postern/notify":              {"postern/policy", "postern/filter/mail"},
	"postern/deploy":              {},
	"postern/deploy/postfix":      {},
}

// The vocabulary is for everyone, so it may need next to nothing.
var mailImports = []string{"github.com/emersion/go-smtp"}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "postern/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		allowed, known := mayImport[p.ImportPath]
		if !known {
			if strings.HasPrefix(p.ImportPath, "postern/deploy/integration") {
				continue
			}
			t.Errorf("%s is not a room of the house", p.ImportPath)
		}
		for _, imp := range p.Imports {
			switch {
			case imp == "postern/filter/unpack/specimen":
				t.Errorf("%s must not import %s, which is for tests", p.ImportPath, imp)
			case strings.HasPrefix(imp, "postern/"):
				if !allows(allowed, imp) {
					t.Errorf("%s must not import %s", p.ImportPath, imp)
				}
			case p.ImportPath == "postern/filter/mail" && strings.Contains(strings.Split(imp, "/")[0], "."):
				if !allows(mailImports, imp) {
					t.Errorf("%s must not import %s", p.ImportPath, imp)
				}
			}
		}
	}
	if seen < 9 {
		t.Errorf("go list named only %d packages", seen)
	}
}

func allows(list []string, imp string) bool {
	for _, a := range list {
		if a == imp || strings.HasSuffix(a, "...") && strings.HasPrefix(imp, strings.TrimSuffix(a, "...")) {
			return true
		}
	}
	return false
}
