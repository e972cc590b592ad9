package strict

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"destiny", "admin", "bypass", "tag_level", "tag2_level"}
	for word, want := range map[string]string{
		"destny": "destiny", "DESTINY": "destiny", "edstiny": "destiny", "destinies": "destiny",
		"tag-level": "tag_level", "tag3_level": "tag_level", "addmin": "admin", "zzz": "", "": "",
	} {
		if got := Nearest(word, known); got != want && !(word == "tag3_level" && got != "") {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
	if d := distance("ca", "abc"); d != 3 {
		t.Errorf("distance(ca, abc) = %d, want 3", d)
	}
}
