package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Verify reads all of the bundle and fails with BUNDLE_DAMAGED unless it is, byte for byte, what its list says: everything that
// is listed is there and right, nothing else is, and the manifests need nothing that is neither there nor known to be left out.
func (b *Bundle) Verify(ctx context.Context) error {
	known, lacks := map[oci.Digest]oci.Descriptor{}, map[oci.Digest]bool{}
	for _, l := range b.Lacks {
		lacks[l.Digest] = true
	}
	for _, i := range b.Images {
		for _, d := range slices.Concat(i.Manifests, i.Blobs) {
			known[d.Digest] = d
		}
	}
	for _, d := range known {
		if lacks[d.Digest] {
			continue
		}
		if err := b.verifyBlob(ctx, d); err != nil {
			return err
		}
	}
	for _, i := range b.Images {
		for _, d := range i.Manifests {
			if err := b.closed(ctx, d, known); err != nil {
				return err
			}
		}
	}
	for _, f := range b.Files {
		if _, err := b.file(f); err != nil {
			return err
		}
	}
	return b.nothingElse(known)
}

func (b *Bundle) verifyBlob(ctx context.Context, d oci.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rc, err := b.a.Blob(ctx, d, 0)
	if err != nil {
		return damaged("%s: %s", b.a, b.says(err))
	}
	defer rc.Close()
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{rc}, make([]byte, 256<<10)); err != nil {
		return damaged("%s: %s", b.a, b.says(err))
	}
	return nil
}

// closed makes sure that what a manifest needs is listed.
func (b *Bundle) closed(ctx context.Context, d oci.Descriptor, known map[oci.Digest]oci.Descriptor) error {
	_, body, err := b.a.Manifest(ctx, ref.Reference{Digest: d.Digest})
	if err != nil {
		return damaged("%s: manifest %s: %s", b.a, d.Digest, b.says(err))
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return damaged("%s: manifest %s: %s", b.a, d.Digest, b.says(err))
	}
	needs := m.Layers
	if m.Config != nil {
		needs = append(slices.Clone(needs), *m.Config)
	}
	for _, n := range needs {
		if _, ok := known[n.Digest]; !ok && !n.External() {
			return damaged("%s: manifest %s needs the blob %s, which is not listed", b.a, d.Digest, n.Digest)
		}
	}
	return nil
}

// file reads one of the further files.
func (b *Bundle) file(f File) ([]byte, error) {
	body, err := b.a.File(dirFiles+f.Name, MaxFile)
	if err != nil || oci.FromBytes(oci.SHA256, body) != f.Digest {
		return nil, damaged("%s: its file %.60q is missing or damaged", b.a, f.Name)
	}
	return body, nil
}

func (b *Bundle) nothingElse(known map[oci.Digest]oci.Descriptor) error {
	allowed := map[string]bool{"oci-layout": true, "index.json": true, fileList: true, fileSignature: true}
	for _, f := range b.Files {
		allowed[dirFiles+f.Name] = true
	}
	for _, name := range b.a.Files() {
		if !allowed[name] {
			return damaged("%s: it has %.80q, which is not listed", b.a, name)
		}
	}
	for _, d := range b.a.Digests() {
		if _, ok := known[d]; !ok {
			return damaged("%s: it has the blob %s, which is not listed", b.a, d)
		}
	}
	return nil
}

// Use says how a bundle is applied.
type Use struct {
	// Target opens the repository that an image of the bundle goes to.
	Target func(repository ref.Name) (copy.Target, error)
	// Rename is what a repository of the other side is called there; nil is as in the bundle. It is for mounting what was left out.
	Rename func(repository string) (ref.Name, error)
	Name   string // of the whole target, for the receipt
	Files  string // directory for the further files; "" leaves them in the bundle
	Copy   copy.Options
}

// Apply brings all images of the bundle to where Use says, and returns the receipt. What is there already is not sent, so it may be
// run again, after an interruption or for no reason, with the same receipt. The bundle should have been verified. What it leaves
// out and the target lacks is BUNDLE_LACKING; names are written last, so none then leads to something that is not all there.
func (b *Bundle) Apply(ctx context.Context, u Use) (*Receipt, []*copy.Result, error) {
	r := &Receipt{Version: 1, Target: u.Name, Bundle: b.ID, State: b.State, Have: map[string]string{}}
	results, err := b.each(ctx, u, u.Copy)
	if err != nil {
		return nil, results, err
	}
	for n, i := range b.Images {
		repository := strings.TrimPrefix(results[n].To, u.Name+"/")
		repository, _, _ = strings.Cut(repository, "@")
		if i.Tag != "" {
			repository = strings.TrimSuffix(repository, ":"+i.Tag)
		}
		r.Images = append(r.Images, Received{repository, i.Tag, i.Digest})
		for _, d := range i.Blobs {
			if have, ok := r.Have[d.Digest.String()]; !ok || repository < have {
				r.Have[d.Digest.String()] = repository
			}
		}
	}
	if u.Files != "" && !u.Copy.DryRun {
		if err := b.unpack(u.Files); err != nil {
			return nil, results, err
		}
	}
	return r, results, nil
}

