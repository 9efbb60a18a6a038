package reread_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/reread"
)

func TestValue(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(a, "1")
	write(b, "2")
	now := time.Now()
	reads := 0
	joined := func(c [][]byte) (string, error) {
		reads++
		text := string(bytes.Join(c, []byte("+")))
		if strings.Contains(text, "bad") {
			return "", errors.New("bad content")
		}
		return text, nil
	}
	v, err := reread.Open([]string{a, b}, joined, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil || v.Get() != "1+2" {
		t.Fatalf("value %q, %v", v.Get(), err)
	}
	later := func(want string) {
		t.Helper()
		now = now.Add(3 * time.Second)
		if got := v.Get(); got != want {
			t.Errorf("value %q; want %q", got, want)
		}
	}
	write(a, "3")
	if got := v.Get(); got != "1+2" {
		t.Errorf("looked again at once: %q", got)
	}
	later("3+2")
	write(b, "bad")
	later("3+2")
	before := reads
	later("3+2")
	if reads != before {
		t.Error("a bad file is read again and again")
	}
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	later("3+2")
	write(b, "4")
	later("3+4")
	if _, err := reread.Open([]string{a, filepath.Join(dir, "none")}, joined, time.Now, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is opened")
	}
}
