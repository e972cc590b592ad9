package unpack

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
	"postern/filter/unpack/filetype"
	"postern/filter/unpack/specimen"
)

// TestDoubling: eight times the input takes at most 24 times the work, for input
// that is built to make a reader of mail go over the same octets again and
// again: 8 is what one pass takes, 64 what a pass for each octet takes, and a
// coarse clock or a busy machine is far from making one of the other. Work is
// the processor time of the thread, the least of several runs, since whatever
// else goes on only adds to it.
func TestDoubling(t *testing.T) {
	for name, build := range scanners() {
		t.Run(name, func(t *testing.T) {
			// the smaller size is for header fields, of which a part is read only
			for _, n := range []int{10_000, 50_000} {
				if ratio := eightfold(t, build, n); ratio > 24 {
					t.Errorf("eight times the input of %d octets takes %.1f times the work", n, ratio)
				}
			}
		})
	}
}

// eightfold returns how many times the work of n octets eight times as many take.
func eightfold(t *testing.T, build func(n int) string, n int) (ratio float64) {
	few, many := work(t, build(n)), work(t, build(8*n))
	for range 5 {
		if ratio = float64(many) / float64(few); ratio <= 24 || many < 5*time.Millisecond {
			return 1
		}
		few, many = min(few, work(t, build(n))), min(many, work(t, build(8*n)))
	}
	return ratio
}

// work returns the processor time of one run. The clock may be coarse, so many
// are measured together.
func work(t *testing.T, data string) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	msg := mail.NewMessage([]byte(data))
	start, runs := cpu(t), 0
	for ; runs < 100 && (runs < 2 || cpu(t)-start < 30*time.Millisecond); runs++ {
		Parts(context.Background(), msg, budget.DefaultLimits)
	}
	return (cpu(t) - start) / time.Duration(runs)
}

func cpu(t *testing.T) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// doublings build messages of about n octets.
func doublings() map[string]func(n int) string {
	fill := func(s string, n int) string { return strings.Repeat(s, n/len(s)) }
	field := func(s string) func(int) string {
		return func(n int) string { return mimeHead + "Content-Type: text/plain; " + fill(s, n) + "\r\n\r\nx\r\n" }
	}
	body := func(s string) func(int) string {
		return func(n int) string { return withBody("--real\r\n" + octet + "\r\n" + fill(s, n)) }
	}
	coded := func(enc, s string) func(int) string {
		return func(n int) string { return withCTE("Content-Transfer-Encoding: "+enc, fill(s, n)) }
	}
	return map[string]func(int) string{
		"semicolons":        field(";"),
		"equals":            field("="),
		"open comments":     field("("),
		"open quotes":       field(`\"`),
		"quotes":            field(`"`),
		"pieces":            field("name*1=a;"),
		"encoded-words":     field("=?x?y?"),
		"word starts":       field("name==?utf-8?q?"),
		"boundaries":        field("boundary=a;"),
		"missing semicolon": field("a=b "),
		"folds":             field("\r\n "),
		"fields":            func(n int) string { return mailHead + fill("Content-Disposition: a; name=b.c\r\n", n) + "\r\nx\r\n" },
		"types": func(n int) string {
			return mailHead + fill("Content-Type: multipart/mixed; boundary=a\r\n", n) + "\r\n--a\r\n"
		},
		"type and boundaries": func(n int) string {
			return mailHead + fill("Content-Type: a/b; boundary=\"a(\"; boundary=\"b(\"; boundary=\" c\"; boundary=\"d \"\r\n", n/2) + "\r\n" + fill("text\r\n", n/2)
		},
		"junk lines":       func(n int) string { return mailHead + fill("junk\r\n", n) + "\r\nx\r\n" },
		"parts":            body("--real\r\n\r\nx\r\n"),
		"odd delimiters":   body(" --real\r\n\r\nx\r\n"),
		"close delimiters": body("--real--\r\n"),
		"dashes": func(n int) string {
			return mimeHead + "Content-Type: multipart/mixed; boundary=\"--------\"\r\n\r\n" + fill("-", n)
		},
		"bare CR": body("\r--real\r"),
		"guesses": func(n int) string {
			return withType("Content-Type: multipart/mixed") + fill("--x\r\nContent-Type: a/b\r\n\r\n", n)
		},
		"ended delimiters": func(n int) string {
			return withBody("--real\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner--\r\n--real\r\n\r\n" + fill("--inne\r\n--inner\r\nx\r\n", n))
		},
		"inner multiparts": body("--real\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n --real\r\n"),
		"begin":            body("begin 644 a\r\n"),
		"begin short":      body("begin 644 a\r\n!!\r\n"),
		"ybegin":           body("=ybegin name=a\r\n"),
		"binhex":           body("(This file must be converted with BinHex 4.0)\r\n:"),
		"data URIs": func(n int) string {
			return withPart("Content-Type: text/html\r\n\r\n<html>" + fill("data:;base64,", n))
		},
		"base64 junk": coded("base64", "=A-"),
		"soft breaks": coded("quoted-printable", "=  "),
		"uuencode":    coded("uuencode", "begin 644 a\r\n#0V%T\r\n"),
		"equal zip names": func(n int) string {
			return withPart(octet + "\r\n" + string(specimen.Zip(slices.Repeat([]specimen.ZipFile{{Name: "evil.exe", Data: []byte("x")}}, n/100)...)))
		},
		"tar sparse map": func(n int) string {
			pieces := n / 16
			m := fmt.Appendf(nil, "%d\n", pieces)
			for i := range pieces {
				m = fmt.Appendf(m, "%d\n1\n", 2*i)
			}
			m = specimen.Padded(m, filetype.TarBlock)
			pax := specimen.Pax("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=a.dat", fmt.Sprintf("GNU.sparse.realsize=%d", 2*pieces))
			data := specimen.Padded(make([]byte, pieces), filetype.TarBlock)
			return withPart(octet + "\r\n" + string(specimen.Concat(pax, specimen.TarHeader("GNUSparseFile.0/a.dat", '0', len(m)+pieces), m, data, make([]byte, 1024))))
		},
		"pax sparse map": func(n int) string {
			m := []byte("GNU.sparse.map=")
			for i := range n / 16 {
				m = fmt.Appendf(m, "%d,1,", 2*i)
			}
			pax := specimen.Pax(string(bytes.TrimRight(m, ",")), fmt.Sprintf("GNU.sparse.size=%d", n/8), fmt.Sprintf("GNU.sparse.numblocks=%d", n/16))
			return withPart(octet + "\r\n" + string(specimen.Concat(pax, specimen.TarHeader("a.dat", '0', n/16), specimen.Padded(make([]byte, n/16), filetype.TarBlock), make([]byte, 1024))))
		},
		"nested messages": func(n int) string {
			return mimeHead + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 15) + fill("x\r\n", n)
		},
	}
}
