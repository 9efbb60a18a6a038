// Package api is the contract of the management API: openapi.yaml, which berthd serves and its tests hold it to. Nothing
// is decided here; read the document.
package api

import _ "embed"

//go:embed openapi.yaml
var openAPI string

// OpenAPI is the text of openapi.yaml, an OpenAPI 3.1 document.
func OpenAPI() string { return openAPI }
