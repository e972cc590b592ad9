package main

import (
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// What tests keep over a restart is not that of this machine.
func TestMain(m *testing.M) {
	if os.Getenv("STATE_DIRECTORY") != "" { // a child of a test
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "postern-state-")
	if err != nil {
		panic(err)
	}
	os.Setenv("STATE_DIRECTORY", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// A slip in the name of a command is an error, wherever commands stand.
func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"serv", `unknown command "serv"; nearest is "serve"`},
		{"frobnicate", `unknown command "frobnicate"; there are audit, check, `},
		{"dkim tst", `unknown command "tst" of dkim; nearest is "test"`},
		{"postfix chek --json", `unknown flag: --json`},
		{"postfix chek", `unknown command "chek" of postfix; nearest is "check"`},
		{"help dkim tst", `unknown command "tst" of dkim; nearest is "test"`},
		{"completion bsh", `unknown command "bsh" of completion; nearest is "bash"`},
		{"version now", `unknown command "now" for "postern version"`},
	} {
		out, code, err := postern(t, strings.Fields(tt.args)...)
		if code != exitUsage || err == nil || !strings.Contains(err.Error(), tt.want) || out != "" {
			t.Errorf("%s: code %d, %v, %s", tt.args, code, err, out)
		}
	}
	for _, args := range []string{"", "help", "dkim", "help dkim", "help dkim test", "help help", "dkim --help"} {
		if out, code, err := postern(t, strings.Fields(args)...); code != 0 || err != nil || out == "" {
			t.Errorf("%q: code %d, %v, %q", args, code, err, out)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	flag, _, err1 := postern(t, "--version")
	word, _, err2 := postern(t, "version")
	if err1 != nil || err2 != nil || flag != word || !strings.HasPrefix(flag, "postern ") {
		t.Errorf("%q, %v; %q, %v", flag, err1, word, err2)
	}
	out, _, err := postern(t, "version", "--json")
	var b build
	if jsonErr := json.Unmarshal([]byte(out), &b); err != nil || jsonErr != nil || b != thisBuild() {
		t.Errorf("%v, %v: %s", err, jsonErr, out)
	}
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}}
	if got, want := buildOf(info).String(), "v1.2.3, commit unknown, go1.26.8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}
	if got, want := buildOf(info).String(), "v1.2.3, commit 0123456789ab of 2026-11-02T03:04:05Z, with changes, go1.26.8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
