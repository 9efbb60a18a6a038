package htpasswd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// maxFile bounds the file: 16 MiB is some 200,000 users.
const maxFile = 16 << 20

// maxCost bounds bcrypt's cost: 15 takes about three seconds, and every step doubles it.
const maxCost = 15

// defaultCost is bcrypt's cost of new entries, and of decoys while the file has no bcrypt entry.
const defaultCost = 10

// table is the content of a file. It is never changed.
type table struct {
	entries map[string]entry
	dummy   []byte // a bcrypt hash that belongs to nobody
}

type entry struct {
	hash   string
	scheme scheme
	line   int
	stamp  string
}

type scheme uint8

const (
	unusable scheme = iota // plain text, crypt and what is not known: never matches
	bcryptScheme
	apr1Scheme
	shaScheme
)

func (s scheme) weak() bool { return s == apr1Scheme || s == shaScheme }

func (s scheme) String() string {
	return [...]string{"unusable", "bcrypt", "apr1 (MD5)", "SHA-1"}[s]
}

// warning is about an entry that was read and is not used, or not as somebody may think.
type warning struct {
	name    string
	line    int
	problem string
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("htpasswd: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("htpasswd: read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("htpasswd file %s is larger than %d MiB", path, maxFile>>20)
	}
	return data, nil
}

// parse reads the whole file. A line that is no entry, comment or blank makes the file unusable: half of a file that
// somebody is writing must not lock the other half out.
func parse(data []byte) (*table, []warning, error) {
	t := &table{entries: make(map[string]entry)}
	var warnings []warning
	costs := make(map[int]int)
	number := 0
	for raw := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
		number++
		line := strings.TrimRight(string(raw), "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, nil, fmt.Errorf("line %d is not of the form name:hash", number)
		}
		hash, _, _ = strings.Cut(strings.TrimSpace(hash), ":") // Apache allows further fields
		if before, twice := t.entries[name]; twice {
			warnings = append(warnings, warning{name, number, fmt.Sprintf("replaces the one in line %d", before.line)})
		}
		s, cost, problem := classify(hash)
		if problem != "" {
			warnings = append(warnings, warning{name, number, problem})
		}
		if s == bcryptScheme {
			costs[cost]++
		}
		sum := sha256.Sum256([]byte(hash))
		t.entries[name] = entry{hash: hash, scheme: s, line: number, stamp: hex.EncodeToString(sum[:])}
	}
	common := defaultCost
	for cost, n := range costs {
		if n > costs[common] || n == costs[common] && cost > common {
			common = cost
		}
	}
	t.dummy = dummyHash(common)
	return t, warnings, nil
}

// classify names the scheme of a hash; the problem says why it cannot be used.
func classify(hash string) (s scheme, cost int, problem string) {
	prefix := func(list ...string) bool {
		for _, p := range list {
			if strings.HasPrefix(hash, p) {
				return true
			}
		}
		return false
	}
	switch {
	case prefix("$2a$", "$2b$", "$2y$"):
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil || len(hash) != 60:
			return unusable, 0, "is not a complete bcrypt hash and is refused"
		case cost > maxCost:
			return unusable, 0, fmt.Sprintf("has bcrypt cost %d, more than %d, and is refused", cost, maxCost)
		}
		return bcryptScheme, cost, ""
	case prefix("$apr1$"):
		return apr1Scheme, 0, ""
	case prefix("{SHA}"):
		return shaScheme, 0, ""
	case prefix("$1$"):
		return unusable, 0, "uses MD5 crypt and is refused"
	case prefix("$5$", "$6$"):
		return unusable, 0, "uses SHA crypt and is refused"
	case prefix("$", "{"):
		return unusable, 0, "uses a scheme that is not supported and is refused"
	case hash == "":
		return unusable, 0, "has no password and is refused"
	case len(hash) == 13:
		return unusable, 0, "looks like DES crypt (or plain text) and is refused"
	}
	return unusable, 0, "looks like a plain-text password and is refused"
}

// dummyHash is a well-formed bcrypt hash without a password: salt and digest are zeros in bcrypt's alphabet.
func dummyHash(cost int) []byte {
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", 53))
}

// decoy takes the time of a comparison.
func (t *table) decoy(password string) {
	_ = bcrypt.CompareHashAndPassword(t.dummy, []byte(password)) // never matches; a test looks at its time
}
