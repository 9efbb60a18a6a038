//go:build unix

package cli_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A folder is replaced when it is an image's, or has what an interrupted copy left there; a file called version does not make it one.
func TestFolderOfAnImage(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	if err := writeImage(image, "a"); err != nil {
		t.Fatal(err)
	}
	blob := strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		files map[string]string
		gone  bool // what was there
	}{
		"empty":                       {nil, true},
		"an image":                    {map[string]string{"version": "Directory Transport Version: 1.1\n", "manifest.json": "{}", blob: "old"}, true},
		"left by an interrupted copy": {map[string]string{blob: "old", "dir-put-blob12": "half", ".new-abc/dir-put-blob3": "half"}, true},
		"interrupted by skopeo":       {map[string]string{"version": "Directory Transport Version: 1.1\n", blob: "old"}, true},
		"a project":                   {map[string]string{"version": "1.2.3\n", "main.c": "work"}, false},
		"only a version":              {map[string]string{"version": "1.2.3\n"}, false},
		"a version to come":           {map[string]string{"version": "Directory Transport Version: 9.9\n", blob: "old"}, false},
		"other files":                 {map[string]string{blob: "old", "notes": "work"}, false},
		"the blobs of a layout":       {map[string]string{blob: "content", strings.Repeat("b", 64): "more"}, false},
		"a manifest alone":            {map[string]string{"manifest.json": "{}"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(dir, "out-"+strings.ReplaceAll(name, " ", "-"))
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
			for f, text := range tc.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(out, f)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(out, f), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			code, _, errs := berth(t, "copy", "oci:"+image, "dir:"+out)
			if (code == 0) != tc.gone {
				t.Errorf("exit code %d: %s", code, errs)
			}
			for f, text := range tc.files {
				got, err := os.ReadFile(filepath.Join(out, f))
				if same := err == nil && string(got) == text; same == tc.gone && f != "version" {
					t.Errorf("%s: %q, %v", f, got, err)
				}
			}
		})
	}
	// A folder that a failed copy made is not left behind.
	if code, _, _ := berth(t, "copy", "--format", "v2s2", "oci:"+image+":none", "dir:"+filepath.Join(dir, "none")); code == 0 {
		t.Error("an image that is not there was copied")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error("a failed copy leaves a folder")
	}
	// A sync goes on where it was interrupted, and writes over no image.
	reg := registryOf(t, "127.0.0.1", image, nil)
	synced := filepath.Join(dir, "synced", "app:v1")
	if err := os.MkdirAll(synced, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(synced, "dir-put-blob1"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	sync := []string{"sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", reg.host() + "/team/app:v1", filepath.Dir(synced)}
	if code, _, errs := berth(t, sync...); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs := berth(t, sync...); code == 0 || !strings.Contains(errs, "not written over") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// A layout keeps the names that others enter while the library copies into it, whether that succeeds or not.
func TestNamesEnteredMeanwhile(t *testing.T) {
	dir, _ := sandbox(t)
	image, other := filepath.Join(dir, "image"), filepath.Join(dir, "other")
	for at, seed := range map[string]string{image: "a", other: "b"} {
		if err := writeImage(at, seed); err != nil {
			t.Fatal(err)
		}
	}
	for name, fails := range map[string]bool{"done": false, "failed": true} {
		t.Run(name, func(t *testing.T) {
			out := "oci:" + filepath.Join(dir, name)
			if code, _, errs := berth(t, "copy", "oci:"+other, out+":before"); code != 0 {
				t.Fatal(errs)
			}
			var once sync.Once
			reg := registryOf(t, "127.0.0.1", image, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				once.Do(func() {
					if code, _, errs := berth(t, "copy", "oci:"+other, out+":meanwhile"); code != 0 {
						t.Error(errs)
					}
				})
				if fails {
					w.WriteHeader(http.StatusForbidden)
				}
				return fails
			})
			code, _, errs := berth(t, "copy", "--format", "v2s2", "--src-tls-verify=false", "docker://"+reg.host()+"/team/app:v1", out+":mine")
			if (code != 0) != fails {
				t.Errorf("exit code %d: %s", code, errs)
			}
			for tag, want := range map[string]bool{"before": true, "meanwhile": true, "mine": !fails} {
				if code, _, errs := berth(t, "digest", out+":"+tag); (code == 0) != want {
					t.Errorf("%s: exit code %d: %s", tag, code, errs)
				}
			}
		})
	}
}
