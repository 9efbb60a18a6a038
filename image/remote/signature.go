package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// signature is one as the extension has it.
type signature struct {
	Version int    `json:"schemaVersion"`
	Name    string `json:"name"` // digest of the manifest, "@", 32 digits
	Type    string `json:"type"`
	Content []byte `json:"content"`
}

// What containers/image writes and understands, and how much is read of it: as much as it does.
const (
	signatureVersion = 2
	signatureType    = "atomic"
	maxSignatures    = 4 << 20
)

// KeepsSignatures reports whether the registry keeps GPG signatures beside manifests. It says so in the answer to the version
// check, which is asked for once while the client lives. One that refuses the check keeps none.
//
// Spec: the X-Registry-Supports-Signatures extension of containers/image (docs/signature-protocols.md).
func (r *Repository) KeepsSignatures(ctx context.Context) (bool, error) {
	m := r.h.lock("version check")
	m.Lock()
	defer m.Unlock()
	if r.h.signatures != nil {
		return *r.h.signatures, nil
	}
	cl := &call{method: http.MethodGet, path: "/v2/", repo: r.name.String(), what: "ask for the version of the API", ok: []int{http.StatusOK, http.StatusUnauthorized}}
	resp, err := r.c.do(ctx, r.h, cl)
	keeps := false
	switch {
	case err == nil:
		discard(resp)
		keeps = resp.Header.Get("X-Registry-Supports-Signatures") == "1"
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Denied), fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.Unsupported):
	default:
		return false, err
	}
	r.h.signatures = &keeps
	return keeps, nil
}

// Signatures are the GPG signatures that the registry keeps of a manifest; none where the manifest is not there.
func (r *Repository) Signatures(ctx context.Context, d oci.Digest) ([][]byte, error) {
	cl := &call{method: http.MethodGet, path: r.signaturesPath(d), scope: r.pull(), repo: r.name.String(),
		what: "get the signatures of " + d.Short() + " in " + r.name.String(), missing: fault.ManifestUnknown}
	resp, err := r.c.do(ctx, r.h, cl)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSignatures+1))
	if err != nil {
		return nil, cl.broken(ctx, r.h, err)
	}
	if len(body) > maxSignatures {
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: they are larger than %d MiB", r.h.name, cl.describe(), maxSignatures>>20)
	}
	var doc struct {
		Signatures []signature `json:"signatures"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, notAList(r.h, cl, err)
	}
	var out [][]byte
	for _, s := range doc.Signatures {
		if s.Version == signatureVersion && s.Type == signatureType {
			out = append(out, s.Content)
		}
	}
	return out, nil
}

// PutSignature adds a GPG signature to those that the registry keeps of a manifest, which has to be there. Its name is made of
// its content: the same one a second time is no other.
func (r *Repository) PutSignature(ctx context.Context, d oci.Digest, content []byte) error {
	sum := sha256.Sum256(content)
	body, err := json.Marshal(signature{signatureVersion, d.String() + "@" + hex.EncodeToString(sum[:16]), signatureType, content})
	if err != nil {
		return err
	}
	cl := &call{method: http.MethodPut, path: r.signaturesPath(d), header: http.Header{"Content-Type": {"application/json"}}, scope: r.push(),
		repo: r.name.String(), what: "put a signature of " + d.Short() + " in " + r.name.String(), missing: fault.ManifestUnknown,
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		length: int64(len(body)), ok: []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}}
	resp, err := r.c.do(ctx, r.h, cl)
	if err != nil {
		return err
	}
	discard(resp)
	return nil
}

func (r *Repository) signaturesPath(d oci.Digest) string {
	return "/extensions/v2/" + r.name.String() + "/signatures/" + d.String()
}
