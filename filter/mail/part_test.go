package mail

import (
	"slices"
	"testing"
)

func TestPartTree(t *testing.T) {
	t.Parallel()
	root := &Part{Place: "1"}
	zip := &Part{Place: "1/2", Parent: root, Names: []string{"docs.zip"}}
	exe := &Part{Place: "1/2/1", Parent: zip}
	root.Children = []*Part{{Place: "1/1", Parent: root}, zip}
	zip.Children = []*Part{exe}
	exe.AddName("invoice.exe")
	exe.AddName("invoice.exe")
	exe.AddName("")
	exe.AddName("INVOICE.EXE")
	if want := []string{"invoice.exe", "INVOICE.EXE"}; !slices.Equal(exe.Names, want) {
		t.Errorf("names %q, want %q", exe.Names, want)
	}

	var places []string
	for p := range root.All() {
		places = append(places, p.Place)
	}
	if want := []string{"1", "1/1", "1/2", "1/2/1"}; !slices.Equal(places, want) {
		t.Errorf("All: %q, want %q", places, want)
	}
	for p := range root.All() {
		if p.Place == "1/1" {
			break
		}
	}
	for p, want := range map[*Part]string{root: "1", zip: "1/2 docs.zip", exe: "1/2/1 docs.zip/invoice.exe"} {
		if got := p.Path(); got != want {
			t.Errorf("Path: %q, want %q", got, want)
		}
	}
	if root.Leaf() || !exe.Leaf() {
		t.Error("Leaf is wrong")
	}
}

func TestPartFlags(t *testing.T) {
	t.Parallel()
	for f, want := range map[PartFlags]string{
		0: "", PartEncrypted | PartUndecipherable: "CU", PartAmbiguous: "B", PartDirectory | PartLink | PartSpecial: "DLS",
	} {
		if f.String() != want {
			t.Errorf("%d: %q, want %q", f, f, want)
		}
	}
	if !(PartLink | PartSpecial).Is(PartLink) || PartLink.Is(PartSpecial) {
		t.Error("Is is wrong")
	}
}
