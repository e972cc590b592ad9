//go:build integration

package auth

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Our signatures before two verifiers that share no code with us or with each
// other: OpenDKIM's library (package opendkim-tools) and dkimpy (python3-dkim,
// python3-nacl). Root is needed: OpenDKIM asks the DNS, so it gets a mount
// name space with a resolv.conf of ours.

// serveTXT answers for the public keys on a loopback address, port 53, and
// returns the address.
func serveTXT(t *testing.T, keys *Keys) string {
	t.Helper()
	// not 127.0.0.1: a resolver may live there
	const addr = "127.53.53.53"
	conn, err := net.ListenPacket("udp", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := answerTXT(buf[:n], txt(keys)); err == nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return addr
}

func answerTXT(query []byte, lookup func(string) ([]string, error)) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	records, err := lookup(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")))
	if err != nil {
		reply.RCode = dnsmessage.RCodeNameError
	} else if q.Type == dnsmessage.TypeTXT {
		var parts []string
		for chunk := range slices.Chunk([]byte(records[0]), 255) {
			parts = append(parts, string(chunk))
		}
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: parts},
		}}
	}
	return reply.Pack()
}

// opendkim runs opendkim-testmsg, which verifies all signatures and fails
// when one does.
func opendkim(t *testing.T, resolver string, msg []byte) error {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+resolver+"\noptions timeout:2 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec opendkim-testmsg`, conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Stdin = bytes.NewReader(msg)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		return fmt.Errorf("opendkim-testmsg: %v, %s", err, out)
	}
	return nil
}

const dkimpyScript = `
import sys, dkim
records = dict(a.split("=", 1) for a in sys.argv[2:])
d = dkim.DKIM(sys.stdin.buffer.read())
def txt(name, timeout=5):
    return records[name.decode().rstrip(".")].encode()
if not d.verify(idx=int(sys.argv[1]), dnsfunc=txt):
    sys.exit("signature does not verify")
`

// dkimpy verifies the n-th signature from the top.
func dkimpy(t *testing.T, keys *Keys, n int, msg []byte) error {
	t.Helper()
	// the system's Python: that is where Debian puts the module
	args := []string{"-c", dkimpyScript, fmt.Sprint(n)}
	for _, k := range keys.All() {
		args = append(args, k.RecordName()+"="+k.Record())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", args...)
	cmd.Stdin = bytes.NewReader(msg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dkimpy: %v, %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func TestForeignVerifiers(t *testing.T) {
	keys := testKeys(t, "rsa r:x.test", "ed25519 e:x.test")
	resolver := serveTXT(t, keys)
	for name, msg := range oddMessages {
		t.Run(name, func(t *testing.T) {
			both := signed(t, keys, msg)
			for i, kind := range []string{"RSA", "Ed25519"} {
				if err := dkimpy(t, keys, i, both); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
			// OpenDKIM refuses a message that has one of these fields twice
			if name == "repeated fields" || name == "many fields" {
				return
			}
			if err := opendkim(t, resolver, both); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestForeignVerifiersSeeAddedFields(t *testing.T) {
	all := testKeys(t, "rsa r:x.test", "ed25519 e:x.test")
	resolver := serveTXT(t, all)
	for _, spec := range []string{"rsa r:x.test", "ed25519 e:x.test"} {
		keys := testKeys(t, spec)
		for _, field := range []string{"From: evil@x.test", "Subject: evil", "Content-Type: text/html"} {
			msg := slices.Concat([]byte(field+"\r\n"), signed(t, keys, oddMessages["plain"]))
			if opendkim(t, resolver, msg) == nil {
				t.Errorf("%s: opendkim accepts the message with another %s", spec, field)
			}
			if dkimpy(t, keys, 0, msg) == nil {
				t.Errorf("%s: dkimpy accepts the message with another %s", spec, field)
			}
		}
	}
}
