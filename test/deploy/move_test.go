package deploy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// awsCopy stands for the one command of the AWS client that the documentation uses: it signs and sends a PUT.
const awsCopy = `#!/bin/sh
set -eu
[ "$1 $2 $3" = "s3 cp --no-progress" ]
exec curl -sf -o /dev/null -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 aws:amz:us-east-1:s3 --user "$S3_KEYS" -T "$4" "$S3_ADDR/${5#s3://}"
`

// From one machine to replicas, with the commands of docs/operate/ha.md: what was pushed to SQLite and files is pulled from
// PostgreSQL and a bucket, with the password of before.
func TestMove(t *testing.T) {
	t.Parallel()
	curl := peer(t, "curl")
	data := t.TempDir()
	old := testkit.Start(t, testkit.Options{Data: data, Env: []string{"BERTH_ADMIN_PASSWORD=" + adminPassword, "BERTH_ANONYMOUS=none"}})
	before := docker{http: &http.Client{Timeout: time.Minute}, base: old.URL}
	const images = 3
	for n := range images {
		before.pushPull(t, "team/app", fmt.Sprint(n), 1<<20)
	}

	versitygw, bucket, port := peer(t, "versitygw"), t.TempDir(), testkit.FreePort(t)
	if err := os.Mkdir(filepath.Join(bucket, "berth"), 0o755); err != nil {
		t.Fatal(err)
	}
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", port)
	startS3(t, []string{"/bin/sh", "-c", fmt.Sprintf("ROOT_ACCESS_KEY=key ROOT_SECRET_KEY=secret exec versitygw --port 127.0.0.1:%d --health /healthz posix %s", port, bucket)},
		filepath.Dir(versitygw), bucket, endpoint+"/healthz")
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "aws"), []byte(awsCopy), 0o755); err != nil {
		t.Fatal(err)
	}
	_, commands, found := strings.Cut(read(t, tree+"/docs/operate/ha.md"), "cd /var/lib/berth ")
	if !found {
		t.Fatal("ha.md has no commands that copy the content")
	}
	commands, _, _ = strings.Cut("cd /var/lib/berth "+commands, "```")
	copyContent := func() {
		command{env: []string{"PATH=" + bin + ":" + filepath.Dir(curl) + ":/bin", "S3_KEYS=key:secret", "S3_ADDR=" + endpoint}}.run(t, "/bin/sh", "-euc", adapt(t, commands, "/var/lib/berth", data))
	}
	copyContent() // while the old one serves
	before.pushPull(t, "team/app", "late", 1<<20)
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	copyContent()
	database := testkit.Postgres(t)
	command{}.run(t, testkit.BuildBerthd(t), "db", "copy", "--from", "sqlite:"+filepath.Join(data, "berth.db"), "--to", database)

	env := []string{"BERTH_ANONYMOUS=none", "REGISTRY_STORAGE_S3_BUCKET=berth", "REGISTRY_STORAGE_S3_REGION=us-east-1", "REGISTRY_STORAGE_S3_REGIONENDPOINT=" + endpoint,
		"REGISTRY_STORAGE_S3_FORCEPATHSTYLE=true", "REGISTRY_STORAGE_S3_ACCESSKEY=key", "REGISTRY_STORAGE_S3_SECRETKEY=secret", "REGISTRY_STORAGE_REDIRECT_DISABLE=true"}
	for range 2 {
		d := testkit.Start(t, testkit.Options{Database: database, Env: env})
		after := docker{http: &http.Client{Timeout: time.Minute}, base: d.URL}
		token, _ := after.login(t, "team/app")
		for _, tag := range []string{"0", "1", "2", "late"} {
			_, manifest := after.call(t, token, http.MethodGet, "/v2/team/app/manifests/"+tag, nil, "", http.StatusOK)
			digest := layerOf(t, manifest)
			if _, layer := after.call(t, token, http.MethodGet, "/v2/team/app/blobs/"+digest, nil, "", http.StatusOK); digestOf(layer) != digest {
				t.Errorf("layer %s of %s has digest %s", digest, tag, digestOf(layer))
			}
		}
		after.pushPull(t, "team/app", "new", 1<<20)
	}
}
