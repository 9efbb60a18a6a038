package htpasswd

import (
	"crypto/md5"  // what the format says
	"crypto/sha1" // what the format says
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// matches compares in constant time.
func (e entry) matches(password string) bool {
	switch e.scheme {
	case bcryptScheme:
		// bcrypt reads 72 bytes; whoever wrote the entry cut the password there as well.
		return bcrypt.CompareHashAndPassword([]byte(e.hash), []byte(password)) == nil
	case apr1Scheme:
		salt, _, _ := strings.Cut(strings.TrimPrefix(e.hash, apr1Magic), "$")
		return subtle.ConstantTimeCompare([]byte(apr1(password, salt)), []byte(e.hash)) == 1
	case shaScheme:
		sum := sha1.Sum([]byte(password))
		want := "{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
		return subtle.ConstantTimeCompare([]byte(want), []byte(e.hash)) == 1
	}
	return false
}

const apr1Magic = "$apr1$"

// apr1 is Apache's variant of MD5 crypt: 1000 rounds of MD5 over arrangements of password and salt.
//
// Spec: Apache HTTP Server, "Password Formats"; the algorithm is that of FreeBSD's crypt(3) with another magic text.
func apr1(password, salt string) string {
	salt = salt[:min(len(salt), 8)]
	pw := []byte(password)

	inner := md5.New()
	inner.Write([]byte(password + salt + password))
	mixed := inner.Sum(nil)

	outer := md5.New()
	outer.Write([]byte(password + apr1Magic + salt))
	for n := len(pw); n > 0; n -= md5.Size {
		outer.Write(mixed[:min(n, md5.Size)])
	}
	for n := len(pw); n > 0; n >>= 1 {
		if n&1 == 1 {
			outer.Write([]byte{0})
		} else {
			outer.Write(pw[:1])
		}
	}
	sum := outer.Sum(nil)

	for i := range 1000 {
		h := md5.New()
		first, last := pw, sum
		if i&1 == 0 {
			first, last = sum, pw
		}
		h.Write(first)
		if i%3 != 0 {
			h.Write([]byte(salt))
		}
		if i%7 != 0 {
			h.Write(pw)
		}
		h.Write(last)
		sum = h.Sum(nil)
	}
	return apr1Magic + salt + "$" + apr1Encode(sum)
}

// apr1Encode writes the digest in crypt's own base 64 and order of bytes.
func apr1Encode(sum []byte) string {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var b strings.Builder
	put := func(v uint32, digits int) {
		for range digits {
			b.WriteByte(alphabet[v&0x3f])
			v >>= 6
		}
	}
	for _, i := range [5][3]int{{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}} {
		put(uint32(sum[i[0]])<<16|uint32(sum[i[1]])<<8|uint32(sum[i[2]]), 4)
	}
	put(uint32(sum[11]), 2)
	return b.String()
}
