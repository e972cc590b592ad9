package unpack

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"postern/filter/mail"
	"postern/filter/unpack/budget"
)

// nameTrick is a way to write the name evil.exe, as header of a part.
type nameTrick struct{ id, header string }

func nameTricks() []nameTrick {
	const at = "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; "
	return []nameTrick{
		{"C01 RFC 2231 pieces", at + `filename*0="evi"; filename*1="l.exe"`},
		{"C02 pieces in reverse order", at + `filename*1="l.exe"; filename*0="evi"`},
		{"C03 pieces without number 0", at + `filename*1="evil"; filename*2=".exe"`},
		{"C04 percent encoding", at + `filename*=UTF-8''evil%2Eexe`},
		{"C05 encoded and plain pieces", at + `filename*0*=UTF-8''evi%6c; filename*1=".exe"`},
		{"C06 unknown charset", at + `filename*=x-klingon''evil%2Eexe`},
		{"C07 no quotes in the extended value", at + `filename*=evil%2Eexe`},
		{"C08 name and filename", "Content-Type: application/octet-stream; name=evil.exe\r\nContent-Disposition: attachment; filename=ok.txt"},
		{"C09 filename in Content-Type", "Content-Type: application/octet-stream; filename=evil.exe"},
		{"C10 encoded-word in quotes", at + `filename="=?UTF-8?B?ZXZpbC5leGU=?="`},
		{"C11 encoded-word without quotes", at + `filename==?UTF-8?Q?evil=2Eexe?=`},
		{"C12 two encoded-words", at + "filename=\"=?UTF-8?Q?evil=2E?=\r\n =?UTF-8?Q?exe?=\""},
		{"C13 comment in the name", at + "filename=evil.()exe"},
		{"C14 blanks without quotes", at + "filename=my evil.exe"},
		{"C15 trailing dot", at + `filename="evil.exe."`},
		{"C16 trailing blanks", at + `filename="evil.exe  "`},
		{"C17 zero-width space", at + "filename*=UTF-8''evil.e%E2%80%8Bxe"},
		{"C18 right-to-left override", at + "filename*=UTF-8''%E2%80%AEtxt.evil.exe"},
		{"C19 encoded-word without its end", at + `filename="=?UTF-8?B?ZXZpbC5leGU="`},
		{"C20 two dispositions", at + "filename=ok.txt\r\nContent-Disposition: attachment; filename=evil.exe"},
		{"C21 two filenames, evil first", at + "filename=evil.exe; filename=ok.txt"},
		{"C22 two filenames, evil last", at + "filename=ok.txt; filename=evil.exe"},
		{"C23 NUL", at + "filename=\"ok.txt\x00.exe\""},
		{"C24 every letter escaped", at + `filename="\e\v\i\l\.\e\x\e"`},
		{"C25 semicolon missing", at + `filename="ok.txt" filename="evil.exe"`},
		{"C26 field name misspelt", "Content-Type: application/octet-stream\r\nContent-Dispositon: attachment; filename=evil.exe"},
		{"C27 Content-Description", "Content-Type: application/octet-stream\r\nContent-Description: evil.exe"},
		{"C30 80 blanks", at + `filename="ok.txt` + strings.Repeat(" ", 80) + `.exe"`},
		{"C31 blank before the equals sign", at + `filename = "evil.exe"`},
		{"C32 comment before the value", at + `filename=(x)"evil.exe"`},
		{"C33 path", at + `filename="../../../../tmp/evil.exe"`},
		{"C34 full-width", at + "filename*=UTF-8''evil%EF%BC%8E%EF%BD%85%EF%BD%98%EF%BD%85"},
		{"C35 closing quote missing", at + `filename="evil.exe`},
		{"C35b closing quote missing, parameter after it", at + `filename="evil.exe; size=3`},
		{"C36 no disposition word", "Content-Type: application/octet-stream\r\nContent-Disposition: filename=evil.exe"},
		{"C37 field folded before the colon", "Content-Type: application/octet-stream\r\nContent-Disposition\r\n : attachment; filename=evil.exe"},
		{"C38 900 characters", at + `filename="` + strings.Repeat("x", 900) + `.exe"`},
		{"C39 900 characters in pieces", at + longPieces()},
		{"C40 folded inside the quotes", at + "filename=\"evil.\r\n exe\""},
		{"C41 pieces on several lines", at + "\r\n filename*0=\"evi\";\r\n filename*1=\"l\";\r\n filename*2=\".exe\""},
		{"C42 text after the quote", at + `filename="evil".exe`},
		{"C43 name with the path of Windows", at + `filename="C:\temp\evil.exe"`},
		{"C44 ISO-8859-1 octets", at + "filename=\"\xe4vil.exe\""},
		{"C45 content-location", "Content-Type: application/octet-stream\r\nContent-Location: evil.exe"},
		{"C46 escaped quote", at + `filename="evil.exe\""`},
		{"C48 UTF-7 in an encoded-word", at + `filename="=?utf-7?Q?evil+AC4-exe?="`},
		{"C49 all in UTF-7", at + `filename="=?unicode-1-1-utf-7?B?` + base64.StdEncoding.EncodeToString([]byte("+AGUAdgBpAGwALgBlAHgAZQ-")) + `?="`},
		{"C50 UTF-7 in an extended value", at + `filename*=utf-7''evil%2BAC4-exe`},
		{"C51 shift sequence in two pieces", at + `filename*0*=utf-7''evil%2BAC; filename*1*=4-exe`},
		{"C52 UTF-16 with a byte order mark", at + `filename*=utf-16''%FE%FF%00e%00v%00i%00l%00.%00e%00x%00e`},
		{"C53 UTF-16 of the other order", at + `filename*=utf-16le''%00e%00v%00i%00l%00.%00e%00x%00e`},
		{"C54 UCS-2", at + `filename="=?iso-10646-ucs-2?B?AGUAdgBpAGwALgBlAHgAZQ==?="`},
		{"C55 shift sequences of ISO-2022-JP", at + `filename="=?iso-2022-jp?B?` + base64.StdEncoding.EncodeToString([]byte("evil\x1b(J.e\x1b(Bxe")) + `?="`},
		{"C56 full-width in ISO-2022-JP", at + `filename*=iso-2022-jp''evil%1B$B!%%1B(Bexe`},
		{"C57 HZ", at + `filename="=?hz-gb-2312?Q?evil~{=23.~}exe?="`},
		{"C58 EBCDIC", at + `filename="=?cp037?B?haWJk0uFp4U=?="`},
		{"C59 no charset", at + `filename="=??Q?evil=2Eexe?="`},
		{"C60 blank in the charset", at + `filename="=?utf 8?Q?evil=2Eexe?="`},
		{"C61 half an end of the encoded-word", at + `filename="=?utf-8?Q?evil=2Eexe?"`},
		{"C62 encoded-word of 5,000 characters", at + `filename="=?utf-8?Q?` + strings.Repeat("x", 5000) + `=2Eexe?="`},
		{"C63 encoded-word in an encoded-word", at + `filename="=?utf-8?Q?=3D=3Futf-8=3FQ=3Fevil=3D2Eexe=3F=3D?="`},
		{"C64 encoded-word in an extended value", at + `filename*="=?utf-8?Q?evil=2Eexe?="`},
		{"C65 encoded-word over two pieces", at + `filename*0="=?utf-8?Q?evil"; filename*1="=2Eexe?="`},
		{"C66 percent pair in a plain piece", at + `filename*0*=utf-8''evil; filename*1=".%65xe"`},
		{"C67 percent pairs without their mark", at + `filename="evil%2Eexe"`},
		{"C68 percent pairs twice over", at + `filename*=utf-8''evil%252Eexe`},
		{"C69 blanks around the star", at + `filename *0=evil; filename * 1=.exe`},
		{"C70 character split between pieces", at + `filename*0*=utf-8''evil%EF%BC; filename*1*=%8Eexe`},
		{"C71 both kinds, evil in pieces", at + `filename=ok.txt; filename*0=evil; filename*1=.exe`},
		{"C72 300 parameters before it", at + strings.Repeat("x=y; ", 300) + "filename=evil.exe"},
		{"C73 40 names before it", at + strings.Repeat("filename=ok.txt; ", 40) + "filename=evil.exe"},
		{"C74 20,000 characters without quotes", at + "filename=" + strings.Repeat("x", 20000) + ".exe"},
		{"C75 parameter file", "Content-Type: application/octet-stream; file=evil.exe"},
		{"C76 Content-Name", "Content-Type: application/octet-stream\r\nContent-Name: evil.exe"},
		{"C77 Content-ID", "Content-Type: application/octet-stream\r\nContent-ID: <evil.exe>"},
		{"C78 address as Content-Location", "Content-Type: application/octet-stream\r\nContent-Location: http://example.org/a/evil.exe?x#y"},
		{"C79 header inside message/external-body", "Content-Type: message/external-body; access-type=x-none\r\n\r\nContent-Type: application/octet-stream; name=evil.exe"},
		{"C80 name of a message", "Content-Type: message/rfc822; name=evil.exe"},
		{"C81 soft hyphen", at + "filename*=utf-8''evil.e%C2%ADxe"},
		{"C82 tag characters", at + "filename*=utf-8''evil.e%F3%A0%80%A0xe"},
		{"C83 in angle brackets", at + "filename=<evil.exe>"},
		{"C84 disposition in two fields, tab-folded", "Content-Type: application/octet-stream\r\nContent-Disposition: inline\r\nContent-Disposition:\tattachment;\r\n\tfilename\r\n\t=\r\n\tevil.exe"},
		{"C85 comment with a semicolon", at + "(; filename=ok.txt;) filename=evil.exe"},
		{"C47 UTF-16 in an encoded-word", at + `filename="=?UTF-16BE?B?AGUAdgBpAGwALgBlAHgAZQ==?="`},
	}
}

