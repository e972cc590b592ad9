package listen

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAMPDPFiles: only the regular files of the helper are read.
func TestAMPDPFiles(t *testing.T) {
	t.Parallel()
	dir, other := mailDir(t, plainMail), mailDir(t, "Subject: secret\n\nx\n")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) string { return filepath.Join(dir, "af1", name) }
	must(os.Symlink(other+"/af1/email.txt", file("link")))
	must(os.Symlink("email.txt", file("here")))
	must(os.Symlink(other+"/af1", dir+"/af2"))
	must(os.Symlink("af1", dir+"/af3"))
	must(syscall.Mkfifo(file("fifo"), 0o600))
	must(os.WriteFile(file("twice"), []byte(plainMail), 0o600))
	must(os.Link(file("twice"), file("again")))
	must(os.WriteFile(dir+"/top", []byte(plainMail), 0o600))
	must(os.MkdirAll(dir+"-beside", 0o700))
	must(os.WriteFile(dir+"-beside/email.txt", []byte(plainMail), 0o600))
	t.Cleanup(func() { os.RemoveAll(dir + "-beside") })
	must(os.Symlink(dir, other+"/linked"))
	l, err := net.Listen("unix", file("socket"))
	must(err)
	defer l.Close()
	h := &milterHandler{}
	// a link in the path of the folder itself is the postmaster's
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{"relative", dir + "/", other + "/linked"}})
	c := dialAMPDP(t, path)
	for name, ok := range map[string]bool{
		file("email.txt"): true, dir + "/top": true, other + "/linked/af1/email.txt": true,
		file("link"): false, file("here"): false, dir + "/af2/email.txt": false, dir + "/af3/email.txt": false,
		file("fifo"): false, file("twice"): false, file("socket"): false, file("none"): false, dir + "/af1": false, dir: false, dir + "/": false,
		dir + "/af1/../../" + filepath.Base(filepath.Dir(other)) + "/" + filepath.Base(other) + "/af1/email.txt": false,
		dir + "/af1/../af1/email.txt": false, dir + "//af1/email.txt": false, dir + "/./top": false, dir + "/top/": false,
		dir + "-beside/email.txt": false, other + "/af1/email.txt": false, "/etc/passwd": false, "/dev/zero": false, "af1/email.txt": false,
		"relative/email.txt": false, "": true, // the default
		dir + "/" + strings.Repeat("x", 300): false, strings.Repeat("/x", 5000): false,
	} {
		got := c.ask(request(dir, "mail_file="+coded(name)))
		if got.agrees(t); (got.result == "continue") != ok || !ok && got.reply != "450 4.5.0 The file of the message cannot be read" {
			t.Errorf("%.100q: %+v", name, got)
		}
	}
	for _, raw := range h.raw {
		if strings.Contains(raw, "secret") {
			t.Error("it was read")
		}
	}
}

// TestAMPDPOwner: a file of somebody else in a folder where all may write is
// not read.
func TestAMPDPOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := mailDir(t, plainMail)
	_, path := startAMPDP(t, &milterHandler{}, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	for _, tt := range []struct {
		folder, file int
		ok           bool
	}{{0, 0, true}, {0, 4242, false}, {4242, 4242, true}, {4242, 0, true}, {4242, 4243, false}} {
		if err := os.Chown(dir, tt.folder, -1); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir+"/af1/email.txt", tt.file, -1); err != nil {
			t.Fatal(err)
		}
		if got := c.ask(request(dir)); (got.result == "continue") != tt.ok {
			t.Errorf("%+v: %+v", tt, got)
		}
	}
}

