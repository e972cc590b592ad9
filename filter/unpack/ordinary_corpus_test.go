//go:build corpus

package unpack_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"mime"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/filter"
	"postern/filter/check"
	"postern/filter/mail"
)

// The corpus of ordinary attachments are files that ordinary programs wrote:
// documents, media, data, texts, archives, mail. They come with the sources of
// other projects, which are fetched and not kept here; POSTERN_ORDINARY names
// their folders, separated as in PATH. Each file is attached to a mail, as it
// is and in a zip, and goes through the filter with its default settings, in
// and out. All must be CLEAN but those in testdata/ordinary.txt, which says
// for each why not.
const (
	leastFiles = 3000
	leastKinds = 60
	// mostOfKind and mostOfPackage bound the files of one kind, and those of
	// one kind out of one package: what counts is how many programs wrote
	// them.
	mostOfKind    = 180
	mostOfPackage = 25
	mostOctets    = 4 << 20
)

// ordinaryFile is one file of the corpus.
type ordinaryFile struct {
	name string // the folder that was named, and below it, with slashes
	kind string // the extension, in lower case
	path string
	rank string // by which the files of a kind are drawn: of its content
}

func TestOrdinaryFiles(t *testing.T) {
	folders := filepath.SplitList(os.Getenv("POSTERN_ORDINARY"))
	if len(folders) == 0 {
		t.Fatal("POSTERN_ORDINARY names no folders")
	}
	kinds, reviewed := ordinaryKinds(t), reviewedFiles(t)
	files := drawFiles(t, folders, kinds)
	seen := map[string]bool{}
	for _, f := range files {
		seen[f.kind] = true
	}
	t.Logf("%d files of %d kinds", len(files), len(seen))
	if len(files) < leastFiles || len(seen) < leastKinds {
		t.Errorf("%d files of %d kinds, want %d of %d", len(files), len(seen), leastFiles, leastKinds)
	}

	builtin, err := (&check.BuiltinOptions{}).New()
	if err != nil {
		t.Fatal(err)
	}
	defaults := filterOf(t, "  on_error: tempfail\n", check.Named{Name: "builtin", Check: builtin, Categories: []mail.Category{mail.Infected, mail.Spam}})
	var mu sync.Mutex
	counts, wrong, right, mails := map[string]int{}, 0, 0, 0
	judge := func(f *ordinaryFile) {
		data, err := os.ReadFile(f.path)
		if err != nil {
			t.Error(err)
			return
		}
		for _, zipped := range []bool{false, true} {
			message := ordinaryMail(f, data, zipped)
			for _, listener := range []string{"127.0.0.1:10024", "127.0.0.1:10023"} {
				word, why := examineOrdinary(t, defaults, listener, message)
				mu.Lock()
				mails++
				counts[word]++
				switch {
				case word == "CLEAN":
				case reviewed.has(f.name, word):
					right++
				default:
					wrong++
					t.Errorf("%s (zipped %v, %s): %s: %s", f.name, zipped, listener, word, why)
				}
				mu.Unlock()
			}
		}
	}
	work := make(chan *ordinaryFile)
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for f := range work {
				judge(f)
			}
		})
	}
	for _, f := range files {
		work <- f
	}
	close(work)
	wait.Wait()
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%-28s %6d", word, counts[word])
	}
	t.Logf("%d mails, %d verdicts other than CLEAN are in the reviewed list, %d are not", mails, right, wrong)
	for _, line := range reviewed.unused() {
		t.Logf("reviewed, but no such file or verdict: %s", line)
	}
}

// ordinaryMail attaches a file to a mail, as it is or in a zip.
func ordinaryMail(f *ordinaryFile, data []byte, zipped bool) string {
	name := path.Base(f.name)
	if zipped {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		m, _ := w.Create(name) // a buffer takes all
		_, _ = m.Write(data)
		_ = w.Close()
		data, name = b.Bytes(), strings.TrimSuffix(name, path.Ext(name))+".zip"
	}
	media := mime.TypeByExtension(path.Ext(name))
	if media == "" || strings.HasPrefix(media, "message/") || strings.HasPrefix(media, "multipart/") { // those are never encoded
		media = "application/octet-stream"
	}
	var b strings.Builder
	b.WriteString("From: a@example.net\r\nTo: b@example.org\r\nSubject: a file\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n" +
		"Message-ID: <1@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=-b\"\r\n\r\n" +
		"--=-b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee the file.\r\n--=-b\r\n")
	fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Disposition: attachment; %s\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		media, mime.FormatMediaType("x", map[string]string{"filename": name})[len("x; "):])
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(len(text), 76)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--=-b--\r\n")
	return b.String()
}

