//go:build corpus

package unpack_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"postern/filter/unpack/specimen"
)

// TestOrdinaryLarge: what ordinary programs pack with their default settings
// fits the limits: tables of tens of megabytes, dictionaries larger than what
// they pack, archives of many documents.
func TestOrdinaryLarge(t *testing.T) {
	const csv, sheet = 68 << 20, 85 << 20
	packed := func(name string, size int) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, other := range []string{"[Content_Types].xml", "xl/workbook.xml"} {
			m := specimen.Must(w.Create(other))
			fmt.Fprint(m, "<x/>")
		}
		writeTable(specimen.Must(w.Create(name)), size)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	writeTable(w, csv)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	letters := map[string]string{}
	letter := map[string]string{"[Content_Types].xml": "<Types/>", "word/document.xml": "<document/>"}
	for i := range 15 {
		letter[fmt.Sprintf("word/media/image%d.png", i)] = pixel
	}
	for i := range 90 {
		letters[fmt.Sprintf("letter%d.docx", i)] = string(zipOf(t, letter))
	}
	var table bytes.Buffer
	writeTable(&table, 30<<20)
	for name, data := range map[string][]byte{
		"table.zip": packed("table.csv", csv), "table.csv.gz": gz.Bytes(), "table.xlsx": packed("xl/worksheets/sheet1.xml", sheet), "letters.zip": zipOf(t, letters),
		"table.tar.xz": specimen.Pack(specimen.TarFile("table.csv", table.Bytes()), func(w io.Writer) io.WriteCloser {
			return specimen.Must(xz.WriterConfig{DictCap: 64 << 20}.NewWriter(w))
		}),
	} {
		t.Run(name, func(t *testing.T) { wantVerdict(t, name, withFile(name, "application/octet-stream", data), "CLEAN") })
	}
}

// writeTable writes about size octets of a table.
func writeTable(w io.Writer, size int) {
	for n, line := 0, 0; n < size; line++ {
		row := fmt.Sprintf("%d;%d;customer %d;%s;%d.%02d\n", line, line*7919%100003, line%977, strings.Repeat("x", line%13), line%1000, line%100)
		_, _ = io.WriteString(w, row)
		n += len(row)
	}
}
