// Package bundle carries images over a gap that no network crosses: one file with images, what refers to them, and further
// files such as trust roots and configuration, signed, and with nothing that the other side is known to have.
//
// A bundle is an OCI layout in a tar file (image/layout) with two more entries: berth/bundle.json lists all that belongs to it,
// by digest, and berth/signature.json signs that list. So a bundle that is cut off, damaged, or was added to is found out, by
// the list alone; and one without omissions is also an oci-archive that other tools read.
//
// [Create] writes one, and takes up what an interrupted run left. [Open] and [Bundle.Verify] check one. [Bundle.Apply] brings
// its content to registries, as often as one likes, and returns a [Receipt]: what the other side has now. With receipts of the
// other side Create leaves out the blobs that they name. Start reading at [List].
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Names of the entries beside the layout's.
const (
	fileList      = "berth/bundle.json"
	fileSignature = "berth/signature.json"
	dirFiles      = "berth/files/"
)

// MaxFile is the largest further file, in bytes.
const MaxFile = 16 << 20

// Reasons of this room.
const (
	ReasonDamaged  fault.Reason = "BUNDLE_DAMAGED"  // it is not what its list says, or has none
	ReasonUnsigned fault.Reason = "BUNDLE_UNSIGNED" // a signature was asked for, and it has none, or not by this key
	ReasonLacking  fault.Reason = "BUNDLE_LACKING"  // it leaves out something that the other side does not have
)

// List says what belongs to a bundle. Its bytes depend on the content alone, so that the same content has the same identity.
type List struct {
	Version int      `json:"berthBundle"` // 1
	Images  []Image  `json:"images"`
	Lacks   []Lack   `json:"lacks,omitempty"`   // blobs that are not in the file: the other side has them
	Against []string `json:"against,omitempty"` // identities of the receipts that say so
	Files   []File   `json:"files,omitempty"`
	State   string   `json:"state"` // of all images: see StateOf
}

// Image is one name with the manifests that belong to it, in the order in which they have to be written, the image itself last.
type Image struct {
	Repository ref.Name              `json:"repository"`
	Tag        string                `json:"tag,omitempty"`
	Digest     oci.Digest            `json:"digest"`
	Manifests  []oci.Descriptor      `json:"manifests"`
	Blobs      []oci.Descriptor      `json:"blobs"`
	Tags       map[string]oci.Digest `json:"tags,omitempty"` // of older cosign, beside the image
}

// Lack is a blob that was left out.
type Lack struct {
	Digest     oci.Digest `json:"digest"`
	Size       int64      `json:"size"`
	Repository string     `json:"repository"` // where the other side has it
}

// File is something else that travels along.
type File struct {
	Kind   string     `json:"kind"` // "trust", "config", "file"
	Name   string     `json:"name"`
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"`
	Body   []byte     `json:"-"`
}

// signature is who vouches for a list.
type signature struct {
	Created   time.Time `json:"created"`
	Bundle    string    `json:"bundle"` // identity of the list
	KeyID     string    `json:"keyId"`
	Signature []byte    `json:"signature"` // over message
}

// message is what is signed, about a text with this digest: it cannot be taken for anything else that the key signs.
func message(what string, created time.Time, text oci.Digest) []byte {
	return fmt.Appendf(nil, "berth %s\n%s\n%s\n", what, created.UTC().Format(time.RFC3339Nano), text.Hex())
}

func sum(text []byte) oci.Digest { return oci.FromBytes(oci.SHA256, text) }

// StateOf is a digest of what names point at: who has the same names with the same content has the same state.
func StateOf(images []Image) string {
	var lines []string
	for _, i := range images {
		lines = append(lines, fmt.Sprintf("%s %s %s\n", i.Repository, i.Tag, i.Digest))
		for tag, d := range i.Tags {
			lines = append(lines, fmt.Sprintf("%s %s %s\n", i.Repository, tag, d))
		}
	}
	slices.Sort(lines)
	return oci.FromBytes(oci.SHA256, []byte(strings.Join(slices.Compact(lines), ""))).String()
}

