package filter

// Mail that goes round in circles. Our Received field carries a mark that only
// we can make, and only for this body: a stranger may copy such fields, and no
// address in them says whether mail has really been here.

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"postern/filter/mail"
)

// maxOwnHops ends the most common loop, a forgotten "content_filter=" on the
// reinjection service, within a second.
const maxOwnHops = 3

// Mark is the key of our marks in Received fields. Nil is a key that nobody
// should rely on: every process has it.
type Mark []byte

// NewMark returns a key that lives as long as the process.
func NewMark() Mark {
	key := make(Mark, 32)
	// crypto/rand.Read never fails (it ends the program instead)
	_, _ = rand.Read(key)
	return key
}

// markFormat is the first line of the file of a key, with its version.
const markFormat = "postern mark 1"

// LoadMark reads the key in the state folder, or makes one there: then mail
// that was here before a restart is known after it. A file that cannot be read
// is set aside.
func LoadMark(dir string) (Mark, error) {
	path := filepath.Join(dir, "mark.key")
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		format, rest, _ := strings.Cut(string(data), "\n")
		key, bad := hex.DecodeString(strings.TrimSpace(rest))
		if format == markFormat && bad == nil && len(key) == 32 {
			return key, nil
		}
		if err := os.Rename(path, path+".bad"); err != nil {
			return nil, fmt.Errorf("setting a damaged key aside: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key := NewMark()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	text := markFormat + "\n" + hex.EncodeToString(key) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

// maxMarked is how much of a body a mark looks at, besides its length: what
// comes back differs nowhere, and a large message is not read once more.
const maxMarked = 64 << 10

// tag returns the mark for a message with that mail id.
func (k Mark) tag(mailID string, body []byte) string {
	h := hmac.New(sha256.New, k)
	fmt.Fprintf(h, "%s %d\n", mailID, len(body))
	h.Write(body[:min(len(body), maxMarked)])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// marked finds what receivedValue writes: the tag and the mail id.
var marked = regexp.MustCompile(`\(` + product + `(?:, port \d{1,5})?, mark ([\w-]{16})\) with \w+ id ([\w-]{12})\b`)

// loop answers mail that goes round in circles.
func (f *Filter) loop(tx *mail.Transaction) (mail.Reply, bool) {
	hops, own := 0, map[string]bool{}
	for _, h := range tx.Message.Header() {
		if !h.Is("Received") {
			continue
		}
		hops++
		if v := h.Value(); strings.Contains(v, "("+product) {
			m := marked.FindStringSubmatch(v)
			if m != nil && hmac.Equal([]byte(m[1]), []byte(f.Mark.tag(m[2], tx.Message.Body()))) {
				own[m[2]] = true // a field that is there twice was written once
			}
		}
	}
	if hops <= f.Policy.Limits.Received && len(own) < maxOwnHops {
		return mail.Reply{}, false
	}
	return mail.NewReply(554, 4, 6, "Too many hops, id=%s: %d Received fields, %d of them from this filter", tx.ID, hops, len(own)), true
}
