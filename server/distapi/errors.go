package distapi

import (
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
)

// Problem is the table that says how a failure looks to a client of the distribution API. Clients read the code from a
// closed list: what they do not know, podman retries and docker shows as "unknown". So finer reasons keep their place in
// the detail, and the code is one of the specification's.
//
// A conflict is over in a moment and no status of the specification says so. 409 is shown as a failure by every client,
// and an unknown code with it makes podman push the manifest again in other formats; 429 with Retry-After is what they
// all wait for and repeat. Only a second writer of one upload is told 416, the specification's answer to chunks that do
// not come one after the other: its client asks for the status and goes on from there.
//
// Spec: OCI distribution v1.1.1, "Error Codes".
func Problem(f *fault.Error) httpd.Problem {
	p := httpd.DefaultProblem(f)
	if f.Kind == fault.Conflict {
		if f.Reason == fault.BlobUploadInvalid {
			return httpd.Problem{Status: http.StatusRequestedRangeNotSatisfiable, Code: string(fault.BlobUploadInvalid)}
		}
		return httpd.Problem{Status: http.StatusTooManyRequests, Code: string(fault.TooManyRequests)}
	}
	switch f.Reason {
	case fault.TagInvalid: // podman answers TAG_INVALID by pushing other formats of the manifest
		p.Code = string(fault.ManifestInvalid)
	case fault.RangeInvalid:
		p.Code = string(fault.BlobUploadInvalid)
	}
	if p.Status >= 400 && p.Status < 500 && !standard(p.Code) {
		p.Code = string(fault.UnsupportedReason)
	}
	return p
}

func standard(code string) bool {
	switch fault.Reason(code) {
	case fault.BlobUnknown, fault.BlobUploadInvalid, fault.BlobUploadUnknown, fault.DigestInvalid, fault.ManifestBlobUnknown,
		fault.ManifestInvalid, fault.ManifestUnknown, fault.NameInvalid, fault.NameUnknown, fault.SizeInvalid,
		fault.UnauthorizedReason, fault.DeniedReason, fault.UnsupportedReason, fault.TooManyRequests:
		return true
	}
	return false
}
