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
// Spec: OCI distribution v1.1.1, "Error Codes".
func Problem(f *fault.Error) httpd.Problem {
	p := httpd.DefaultProblem(f)
	switch f.Reason {
	case fault.TagInvalid: // podman answers TAG_INVALID by pushing other formats of the manifest
		p.Code = string(fault.ManifestInvalid)
	case fault.RangeInvalid:
		p.Code = string(fault.BlobUploadInvalid)
	case fault.PaginationInvalid:
		p.Code = string(fault.Unknown)
	}
	if p.Status >= 400 && p.Status < 500 && !standard(p.Code) {
		p.Code = string(fault.UnsupportedReason)
	}
	if f.Kind == fault.Conflict { // a client can only try again, and 409 on a manifest makes podman convert it
		p.Status = http.StatusNotFound
		if f.Reason == fault.BlobUploadInvalid {
			p.Status = http.StatusRequestedRangeNotSatisfiable
		}
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
