package banned

import (
	"strings"
	"sync"
)

// BuiltIn returns the rules that built_in: true stands for. Nobody writes to
// them.
func BuiltIn() []Rule { return builtIn }

// builtIn are the default of banned.rules. The comment of that key says
// why each of them is there.
//
// Rules by name are against what runs by a click: a piece of a document is out
// of its reach. Names that other programs use as well do not count for files
// that are theirs by content: pictures called by their Content-ID, which ends
// like a domain, scores of MuseScore, meshes of Gmsh.
var builtIn = compiledRules(
	blockNames(`/[.][^./]*[.](exe|vbs|pif|scr|bat|cmd|cpl|dll)$/i`),
	blockNames(`/[{][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[}]?$/i`),
	Rule{Block: FileMatch{Media: []MediaPattern{"application/x-msdownload", "application/x-msdos-program", "application/hta"}}},
	blockNames("*.exe", "*.vbs", "*.pif", "*.scr", "*.bat", "*.cmd", "*.cpl"),
	blockForeign("*.com"),
	Rule{Block: FileMatch{Type: []FileType{"exe-ms"}}},

	blockNames("*.hta", "*.js", "*.jse", "*.vb", "*.vbe", "*.wsf", "*.wsh", "*.wsc", "*.sct", "*.ps1", "*.ps1xml", "*.psm1", "*.mjs", "*.ws", "*.pyw", "*.pyz"),
	blockForeign("*.msh", "*.msc"),
	blockNames("*.lnk", "*.url", "*.website", "*.scf", "*.library-ms", "*.search-ms", "*.searchconnector-ms", "*.settingcontent-ms",
		"*.appref-ms", "*.appcontent-ms", "*.desktop", "*.theme", "*.themepack", "*.deskthemepack", "*.rdp", "*.xnk", "*.diagcab", "*.gadget", "*.shb", "*.shs"),
	blockNames("*.msi", "*.msp", "*.mst", "*.msix", "*.msixbundle", "*.appx", "*.appxbundle", "*.appinstaller", "*.application",
		"*.xll", "*.jar", "*.jnlp", "*.msu", "*.xbap", "*.diagcfg", "*.diagpkg", "*.dll", "*.ocx", "*.sys", "*.ex_", "*.chm", "*.hlp"),
	blockNames("*.iso", "*.img", "*.vhd", "*.vhdx", "*.one", "*.onepkg"),
	Rule{Block: FileMatch{Type: []FileType{"dll", "lnk", "hta", "chm", "msi", "iso", "vhd", "vhdx", "one"}}},
	Rule{Block: FileMatch{Is: []FileMark{MarkPartial}}},
)

func blockNames(patterns ...NamePattern) Rule {
	return Rule{Block: FileMatch{Name: patterns, Except: []FileMark{MarkInDocument}}}
}

// blockForeign is for names that files which nothing runs have as well.
func blockForeign(patterns ...NamePattern) Rule {
	return Rule{Block: FileMatch{Name: patterns, Except: []FileMark{MarkInDocument, MarkNoProgram}}}
}

func compiledRules(rules ...Rule) []Rule {
	for i := range rules {
		if what, _ := rules[i].Check(); what != "" {
			panic("banned: built-in rule: " + what)
		}
	}
	return rules
}

// typeWords are the short types that files can have: Amavis' words, and for
// formats that it does not know the usual extension.
var typeWords = sync.OnceValue(func() []string {
	return strings.Fields(`
	123 3g2 3gp 3mf 7z Z a aac accdb ace aiff alt alz amf amr ani ape apk apng appx arc archive arj asc asf atom au audio
	avi avif bat bmp bpg bufr bz2 cab cbor cdf-ms chm class cpio crx csv dae dat dbf dcm deb desktop djvu dll dmg
	doc docm docx dvb dvi dwg dxf egg emf eml empty eot epub exe exe-com exe-ms exe-unix exe-vms fdf fig fits flac
	flv fm gbr ged geojson gif glb gltf gml gpx grb gz har hdr heic heif heix hlp hqx hta html icns ico ics image
	img inf installshield iqy iso jar java job jp2 jpf jpg jpm js json jxl jxr jxs kml kmz kwaj lat lha lit lnk lrz
	lua lz lz4 lzh lzma lzo m3u m4a m4v macho mail mdb mid midi mj2 mkv mobi mov movie mp3 mp4 mpa mpc mpeg mpg mpv
	mqv mrc msg msi ndjson nes odc odf odg odp ods odt oga ogg ogv one otf otg otp ots ott owl p7s pam parquet pat
	pbm pcap pdf perl pgm pgp pgp.asc pgp.enc pgp.msg php pl png ppm ppt pptm pptx ps ps1 psd pub py pyc qcow qcp rar rb reg
	regf rmvb rpm rss rtf sct sh shp shx sis sit slk so sqlite squashfs srt svg swf sxc szdd t13 tar tcl tcx tex tgz
	tif tiff tlz tnef torrent troff tsv ttc ttf txt udf url uue vbs vcf vhd vhdx vmdk voc volume vsd vsdm vsdx vtt
	warc wasm wav webm webp wim wmf wmv woff woff2 wpd wsc wsf wsh x3d xar xcf xfdf xlf xls xlsb xlsm xlsx xml xpm
	xz yenc zip zoo zst
	`)
})

var fileTypes = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	for _, w := range typeWords() {
		known[w] = true
	}
	return known
})
