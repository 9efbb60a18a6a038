package distapi

import (
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
)

// kind is which resource of the API a path names.
type kind uint8

const (
	kindNone kind = iota
	kindBase
	kindCatalog
	kindExtensions
	kindTags
	kindManifest
	kindReferrers
	kindBlob
	kindUploads
	kindUpload
	kinds // how many
)

// resource is what a kind is called in metrics and logs, what it answers, and how its path looks.
type resource struct{ label, methods, path string }

var resources = [kinds]resource{
	kindBase:       {"base", reads, "/v2/"},
	kindCatalog:    {"catalog", reads, "/v2/_catalog"},
	kindExtensions: {"extensions", reads, "/v2/_oci/ext/discover"},
	kindTags:       {"tags", reads, "/v2/{name}/tags/list"},
	kindManifest:   {"manifest", "GET, HEAD, PUT, DELETE", "/v2/{name}/manifests/{reference}"},
	kindReferrers:  {"referrers", reads, "/v2/{name}/referrers/{digest}"},
	kindBlob:       {"blob", "GET, HEAD, DELETE", "/v2/{name}/blobs/{digest}"},
	kindUploads:    {"blob_upload", "POST", "/v2/{name}/blobs/uploads/"},
	kindUpload:     {"blob_upload", "GET, HEAD, PATCH, PUT, DELETE", "/v2/{name}/blobs/uploads/{id}"},
}

// Route is a method of a path of the face.
type Route struct{ Method, Path string }

// Routes are all that the face serves: what a test of rights has to go through.
func Routes() (all []Route) {
	for _, r := range append(resources[kindBase:],
		resource{methods: tokenMethods, path: "/token"}, resource{methods: tokenMethods, path: "/service/token"}, resource{methods: reads, path: "/token/jwks"},
		resource{methods: reads, path: "/v1/search"},
		resource{methods: signatureMethods, path: extensionPrefix + "{name}/signatures/{digest}"}, resource{methods: reads, path: lookasidePrefix + "{name}@{digest}/signature-{n}"},
	) {
		for _, m := range strings.Split(r.methods, ", ") {
			all = append(all, Route{m, r.path})
		}
	}
	return all
}

// What resources besides those of /v2/ answer.
const (
	reads            = "GET, HEAD"
	tokenMethods     = "GET, POST"
	signatureMethods = "GET, HEAD, PUT"
)

// route is a path of the API, taken apart. No pattern of a mux can say /v2/<name>/…, because a name has slashes.
type route struct {
	kind kind
	name ref.Name // zero for kinds without a repository
	last string   // reference, digest or upload id, as it came
}

// parseRoute takes apart a path below /v2/. raw is the path as it came, before percent-decoding.
func parseRoute(path, raw string) (route, error) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		if path == "/v2" {
			return route{kind: kindBase}, nil
		}
		return route{}, noRoute(path)
	}
	// An encoded slash would be part of a name for one reader and a separator for another.
	if raw != "" && strings.Contains(strings.ToLower(raw), "%2f") {
		return route{}, fault.New(fault.Invalid, fault.NameInvalid, "path has an encoded slash; write the slashes of a repository name as they are")
	}
	switch rest {
	case "":
		return route{kind: kindBase}, nil
	case "_catalog":
		return route{kind: kindCatalog}, nil
	case "_oci/ext/discover":
		return route{kind: kindExtensions}, nil
	}
	rt, name := suffix(rest)
	if rt.kind == kindNone {
		return route{}, noRoute(path)
	}
	var err error
	rt.name, err = ref.ParseName(name)
	return rt, err
}

// suffix finds what follows the name; the name may itself contain parts such as tags or blobs, so it looks from the end.
func suffix(rest string) (rt route, name string) {
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return route{kind: kindTags}, name
	}
	if name, ok := strings.CutSuffix(rest, "/_oci/ext/discover"); ok {
		return route{kind: kindExtensions}, name
	}
	if name, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), "/blobs/uploads"); ok {
		return route{kind: kindUploads}, name
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return route{}, ""
	}
	head, last := rest[:i], rest[i+1:]
	for _, c := range [...]struct {
		suffix string
		kind   kind
	}{{"/manifests", kindManifest}, {"/blobs/uploads", kindUpload}, {"/blobs", kindBlob}, {"/referrers", kindReferrers}} {
		if name, ok := strings.CutSuffix(head, c.suffix); ok {
			return route{kind: c.kind, last: last}, name
		}
	}
	return route{}, ""
}

func noRoute(path string) error {
	return fault.New(fault.NotFound, fault.NameUnknown, "path %.200q is not part of the registry API", path)
}
