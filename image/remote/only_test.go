package remote_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
)

type reached struct{}

func (reached) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("reached") }

func TestOnly(t *testing.T) {
	only := remote.Only(reached{}, "registry.example.com", "Storage.example.com:9000", "[::1]:5000")
	for address, allowed := range map[string]bool{
		"https://registry.example.com/v2/":     true,
		"https://REGISTRY.example.com:443/v2/": true,
		"http://registry.example.com/v2/":      true, // the client follows no redirect from https to http
		"https://storage.example.com:9000/x":   true,
		"http://[::1]:5000/v2/":                true,
		"https://registry.example.com:8443/":   false,
		"https://storage.example.com/x":        false,
		"https://registry.example.com.evil/":   false,
		"https://a.registry.example.com/":      false,
		"http://169.254.169.254/latest/":       false,
		"http://[::1]/":                        false,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := only.RoundTrip(r)
		if resp != nil {
			_ = resp.Body.Close()
		}
		if refused := fault.Has(err, remote.ReasonRedirect); refused == allowed || err == nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
