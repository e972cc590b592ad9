package unpack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// lockedFiles are archives with the password "infected". Those in
// testdata/locked hold the payload as evil.exe, some also ok.txt; they were
// made with
//
//	zip -P infected zipcrypto.zip ok.txt evil.exe    (stored.zip: -0; streamed.zip: from standard input)
//	7z a -tzip -mem=AES128 -pinfected aes128.zip ok.txt evil.exe    (and 192, 256)
//	7z a -pinfected content.7z ok.txt evil.exe    (ppmd.7z: -m0=ppmd, uncoded.7z: -mhc=off,
//	                                               names.7z: -mhe=on,
//	                                               plainheader.7z: -mhe=on -mhc=off -m0=copy)
//
// For the PDFs see openPDFs.
func lockedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		"rar5.rar":         specimen.RAR5Locked("evil.exe", specimen.Payload, "infected", 5, false),
		"rar5-names.rar":   specimen.RAR5Locked("evil.exe", specimen.Payload, "infected", 5, true),
		"rar4.rar":         specimen.RAR4Locked("evil.exe", specimen.Payload, "infected"),
		"descriptor.zip":   specimen.ZipLocked(specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate, Descriptor: true}, "infected"),
		"no-directory.zip": specimen.ZipWithoutDirectory(specimen.LockedMember(specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate}, "infected")),
	}
	list, err := filepath.Glob("testdata/locked/*")
	if err != nil || len(list) < 10 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, f := range list {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(f)] = data
	}
	return files
}

// withLocked is what becomes of a message with data attached.
func withLocked(text, name string, data []byte, passwords ...string) *Result {
	msg := mimeHead + mixedReal + "\r\n--real\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text +
		"\r\n--real\r\nContent-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(data) + "--real--\r\n"
	return Parts(context.Background(), mail.NewMessage([]byte(msg)), budget.DefaultLimits, passwords...)
}

func (r *Result) holds(data []byte) bool {
	return slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return bytes.Equal(p.Data, data) })
}

// TestPasswords: with the password the content is found and nothing is in
// doubt, though rules still see that it was encrypted; with another one, or
// none, there is no content, and the archive is in doubt.
func TestPasswords(t *testing.T) {
	t.Parallel()
	for name, data := range lockedFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, r := range map[string]*Result{
				"configured": withLocked("hello", name, data, "wrong", "Infected", "infected"),
				"in text":    withLocked("hello,\r\n\r\nthe password is: infected.\r\n", name, data),
			} {
				marked := slices.ContainsFunc(r.Parts, func(p *mail.Part) bool {
					return p.Flags.Is(mail.PartEncrypted) && !p.Flags.Is(mail.PartUndecipherable)
				})
				clean := len(r.Findings) == 0 || name == "no-directory.zip"
				if !r.holds(specimen.Payload) || !marked || !clean {
					t.Errorf("%s:\n%s", what, describeTree(r))
				}
			}
			for what, r := range map[string]*Result{
				"none":  withLocked("hello", name, data),
				"wrong": withLocked("password: Infected", name, data, "wrong", "0", "infected "),
			} {
				leaf := r.Parts[len(r.Parts)-1]
				encrypted := slices.ContainsFunc(r.Findings, func(f mail.Finding) bool { return f.Minor == mail.Encrypted })
				if !encrypted || leaf.Place != "1/2" && leaf.Data != nil || !leaf.Flags.Is(mail.PartEncrypted) {
					t.Errorf("%s:\n%s", what, describeTree(r))
				}
			}
		})
	}
}

// TestPasswordGarbage tries many wrong passwords, of which some pass the one
// octet that ZipCrypto checks.
func TestPasswordGarbage(t *testing.T) {
	t.Parallel()
	data := specimen.ZipLocked(specimen.ZipFile{Name: "a.txt", Data: []byte("some text"), Method: specimen.ZipStore}, "infected")
	b := specimen.Budget(len(data))
	var words []string
	for i := range 3000 {
		words = append(words, fmt.Sprint(i))
	}
	b.SetPasswords(words)
	got := specimen.LookAs(t, expand, data, b, "zip")
	if len(got.Members) != 1 || got.Members[0].Data != nil || !got.Encrypted {
		t.Errorf("%+v", got)
	}
}

// TestPasswordChanged: what was changed under the right password is no content.
func TestPasswordChanged(t *testing.T) {
	t.Parallel()
	for name, data := range lockedFiles(t) {
		at := bytes.Index(data, []byte("PK\x01\x02")) - 30
		switch {
		case strings.HasSuffix(name, ".7z"):
			at = 40
		case strings.HasSuffix(name, ".rar"):
			at = len(data) - 100
		case strings.HasSuffix(name, ".pdf"):
			at = bytes.Index(data, []byte("/EmbeddedFile ")) + 100
		case strings.HasPrefix(name, "aes"):
			at = 100
		case at < 0:
			at = len(data) - 20
		}
		data = bytes.Clone(data)
		data[at] ^= 1
		b := specimen.Budget(len(data))
		b.SetPasswords([]string{"infected"})
		short, _ := filetype.Of(data, nil)
		got := specimen.LookAs(t, expand, data, b, short...)
		if got.HasData(specimen.Payload) || got.Clean() {
			t.Errorf("%s: %+v", name, got.Outcome)
		}
		for _, m := range got.Members {
			if m.Encrypted && m.Data != nil {
				t.Errorf("%s: %q has content", name, m.Names)
			}
		}
	}
}

