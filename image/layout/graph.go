package layout

import (
	"encoding/json"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// maxGraph bounds how many manifests are looked at to find referrers.
const maxGraph = 100_000

// referrers finds the manifests of an index whose subject is d, as layouts keep them: entries of the index, or listed by an
// index whose name is the fallback tag. read is the layout's own.
func referrers(ix *index, d oci.Digest, read func(oci.Descriptor) ([]byte, error)) ([]oci.Descriptor, error) {
	var out []oci.Descriptor
	seen := map[oci.Digest]bool{}
	add := func(e oci.Descriptor) error {
		if seen[e.Digest] || len(seen) > maxGraph {
			return nil
		}
		seen[e.Digest] = true
		body, err := read(e)
		if err != nil {
			return err
		}
		m, err := oci.ParseManifest(e.MediaType, body)
		if err != nil || m.Subject == nil || m.Subject.Digest != d {
			return nil // what cannot be read as a manifest refers to nothing
		}
		out = append(out, oci.Descriptor{MediaType: m.MediaType, Digest: e.Digest, Size: e.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
		return nil
	}
	for _, e := range ix.entries {
		if err := add(e.d); err != nil {
			return nil, err
		}
	}
	list, err := ix.find(ref.Reference{Tag: string(d.Algorithm()) + "-" + d.Hex()})
	if err != nil {
		return out, nil
	}
	body, err := read(list)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Manifests []oci.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(body, &doc) == nil {
		for _, e := range doc.Manifests {
			if err := add(e); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