// TestAMPDPTempdir: what is ours to remove goes, and nothing else.
func TestAMPDPTempdir(t *testing.T) {
	t.Parallel()
	dir, outside := mailDir(t, plainMail), mailDir(t, plainMail)
	_, path := startAMPDP(t, &milterHandler{}, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	ask := func(tempdir string) {
		t.Helper()
		c.ask("request=AM.PDP\r\nsender=<>\r\nrecipient=<b@example.org>\r\ntempdir=" + coded(tempdir) + "\r\nmail_file=" + coded(dir+"/keep/email.txt") + "\r\n\r\n")
	}
	writeMail(t, dir+"/keep", plainMail)
	writeMail(t, dir+"/deep/af1", plainMail)
	if err := os.Symlink(outside, dir+"/af1/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside+"/af1", dir+"/linked"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir + "/linked", dir + "/deep/af1", dir + "/deep/../keep", dir, outside + "/af1", dir + "/none", "", "/", dir + "/af1"} {
		ask(d)
	}
	for name, want := range map[string]bool{dir + "/af1": false, dir + "/keep/email.txt": true, dir + "/deep/af1/email.txt": true, dir + "/linked": true, outside + "/af1/email.txt": true} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAMPDPReceived: the field that amavisd-milter writes on top is not the
// message's, and where it was cut, the message is put off.
func TestAMPDPReceived(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &milterHandler{}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	const end = "\n\t(envelope-from <a@example.net>)\n"
	own := func(helo string) string {
		return "Received: from " + helo + " (x [192.0.2.1])\n\tby mx.test (amavisd-milter) id 4AAAA1;\n\tdate" + end
	}
	const rest = "Content-Type: multipart/mixed; boundary=x\n\nx\n"
	long := strings.Repeat("h", 2040)
	// as the helper cuts: its buffer ends with a NUL
	cutOff := func(helo string) string { s := own(helo); return s[:min(len(s), 2047)] }
	for _, tt := range []struct {
		what, helo, file string
		want             string // of the message; empty: put off
	}{
		{"own", "c.test", own("c.test") + rest, rest},
		{"no HELO", "", own("unknown") + rest, rest},
		{"not ASCII", "c\xe4.test", own("c\xc3\xa4.test"[:1]+"\xe4.test") + rest, rest},
		{"only one is its", "c.test", own("c.test") + own("c.test") + rest, own("c.test") + rest},
		{"of another hop", "c.test", own("d.test") + rest, own("d.test") + rest},
		{"another program", "c.test", "Received: from c.test (x)\n\tby y (Postfix)\n" + rest, "Received: from c.test (x)\n\tby y (Postfix)\n" + rest},
		{"another sender", "c.test", strings.Replace(own("c.test"), "a@", "b@", 1) + rest, strings.Replace(own("c.test"), "a@", "b@", 1) + rest},
		{"just whole", long[:1920], own(long[:1920]) + rest, rest},
		{"cut in the end", long[:1970], cutOff(long[:1970]) + rest, ""},
		{"cut in the name", long, cutOff(long) + rest, ""},
		{"cut, and closed by the message", long[:1970], cutOff(long[:1970]) + "Content-Type: x; y=\" (amavisd-milter)\"" + end + rest, ""},
		{"no header", "c.test", "\nx\n", "\nx\n"},
		{"nothing", "c.test", "", ""},
	} {
		writeMail(t, dir+"/af1", tt.file)
		got := c.ask(request(dir, "helo_name="+coded(tt.helo)))
		switch {
		case tt.want == "" && tt.file != "":
			if got.result != "tempfail" {
				t.Errorf("%s: %+v", tt.what, got)
			}
		case got.result != "continue":
			t.Errorf("%s: %+v", tt.what, got)
		case h.raw[len(h.raw)-1] != strings.ReplaceAll(tt.want, "\n", "\r\n"):
			t.Errorf("%s: %q", tt.what, h.raw[len(h.raw)-1])
		}
	}
}

// TestAMPDPLines: LF becomes CRLF once, wherever the file is cut while it is
// read.
func TestAMPDPLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &milterHandler{}
	_, path := startAMPDP(t, h, AMPDPOptions{Folders: []string{dir}})
	c := dialAMPDP(t, path)
	for _, tt := range []struct{ file, want string }{
		{"a: b\n\nc\n", "a: b\r\n\r\nc\r\n"},
		{"a: b\r\n\r\nc", "a: b\r\n\r\nc"},
		{"a: b\n\nc\r\r\nd\re\n\n\n", "a: b\r\n\r\nc\r\r\nd\re\r\n\r\n\r\n"},
		{strings.Repeat("x", readBuffer-1) + "\r\ny\n", strings.Repeat("x", readBuffer-1) + "\r\ny\r\n"},
		{strings.Repeat("x", 3*readBuffer) + "\ny\n", strings.Repeat("x", 3*readBuffer) + "\r\ny\r\n"},
		{strings.Repeat("\n", 2*readBuffer+1), strings.Repeat("\r\n", 2*readBuffer+1)},
	} {
		writeMail(t, dir+"/af1", tt.file)
		if got := c.ask(request(dir)); got.result != "continue" || h.raw[len(h.raw)-1] != tt.want {
			t.Errorf("%.60q: %+v", tt.file, got)
		}
	}
}
