package document

import (
	"bytes"
	"strings"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readXML gives the files that documents in one XML file carry in base64: those
// of Office are in elements binaryData and binData, those of OpenDocument in
// binary-data.
func readXML(x *budget.Opener, data []byte) error {
	if err := x.Inside(data, ""); err != nil {
		return err
	}
	for {
		i := bytes.Index(data, []byte("bin"))
		if i < 0 {
			return nil
		}
		data = data[i:]
		if !bytes.HasPrefix(data, []byte("binaryData")) && !bytes.HasPrefix(data, []byte("binData")) && !bytes.HasPrefix(data, []byte("binary-data")) {
			data = data[3:]
			continue
		}
		name, rest, ok := bytes.Cut(data[:min(len(data), 256)], []byte(">"))
		if j := bytes.IndexAny(name, " \t\r\n"); j >= 0 {
			name = name[:j]
		}
		if word := string(name); !ok || word != "binaryData" && word != "binData" && word != "binary-data" {
			data = data[3:]
			continue
		}
		data = data[len(data[:min(len(data), 256)])-len(rest):]
		end := bytes.IndexByte(data, '<')
		if end < 0 {
			end = len(data)
		}
		if content := codec.LooseBase64(data[:end]); len(content) > 0 {
			if err := x.GiveStored(budget.Member{Note: "embedded file"}, content); err != nil {
				return err
			}
		}
		data = data[end:]
	}
}

// readCard gives the files that a calendar or an address card carries in base64
// (RFC 5545 section 3.8.1.1, RFC 6350 section 6.2.4).
func readCard(x *budget.Opener, data []byte) error {
	if err := x.Inside(data, ""); err != nil {
		return err
	}
	for len(data) > 0 {
		line := data
		for at := 0; ; { // up to a line end that no blank follows
			i := bytes.IndexByte(data[at:], '\n')
			if i < 0 {
				data = nil
				break
			}
			if at += i + 1; at >= len(data) || data[at] != ' ' && data[at] != '\t' {
				line, data = data[:at], data[at:]
				break
			}
		}
		head, value, ok := bytes.Cut(line, []byte(":"))
		params := strings.ToUpper(string(head[:min(len(head), 1024)]))
		if !ok || !strings.Contains(params, ";ENCODING=B") && !strings.Contains(params, ";BASE64") {
			continue
		}
		m := budget.Member{Note: "attachment"}
		for _, p := range strings.Split(string(head[:min(len(head), 1024)]), ";") {
			if key, name, _ := strings.Cut(p, "="); strings.HasSuffix(strings.ToUpper(key), "FILENAME") {
				m.Names = filetype.AddName(m.Names, filetype.TextName([]byte(strings.Trim(strings.TrimSpace(name), `"`))))
			}
		}
		if content := codec.LooseBase64(value); len(content) > 0 {
			if err := x.GiveStored(m, content); err != nil {
				return err
			}
		}
	}
	return nil
}
