package interop_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// newHelm returns helm with a home of its own and a flag that names the CA.
func newHelm(t testing.TB, r *registry) (helm *client, ca string) {
	t.Helper()
	helm = newClient(t, "helm")
	return helm, "--ca-file=" + writeFile(t, filepath.Join(helm.home, "ca.crt"), r.ca)
}

// helmChart packages a small chart and returns the archive.
func helmChart(t testing.TB, helm *client, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	writeFile(t, filepath.Join(dir, "Chart.yaml"),
		[]byte("apiVersion: v2\nname: hello\nversion: "+version+"\nappVersion: \"1\"\ndescription: says hello\n"))
	writeFile(t, filepath.Join(dir, "values.yaml"), []byte("greeting: hello\n"))
	writeFile(t, filepath.Join(dir, "templates", "configmap.yaml"),
		[]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hello}\ndata: {greeting: \"{{ .Values.greeting }}\"}\n"))
	out := t.TempDir()
	helm.run(t, "package", dir, "--destination", out)
	return filepath.Join(out, "hello-"+version+".tgz")
}

func TestHelmChart(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	helm, ca := newHelm(t, r)
	charts := "oci://" + r.host + "/charts"
	for _, version := range []string{"0.1.0", "0.2.0+build.7"} {
		pushed := helm.exec(t, nil, "push", helmChart(t, helm, version), charts, ca)
		if pushed.code != 0 {
			t.Fatal(pushed)
		}
		// A tag may not have a plus sign: helm writes it as an underscore.
		body, _, digest := r.manifest(t, "charts/hello", strings.ReplaceAll(version, "+", "_"))
		mustContain(t, pushed.String(), digest)
		mustContain(t, string(body), "application/vnd.cncf.helm.config.v1+json")
		mustContain(t, string(body), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
	}

	dir := t.TempDir()
	helm.run(t, "pull", charts+"/hello", "--version", "0.1.0", "--destination", dir, ca)
	if !isFile(filepath.Join(dir, "hello-0.1.0.tgz")) {
		t.Error("hello-0.1.0.tgz was not pulled")
	}
	// Without an exact version helm lists the tags and takes the newest that fits.
	mustContain(t, helm.run(t, "show", "chart", charts+"/hello", "--version", ">=0.1.0", ca), "version: 0.2.0+build.7")
	mustContain(t, helm.run(t, "template", charts+"/hello", "--version", "0.1.0", "--set", "greeting=moin", ca), "moin")

	// Over plain HTTP on loopback, as tutorials do.
	helm.run(t, "push", helmChart(t, helm, "0.3.0"), charts, "--plain-http")
	helm.run(t, "pull", charts+"/hello", "--version", "0.3.0", "--destination", dir, "--plain-http")
}
