// Command postern is a content-filter proxy behind Postfix: it takes messages
// by LMTP or SMTP, decides by policy bank what each of them is and what
// becomes of it, signs outbound mail and hands clean mail back.
//
// The package reads flags, wires the parts together, prints and chooses exit
// codes. It judges nothing: what a configuration would do is answered by
// filter/ask, what becomes of a message by filter.
//
// Each subcommand has a file of its own, named after it. serve.go and daemon.go
// are the program proper: start with daemon, and with newRoot for the commands.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern/policy/strict"
)

// Exit codes: those of sysexits.h, and 1 where a command did what it was asked
// to and the answer is not good.
const (
	exitFound       = 1 // a finding, a warning that counts, a test that failed
	exitUsage       = 64
	exitUnavailable = 69 // what the filter needs does not answer
	exitSoftware    = 70
	exitOSErr       = 71
	exitCantCreate  = 73
	exitTempFail    = 75
	exitConfig      = 78
)

// errSaid ends a command without a text: its output has said all.
var errSaid = errors.New("")

// exitError is an error with the exit code it deserves.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

const defaultConfig = "/etc/postern/postern.yaml"

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{exitUsage, err}
	}
	if text := e.Error(); text != "" {
		fmt.Fprintln(root.ErrOrStderr(), "postern: "+text)
	}
	return e.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "postern",
		Short:         "A content-filter proxy behind Postfix",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       thisBuild().String(),
	}
	root.SetVersionTemplate("postern {{.Version}}\n")
	root.AddCommand(newServeCommand(), newCheckCommand(), newExplainCommand(), newInspectCommand(), newTestCommand(), newAuditCommand(mayComeTwice), newDemoCommand(), newDKIMCommand(), newPostfixCommand(), newQuarantineCommand(), newVersionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	onlyCommands(root)
	return root
}

// onlyCommands makes an unknown word an error wherever only names of commands
// can stand. Left to itself cobra prints the help and calls that success, so
// that a script goes on after a slip.
func onlyCommands(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		onlyCommands(sub)
	}
	if cmd.Name() == "help" {
		cmd.Run = nil
		cmd.RunE = func(cmd *cobra.Command, words []string) error {
			about := cmd.Root()
			for _, w := range words {
				sub, _, err := about.Find([]string{w})
				if err != nil || sub == about {
					return unknownCommand(about, w)
				}
				about = sub
			}
			return about.Help()
		}
		return
	}
	if cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				return unknownCommand(cmd, words[0])
			}
			return nil
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			known = append(known, sub.Name())
		}
	}
	hint := "there are " + strings.Join(known, ", ")
	if near := strict.Nearest(word, known); near != "" {
		hint = fmt.Sprintf("nearest is %q", near)
	}
	if _, group, ok := strings.Cut(cmd.CommandPath(), " "); ok {
		hint = fmt.Sprintf(" of %s; %s", group, hint)
	} else {
		hint = "; " + hint
	}
	return exit(exitUsage, fmt.Errorf("unknown command %q%s", word, hint))
}

// printJSON writes a fact for programs.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
