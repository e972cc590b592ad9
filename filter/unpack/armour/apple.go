package armour

import "encoding/binary"

// FindApple returns the forks of an AppleSingle or AppleDouble file (RFC 1740
// appendix A and B) or of a MacBinary one.
func FindApple(raw []byte) []File {
	be := binary.BigEndian
	if len(raw) >= 128 && raw[0] == 0 && raw[74] == 0 && raw[82] == 0 && raw[1] > 0 && raw[1] < 64 {
		data, resource := uint64(be.Uint32(raw[83:])), uint64(be.Uint32(raw[87:]))
		padded := (data + 127) &^ 127
		if n := uint64(len(raw)); data+resource == 0 || 128+padded+resource > n || n > 128+padded+(resource+127)&^127+128 {
			return nil
		}
		f := File{Name: string(raw[2 : 2+raw[1]]), Data: raw[128 : 128+data], How: "macbinary"}
		return []File{f, {Name: f.Name, Data: raw[128+padded : 128+padded+resource], How: f.How}}
	}
	if len(raw) < 26 || be.Uint32(raw)&^7 != 0x51600 {
		return nil
	}
	const dataFork, resourceFork, realName = 1, 2, 3
	var out []File
	name := ""
	for i := range int(be.Uint16(raw[24:])) {
		entry := raw[min(len(raw), 26+12*i):]
		if len(entry) < 12 {
			break
		}
		at := min(uint64(be.Uint32(entry[4:])), uint64(len(raw)))
		data := raw[at:min(at+uint64(be.Uint32(entry[8:])), uint64(len(raw)))]
		switch be.Uint32(entry) {
		case realName:
			name = string(data[:min(len(data), 255)])
		case dataFork, resourceFork:
			if len(data) > 0 && len(out) < 2 {
				out = append(out, File{Data: data, How: "applesingle"})
			}
		}
	}
	for i := range out {
		out[i].Name = name
	}
	return out
}