// TestPasswordCost: keys that take too long are not made, and a message has a
// budget for all of them.
func TestPasswordCost(t *testing.T) {
	t.Parallel()
	seven := lockedFiles(t)["uncoded.7z"]
	i := bytes.Index(seven, []byte("\x06\xf1\x07\x01"))
	if i < 0 {
		t.Fatal("no AES coder in the header")
	}
	hostile := bytes.Clone(seven)
	const properties = 4 + 1 // the name of the coder, their length
	hostile[i+properties] |= 24
	head := hostile[32+binary.LittleEndian.Uint64(hostile[12:]):]
	binary.LittleEndian.PutUint32(hostile[28:], crc32.ChecksumIEEE(head))
	binary.LittleEndian.PutUint32(hostile[8:], crc32.ChecksumIEEE(hostile[12:32]))
	for name, data := range map[string][]byte{
		"7z": hostile, "rar": specimen.RAR5Locked("a", specimen.Payload, "infected", 21, false), "rar names": specimen.RAR5Locked("a", specimen.Payload, "infected", 21, true),
	} {
		b := specimen.Budget(len(data))
		b.SetPasswords([]string{"infected"})
		short, _ := filetype.Of(data, nil)
		got := specimen.LookAs(t, expand, data, b, short...)
		if !got.Encrypted || got.HasData(specimen.Payload) || b.RoundsLeft() != budget.MaxRounds {
			t.Errorf("%s: outcome %+v, %d rounds left", name, got.Outcome, b.RoundsLeft())
		}
	}
	b := specimen.Budget(len(seven))
	b.SetPasswords([]string{"wrong", "infected"})
	specimen.Spend(b, 1<<19+1)
	if got := specimen.LookAs(t, expand, seven, b, "7z"); !got.Encrypted || got.Opened || b.RoundsLeft() != 1 {
		t.Errorf("outcome %+v, %d rounds left", got.Outcome, b.RoundsLeft())
	}
}

func TestWordsOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Password: infected":                                    "infected",
		"password for the archive: 1234.":                       "1234.|1234|for",
		"The password is abc123, see below":                     "abc123,|abc123",
		"Kennwort lautet \"Gehe1m!\"":                           "Gehe1m!|Gehe1m",
		"<p>Passwort:&nbsp;<b>xyz</b></p>":                      "xyz",
		"PIN=0815\r\nCode 4711":                                 "0815|0815|4711",
		"unpinned, encoded, password":                           "",
		"pw: a pw: b pw: c pw: d pw: e pw: f pw: g pw: h pw: i": "a|b|c|d|e|f|g|h",
	} {
		got := strings.Join(wordsOf(&mail.Part{Types: []string{"asc"}, Data: []byte(text)}), "|")
		if got != strings.Replace(want, "0815|0815", "0815", 1) {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := wordsOf(&mail.Part{Types: []string{"exe"}, Data: []byte("password: a")}); got != nil {
		t.Errorf("%q", got)
	}
}

// TestPasswordAnyOrder: the text may follow the archive, and the archive may
// lie in another one or in an attached message.
func TestPasswordAnyOrder(t *testing.T) {
	t.Parallel()
	locked := specimen.ZipLocked(specimen.ZipFile{Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate}, "s3cret")
	file := "Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + specimen.Wrap64(specimen.Zip(specimen.ZipFile{Name: "b.zip", Data: locked}))
	page := "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Pass=\r\nword: <b>s3=63ret</b>\r\n"
	msg := mimeHead + mixedReal + "\r\n--real\r\n" + file + "\r\n--real\r\n" + page + "--real--\r\n"
	for what, m := range map[string]string{
		"text last": msg,
		"attached":  withPart("Content-Type: message/rfc822\r\n\r\n" + strings.ReplaceAll(msg, "real", "inner")),
	} {
		if r := Parts(context.Background(), mail.NewMessage([]byte(m)), budget.DefaultLimits); !r.holds(specimen.Payload) || len(r.Findings) > 0 {
			t.Errorf("%s:\n%s", what, describeTree(r))
		} else {
			checkResult(t, r)
		}
	}
}

// TestPasswordOverLimits: when the budget ends while an archive is opened once
// more, what was found the first time is not lost.
func TestPasswordOverLimits(t *testing.T) {
	t.Parallel()
	files := []specimen.ZipFile{specimen.LockedMember(specimen.ZipFile{Name: "a.bin", Data: make([]byte, 40<<10), Method: specimen.ZipDeflate}, "s3cret"), {Name: "evil.exe", Data: specimen.Payload, Method: specimen.ZipDeflate}}
	msg := strings.Replace(attachedAs("a.zip", specimen.Zip(files...)), "hello", "password: s3cret", 1)
	limits := budget.DefaultLimits
	limits.Entries = 3 // two members, and one of them again
	r := Parts(context.Background(), mail.NewMessage([]byte(msg)), limits)
	over := slices.ContainsFunc(r.Findings, func(f mail.Finding) bool { return f.Minor == mail.OverLimits })
	if !r.holds(specimen.Payload) || !over {
		t.Error(describeTree(r))
	}
}
