package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), thisBuild())
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "postern "+thisBuild().String())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// build is what the program says of itself, in the form of its JSON.
type build struct {
	Version  string `json:"version"`            // a tag, or what Go makes of the commit
	Commit   string `json:"commit,omitempty"`   // empty: built outside of a repository
	Date     string `json:"date,omitempty"`     // of the commit
	Modified bool   `json:"modified,omitempty"` // the files were not those of the commit
	Go       string `json:"go"`
}

// String returns it in one line.
func (b build) String() string {
	s := b.Version + ", commit unknown"
	if b.Commit != "" {
		s = fmt.Sprintf("%s, commit %.12s of %s", b.Version, b.Commit, b.Date)
	}
	if b.Modified {
		s += ", with changes"
	}
	return s + ", " + b.Go
}

func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: "unknown Go"}
	}
	return buildOf(info)
}

// buildOf reads what "go build" has recorded.
func buildOf(info *debug.BuildInfo) build {
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
