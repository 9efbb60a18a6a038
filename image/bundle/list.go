package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Bounds of a list: MaxList is its size in bytes, some ten thousand images; the others are what a list may have of things that take
// more memory than text.
const (
	MaxList    = 64 << 20
	maxAgainst = 1000
	maxFiles   = 1000
)

// readList reads a list as a stream and holds every entry to its form before it reads the next: what it takes of memory is in
// proportion to what is right in it, never to what a stranger has written.
func readList(r io.Reader) (l List, err error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	seen := map[string]bool{}
	err = members(dec, func(key string) error {
		if seen[key] {
			return fmt.Errorf("it has %.20q twice", key)
		}
		seen[key] = true
		switch key {
		case "berthBundle":
			return dec.Decode(&l.Version)
		case "state":
			return dec.Decode(&l.State)
		case "images":
			return elements(dec, func() error {
				var e entry
				if err := dec.Decode(&e); err != nil {
					return err
				}
				l.Images = append(l.Images, e.image())
				return whole(e.Digest)
			})
		case "lacks":
			return elements(dec, func() error {
				var e Lack
				if err := dec.Decode(&e); err != nil {
					return err
				}
				l.Lacks = append(l.Lacks, e)
				return whole(e.Digest)
			})
		case "against":
			return elements(dec, func() error {
				var s string
				if err := dec.Decode(&s); err != nil {
					return err
				}
				l.Against = append(l.Against, s)
				return atMost(len(l.Against), maxAgainst, key)
			})
		case "files":
			return elements(dec, func() error {
				var f File
				if err := dec.Decode(&f); err != nil {
					return err
				}
				l.Files = append(l.Files, f)
				return atMost(len(l.Files), maxFiles, key)
			})
		}
		return fmt.Errorf("nobody knows what %.40q is", key)
	})
	if err != nil {
		return List{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return List{}, errors.New("something follows it")
	}
	return l, nil
}

// entry is an Image as it is read.
type entry struct {
	Repository ref.Name              `json:"repository"`
	Tag        string                `json:"tag"`
	Digest     oci.Digest            `json:"digest"`
	Manifests  descriptors           `json:"manifests"`
	Blobs      descriptors           `json:"blobs"`
	Tags       map[string]oci.Digest `json:"tags"`
}

func (e entry) image() Image {
	return Image{Repository: e.Repository, Tag: e.Tag, Digest: e.Digest, Manifests: e.Manifests, Blobs: e.Blobs, Tags: e.Tags}
}

// descriptors are some that have digests; the first without one ends the reading.
type descriptors []oci.Descriptor

// UnmarshalJSON implements json.Unmarshaler.
func (ds *descriptors) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return elements(dec, func() error {
		var d oci.Descriptor
		if err := dec.Decode(&d); err != nil {
			return err
		}
		*ds = append(*ds, d)
		return whole(d.Digest)
	})
}

func whole(d oci.Digest) error {
	if d.IsZero() {
		return errors.New("something in it has no digest")
	}
	return nil
}

func atMost(n, most int, what string) error {
	if n > most {
		return fmt.Errorf("it has more than %d %s", most, what)
	}
	return nil
}

// members reads an object; each reads the value of a key.
func members(dec *json.Decoder, each func(key string) error) error {
	if err := delimiter(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return errors.New("it is no JSON")
		}
		if err := each(key); err != nil {
			return err
		}
	}
	return delimiter(dec, '}')
}

// elements reads an array, or null for none; each reads one element.
func elements(dec *json.Decoder, each func() error) error {
	t, err := dec.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return errors.New("it has something else in place of a list")
	}
	for dec.More() {
		if err := each(); err != nil {
			return err
		}
	}
	return delimiter(dec, ']')
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	t, err := dec.Token()
	if err == nil && t != want {
		err = fmt.Errorf("it has %v in place of %v", t, want)
	}
	return err
}

// tooLarge refuses to write a list that nobody would read.
func tooLarge(size, images int) error {
	return fault.New(fault.TooLarge, fault.SizeInvalid, "the list of a bundle of %d images would have %d MiB, and %d is the most; make several bundles", images, size>>20, MaxList>>20)
}
