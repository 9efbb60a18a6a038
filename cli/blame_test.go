package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flip changes a byte of a file.
func flip(t *testing.T, name string) {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(name, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A local image with wrong bytes, by whatever road it goes: what is wrong is said with the place and both digests, and what helps. The words of
// the library are not seen.
func TestDamagedLocalImages(t *testing.T) {
	dir, _ := sandbox(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := writeImage(at("img"), "a"); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := berth(t, "copy", "oci:"+at("img")+":v1", "dir:"+at("folder")); code != 0 {
		t.Fatal(errs)
	}
	var layer string // of the image
	entries, err := os.ReadDir(at("folder"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if body, err := os.ReadFile(at("folder/" + e.Name())); err == nil && strings.HasPrefix(string(body), "\x1f\x8b") {
			layer = e.Name()
		}
	}
	clone := func(from, name string, change func(file string)) string {
		if err := os.CopyFS(at(name), os.DirFS(at(from))); err != nil {
			t.Fatal(err)
		}
		file := at(name + "/" + layer)
		if from == "img" {
			file = at(name + "/blobs/sha256/" + layer)
		}
		change(file)
		return at(name)
	}
	damage := func(file string) { flip(t, file) }
	remove := func(file string) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	archive := func(name string, members ...member) string {
		if err := os.WriteFile(at(name), tarOf(t, members...), 0o644); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	wrongLayer, noLayer, wrongConfig := saved(t), saved(t), saved(t)
	config := strings.TrimSuffix(wrongLayer[0].name, ".json")
	diff := sum(wrongLayer[1].body)
	wrongLayer[1].body = append([]byte(nil), wrongLayer[1].body...)
	wrongLayer[1].body[700] ^= 1
	wrongConfig[0].body = append([]byte(nil), wrongConfig[0].body...)
	wrongConfig[0].body[0] ^= 1
	damaged := clone("img", "damaged", damage)
	for name, tc := range map[string]struct {
		from string
		says []string
	}{
		"a blob of a layout":             {"oci:" + damaged + ":v1", []string{"blob sha256:" + layer + " in " + damaged + " is damaged: its bytes have the digest sha256:"}},
		"a blob of an archive":           {"oci-archive:" + archive("damaged.tar", tree(t, damaged)...) + ":v1", []string{"blob sha256:" + layer, "damaged.tar is damaged: its bytes have the digest sha256:"}},
		"no blob in a layout":            {"oci:" + clone("img", "lacking", remove) + ":v1", []string{"lacks the blob sha256:" + layer}},
		"a file of a folder":             {"dir:" + clone("folder", "wrongfolder", damage), []string{at("wrongfolder/"+layer) + " is damaged: its bytes have the digest sha256:", "and should have sha256:" + layer}},
		"a short file of a folder":       {"dir:" + clone("folder", "shortfolder", func(f string) { _ = os.Truncate(f, 100) }), []string{at("shortfolder/"+layer) + " has 100 bytes; its descriptor says"}},
		"no file in a folder":            {"dir:" + clone("folder", "emptyfolder", remove), []string{"lacks the blob sha256:" + layer}},
		"a layer of docker save":         {"docker-archive:" + archive("wronglayer.tar", wrongLayer...), []string{`layer 1 ("layer.tar") in the archive`, "its bytes have the digest sha256:" + sum(wrongLayer[1].body), "says sha256:" + diff}},
		"no layer in docker save":        {"docker-archive:" + archive("nolayer.tar", noLayer[0], noLayer[2]), []string{`lacks the layer "layer.tar"`}},
		"a configuration of docker save": {"docker-archive:" + archive("wrongconfig.tar", wrongConfig...), []string{"configuration", config, "its bytes have the digest sha256:" + sum(wrongConfig[0].body)}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, to := range []string{"dir:" + filepath.Join(t.TempDir(), "to"), "docker-archive:" + filepath.Join(t.TempDir(), "to.tar") + ":x:v1", "oci:" + filepath.Join(t.TempDir(), "to") + ":v1"} {
				code, _, errs := berth(t, "copy", "-q", tc.from, to)
				for _, want := range append(tc.says, "error: cannot copy", "  why:  ", "  fix:  bring it here again") {
					if code == 0 || !strings.Contains(errs, want) {
						t.Errorf("to %s: %d, without %q:\n%s", to, code, want, errs)
					}
				}
			}
		})
	}
}
