package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
	"postern/filter/unpack"
	"postern/policy"
)

func newInspectCommand() *cobra.Command {
	var config string
	var rules, asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE...",
		Short: "Show what is inside a message, and what is doubtful about it",
		Long: `Show the parts of a message as every reader of mail could see them: their
place, size, coding, types and names, what is inside of archives, and which
parts readers would not agree on, and why. Faults of the header are listed too.

With --config its limits for taking a message apart hold, and its
archive_passwords are tried; without it those that are built in. With --rules
also the files that the banned rules of its base settings block are listed.

FILE is one message; "-" reads it from standard input. Scanners are not asked,
and nothing is sent or written.

The exit code is 0 if nothing was found, 1 if there is a finding, and higher if
a file cannot be read.`,
		Example: `  postern inspect suspicious.eml
  postcat -qbh 4AbCdEf | postern inspect --json -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := insight{limits: unpack.DefaultLimits}
			if rules || cmd.Flags().Changed("config") {
				if err := w.configure(cmd.Context(), config, rules); err != nil {
					return exit(exitConfig, err)
				}
			}
			return inspect(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), args, &w, asJSON)
		},
	}
	addConfigFlag(cmd, &config)
	cmd.Flags().BoolVar(&rules, "rules", false, "show what the banned rules of the configuration block")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each file")
	return cmd
}

// insight is how a message is looked into.
type insight struct {
	limits    unpack.Limits
	passwords []string
	banned    *policy.Settings // whose rules are tried; nil for none
}

// configure takes it from a configuration, the rules from the settings of a
// message that no bank applies to.
func (w *insight) configure(ctx context.Context, config string, rules bool) error {
	cfg, err := policy.Load(config, engines())
	if err != nil {
		return err
	}
	w.limits, w.passwords = filter.UnpackLimits(cfg), cfg.ArchivePasswords
	if rules {
		sel, err := cfg.Select(ctx, policy.Request{})
		if err != nil {
			return err
		}
		w.banned = sel.Settings
	}
	return nil
}

// inspection is what is known of one message, in the form of its JSON.
type inspection struct {
	File     string             `json:"file"`
	Size     int64              `json:"size"`
	Parts    []inspectedPart    `json:"parts"`
	Findings []inspectedFinding `json:"findings"`
}

type inspectedPart struct {
	Place    string   `json:"place"`
	Names    []string `json:"names,omitempty"`    // all spellings, the most probable first
	Media    []string `json:"media,omitempty"`    // as declared
	Detected string   `json:"detected,omitempty"` // by content
	Types    []string `json:"types,omitempty"`    // short types by content
	Size     int64    `json:"size"`
	How      string   `json:"how,omitempty"`
	Flags    []string `json:"flags,omitempty"`
	Facts    []string `json:"facts,omitempty"`
}

type inspectedFinding struct {
	Category string `json:"category"`
	Minor    int    `json:"minor"`
	Check    string `json:"check"`
	Place    string `json:"place,omitempty"` // of the part concerned
	Name     string `json:"name,omitempty"`
	Why      string `json:"why,omitempty"`
}

func inspect(ctx context.Context, stdin io.Reader, out io.Writer, files []string, w *insight, asJSON bool) error {
	found := false
	for i, file := range files {
		data, err := readMessage(stdin, file)
		if err != nil {
			return exit(exitUsage, err)
		}
		r := inspectMessage(ctx, file, data, w)
		found = found || len(r.Findings) > 0
		if asJSON {
			err = printJSON(out, r)
		} else {
			if i > 0 {
				fmt.Fprintln(out)
			}
			err = r.print(out)
		}
		if err != nil {
			return err
		}
	}
	if found {
		return exit(exitFound, errSaid)
	}
	return nil
}

// readMessage reads a file that holds one message, with the line ends of the
// wire.
func readMessage(stdin io.Reader, file string) (data []byte, err error) {
	if file == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(file)
	}
	if err == nil && bytes.HasPrefix(data, []byte("From ")) {
		err = fmt.Errorf(`%s: a mailbox, not a message: it begins with a line "From ". Take one message out of it, without that line`, file)
	}
	return toCRLF(data), err
}

// toCRLF gives a file the line ends of the wire.
func toCRLF(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
}

func inspectMessage(ctx context.Context, file string, data []byte, w *insight) *inspection {
	msg := mail.NewMessage(data)
	parts := unpack.Parts(ctx, msg, w.limits, w.passwords...)
	findings := parts.Findings
	for _, r := range check.Run(ctx, []check.Named{check.Header()}, &check.Input{Tx: &mail.Transaction{Message: msg}}) {
		findings = append(findings, r.Findings...)
	}
	if w.banned != nil {
		sel := &policy.Selection{Settings: w.banned, Rcpts: []policy.RcptSelection{{Settings: w.banned}}}
		findings = append(findings, policy.BannedFindings(sel, parts.Root)...)
	}
	r := &inspection{File: file, Size: msg.Size(), Findings: []inspectedFinding{}}
	for _, p := range parts.Parts {
		r.Parts = append(r.Parts, inspectedPart{
			Place: p.Place, Names: p.Names, Media: p.Media, Detected: p.Detected, Types: p.Types,
			Size: p.Size, How: p.How, Flags: flagWords(p.Flags), Facts: p.Facts,
		})
	}
	for _, f := range findings {
		place, _, _ := strings.Cut(f.Part, " ")
		r.Findings = append(r.Findings, inspectedFinding{
			Category: f.Category.String(), Minor: f.Minor, Check: f.Check, Place: place, Name: f.Name, Why: f.Detail,
		})
	}
	return r
}

func flagWords(flags mail.PartFlags) []string {
	var out []string
	for _, f := range []struct {
		flag mail.PartFlags
		word string
	}{
		{mail.PartEncrypted, "encrypted"}, {mail.PartUndecipherable, "undecipherable"}, {mail.PartAmbiguous, "ambiguous"},
		{mail.PartDirectory, "directory"}, {mail.PartLink, "link"}, {mail.PartSpecial, "special"},
	} {
		if flags.Is(f.flag) {
			out = append(out, f.word)
		}
	}
	return out
}

// row is one line of the text form; the last cell is wrapped.
type row [4]string

// print writes the text form: a line for each part, and below it what belongs
// to it. Part 1 is the message, with what was found in its header.
func (r *inspection) print(out io.Writer) error {
	rows := []row{{"place", "size", "coding", "type"}}
	for i := range r.Parts {
		p := &r.Parts[i]
		rows = append(rows, p.rows()...)
		for _, f := range r.Findings {
			if f.Place == p.Place || f.Place == "" && i == 0 {
				rows = append(rows, row{2: "found", 3: f.text()})
			}
		}
	}
	var width [3]int
	for _, r := range rows {
		for i := range width {
			width[i] = max(width[i], len(r[i]))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d octets, %d parts, %d findings\n", escaped(r.File), r.Size, len(r.Parts), len(r.Findings))
	for _, r := range rows {
		start := fmt.Sprintf("%-*s  %*s  %-*s  ", width[0], r[0], width[1], r[1], width[2], r[2])
		for _, line := range wrap(r[3], max(maxColumns-len(start), maxColumns/3)) {
			b.WriteString(strings.TrimRight(start+line, " ") + "\n")
			start = strings.Repeat(" ", len(start))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// maxColumns is the width of the text form.
const maxColumns = 100

// wrap breaks text into lines of at most width characters, at blanks if it can.
func wrap(text string, width int) []string {
	var lines []string
	rest := []rune(text)
	for len(rest) > width {
		n := width
		for n > width/2 && rest[n] != ' ' {
			n--
		}
		if n == width/2 {
			n = width
		}
		lines = append(lines, strings.TrimRight(string(rest[:n]), " "))
		if rest = rest[n:]; rest[0] == ' ' {
			rest = rest[1:]
		}
	}
	return append(lines, string(rest))
}

func (p *inspectedPart) rows() []row {
	what := escapedList(p.Media)
	switch {
	case what == "":
		what = escaped(p.Detected)
	case p.Detected != "" && !slices.Contains(p.Media, p.Detected):
		what += ", in fact " + escaped(p.Detected)
	}
	if len(p.Types) > 0 {
		what += " (" + escapedList(p.Types) + ")"
	}
	out := []row{{p.Place, strconv.FormatInt(p.Size, 10), p.How, what}}
	for _, n := range p.Names {
		out = append(out, row{2: "name", 3: quoted(n)})
	}
	if len(p.Flags) > 0 {
		out = append(out, row{2: "flags", 3: strings.Join(p.Flags, ", ")})
	}
	if len(p.Facts) > 0 {
		out = append(out, row{2: "facts", 3: escapedList(p.Facts)})
	}
	return out
}

// text says what was found and why.
func (f *inspectedFinding) text() string {
	word := f.Category
	switch f.Category {
	case mail.BadHeader.String():
		return fmt.Sprintf("%s-%d: %s", word, f.Minor, f.Name) // the check has escaped it
	case mail.Unchecked.String():
		word += ", " + strings.ReplaceAll(mail.UncheckedWord(f.Minor), "-", " ")
	case mail.Banned.String():
		word += " " + escaped(f.Name)
	}
	if f.Why != "" {
		word += ": " + escaped(f.Why)
	}
	return word
}

// maxShown bounds foreign text in a line, in characters.
const maxShown = 160

// escaped makes foreign text fit for a terminal: what cannot be printed is
// escaped, direction overrides included.
func escaped(s string) string {
	q := quoted(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// quoted is escaped in quotes, so that blanks at the end can be seen.
func quoted(s string) string {
	if r := []rune(s[:min(len(s), 4*maxShown)]); len(r) > maxShown {
		return strconv.Quote(string(r[:maxShown]) + "...")
	}
	return strconv.Quote(s)
}

// escapedList joins the first of a list.
func escapedList(list []string) string {
	const most = 6
	var out []string
	for i, s := range list {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		out = append(out, escaped(s))
	}
	return strings.Join(out, ", ")
}
