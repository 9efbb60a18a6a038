package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// The two container files end in the same image; only where its files come from differs.
func TestContainerfilesAgree(t *testing.T) {
	image := func(name string) string {
		_, image, found := strings.Cut(read(t, tree+"/deploy/container/"+name), "# --- the image")
		if !found {
			t.Fatalf("%s has no line about the image", name)
		}
		return image
	}
	built := strings.ReplaceAll(strings.ReplaceAll(image("Containerfile"), "--from=stage ", ""), " /stage/", " ")
	if prebuilt := image("Containerfile.prebuilt"); built != prebuilt {
		t.Errorf("Containerfile:\n%s\nContainerfile.prebuilt:\n%s", built, prebuilt)
	}
}

// podman with images and containers of its own. Its flags let it run where control groups and limits are not ours.
type podman struct {
	command
	bin   string
	flags []string
}

func newPodman(t *testing.T, program string) podman {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Missing(t, "%s is run as root here", program)
	}
	home, err := os.MkdirTemp("", "deploy") // --runroot may have 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	p := podman{bin: peer(t, program), flags: []string{"--root", home + "/storage", "--runroot", home + "/run", "--storage-driver", "vfs"}}
	return p
}

func (p podman) do(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(p.run(t, p.bin, append(p.flags, args...)...))
}

// The image as it is used: read-only, without capabilities, as a user without a name, and under the restrictions of the
// systemd unit; pushed to and pulled from, asked for its health, and stopped.
func TestContainer(t *testing.T) {
	testkit.RequireDisk(t, os.TempDir(), 2<<30)
	stage := t.TempDir()
	command{}.run(t, tree+"/deploy/container/stage.sh", testkit.BuildBerthd(t), stage)
	buildah := newPodman(t, "buildah")
	buildah.do(t, "build", "--format", "docker", "--isolation", "chroot", "--build-arg", "VERSION=1.2.3", "--tag", "localhost/berth:test",
		"--file", tree+"/deploy/container/Containerfile.prebuilt", stage)

	p := buildah
	p.bin = peer(t, "podman")
	p.flags = append(p.flags, "--tmpdir", filepath.Dir(p.flags[1])+"/libpod", "--events-backend", "none", "--cgroup-manager", "cgroupfs", "--runtime", peer(t, "runc"))
	var images []struct {
		Config struct {
			User, StopSignal string
			Entrypoint       []string
			Volumes          map[string]any
			ExposedPorts     map[string]any
			Labels           map[string]string
		}
		Healthcheck struct{ Test []string }
	}
	if err := json.Unmarshal([]byte(p.do(t, "image", "inspect", "localhost/berth:test")), &images); err != nil {
		t.Fatal(err)
	}
	c := images[0].Config
	if _, there := c.Volumes["/var/lib/registry"]; !there || c.User != "65532:65532" || c.Labels["org.opencontainers.image.version"] != "1.2.3" || len(images[0].Healthcheck.Test) != 3 {
		t.Errorf("%+v", images[0])
	}

	addr := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	password := write(t, filepath.Join(t.TempDir(), "password"), adminPassword)
	id := p.do(t, "run", "--detach", "--network", "host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096",
		"--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", "seccomp="+profile(t),
		"--env", "BERTH_ADDR="+addr, "--env", "BERTH_ADMIN_PASSWORD_FILE=/run/secrets/password", "--env", "BERTH_ANONYMOUS=none",
		"--volume", password+":/run/secrets/password:ro", "localhost/berth:test")
	t.Cleanup(func() {
		if t.Failed() {
			_, log, _ := p.try(t, p.bin, append(p.flags, "logs", id)...)
			t.Logf("log of the container:\n%s", log)
		}
		p.do(t, "rm", "--force", "--volumes", id)
	})
	awaitReady(t, "http://"+addr)

	if out := p.do(t, "exec", id, "/berthd", "healthcheck"); !strings.Contains(out, `"status":"ok"`) {
		t.Errorf("healthcheck: %s", out)
	}
	client := docker{http: &http.Client{Timeout: time.Minute}, base: "http://" + addr}
	client.pushPull(t, "team/app", "1", 8<<20)
	status := read(t, "/proc/"+p.do(t, "inspect", "--format", "{{.State.Pid}}", id)+"/status")
	for _, line := range []string{"Uid:\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		wants(t, status, line)
	}

	p.do(t, "stop", "--time", "30", id)
	if code := p.do(t, "inspect", "--format", "{{.State.ExitCode}}", id); code != "0" {
		t.Errorf("exit code %s after a stop", code)
	}
	p.do(t, "start", id)
	awaitReady(t, "http://"+addr)
	token, _ := client.login(t, "team/app")
	client.call(t, token, http.MethodGet, "/v2/team/app/manifests/1", nil, "", http.StatusOK)
}

func awaitReady(t *testing.T, base string) {
	t.Helper()
	awaitStatus(t, base+"/readyz", http.StatusOK)
}

// awaitStatus asks until the address answers with the status.
func awaitStatus(t *testing.T, address string, status int) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(address)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == status {
				return
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not %d after 20 s: %v", address, status, err)
		}
	}
}
