package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"
)

// The secret key of RFC 8463 appendix A.2 must give the record of appendix A.2,
// or no receiver finds our Ed25519 keys; see TestVerifyRFC8463 for the message.
func TestRecordRFC8463(t *testing.T) {
	t.Parallel()
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey("football.example.com", "brisbane", ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	const want = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	if got := key.Record(); key.RecordName() != "brisbane._domainkey.football.example.com" || got != want {
		t.Errorf("%s has %q, want %q", key.RecordName(), got, want)
	}
}
