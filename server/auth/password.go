package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// cost is how dear an argon2id hash is.
type cost struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

// present is the cost of new hashes: OWASP's second recommendation for argon2id (Password Storage Cheat Sheet), 19 MiB,
// two passes, one thread. The parameters stand in every stored hash, so raising them later leaves old hashes valid.
func present() cost { return cost{memory: 19 << 10, time: 2, threads: 1} }

// What verify accepts at most: a row that somebody edited must not take the machine down.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
)

// hashPassword is the PHC string of the password under a fresh salt: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func hashPassword(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("auth: salt: %w", err)
	}
	c := present()
	key := argon2.IDKey([]byte(password), salt, c.time, c.memory, c.threads, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.threads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// verifyPassword compares in constant time. A hash that cannot be read is an error, never a match.
func verifyPassword(phc, password string) (bool, error) {
	c, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, err
	}
	got := argon2.IDKey([]byte(password), salt, c.time, c.memory, c.threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

func parsePHC(phc string) (c cost, salt, key []byte, err error) {
	bad := func(what string) (cost, []byte, []byte, error) {
		return cost{}, nil, nil, fmt.Errorf("auth: stored password hash: %s", what)
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return bad("not an argon2id string")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("argon2 version is not supported")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.threads); err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", c.memory, c.time, c.threads) {
		return bad("parameters are malformed")
	}
	if c.memory < 8 || c.memory > maxMemory || c.time < 1 || c.time > maxTime || c.threads < 1 || c.threads > maxThreads {
		return bad("parameters are out of bounds")
	}
	if salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(salt) < 8 {
		return bad("salt is malformed")
	}
	if key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(key) < 16 || len(key) > 64 {
		return bad("hash is malformed")
	}
	return c, salt, key, nil
}

// generatePassword makes one like vq7M-Kd2x-9RtB: twelve characters without look-alikes, about 69 bits.
func generatePassword() (string, error) {
	const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	var b strings.Builder
	for i := range 12 {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", fmt.Errorf("auth: random password: %w", err)
		}
		b.WriteByte(letters[n.Int64()])
	}
	return b.String(), nil
}

const minPassword = 8

// CheckNewPassword says why a password may not be set for the account, or nil. It is about passwords that somebody
// chose for a new account; it is never asked at login.
func CheckNewPassword(name, password string) error {
	lower := strings.ToLower(password)
	switch {
	case !utf8.ValidString(password):
		return fmt.Errorf("password of %s is not UTF-8 text; choose another", name)
	case strings.TrimSpace(password) != password:
		return fmt.Errorf("password of %s begins or ends with white space or a line break; remove it", name)
	case len(password) > MaxPassword:
		return fmt.Errorf("password of %s has %d bytes; at most %d are allowed", name, len(password), MaxPassword)
	case slices.Contains(wellKnown(), lower) || lower == strings.ToLower(name):
		return fmt.Errorf("password of %s is a well-known one; choose another, or leave it out to have one generated", name)
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Errorf("password of %s has %d characters; use at least %d, or leave it out to have one generated",
			name, utf8.RuneCountInString(password), minPassword)
	case strings.Count(password, password[:1]) == len(password):
		return fmt.Errorf("password of %s repeats one character; choose another", name)
	}
	return nil
}

// wellKnown are the defaults of registries and the first guesses of whoever tries doors, in lower case.
func wellKnown() []string {
	return []string{
		"admin", "admin123", "admin1234", "admin12345", "administrator", "harbor12345", "harbor123", "password", "password1", "password12",
		"password123", "passw0rd", "p@ssw0rd", "p@ssword", "changeme", "changeit", "change-me", "secret", "letmein", "welcome", "welcome1",
		"registry", "docker", "docker123", "testpassword", "testpass", "nexus", "nexus123", "admin@123", "root", "toor", "12345678", "123456789",
		"1234567890", "0123456789", "87654321", "qwerty123", "qwertyuiop", "1q2w3e4r", "1qaz2wsx", "abcd1234", "abc12345", "iloveyou", "sunshine",
		"berth", "berth123", "berth1234", "berth12345", "default", "default1", "example1", "mypassword", "testtest", "test1234", "a123456789",
	}
}
