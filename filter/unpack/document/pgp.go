package document

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"io"

	"postern/filter/unpack/budget"
	"postern/filter/unpack/codec"
	"postern/filter/unpack/filetype"
)

// readPGP gives what OpenPGP messages (RFC 9580) hold that are signed or only
// compressed: everybody can read those. Encrypted ones are reported, and so is
// what cannot be told from them. data is one message or a text with armoured
// ones.
func readPGP(x *budget.Opener, data []byte) error {
	if len(data) > 0 && data[0]&0x80 != 0 {
		return pgpPackets(x, data, false)
	}
	mark := []byte("-----BEGIN PGP MESSAGE")
	for {
		_, rest, ok := bytes.Cut(data, mark)
		if !ok {
			return nil
		}
		data = rest
		if err := x.Budget.Take(int64(len(data) / 4)); err != nil {
			return err
		}
		var packets []byte
		packets, data = pgpArmoured(data)
		if err := pgpPackets(x, packets, false); err != nil {
			return err
		}
	}
}

// pgpArmoured decodes the text after the first words of an armour: lines of
// base64 behind an empty line, up to the checksum. rest is what follows them;
// it begins with the next armour at the latest, so that no line is read twice.
func pgpArmoured(text []byte) (packets, rest []byte) {
	l := codec.Lines{Rest: text}
	if _, ok := l.Next(); !ok { // the end of the first line
		return nil, nil
	}
	var start []byte // of the base64
	for {
		before := l.Rest
		line, ok := l.Next()
		line = bytes.TrimSpace(line)
		switch {
		case !ok || bytes.HasPrefix(line, []byte("-----")):
			return codec.LooseBase64(start[:max(0, len(start)-len(before))]), before
		case start == nil:
			if len(line) == 0 {
				start = l.Rest
			}
		case bytes.HasPrefix(line, []byte("=")):
			return codec.LooseBase64(start[:len(start)-len(before)]), l.Rest
		}
	}
}

// The packets that matter (RFC 9580 section 5).
const (
	pgpSessionKey  = 1
	pgpSignature   = 2
	pgpPassphrase  = 3
	pgpOnePass     = 4
	pgpCompressed  = 8
	pgpEncrypted   = 9
	pgpMarker      = 10
	pgpLiteral     = 11
	pgpTrust       = 12
	pgpProtected   = 18
	pgpProtectedV2 = 20
	pgpPadding     = 21
)

// pgpPackets goes through the packets of a message. What is none counts as
// encrypted: whoever reads it knows more.
func pgpPackets(x *budget.Opener, b []byte, unpacked bool) error {
	if len(b) == 0 {
		x.NoteEncrypted()
		return nil
	}
	for len(b) > 0 {
		tag, body, rest, err := pgpPacket(x, b)
		if err != nil {
			return err
		}
		b = rest
		switch tag {
		case pgpSignature, pgpOnePass, pgpMarker, pgpTrust, pgpPadding:
		case pgpLiteral:
			if err := pgpContent(x, body); err != nil {
				return err
			}
		case pgpCompressed:
			if unpacked {
				return codec.ErrUnsupported // and pointless
			}
			if err := pgpUnpack(x, body); err != nil {
				return err
			}
		default:
			x.NoteEncrypted()
			return nil
		}
	}
	return nil
}

// pgpPacket reads one packet. Its tag is 0 if it is none.
func pgpPacket(x *budget.Opener, b []byte) (tag byte, body, rest []byte, err error) {
	if b[0]&0x80 == 0 {
		return 0, nil, nil, nil
	}
	if b[0]&0x40 == 0 {
		tag = b[0] >> 2 & 15
		size := 1 << (b[0] & 3)
		if size == 8 { // up to the end
			return tag, b[1:], nil, nil
		}
		if len(b) < 1+size {
			return 0, nil, nil, nil
		}
		n := 0
		for _, c := range b[1 : 1+size] {
			n = n<<8 | int(c)
		}
		body, rest = pgpCut(x, b[1+size:], n)
		return tag, body, rest, nil
	}
	tag, rest = b[0]&0x3f, b[1:]
	joined := false
	for {
		n, head, partial := pgpLength(rest)
		if head == 0 {
			return 0, nil, nil, nil
		}
		var piece []byte
		piece, rest = pgpCut(x, rest[head:], n)
		if !partial && !joined {
			return tag, piece, rest, nil
		}
		if err := x.Budget.Take(int64(len(piece))); err != nil {
			return 0, nil, nil, err
		}
		joined = true
		if body = append(body, piece...); !partial {
			return tag, body, rest, nil
		}
	}
}

// pgpLength reads a length of the newer format; head is 0 if there is none.
func pgpLength(b []byte) (n, head int, partial bool) {
	switch {
	case len(b) == 0:
		return 0, 0, false
	case b[0] < 192:
		return int(b[0]), 1, false
	case b[0] < 224 && len(b) >= 2:
		return (int(b[0])-192)<<8 + int(b[1]) + 192, 2, false
	case b[0] == 255 && len(b) >= 5:
		return int(binary.BigEndian.Uint32(b[1:])), 5, false
	case b[0] >= 224 && b[0] < 255:
		return 1 << (b[0] & 31), 1, true
	}
	return 0, 0, false
}

// pgpCut cuts n octets off b, or what there is of them.
func pgpCut(x *budget.Opener, b []byte, n int) (body, rest []byte) {
	if n > len(b) {
		x.Damage("pgp: packet is cut")
		n = len(b)
	}
	return b[:n], b[n:]
}

// pgpContent gives the file in a literal packet: format, name, time, octets.
func pgpContent(x *budget.Opener, b []byte) error {
	if len(b) < 2 || len(b) < 2+int(b[1])+4 {
		return codec.ErrDamaged
	}
	name, content := b[2:2+b[1]], b[2+int(b[1])+4:]
	m := budget.Member{Note: "signed"}
	if string(name) != "_CONSOLE" { // which says that there is no name
		m.Names = filetype.AddName(nil, filetype.TextName(name))
	}
	return x.GiveStored(m, content)
}

// pgpUnpack goes through the packets in a compressed one.
func pgpUnpack(x *budget.Opener, b []byte) error {
	if len(b) == 0 {
		return codec.ErrDamaged
	}
	method, in := b[0], bytes.NewReader(b[1:])
	var r io.Reader
	switch method {
	case 0:
		return pgpPackets(x, b[1:], true)
	case 1:
		r = flate.NewReader(in)
	case 2:
		z, err := zlib.NewReader(in)
		if err != nil {
			return err
		}
		r = z
	case 3:
		r = bzip2.NewReader(in)
	default:
		return codec.ErrUnsupported
	}
	content, err := x.Decode(r, -1)
	if len(content) == 0 && err != nil {
		return err
	}
	if perr := pgpPackets(x, content, true); perr != nil {
		return perr
	}
	return err
}