// TestEvasionNames: every way to write a name ends in a spelling that rules
// can match, here after taking off what Windows and mail clients do not show.
func TestEvasionNames(t *testing.T) {
	t.Parallel()
	for _, tr := range nameTricks() {
		t.Run(tr.id, func(t *testing.T) {
			t.Parallel()
			r := Parts(context.Background(), mail.NewMessage([]byte(withPart(tr.header+"\r\n\r\nharmless\r\n"))), budget.DefaultLimits)
			if !slices.ContainsFunc(r.Parts, func(p *mail.Part) bool { return slices.ContainsFunc(p.Names, showsExe) }) {
				t.Errorf("no name ends in .exe:\n%s", describeTree(r))
			}
		})
	}
}

func longPieces() string {
	var b strings.Builder
	for i := range 30 {
		b.WriteString("filename*" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "=" + strings.Repeat("x", 30) + "; ")
	}
	return b.String() + "filename*30=.exe"
}

// showsExe normalises as a rule would.
func showsExe(name string) bool {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 0xff01 && r <= 0xff5e:
			return r - 0xfee0
		case r == 0x200b || r == 0x202e || r == 0 || r == 0xad || r >= 0xe0000:
			return -1
		}
		return r
	}, name)
	return strings.HasSuffix(strings.ToLower(strings.TrimRight(name, ". \"?<>")), ".exe")
}

