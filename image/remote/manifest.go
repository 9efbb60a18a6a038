package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// MaxManifest is the largest manifest that is read, in bytes. The specification asks registries for four megabytes.
const MaxManifest = 8 << 20

// accept lists what a manifest may be; a registry that is not told converts or refuses.
var accept = strings.Join([]string{oci.MediaTypeManifest, oci.MediaTypeIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList,
	oci.MediaTypeArtifact, "application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json;q=0.5", "*/*;q=0.1"}, ", ")

func (r *Repository) path(kind, rest string) string {
	return "/v2/" + r.name.String() + "/" + kind + "/" + rest
}

func (r *Repository) pull() []string { return []string{"repository:" + r.name.String() + ":pull"} }
func (r *Repository) push() []string { return []string{"repository:" + r.name.String() + ":pull,push"} }

// Manifest reads the manifest that a tag or digest names. Its digest is computed from the bytes and, where one was asked for
// or the registry said one, the same: anything else is WRONG_DIGEST. What does not exist is NotFound.
func (r *Repository) Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	cl := &call{method: http.MethodGet, path: r.path("manifests", at.String()), header: http.Header{"Accept": {accept}}, scope: r.pull(),
		repo: r.name.String(), what: "get manifest " + at.String() + " of " + r.name.String(), missing: fault.ManifestUnknown}
	for n := 1; ; n++ {
		resp, err := r.c.do(ctx, r.h, cl)
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		d, body, err := r.readManifest(cl, at, resp)
		if err == nil || !fault.Has(err, ReasonNetwork) || ctx.Err() != nil || n >= r.c.o.Tries {
			return d, body, err
		}
		if err := r.c.again(ctx, r.h, n, err); err != nil {
			return d, nil, err
		}
	}
}

func (r *Repository) readManifest(cl *call, at ref.Reference, resp *http.Response) (oci.Descriptor, []byte, error) {
	defer discard(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return oci.Descriptor{}, nil, cl.broken(resp.Request.Context(), r.h, err)
	}
	if len(body) > MaxManifest {
		return oci.Descriptor{}, nil, fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: it is larger than %d MiB", r.h.name, cl.describe(), MaxManifest>>20)
	}
	mediaType, err := r.manifestType(cl, resp, body)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	algorithm := oci.SHA256
	said := resp.Header.Get("Docker-Content-Digest")
	want := at.Digest
	if want.IsZero() && said != "" {
		if want, err = oci.ParseDigest(said); err != nil {
			return oci.Descriptor{}, nil, wrongDigest("%s: %s: the registry says that its digest is %q, which is none", r.h.name, cl.describe(), plain(said, 100))
		}
	}
	if !want.IsZero() {
		algorithm = want.Algorithm()
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(algorithm, body), Size: int64(len(body))}
	switch {
	case !at.Digest.IsZero() && d.Digest != at.Digest:
		return oci.Descriptor{}, nil, wrongDigest("%s: %s: the bytes that came have the digest %s", r.h.name, cl.describe(), d.Digest)
	case said != "" && said != d.Digest.String():
		return oci.Descriptor{}, nil, wrongDigest("%s: %s: the registry says that its digest is %s, and the bytes that came have %s", r.h.name, cl.describe(), plain(said, 150), d.Digest)
	}
	return d, body, nil
}

// manifestType is the media type of a manifest: what the header says, or the document where the header says nothing of use.
func (r *Repository) manifestType(cl *call, resp *http.Response, body []byte) (string, error) {
	said, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // malformed is as good as not said
	if !strings.HasSuffix(said, "json") && !strings.HasSuffix(said, "prettyjws") || len(bytes.TrimSpace(body)) == 0 || bytes.TrimSpace(body)[0] != '{' {
		what := "the answer is no manifest but " + plain(resp.Header.Get("Content-Type"), 80)
		if strings.Contains(said, "html") {
			what = "the answer is an HTML page; is there a proxy or a login page in between, or is this not a registry?"
		}
		return "", fault.New(fault.Unavailable, ReasonNoRegistry, "%s: %s: %s", r.h.name, cl.describe(), what)
	}
	if said == "application/json" {
		said = ""
	}
	if said == "" {
		m, err := oci.ParseManifest("", body)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", r.h.name, cl.describe(), err)
		}
		said = m.MediaType
	}
	return said, nil
}

