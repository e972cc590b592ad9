package mail

import (
	"bytes"
	"testing"
)

func spooled(t *testing.T, data []byte) *Message {
	t.Helper()
	s := &Spool{Dir: t.TempDir(), Memory: 1}
	if _, err := s.Write(data); err != nil {
		t.Fatal(err)
	}
	m, err := s.Message()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHoldOutlivesClose(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("x\r\n"), 5000)
	m := spooled(t, data)
	release, other := m.Hold(), m.Hold()
	m.Close()
	m.Close()
	other()
	other() // counts once
	if !bytes.Equal(m.Bytes(), data) {
		t.Error("the message changed while it was held")
	}
	if _, err := m.File().Stat(); err != nil {
		t.Errorf("the file is closed: %v", err)
	}
	release()
	if m.Bytes() != nil {
		t.Error("still there after the last holder")
	}
	if _, err := m.File().Stat(); err == nil {
		t.Error("the file is still open after the last holder")
	}
}

func TestReleaseBeforeClose(t *testing.T) {
	t.Parallel()
	m := spooled(t, []byte("x\r\n"))
	m.Hold()()
	if len(m.Bytes()) != 3 {
		t.Error("freed though its owner did not close it")
	}
	m.Close()
	if m.Bytes() != nil {
		t.Error("still there after Close")
	}
}