// examineOrdinary says what a mail is for its recipient, and why.
func examineOrdinary(t *testing.T, f *filter.Filter, listener, message string) (verdict, why string) {
	tx := &mail.Transaction{Listener: listener, From: "a@example.net", Message: mail.NewMessage([]byte(message))}
	tx.Rcpts = []mail.Recipient{{Address: "b@example.org"}}
	ex, err := f.Examine(t.Context(), tx)
	if err != nil {
		return "failed", err.Error()
	}
	for _, r := range ex.Results {
		if r.Err != nil {
			return "failed", r.Err.Error()
		}
	}
	var all []string
	for _, f := range ex.Findings {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%q %s %s", f.Part, f.Name, f.Detail)))
	}
	return word(&ex.Verdicts[0]), strings.Join(first(all, 3, strings.Compare), "; ")
}

// drawFiles chooses among all files of the folders, by their content, so that
// two runs have the same. A file that is there twice counts once.
func drawFiles(t *testing.T, folders []string, kinds map[string]bool) []*ordinaryFile {
	t.Helper()
	byKind := map[string][]*ordinaryFile{}
	have := map[string]bool{}
	for _, folder := range folders {
		ofPackage := map[string][]*ordinaryFile{}
		pkg := packageName(folder)
		err := filepath.WalkDir(folder, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			kind := strings.ToLower(strings.TrimPrefix(filepath.Ext(p), "."))
			info, err := e.Info()
			if err != nil || !kinds[kind] || info.Size() == 0 || info.Size() > mostOctets {
				return err
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			rank := hex.EncodeToString(sum[:])
			if have[rank] {
				return nil
			}
			have[rank] = true
			rel, err := filepath.Rel(folder, p)
			ofPackage[kind] = append(ofPackage[kind], &ordinaryFile{name: pkg + "/" + filepath.ToSlash(rel), kind: kind, path: p, rank: rank})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for kind, list := range ofPackage {
			byKind[kind] = append(byKind[kind], first(list, mostOfPackage, byRank)...)
		}
	}
	var out []*ordinaryFile
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		out = append(out, first(byKind[kind], mostOfKind, byRank)...)
	}
	return out
}

// packageName is the last element of a folder that says more than a version.
func packageName(folder string) string {
	name, _, _ := strings.Cut(filepath.Base(folder), "@")
	if len(name) == 2 && name[0] == 'v' {
		name = filepath.Base(filepath.Dir(folder))
	}
	return name
}

// first returns the n lowest of a list.
func first[T any](list []T, n int, compare func(a, b T) int) []T {
	slices.SortFunc(list, compare)
	return list[:min(len(list), n)]
}

func byRank(a, b *ordinaryFile) int { return strings.Compare(a.rank, b.rank) }

// ordinaryKinds are the extensions of documents, media, data, texts, archives
// and mail. Programs and their sources are none.
func ordinaryKinds(t *testing.T) map[string]bool {
	t.Helper()
	kinds := map[string]bool{}
	for l := range strings.Lines(readList(t, "testdata/ordinary-kinds.txt")) {
		for _, kind := range strings.Fields(l) {
			kinds[kind] = true
		}
	}
	return kinds
}

// reviewedList are the verdicts other than CLEAN that are right.
type reviewedList struct {
	lines []reviewedLine
}

type reviewedLine struct {
	verdict, pattern, reason string
	used                     bool
}

// reviewedFiles reads lines "VERDICT | pattern | reason".
func reviewedFiles(t *testing.T) *reviewedList {
	t.Helper()
	r := &reviewedList{}
	for l := range strings.Lines(readList(t, "testdata/ordinary.txt")) {
		f := strings.Split(strings.TrimSpace(l), " | ")
		if len(f) != 3 {
			t.Fatalf("want VERDICT | pattern | reason, have %q", l)
		}
		if _, err := path.Match(f[1], ""); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		r.lines = append(r.lines, reviewedLine{verdict: f[0], pattern: f[1], reason: f[2]})
	}
	return r
}

// has reports whether the file is in the list with that verdict.
func (r *reviewedList) has(name, verdict string) bool {
	for i := range r.lines {
		l := &r.lines[i]
		if ok, _ := path.Match(l.pattern, shortName(name)); ok && verdict == l.verdict {
			l.used = true
			return true
		}
	}
	return false
}

func (r *reviewedList) unused() (out []string) {
	for _, l := range r.lines {
		if !l.used {
			out = append(out, l.verdict+" "+l.pattern)
		}
	}
	return out
}

// shortName is package and file, without what is between them.
func shortName(name string) string {
	pkg, _, _ := strings.Cut(name, "/")
	return pkg + "/" + path.Base(name)
}

// readList reads a file without its comments.
func readList(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for l := range strings.Lines(string(data)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}
