package adminapi

import (
	"io"
	"net/http"
	"strconv"

	"github.com/berth-registry/berth/api"
)

func documentRoutes() []route {
	return []route{
		{id: "getDocument", method: http.MethodGet, pattern: "openapi.yaml", needs: everybody, serve: (*call).document},
	}
}

// document answers with the contract, byte for byte as it is in the source.
func (c *call) document() error {
	text := api.OpenAPI()
	h := c.w.Header()
	h.Set("Content-Type", "application/yaml")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(c.w, text)
	return nil
}