func wrongDigest(format string, args ...any) error {
	return fault.New(fault.Unavailable, ReasonWrongDigest, format, args...)
}

// Head describes the manifest that a tag or digest names without reading it. A registry that does not say the digest is asked
// for the manifest itself.
func (r *Repository) Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error) {
	d, _, err := r.head(ctx, at, http.Header{"Accept": {accept}})
	return d, err
}

// HeadAttached is Head, and asks in the same request whether anything is attached to the manifest. bare is what a berthd says of one
// that nothing refers to and that has no GPG signatures; of a registry that does not say it is false.
func (r *Repository) HeadAttached(ctx context.Context, at ref.Reference) (d oci.Descriptor, bare bool, err error) {
	d, said, err := r.head(ctx, at, http.Header{"Accept": {accept}, headerAttached: {"?"}})
	return d, said.Get(headerAttached) == "none", err
}

// headerAttached is a question and its answer, of berthd only.
const headerAttached = "Berth-Attached"

// head also gives what else the answer said; nil where it had to be a GET.
func (r *Repository) head(ctx context.Context, at ref.Reference, header http.Header) (oci.Descriptor, http.Header, error) {
	cl := &call{method: http.MethodHead, path: r.path("manifests", at.String()), header: header, scope: r.pull(),
		repo: r.name.String(), what: "look for manifest " + at.String() + " of " + r.name.String(), missing: fault.ManifestUnknown}
	resp, err := r.c.do(ctx, r.h, cl)
	if fault.Is(err, fault.Unsupported) {
		d, _, err := r.Manifest(ctx, at)
		return d, nil, err
	}
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	discard(resp)
	d := oci.Descriptor{Size: resp.ContentLength}
	d.MediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type")) // malformed is as good as not said
	if d.Digest, err = oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err != nil || d.Size <= 0 || d.MediaType == "" {
		d, _, err = r.Manifest(ctx, at)
		return d, nil, err
	}
	if !at.Digest.IsZero() && d.Digest != at.Digest {
		return oci.Descriptor{}, nil, wrongDigest("%s: %s: the registry says that its digest is %s", r.h.name, cl.describe(), d.Digest)
	}
	return d, resp.Header, nil
}

// PutManifest writes a manifest under a tag or, without one, under its digest. The registry must say the same digest, or none. A manifest
// with a subject is entered into the fallback tag where the registry does not list referrers itself.
//
// Spec: OCI distribution v1.1.1, "Pushing Manifests" and "Pushing Manifests with Subject".
func (r *Repository) PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error {
	if at.Tag == "" {
		at.Digest = d.Digest
	}
	cl := &call{method: http.MethodPut, path: r.path("manifests", at.String()), header: http.Header{"Content-Type": {d.MediaType}}, scope: r.push(),
		repo: r.name.String(), what: "put manifest " + at.String() + " of " + r.name.String(), missing: fault.NameUnknown,
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		length: int64(len(body)), ok: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted}}
	resp, err := r.c.do(ctx, r.h, cl)
	if err != nil {
		return err
	}
	if err := cl.settled(r.h, resp); err != nil {
		return err
	}
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != d.Digest.String() {
		return wrongDigest("%s: %s: the registry stored %s, not %s", r.h.name, cl.describe(), plain(said, 150), d.Digest)
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil || m.Subject == nil || resp.Header.Get("OCI-Subject") != "" {
		return nil // what the registry took need not be what we can read
	}
	entry := oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	return r.enterFallback(ctx, m.Subject.Digest, entry)
}

// Delete removes a manifest by digest, or a tag. What is not there is NotFound; a registry that cannot is Unsupported.
func (r *Repository) Delete(ctx context.Context, at ref.Reference) error {
	cl := &call{method: http.MethodDelete, path: r.path("manifests", at.String()), scope: []string{"repository:" + r.name.String() + ":delete,pull"},
		repo: r.name.String(), what: "delete " + at.String() + " of " + r.name.String(), missing: fault.ManifestUnknown,
		ok: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent}}
	resp, err := r.c.do(ctx, r.h, cl)
	if err != nil {
		return err
	}
	if err := cl.settled(r.h, resp); err != nil {
		return err
	}
	return nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
