package distapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/registry"
)

// Where signatures in the form of containers/image are read and put: by the extension that the version check announces, and
// read only, as the files of a web root that registries.d can name.
const (
	extensionPrefix = "/extensions/v2/"
	lookasidePrefix = "/lookaside/"
)

// supportsSignatures is what the version check says to podman and skopeo: with it they keep signatures here.
var supportsSignatures = []string{"1"}

// Signatures serves the signatures of images for podman, skopeo and CRI-O.
//
//	GET, PUT /extensions/v2/<name>/signatures/<digest>
//	GET      /lookaside/<name>@<algorithm>=<digits>/signature-<n>
//
// Spec: docs/signature-protocols.md of containers/image.
type Signatures struct{ *Handler }

// SignaturesPath reports whether a path is one of Signatures.
func SignaturesPath(path string) bool {
	return strings.HasPrefix(path, extensionPrefix) || strings.HasPrefix(path, lookasidePrefix)
}

// signaturesRoute is a path of Signatures, taken apart.
type signaturesRoute struct {
	name   ref.Name
	digest oci.Digest
	number int // of the file in the web root, from 1; 0 is the extension
}

// ServeHTTP implements http.Handler.
func (s Signatures) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httpd.RecordOf(w)
	rec.SetHandler("signatures")
	rt, err := parseSignatures(r.URL.Path, r.URL.RawPath)
	if err != nil {
		httpd.WriteError(w, r, err)
		return
	}
	rec.Repo = rt.name.String()
	ctx, err := s.authenticate(r, rec)
	if err != nil {
		httpd.WriteError(w, r, withScope(err, route{kind: kindManifest, name: rt.name}, r.Method))
		return
	}
	if err := s.signatures(w, r.WithContext(ctx), rt); err != nil {
		httpd.WriteError(w, r, err)
	}
}

// parseSignatures takes a path apart, as parseRoute does.
func parseSignatures(path, raw string) (rt signaturesRoute, err error) {
	if raw != "" && strings.Contains(strings.ToLower(raw), "%2f") {
		return rt, fault.New(fault.Invalid, fault.NameInvalid, "path has an encoded slash; write the slashes of a repository name as they are")
	}
	name, digest := "", ""
	if rest, ok := strings.CutPrefix(path, extensionPrefix); ok {
		i := strings.LastIndex(rest, "/signatures/")
		if i < 0 {
			return rt, noRoute(path)
		}
		name, digest = rest[:i], rest[i+len("/signatures/"):]
	} else {
		rest := strings.TrimPrefix(path, lookasidePrefix)
		i := strings.LastIndex(rest, "/signature-")
		at := strings.LastIndexByte(rest, '@')
		if i < 0 || at < 0 || at > i {
			return rt, noRoute(path)
		}
		n, ok := parseBytes(rest[i+len("/signature-"):])
		if !ok || n < 1 || n > 1<<30 || strconv.FormatInt(n, 10) != rest[i+len("/signature-"):] {
			return rt, noRoute(path)
		}
		rt.number = int(n)
		// The digest stands with an equals sign in file names, where a colon may not stand.
		algorithm, digits, _ := strings.Cut(rest[at+1:i], "=")
		name, digest = rest[:at], algorithm+":"+digits
	}
	if rt.name, err = ref.ParseName(name); err != nil {
		return rt, err
	}
	rt.digest, err = oci.ParseDigest(digest)
	return rt, err
}

func (s Signatures) signatures(w http.ResponseWriter, r *http.Request, rt signaturesRoute) error {
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case rt.number > 0 && get:
		return s.file(w, r, rt)
	case rt.number == 0 && get:
		return s.list(w, r, rt)
	case rt.number == 0 && r.Method == http.MethodPut:
		return s.put(w, r.WithContext(event.WithRequest(r.Context(), s.request(w, r))), rt)
	}
	allow := signatureMethods
	if rt.number > 0 {
		allow = reads
	}
	w.Header().Set("Allow", allow)
	return fault.New(fault.Unsupported, fault.UnsupportedReason, "method %.20s is not offered here; use one of %s", r.Method, allow)
}

// signature is one as the extension has it.
type signature struct {
	Version int    `json:"schemaVersion"`
	Name    string `json:"name"` // digest of the manifest, "@", name
	Type    string `json:"type"`
	Content []byte `json:"content"`
}

// What containers/image writes and understands.
const (
	signatureVersion = 2
	signatureType    = "atomic"
)

func (s Signatures) list(w http.ResponseWriter, r *http.Request, rt signaturesRoute) error {
	found, err := s.Registry.Signatures(r.Context(), rt.name, rt.digest)
	if err != nil {
		return err
	}
	out := make([]signature, len(found))
	for i, f := range found {
		out[i] = signature{signatureVersion, rt.digest.String() + "@" + f.Name, signatureType, f.Content}
	}
	body, err := json.Marshal(map[string]any{"signatures": out})
	if err != nil {
		return err
	}
	return writeJSON(w, append(body, '\n'))
}

func (s Signatures) put(w http.ResponseWriter, r *http.Request, rt signaturesRoute) error {
	// Base64 is a third more than the content; the rest is names.
	body, err := readBody(w, r, registry.MaxSignatureBytes*3/2)
	if err != nil {
		return err
	}
	in := struct {
		signature
		Content string `json:"content"` // into bytes, encoding/json would take a list of numbers as well
	}{}
	err = json.Unmarshal(body, &in)
	if err == nil {
		in.signature.Content, err = base64.StdEncoding.DecodeString(in.Content)
	}
	if err != nil {
		return fault.New(fault.Invalid, fault.Unknown, "signature is not the JSON of this extension: schemaVersion, name, type, content").Because(err)
	}
	if in.Version != signatureVersion || in.Type != signatureType {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "signature has schemaVersion %d and type %.40q; %d and %q are accepted", in.Version, in.Type, signatureVersion, signatureType)
	}
	of, name, _ := strings.Cut(in.Name, "@")
	if of != rt.digest.String() {
		return fault.New(fault.Invalid, fault.DigestInvalid, "signature has the name %.120q; it begins with the digest in the path and an @", in.Name)
	}
	if err := s.Registry.PutSignature(r.Context(), rt.name, rt.digest, registry.Signature{Name: name, Content: in.signature.Content}); err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// file is a signature as a file of the web root. The first number without a file ends the list for who reads it.
func (s Signatures) file(w http.ResponseWriter, r *http.Request, rt signaturesRoute) error {
	found, err := s.Registry.Signatures(r.Context(), rt.name, rt.digest)
	if err != nil {
		return err
	}
	if rt.number > len(found) {
		return fault.New(fault.NotFound, fault.ManifestUnknown, "image %s@%s has %d signatures, and no signature-%d", rt.name, rt.digest.Short(), len(found), rt.number)
	}
	content := found[rt.number-1].Content
	hdr := w.Header()
	hdr["Content-Type"] = octets
	hdr["Content-Length"] = []string{itoa(int64(len(content)))}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, _ = w.Write(content) // a peer that is gone needs no second failure
	return nil
}
