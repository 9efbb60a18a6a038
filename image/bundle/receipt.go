package bundle

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
)

// Receipt says what a side has: after a bundle was applied there, or by an inventory. It has no time in it, so that applying a
// bundle twice gives the same receipt.
type Receipt struct {
	Version   int               `json:"berthReceipt"` // 1
	Target    string            `json:"target"`
	Bundle    string            `json:"bundle,omitempty"` // identity of what was applied
	State     string            `json:"state,omitempty"`  // of the images: the same as in the bundle
	Images    []Received        `json:"images"`
	Have      map[string]string `json:"have"` // digest of a blob: a repository that has it
	Signature *ReceiptSignature `json:"signature,omitempty"`
}

// Received is one name that the side has.
type Received struct {
	Repository string     `json:"repository"`
	Tag        string     `json:"tag,omitempty"`
	Digest     oci.Digest `json:"digest"`
}

// ReceiptSignature is who vouches for a receipt.
type ReceiptSignature struct {
	KeyID     string `json:"keyId"`
	Signature []byte `json:"signature"`
}

// unsigned are the bytes that a receipt's identity and signature are about.
func (r *Receipt) unsigned() []byte {
	c := *r
	c.Signature = nil
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("bundle: a receipt cannot be written: %v", err)) // texts and digests always can
	}
	return b
}

// ID is the receipt's identity, whoever signs it.
func (r *Receipt) ID() string { return oci.FromBytes(oci.SHA256, r.unsigned()).String() }

// Sign signs the receipt.
func (r *Receipt) Sign(k *key.Private) error {
	sig, err := k.Sign(message("receipt", time.Time{}, sum(r.unsigned())))
	if err != nil {
		return fmt.Errorf("bundle: sign receipt: %w", err)
	}
	r.Signature = &ReceiptSignature{k.Public().ID(), sig}
	return nil
}

// Verify fails with BUNDLE_UNSIGNED unless one of the keys signed the receipt.
func (r *Receipt) Verify(keys ...*key.Public) error {
	if r.Signature != nil && slices.ContainsFunc(keys, func(k *key.Public) bool {
		return k.Verify(message("receipt", time.Time{}, sum(r.unsigned())), r.Signature.Signature)
	}) {
		return nil
	}
	return fault.New(fault.Denied, ReasonUnsigned, "the receipt of %.80q is not signed by a key that was given", r.Target)
}

// ParseReceipt reads a receipt.
func ParseReceipt(body []byte) (*Receipt, error) {
	var r Receipt
	if err := json.Unmarshal(body, &r); err != nil || r.Version != 1 {
		return nil, damaged("the file is no receipt that this program knows")
	}
	for d := range r.Have {
		if _, err := oci.ParseDigest(d); err != nil {
			return nil, damaged("the receipt is damaged: %s", fault.Of(err).Message)
		}
	}
	return &r, nil
}
