package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The kinds of secrets that berth makes, by what they begin with. A prefix tells a secret from a password without asking
// anybody, and lets scanners find one that was committed by mistake.
const (
	RobotSecret  = "brs_" // of a robot
	TokenSecret  = "bpt_" // personal access token
	cookieSecret = "bss_" // of a session
)

// secretBytes is how much of a secret is random. One that is random needs no slow hash: 256 bits are not guessed, so one
// SHA-256 is what a request costs.
const secretBytes = 32

// newSecret makes a secret, the hash that is kept of it, and the first characters for people. The last six characters are a
// checksum of the others, so that what is no secret of ours is refused without a question to the database.
func newSecret(prefix string) (secret, hash, shown string) {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	text := prefix + base64.RawURLEncoding.EncodeToString(b)
	secret = text + checksum(text)
	return secret, hashSecret(secret), secret[:len(prefix)+4]
}

func checksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	return base64.RawURLEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// isSecret reports whether the text may be a secret of the kind.
func isSecret(prefix, text string) bool {
	const tail = 6 // characters of four bytes
	return strings.HasPrefix(text, prefix) && len(text) == len(prefix)+43+tail && checksum(text[:len(text)-tail]) == text[len(text)-tail:]
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// origin says what proved a caller, besides an account as a whole: a token that a robot's secret was exchanged for ends with
// the secret. It is written into tokens, so its form is kept: a letter, and numbers joined by dots. The zero origin is a
// password, a session or a link, which stand for the account.
type origin struct {
	kind byte
	n    [3]int64
}

// The kinds of origins, and their numbers.
const (
	fromToken       = 't' // personal access token
	fromSecret      = 's' // robot, secret
	fromRobot       = 'r' // robot, by a certificate
	fromIssuer      = 'i' // issuer, generation of its configuration
	fromIssuerRobot = 'x' // issuer, generation of its configuration, robot
)

// numbers is how many numbers a kind has.
func numbers(kind byte) int {
	switch kind {
	case fromToken, fromRobot:
		return 1
	case fromSecret, fromIssuer:
		return 2
	case fromIssuerRobot:
		return 3
	}
	return 0
}

func originOf(kind byte, n ...int64) (o origin) {
	o.kind = kind
	copy(o.n[:], n)
	return o
}

// String is the form in tokens.
func (o origin) String() string {
	if o.kind == 0 {
		return ""
	}
	b := []byte{o.kind}
	for i, n := range o.n[:numbers(o.kind)] {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(b)
}

// parseOrigin reads what String has written, and nothing else.
func parseOrigin(text string) (o origin, err error) {
	if text == "" {
		return origin{}, nil
	}
	o.kind = text[0]
	for i, part := range strings.Split(text[1:], ".") {
		if i >= numbers(o.kind) {
			break
		}
		o.n[i], _ = strconv.ParseInt(part, 10, 64) // what it could not read is not what String writes
	}
	if numbers(o.kind) == 0 || o.n[0] <= 0 || o.String() != text {
		return origin{}, fmt.Errorf("auth: token comes of %.40q", text)
	}
	return o, nil
}
