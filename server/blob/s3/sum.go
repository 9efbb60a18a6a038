package s3

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Whether the service got what was sent is asked with a CRC32C in the request's signed headers, which it compares with what
// arrived and repeats in its answer. A signature over the bytes says the same and costs each side a SHA-256 of all of them,
// which is as much as the digest costs. A service that does not know the checksum, repeats another one or wants the bytes
// signed gets them signed, from then on.
//
// A checksum is no signature: on plain http, who can change bytes on the way can change them without being noticed here. It
// is noticed by whoever reads the blob, since its digest is checked there; so use https where the way is not yours.

// sumOf is the checksum to send with a body, or nil when it is to be signed.
func (s *Store) sumOf(body *pages) *string {
	if s.signs.Load() {
		return nil
	}
	sum := uint32(0)
	for i, p := range body.all {
		sum = crc32.Update(sum, s.castagnoli, p[:body.used[i]])
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], sum)
	return aws.String(base64.StdEncoding.EncodeToString(b[:]))
}

// unsigned leaves the body out of the signature.
func unsigned(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}

// send sends a body by do, with its checksum, or signed. do returns the checksum of the answer.
func (s *Store) send(body *pages, do func(sum *string, opts ...func(*s3.Options)) (answer *string, err error)) error {
	if sum := s.sumOf(body); sum != nil {
		answer, err := do(sum, unsigned)
		if err == nil && aws.ToString(answer) == *sum || err != nil && !refusesSum(err) {
			return err
		}
	}
	_, err := do(nil)
	if err == nil && !s.signs.Swap(true) {
		s.log.Info("the bucket does not check CRC32C; bytes that are sent to it are signed", "storage", s.place())
	}
	return err
}

// refusesSum says of an error that it may be about the checksum, or about the body's not being signed.
func refusesSum(err error) bool {
	switch errorCode(err) {
	case "InvalidRequest", "InvalidArgument", "NotImplemented", "InvalidDigest", "AccessDenied":
		return true
	}
	return false
}
