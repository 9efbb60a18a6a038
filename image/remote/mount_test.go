package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// A mount that the registry does not make leaves a session, and that one is used; of several only the last is left open. One that is
// refused is no reason not to try the next.
func TestMountsThatFail(t *testing.T) {
	body := []byte("a layer")
	d := oci.Descriptor{Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	for name, tc := range map[string]struct {
		answers map[string]int // by repository
		from    []string
		want    remote.Outcome
		asked   []string
	}{
		"accepted":          {map[string]int{"a": 202}, []string{"a"}, remote.Sent, []string{"POST a", "PUT a"}},
		"the second has it": {map[string]int{"a": 202, "b": 201}, []string{"a", "b"}, remote.Mounted, []string{"POST a", "POST b", "DELETE a"}},
		"none has it":       {map[string]int{"a": 202, "b": 202}, []string{"a", "b"}, remote.Sent, []string{"POST a", "POST b", "DELETE a", "PUT b"}},
		"denied":            {map[string]int{"a": 403, "b": 201}, []string{"a", "b"}, remote.Mounted, []string{"POST a", "POST b"}},
		"not understood":    {map[string]int{"a": 400, "b": 201}, []string{"a", "b"}, remote.Sent, []string{"POST a", "POST ", "PUT "}},
		"no repository":     {map[string]int{"a": 404}, []string{"a"}, remote.Sent, []string{"POST a", "POST ", "PUT "}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodPost:
					from := r.URL.Query().Get("from")
					asked = append(asked, "POST "+from)
					code := tc.answers[from]
					if from == "" {
						code = http.StatusAccepted
					}
					w.Header().Set("Location", "/session/"+from)
					w.WriteHeader(code)
				case http.MethodDelete, http.MethodPut:
					asked = append(asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/session/"))
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(map[string]int{http.MethodDelete: http.StatusNoContent, http.MethodPut: http.StatusCreated}[r.Method])
				}
			})
			c := client(remote.Options{})
			var from []ref.Name
			for _, f := range tc.from {
				n, err := ref.ParseName(f)
				if err != nil {
					t.Fatal(err)
				}
				from = append(from, n)
			}
			to, err := ref.ParseName("team/app")
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Repository(s.host, to).PutBlob(t.Context(), d, from, func(context.Context, int64) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(body)), nil
			})
			if err != nil || got != tc.want || !slices.Equal(asked, tc.asked) {
				t.Errorf("%v, %v, asked %v", got, err, fmt.Sprintf("%q", asked))
			}
		})
	}
}
