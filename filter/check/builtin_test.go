package check

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
)

func encode64(s string, width int, end string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > width {
		b.WriteString(e[:width] + end)
		e = e[width:]
	}
	return b.String() + e + end
}

func encodeQP(s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func everyOctetQP(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i%20 == 19 {
			b.WriteString("=\r\n")
		}
		fmt.Fprintf(&b, "=%02x", s[i])
	}
	return b.String()
}

func TestBuiltin(t *testing.T) {
	t.Parallel()
	head := "Subject: x\r\n\r\n"
	part := "--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	big := strings.Repeat("filler, 21 octets...\r\n", 10000)
	for _, tt := range []struct {
		name, message string
		want          []string
	}{
		{"clean", head + "hello\r\n", nil},
		{"empty", "", nil},
		{"eicar", head + eicar + "\r\n", []string{"Eicar-Signature"}},
		{"gtube", head + gtube + "\r\n", []string{"GTUBE"}},
		{"both", head + gtube + "\r\n" + eicar, []string{"Eicar-Signature", "GTUBE"}},
		{"one octet off", head + strings.ToLower(eicar), nil},
		{"attachment", head + part + encode64(eicar, 76, "\r\n") + "\r\n--b--\r\n", []string{"Eicar-Signature"}},
		{"short lines", head + part + encode64("a"+eicar, 10, "\r\n") + "--b--\r\n", []string{"Eicar-Signature"}},
		{"odd lines", head + part + encode64("ab"+eicar, 7, " \r\n") + "--b--\r\n", []string{"Eicar-Signature"}},
		{"no padding", head + part + strings.Trim(encode64("a"+eicar, 76, "\r\n"), "=\r\n"), []string{"Eicar-Signature"}},
		{"bare LF", head + part + encode64(eicar, 76, "\n"), []string{"Eicar-Signature"}},
		{"two joined", head + part + encode64("x", 76, "\r\n") + encode64(eicar, 76, "\r\n"), []string{"Eicar-Signature"}},
		{"far inside", head + part + encode64(big+eicar+big, 76, "\r\n"), []string{"Eicar-Signature"}},
		{"second part", head + part + encode64(big, 76, "\r\n") + part + encode64(gtube, 76, "\r\n"), []string{"GTUBE"}},
		{"quoted-printable", head + encodeQP(strings.Repeat("é", 20)+eicar), []string{"Eicar-Signature"}},
		{"every octet quoted", head + everyOctetQP(eicar), []string{"Eicar-Signature"}},
		{"quoted far inside", head + big + everyOctetQP(gtube) + big, []string{"GTUBE"}},
		{"soft breaks with blanks", head + eicar[:30] + "= \t\r\n" + eicar[30:], []string{"Eicar-Signature"}},
		{"equals signs", head + strings.Repeat("=", 100000) + "=4", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := builtin{}.Check(t.Context(), input(tt.message))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got.Findings {
				names = append(names, f.Name)
				if f.Rcpt != mail.AllRcpts || f.Check != "builtin" || f.Category != mail.Infected {
					t.Errorf("%+v", f)
				}
			}
			if got.Score != nil {
				names = append(names, got.Score.Tests[0].Name)
				if got.Score.Value != 1000 || got.Score.Tests[0].Score != 1000 {
					t.Errorf("%+v", got.Score)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, tt.want) {
				t.Errorf("%q, want %q", names, tt.want)
			}
		})
	}
}

// TestBuiltinBoundaries moves the string over the borders of the buffer.
func TestBuiltinBoundaries(t *testing.T) {
	t.Parallel()
	for n := seekBuffer - 200; n < seekBuffer+200; n += 7 {
		for name, body := range map[string]string{
			"base64": encode64(strings.Repeat("x", n)+eicar, 76, "\r\n"),
			"quoted": strings.Repeat("x", n) + everyOctetQP(eicar),
		} {
			if got, err := (builtin{}).Check(t.Context(), input("\r\n"+body)); err != nil || len(got.Findings) != 1 {
				t.Errorf("%s after %d octets: %v, %v", name, n, got, err)
			}
		}
	}
}

func TestBuiltinEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (builtin{}).Check(ctx, input("\r\nx")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzBuiltin(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\nQUJD\r\n=41=\r\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		if _, err := (builtin{}).Check(t.Context(), input(string(data))); err != nil {
			t.Fatal(err)
		}
		at = max(0, min(at, len(data)))
		with := string(data[:at]) + eicar + string(data[at:])
		if got, err := (builtin{}).Check(t.Context(), input(with)); err != nil || len(got.Findings) == 0 {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func BenchmarkBuiltin(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in := input("\r\n" + encode64(strings.Repeat("x", size*3/4), 76, "\r\n"))
			b.SetBytes(in.Tx.Message.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (builtin{}).Check(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
