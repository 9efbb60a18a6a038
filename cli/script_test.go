package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/internal/testkit"
)

// password is the admin's of the guarded registry.
const password = "script-9RtB-Kd2x"

// TestMain makes this test binary be berth when a script calls it so: the real tool, in a process of its own.
func TestMain(m *testing.M) {
	run := func() { os.Exit(cli.Main(os.Args, cli.Process())) }
	testscript.Main(m, map[string]func(){"berth": run, "skopeo": run, "crane": run, "podman": run, "buildah": run})
}

// TestScript runs testdata/script/*.txt, one file per command, against two real berthd: $OPEN lets anybody do
// everything, $GUARDED lets anybody pull and knows admin with $PASSWORD. Both certificates are trusted in $HOME. Every
// script has repositories of its own below $OPEN/$REPO. Beside the commands of testscript there are:
//
//	image DIR [SEED]     writes an OCI layout with one image of two layers and the tag v1; SEED makes it another one
//	push DIR REPO:TAG    puts it into $OPEN, not by berth
//	referrer REPO:TAG TYPE  puts something into $OPEN that refers to an image there
//	read NAME            sets $NAME to what the last command printed
//	expand FROM TO       copies a file with its variables replaced
//	damage DIR           changes a byte of the first layer of an OCI layout
//	exits CODE PROGRAM ARGS   runs a program that has to end with this exit code
//	needs PROGRAM        skips the script (fails it in CI) on a machine without the program
func TestScript(t *testing.T) {
	open := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}})
	guarded := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ADMIN_PASSWORD=" + password}})
	certificates := map[string][]byte{host(open): ca(t, open), host(guarded): ca(t, guarded)}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			for host, pem := range certificates {
				dir := filepath.Join(home, ".config", "containers", "certs.d", host)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, "ca.crt"), pem, 0o644); err != nil {
					return err
				}
			}
			for name, value := range map[string]string{
				"HOME": home, "XDG_RUNTIME_DIR": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"), "XDG_CACHE_HOME": filepath.Join(home, ".cache"),
				"OPEN": host(open), "GUARDED": host(guarded), "PASSWORD": password, "LANG": "C.UTF-8", "OPENDATA": open.Data,
				"BERTH_BLOB_CACHE_DIR": filepath.Join(home, "cache"),
				"GORACE":               "atexit_sleep_ms=50", // the race detector's own is a second, at the end of each command
				"REPO":                 "script/" + strings.ToLower(strings.ReplaceAll(filepath.Base(env.WorkDir), "script-", "")),
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"image": func(ts *testscript.TestScript, _ bool, args []string) {
				seed := "a"
				if len(args) > 1 {
					seed = args[1]
				}
				ts.Check(writeImage(ts.MkAbs(args[0]), seed))
			},
			"push": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(pushImage(ts.MkAbs(args[0]), strings.TrimPrefix(open.URL, "http://")+"/"+args[1]))
			},
			"referrer": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(pushReferrer(strings.TrimPrefix(open.URL, "http://")+"/"+args[0], args[1]))
			},
			"read": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
			"expand": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o644))
			},
			"damage": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(damageLayout(ts.MkAbs(args[0])))
			},
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				var exit *exec.ExitError
				code := 0
				if errors.As(err, &exit) {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if fmt.Sprint(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			"needs": func(ts *testscript.TestScript, _ bool, args []string) {
				if _, err := exec.LookPath(args[0]); err != nil {
					testkit.Missing(t, "%s is not installed (run test/setup/setup.sh)", args[0])
				}
			},
		},
	})
}

func host(d *testkit.Daemon) string {
	_, port, _ := strings.Cut(d.Addr, ":")
	return "localhost:" + port
}

func ca(t *testing.T, d *testkit.Daemon) []byte {
	t.Helper()
	resp, err := http.Get(d.URL + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return b.Bytes()
}

// pushImage sends the image of a layout to a registry on loopback, by a client that is not ours.
func pushImage(dir, to string) error {
	path, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(to, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, image)
}

// pushReferrer attaches an artifact to an image in a registry on loopback, by a client that is not ours.
func pushReferrer(to, artifactType string) error {
	at, err := name.ParseReference(to, name.Insecure)
	if err != nil {
		return err
	}
	subject, err := remote.Head(at)
	if err != nil {
		return err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(artifactType))
	artifact, ok := mutate.Subject(img, *subject).(v1.Image)
	if !ok {
		return fmt.Errorf("%T is no image", artifact)
	}
	digest, err := artifact.Digest()
	if err != nil {
		return err
	}
	return remote.Write(at.Context().Digest(digest.String()), artifact)
}

// writeImage makes an OCI layout: two layers of files, a configuration with the label seed, the tag v1.
func writeImage(dir, seed string) error {
	return writeImageOf(dir, seed, func(i int) string { return strings.Repeat(fmt.Sprintf("%s %d\n", seed, i), 2000) })
}

// writeImageOf is writeImage with other files.
func writeImageOf(dir, seed string, content func(i int) string) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	put := func(content []byte) (map[string]any, error) {
		sum := sha256.Sum256(content)
		hexed := hex.EncodeToString(sum[:])
		return map[string]any{"digest": "sha256:" + hexed, "size": len(content)}, os.WriteFile(filepath.Join(blobs, hexed), content, 0o644)
	}
	var layers []any
	var diffs []string
	for i := range 2 {
		plain := layer(fmt.Sprintf("etc/%s-%d", seed, i), content(i))
		sum := sha256.Sum256(plain)
		diffs = append(diffs, "sha256:"+hex.EncodeToString(sum[:]))
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(plain)
		_ = z.Close()
		d, err := put(zipped.Bytes())
		if err != nil {
			return err
		}
		d["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
		layers = append(layers, d)
	}
	config, err := put(encode(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config":  map[string]any{"Env": []string{"PATH=/bin", "SEED=" + seed}, "Labels": map[string]string{"seed": seed}, "Cmd": []string{"/bin/app"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffs},
		"history": []any{map[string]any{"created": "2026-01-02T03:04:05Z", "created_by": "one"}, map[string]any{"created": "2026-01-02T03:04:05Z", "created_by": "two"}},
	}))
	if err != nil {
		return err
	}
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	manifest, err := put(encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}))
	if err != nil {
		return err
	}
	manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": "v1"}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func layer(name, content string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0)})
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	return b.Bytes()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// damageLayout changes a byte of a layer of a layout.
func damageLayout(dir string) error {
	path, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	image, err := path.Image(m.Manifests[0].Digest)
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "blobs", "sha256", manifest.Layers[0].Digest.Hex)
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	body[len(body)/2] ^= 1
	return os.WriteFile(file, body, 0o644)
}