// TestNameDoubt: names whose extensions differ are a doubt, ordinary pairs are
// not.
func TestNameDoubt(t *testing.T) {
	t.Parallel()
	const ct = "Content-Type: application/octet-stream; "
	for header, doubt := range map[string]bool{
		ct + "name=a.txt\r\nContent-Disposition: attachment; filename=a.txt":                                           false,
		ct + "name=\"=?iso-8859-1?Q?=FCber.txt?=\"\r\nContent-Disposition: attachment; filename*=utf-8''%C3%BCber.txt": false,
		ct + "name=a.txt\r\nContent-Disposition: attachment; filename=b.txt":                                           false,
		ct + "name=report\r\nContent-Disposition: attachment; filename=report.pdf":                                     false,
		ct + "name=a.txt\r\nContent-Disposition: attachment; filename=a.exe":                                           true,
		ct + "name=my report.pdf":   false,
		ct + "name=v1.2 report.pdf": false,
		ct + "name=v1.2 report.exe": true,
		ct + "name=a.pdf\r\nContent-Disposition: attachment; filename=a.docx": false,
		ct + "name=\"report(1).pdf\"":                                         false,
		ct + "name=report(1).pdf":                                             false,
		ct + "name=\"v1.2 report.pdf\"":                                       false,
	} {
		r := Parts(context.Background(), mail.NewMessage([]byte(withPart(header+"\r\n\r\nharmless\r\n"))), budget.DefaultLimits)
		if got := len(r.Findings) > 0; got != doubt {
			t.Errorf("%s: doubt %v, want %v\n%s", header, got, doubt, describeTree(r))
		}
	}
}
