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
	"runtime/debug"

	"github.com/spf13/cobra"
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
		Args:          cobra.NoArgs,
	}
	root.AddCommand(newServeCommand(), newCheckCommand(), newExplainCommand(), newInspectCommand(), newTestCommand(), newDemoCommand(), newDKIMCommand(), newPostfixCommand(), newVersionCommand())
	return root
}

// printJSON writes a fact for programs.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "postern "+version())
			return err
		},
	}
}

// version is what the build recorded: a tag, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}