// Bundle is one that was opened. Safe for concurrent use.
type Bundle struct {
	List
	ID      string // identity: the digest of the list
	Signed  bool
	Created time.Time // of the signature; zero without one

	a   *layout.Archive
	sum oci.Digest // of the list
	sig signature
}

// Open opens a bundle and reads its list. What it lists was not looked at yet: Verify does.
func Open(name string) (*Bundle, error) {
	a, err := layout.OpenArchive(name)
	if err != nil {
		return nil, err
	}
	b := &Bundle{a: a}
	if err := b.read(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return b, nil
}

// Close releases the file.
func (b *Bundle) Close() error { return b.a.Close() }

func damaged(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonDamaged, format, args...)
}

// says is what an error of the bundle's archive says, without the archive's name, which the caller says.
func (b *Bundle) says(err error) string {
	return strings.TrimPrefix(fault.Of(err).Message, b.a.String()+": ")
}

func (b *Bundle) read() error {
	size, r, err := b.a.Open(fileList)
	if err != nil {
		return damaged("%s is not a bundle: it has no %s", b.a, fileList)
	}
	if size > MaxList {
		return damaged("%s: its list has %d MiB, and %d is the most that is read", b.a, size>>20, MaxList>>20)
	}
	h := oci.NewHasher(oci.SHA256)
	if b.List, err = readList(io.TeeReader(r, h)); err != nil {
		return damaged("%s: its list cannot be read: %s", b.a, err)
	}
	if b.Version != 1 {
		return fault.New(fault.Unsupported, ReasonDamaged, "%s is a bundle of version %d; this program knows 1", b.a, b.Version)
	}
	b.sum = h.Digest()
	b.ID = b.sum.String()
	text, err := b.a.File(fileSignature, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return b.check()
	}
	if err != nil || json.Unmarshal(text, &b.sig) != nil {
		return damaged("%s: its signature cannot be read", b.a)
	}
	b.Signed, b.Created = true, b.sig.Created
	return b.check()
}

// check holds the list to its own rules, before anybody acts upon it.
func (b *Bundle) check() error {
	for _, i := range b.Images {
		if i.Repository.IsZero() || i.Digest.IsZero() || len(i.Manifests) == 0 || i.Manifests[len(i.Manifests)-1].Digest != i.Digest {
			return damaged("%s: its list has an image without name, digest or manifests", b.a)
		}
		for tag := range i.Tags {
			if _, err := ref.ParseTag(tag); err != nil {
				return damaged("%s: %s", b.a, b.says(err))
			}
		}
		if i.Tag != "" {
			if _, err := ref.ParseTag(i.Tag); err != nil {
				return damaged("%s: %s", b.a, b.says(err))
			}
		}
	}
	for _, f := range b.Files {
		if f.Name != path.Base(f.Name) || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "\\\x00") || f.Size > MaxFile {
			return damaged("%s: its list has a file %.60q, which is no plain name", b.a, f.Name)
		}
	}
	if got := StateOf(b.Images); got != b.State {
		return damaged("%s: its list says the state %.80s, and its images have %s", b.a, b.State, got)
	}
	return nil
}

// VerifySignature fails with BUNDLE_UNSIGNED unless one of the keys signed the list.
func (b *Bundle) VerifySignature(keys ...*key.Public) error {
	if !b.Signed {
		return fault.New(fault.Denied, ReasonUnsigned, "%s is not signed", b.a)
	}
	for _, k := range keys {
		if b.sig.Bundle == b.ID && b.sig.KeyID == k.ID() && k.Verify(message("bundle", b.sig.Created, b.sum), b.sig.Signature) {
			return nil
		}
	}
	return fault.New(fault.Denied, ReasonUnsigned, "%s is signed by the key %.20s, and not by one that was given; or its list was changed", b.a, b.sig.KeyID)
}