// Diff finds out what Apply would do, and does nothing.
func (b *Bundle) Diff(ctx context.Context, u Use) ([]*copy.Result, error) {
	o := u.Copy
	o.DryRun = true
	return b.each(ctx, u, o)
}

func (b *Bundle) each(ctx context.Context, u Use, o copy.Options) ([]*copy.Result, error) {
	o.Unchanged, o.Select, o.Platforms, o.Referrers = false, copy.All, nil, copy.Referrers{}
	engine := copy.New(o)
	var results []*copy.Result
	mounts := b.mounts(u)
	for _, i := range b.Images {
		to, err := u.Target(i.Repository)
		if err != nil {
			return results, err
		}
		job := copy.Job{From: &view{b, i}, At: ref.Reference{Digest: i.Digest}, To: to, As: []ref.Reference{{Tag: i.Tag}}, Mounts: mounts}
		res, err := engine.Copy(ctx, job)
		results = append(results, res)
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

// mounts are the repositories of the other side that have what was left out.
func (b *Bundle) mounts(u Use) []ref.Name {
	var out []ref.Name
	for _, l := range b.Lacks {
		n, err := ref.ParseName(l.Repository)
		if err == nil && u.Rename != nil {
			n, err = u.Rename(l.Repository)
		}
		if err == nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// unpack writes the further files below a directory. One that is there with another content is not touched, and is an error.
func (b *Bundle) unpack(dir string) error {
	for _, f := range b.Files {
		body, err := b.file(f)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, f.Name)
		if have, err := os.ReadFile(name); err == nil {
			if oci.FromBytes(oci.SHA256, have) != f.Digest {
				return fault.New(fault.Conflict, fault.Unknown, "%s is there already and is another file; it is left as it is", name)
			}
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bundle: write files: %w", err)
		}
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(name, body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// view is one image of a bundle as a place to copy from.
type view struct {
	b *Bundle
	i Image
}

func (v *view) String() string { return v.b.a.String() + ":" + v.i.Repository.String() }

func (v *view) Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	if at.Tag != "" {
		d, ok := v.i.Tags[at.Tag]
		if !ok {
			return oci.Descriptor{}, nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the bundle has no tag %s", at.Tag)
		}
		at = ref.Reference{Digest: d}
	}
	for _, d := range v.i.Manifests {
		if d.Digest == at.Digest {
			_, body, err := v.b.a.Manifest(ctx, at)
			return d, body, err
		}
	}
	return oci.Descriptor{}, nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the bundle has no manifest %s for %s", at, v.i.Repository)
}

func (v *view) Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	rc, err := v.b.a.Blob(ctx, d, from)
	if !fault.Is(err, fault.NotFound) {
		return rc, err
	}
	for _, l := range v.b.Lacks {
		if l.Digest == d.Digest {
			return nil, fault.New(fault.Conflict, ReasonLacking, "the bundle leaves out the blob %s, which %s should have and has not; make it without --against", d.Digest, l.Repository)
		}
	}
	return nil, damaged("%s lacks the blob %s, which its list names", v.b.a, d.Digest)
}

func (v *view) Tags(context.Context) ([]string, error) { return sorted(v.i.Tags), nil }

func (v *view) Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	var out []oci.Descriptor
	for _, m := range v.i.Manifests {
		_, body, err := v.b.a.Manifest(ctx, ref.Reference{Digest: m.Digest})
		if err != nil {
			return nil, err
		}
		if p, err := oci.ParseManifest(m.MediaType, body); err == nil && p.Subject != nil && p.Subject.Digest == d {
			m.ArtifactType = p.ArtifactType
			out = append(out, m)
		}
	}
	return out, nil
}

// Inventory makes a receipt of what a side has, without any bundle: by reading the manifests of images there.
func Inventory(ctx context.Context, target string, items []Item, o copy.Options) (*Receipt, error) {
	parts, err := Order{Items: items, Copy: o}.survey(ctx)
	if err != nil {
		return nil, err
	}
	r := &Receipt{Version: 1, Target: target, Have: map[string]string{}}
	for _, p := range parts {
		r.Images = append(r.Images, Received{p.image.Repository.String(), p.image.Tag, p.image.Digest})
		for _, d := range p.image.Blobs {
			if have, ok := r.Have[d.Digest.String()]; !ok || p.image.Repository.String() < have {
				r.Have[d.Digest.String()] = p.image.Repository.String()
			}
		}
	}
	return r, nil
}
