//go:build unix

package cli_test

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Commands that only look at a registry, and delete, are defended as copies are: they end, in time, say what is wrong, and write
// nothing to the terminal that is more than text.
func TestLookingAtMisbehavingRegistries(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	if err := writeImage(image, "a"); err != nil {
		t.Fatal(err)
	}
	isManifest := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
	isTags := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/tags/list") }
	later := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	page := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><html><title>Please sign in</title></html>")
		return true
	}
	evil := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"no\u001b]0;title\u0007\u001b[2J\nerror: all is well\u009b31m"}]}`)
		return true
	}
	n := 0
	endless := func(w http.ResponseWriter, r *http.Request) bool {
		if !isTags(r) {
			return false
		}
		n++
		w.Header().Set("Link", fmt.Sprintf(`</v2/team/app/tags/list?last=%d>; rel="next"`, n))
		fmt.Fprintf(w, `{"name":"team/app","tags":["t%d"]}`, n)
		return true
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	for name, tc := range map[string]struct {
		does func(w http.ResponseWriter, r *http.Request) bool
		args []string // before the image
		tag  string
		text string
	}{
		"inspect, and hours to wait":       {later, []string{"inspect"}, ":v1", "try again in 600 seconds"},
		"list-tags, and hours to wait":     {later, []string{"list-tags"}, "", "try again in 600 seconds"},
		"delete, and hours to wait":        {later, []string{"delete"}, ":v1", "try again in 600 seconds"},
		"inspect of a web page":            {page, []string{"inspect"}, ":v1", "HTML page"},
		"list-tags of a web page":          {page, []string{"list-tags"}, "", "not the list"},
		"delete of a web page":             {page, []string{"delete"}, ":v1", "HTML page"},
		"inspect, and escapes":             {evil, []string{"inspect"}, ":v1", "no ]0;title"},
		"list-tags, and escapes":           {evil, []string{"list-tags"}, "", "no ]0;title"},
		"library copy, and escapes":        {evil, []string{"copy", "--format", "v2s2"}, ":v1", "title"},
		"list-tags that never end":         {endless, []string{"list-tags"}, "", "pages"},
		"inspect, and tags that never end": {endless, []string{"inspect"}, ":v1", "pages"},
		"inspect, and a digest that lies": {func(w http.ResponseWriter, r *http.Request) bool {
			if !isManifest(r) {
				return false
			}
			body, err := os.ReadFile(filepath.Join(image, "blobs", "sha256", (&wicked{dir: image}).manifest()))
			if err != nil {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", wrong)
			_, _ = w.Write(body)
			return true
		}, []string{"inspect"}, ":v1", "WRONG_DIGEST"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := registryOf(t, "127.0.0.1", image, tc.does)
			flag := "--tls-verify=false"
			args := append([]string{"--command-timeout", "90s"}, tc.args...)
			if tc.args[0] == "copy" {
				flag = "--src-tls-verify=false"
			}
			args = append(args, flag, "docker://"+reg.host()+"/team/app"+tc.tag)
			if tc.args[0] == "copy" {
				args = append(args, "dir:"+filepath.Join(dir, "folder"))
			}
			began := time.Now()
			code, out, errs := berth(t, args...)
			if code == 0 || !strings.Contains(errs, tc.text) || strings.Contains(errs, "goroutine ") {
				t.Errorf("exit code %d, want %q: %s", code, tc.text, errs)
			}
			if strings.ContainsAny(errs+out, "\x1b\x07\u009b") || strings.Contains(errs, "\nerror: all is well") {
				t.Errorf("what the registry said reached the terminal: %q", errs)
			}
			if took := time.Since(began); took > 60*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// Layers that are written unpacked are bounded and compared: a bomb is refused and leaves no archive, and so is an image whose
// layers are not those that its configuration names. What is as it says is written.
func TestUnpackedLayersAreGuarded(t *testing.T) {
	dir, _ := sandbox(t)
	layer := func(size int64) v1.Layer {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() {
				tw := tar.NewWriter(w)
				err := tw.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size})
				if err == nil {
					_, err = io.CopyN(tw, zeros{}, size)
				}
				if err == nil {
					err = tw.Close()
				}
				w.CloseWithError(err)
			}()
			return r, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	write := func(name string, img v1.Image) string {
		path, err := layout.Write(filepath.Join(dir, name), empty.Index)
		if err == nil {
			err = path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"}))
		}
		if err != nil {
			t.Fatal(err)
		}
		return "oci:" + filepath.Join(dir, name) + ":v1"
	}
	made := func(l v1.Layer, change func(*v1.ConfigFile)) v1.Image {
		img, err := mutate.AppendLayers(empty.Image, l)
		if err != nil {
			t.Fatal(err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.OS, file.Architecture = "linux", "amd64"
		change(file)
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		return img
	}
	same := func(*v1.ConfigFile) {}
	for name, tc := range map[string]struct {
		img  v1.Image
		text string // "" is success
	}{
		"sound":         {made(layer(1<<20), same), ""},
		"bomb":          {made(layer(300<<20), same), "unpack to more than"},
		"other content": {made(layer(1<<20), func(f *v1.ConfigFile) { f.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64) }), "the configuration says sha256:0000"},
	} {
		t.Run(name, func(t *testing.T) {
			from := write(strings.ReplaceAll(name, " ", "-"), tc.img)
			to := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".tar")
			code, _, errs := berth(t, "copy", from, "docker-archive:"+to)
			_, err := os.Stat(to)
			switch {
			case tc.text == "" && (code != 0 || err != nil):
				t.Errorf("exit code %d, %v: %s", code, err, errs)
			case tc.text != "" && (code == 0 || !strings.Contains(errs, tc.text)):
				t.Errorf("exit code %d, want %q: %s", code, tc.text, errs)
			case tc.text != "" && err == nil:
				t.Error("there is an archive")
			}
		})
	}
}

// zeros is a stream of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
