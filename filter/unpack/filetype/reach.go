package filetype

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// What a file is under its name, for those who judge names: a name is dangerous
// only where a click reaches it, and where something runs the content under it.

// Sealed reports whether data is a document or a package that programs open as
// a whole: nobody gets to see its members, let alone click on one. Both its
// content and every name must say so, because a zip that is called one shows
// its members on a click, whatever else it holds. Without a name the declared
// types must.
func Sealed(data []byte, short, names, media []string) bool {
	switch {
	case slices.Contains(short, "exe"):
		return false
	case slices.Contains(short, "deb"), slices.Contains(short, "rpm"):
	case !bytes.HasPrefix(data, []byte(ZipLocal)) || !hasSealedMember(data):
		return false
	}
	named := false
	for _, n := range names {
		if strings.HasSuffix(n, "?=") {
			continue // an encoded-word as it is written; what it means is there too
		}
		if !sealedNames[strings.ToLower(Extension(n))] {
			return false
		}
		named = true
	}
	return named || len(media) > 0 && !slices.ContainsFunc(media, func(m string) bool {
		return m != "application/epub+zip" && !strings.HasPrefix(m, "application/vnd.")
	})
}

var sealedNames = func() map[string]bool {
	known := map[string]bool{}
	for _, ext := range strings.Fields(`
		docx docm dotx dotm xlsx xlsm xltx xltm xlsb xlam pptx pptm ppsx ppsm potx potm ppam sldx vsdx vsdm vstx vssx
		odt ods odp odg odf odb odc odm odi ott ots otp otg oth fodt epub ggb ggs ggt h5p mscz mscx mxl musicxml kmz 3mf xps oxps dwfx
		idml sketch pages numbers key xmind mmap kra ora maff htmlz whl xpi nupkg vsix apk aab ipa deb ddeb udeb rpm
	`) {
		known[ext] = true
	}
	return known
}()

// sealedMembers are members that tell a document or a package from other zip
// files.
var sealedMembers = []string{
	"[Content_Types].xml", "META-INF/container.xml", "META-INF/manifest.xml", "geogebra.xml", "h5p.json", "manifest.json", "AndroidManifest.xml",
	".dist-info/", "doc.kml", "Index/Document.iwa", "document.json", "content.xml", "content.json", "index.rdf", "Payload/", "metadata.opf", "designmap.xml",
}

// hasSealedMember reports whether a zip has one of them, or begins with a
// member "mimetype" as OpenDocument and EPUB want it.
func hasSealedMember(data []byte) bool {
	const edge = 64 << 10
	if len(data) > 38 && string(data[ZipLocalLen:38]) == "mimetype" {
		return true
	}
	head, tail := data[:min(len(data), edge)], data[max(0, len(data)-edge):]
	return slices.ContainsFunc(sealedMembers, func(s string) bool {
		return bytes.Contains(tail, []byte(s)) || bytes.Contains(head, []byte(s))
	})
}

// RunsNowhere reports whether text is of a format whose files have the name of
// a script and are none: scores of MuseScore, meshes of Gmsh.
func RunsNowhere(text []byte) bool {
	text = bytes.TrimPrefix(text[:min(len(text), typeSample)], []byte("\xef\xbb\xbf"))
	if rootElement(text) == "museScore" {
		return true
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	switch section := string(bytes.TrimSpace(line)); section {
	case "$MeshFormat", "$NOD", "$PostFormat":
		return bytes.Contains(rest, []byte("$End"+section[1:])) || len(text) == typeSample
	}
	return false
}

// rootElement returns the name of the first element of an XML text.
func rootElement(text []byte) string {
	for {
		text = bytes.TrimLeft(text, " \t\r\n")
		end := ""
		switch {
		case bytes.HasPrefix(text, []byte("<?")):
			end = "?>"
		case bytes.HasPrefix(text, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(text, []byte("<!")):
			end = ">"
		case bytes.HasPrefix(text, []byte("<")):
			name := text[1:]
			if i := bytes.IndexAny(name, " \t\r\n/>"); i > 0 {
				return string(name[:i])
			}
			return ""
		default:
			return ""
		}
		i := bytes.Index(text, []byte(end))
		if i < 0 {
			return ""
		}
		text = text[i+len(end):]
	}
}

// RunsByName reports whether a system runs or installs files with that
// extension, or opens them as something that leads to programs.
func RunsByName(ext string) bool { return runsByName[strings.ToLower(ext)] }

var runsByName = func() map[string]bool {
	known := map[string]bool{}
	for _, ext := range strings.Fields(`
		exe vbs pif scr bat cmd com cpl dll hta js jse vb vbe wsf wsh wsc sct ps1 ps1xml psm1 msh mjs ws pyw pyz
		lnk url website scf library-ms search-ms searchconnector-ms settingcontent-ms appref-ms appcontent-ms desktop theme themepack
		deskthemepack rdp xnk diagcab msc gadget shb shs msi msp mst msix msixbundle appx appxbundle appinstaller application
		xll jar jnlp msu xbap diagcfg diagpkg ocx sys ex_ chm hlp iso img vhd vhdx one onepkg reg inf job sh py rb pl app command
	`) {
		known[ext] = true
	}
	return known
}()

// IsKnownName reports whether the extension is one that programs have taken
// for documents, pictures, texts, tables or mail: under such a name nothing of
// what follows it runs as something else.
func IsKnownName(name string) bool {
	return knownNames[strings.ToLower(Extension(strings.TrimRight(name, ". ")))]
}

var knownNames = func() map[string]bool {
	known := map[string]bool{}
	for _, ext := range strings.Fields(`
		txt text asc md rst log csv tsv ini conf cfg json xml xsl xslt xsd yaml yml toml tex bib sql diff patch srt vtt
		htm html shtml xhtml php asp aspx jsp css mht mhtml eml mbox mbx msg p7m p7s rtf doc docx docm dot odt pdf ps epub fb2
		xls xlsx xlsm ods ppt pptx odp vsd png jpg jpeg gif bmp tif tiff svg webp ico wav mp3 mp4 avi mov
		c h cc cpp cxx hpp java cs go rs pas f90 m po ts ics vcf geojson kml gpx
	`) {
		known[ext] = true
	}
	return known
}()

// isAppleDouble recognises the companion of a file that the Macintosh writes
// for its attributes (RFC 1740 appendix B): "._x.zip" beside "x.zip" is no zip.
// Its header must hold good and have no data fork, which would be a file.
func isAppleDouble(data []byte) bool {
	const header, entry, dataFork = 26, 12, 1
	if len(data) < header || !bytes.HasPrefix(data, []byte("\x00\x05\x16\x07\x00")) || data[5] < 1 || data[5] > 2 || data[6] != 0 || data[7] != 0 {
		return false
	}
	n := int(binary.BigEndian.Uint16(data[24:]))
	if n == 0 || header+n*entry > len(data) {
		return false
	}
	for e := data[header : header+n*entry]; len(e) > 0; e = e[entry:] {
		if binary.BigEndian.Uint32(e) == dataFork || uint64(binary.BigEndian.Uint32(e[4:]))+uint64(binary.BigEndian.Uint32(e[8:])) > uint64(len(data)) {
			return false
		}
	}
	return true
}
