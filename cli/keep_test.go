//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
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
