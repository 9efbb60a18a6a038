package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/internal/testkit"
)

// object is a manifest as far as these tests look into it.
type object struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct{ Spec pod } // of a workload
		Pod      pod                `yaml:",inline"` // of a pod
	}
}

type pod struct {
	AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
	TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []map[string]any
}

type container struct {
	Name, Image     string
	Env             []struct{ Name, Value string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	Resources struct{ Limits map[string]string }
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
}

// cases are the values that the chart is tried with.
func cases(t *testing.T) (files []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

func render(t *testing.T, values string, args ...string) string {
	t.Helper()
	return command{}.run(t, peer(t, "helm"), append([]string{"template", "berth", chart, "--namespace", "berth", "--values", values}, args...)...)
}

func objects(t *testing.T, manifests string) (list []object) {
	t.Helper()
	for doc := range strings.SplitSeq(manifests, "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(strings.TrimPrefix(doc, "---\n")), &o); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if o.Kind != "" {
			list = append(list, o)
		}
	}
	return list
}

func TestChart(t *testing.T) {
	helm, known := peer(t, "helm"), strict(t)
	for _, values := range cases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(values), ".yaml"), func(t *testing.T) {
			command{}.run(t, helm, "lint", "--strict", chart, "--values", values)
			manifests := render(t, values)
			command{stdin: strings.NewReader(manifests)}.run(t, known, "kubernetes")

			workloads := 0
			for _, o := range objects(t, manifests) {
				switch o.Kind {
				case "Deployment", "StatefulSet":
					workloads++
					restricted(t, o.Spec.Template.Spec)
					drains(t, o.Spec.Template.Spec)
				case "Pod":
					restricted(t, o.Spec.Pod)
				}
			}
			if workloads != 1 {
				t.Errorf("%d workloads, want one", workloads)
			}
			accepted(t, manifests)
		})
	}
	t.Run("everything is tried", func(t *testing.T) {
		all := ""
		for _, values := range cases(t) {
			all += render(t, values)
		}
		templates, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range templates {
			wants(t, all, "# Source: berth/templates/"+filepath.Base(file))
		}
	})
}

// restricted checks what the profile "restricted" of the Pod Security Standards asks for, and a read-only root.
func restricted(t *testing.T, p pod) {
	t.Helper()
	if !p.SecurityContext.RunAsNonRoot || p.SecurityContext.SeccompProfile.Type != "RuntimeDefault" || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
		t.Errorf("pod: %+v", p)
	}
	if len(p.Containers) == 0 {
		t.Fatal("no containers")
	}
	for _, c := range p.Containers {
		s := c.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || c.Resources.Limits["memory"] == "" {
			t.Errorf("container %s: %+v", c.Name, c)
		}
	}
	for _, v := range p.Volumes {
		if v["hostPath"] != nil {
			t.Errorf("volume of the node: %v", v)
		}
	}
}

// drains checks that Kubernetes waits longer than berthd needs.
func drains(t *testing.T, p pod) {
	t.Helper()
	const draintimeout = 25 // of the values
	if sleep := p.Containers[0].Lifecycle.PreStop.Sleep.Seconds; sleep == 0 || p.TerminationGracePeriodSeconds < sleep+draintimeout+5 {
		t.Errorf("grace period %d s, pre-stop %d s, drain %d s", p.TerminationGracePeriodSeconds, sleep, draintimeout)
	}
}

// accepted lets berthd check the configuration of the pod, with its environment, and files where it expects them.
func accepted(t *testing.T, manifests string) {
	t.Helper()
	root := t.TempDir()
	here := strings.NewReplacer("/run/secrets/berth", root+"/secrets", "/etc/berth", root, "/var/lib/registry", root+"/data").Replace
	for name, text := range map[string]string{
		"database-url": "postgres://berth@db.example.com/berth", "admin-password": "moon-Wharf-12-kite", "s3-accesskey": "a", "s3-secretkey": "b",
	} {
		write(t, filepath.Join(root, "secrets", name), text)
	}
	makeCertificate(t, root+"/tls/tls.crt", root+"/tls/tls.key")
	env := []string(nil)
	for _, o := range objects(t, manifests) {
		switch o.Kind {
		case "ConfigMap":
			write(t, filepath.Join(root, "berth.yml"), here(o.Data["berth.yml"]))
		case "Deployment", "StatefulSet":
			for _, e := range o.Spec.Template.Spec.Containers[0].Env {
				env = append(env, e.Name+"="+here(e.Value))
			}
		}
	}
	out := command{env: env}.run(t, testkit.BuildBerthd(t), "config", "check")
	if !strings.HasSuffix(out, "ok\n") || strings.Contains(out, "warning") {
		t.Errorf("config check:\n%s", out)
	}
	printed := command{env: env}.run(t, testkit.BuildBerthd(t), "config", "print")
	wants(t, printed, "addr:", "5000", "draintimeout: 25s", "registry.example.com")
	if strings.Contains(printed, "moon-Wharf") {
		t.Error("a secret is printed")
	}
}

// Values that cannot work are refused before they reach a cluster, with what to do.
func TestChartRefuses(t *testing.T) {
	replicated := filepath.Join(chart, "ci", "replicated-s3.yaml")
	standalone := filepath.Join(chart, "ci", "standalone.yaml")
	for name, c := range map[string]struct {
		values string
		set    []string
		want   string
	}{
		"no host":                   {values: write(t, filepath.Join(t.TempDir(), "none.yaml"), "{}"), want: "host"},
		"an unknown value":          {values: replicated, set: []string{"replica=3"}, want: "replica"},
		"a value of another kind":   {values: replicated, set: []string{"replicas=three"}, want: "replicas"},
		"a URL as host":             {values: replicated, set: []string{"host=https://registry.example.com"}, want: "host"},
		"another mode":              {values: replicated, set: []string{"mode=cluster"}, want: "mode"},
		"replicas without database": {values: replicated, set: []string{"database.existingSecret="}, want: "database.existingSecret is not set"},
		"replicas without password": {values: replicated, set: []string{"admin.existingSecret="}, want: "admin.existingSecret is not set"},
		"replicas on own disks":     {values: replicated, set: []string{"storage.driver=filesystem"}, want: "storage.existingClaim is not set"},
		"replicas without TLS":      {values: replicated, set: []string{"trustedProxies=null", "ingress.enabled=false"}, want: "neither tls.existingSecret nor trustedProxies"},
		"replicas of one volume":    {values: standalone, set: []string{"replicas=2"}, want: "mode standalone: replicas is 2"},
		"scaling of one volume":     {values: standalone, set: []string{"autoscaling.enabled=true"}, want: "mode standalone: autoscaling.enabled is set"},
		"no bucket":                 {values: replicated, set: []string{"storage.s3.bucket="}, want: "storage.s3.bucket is not set"},
		"route without a gateway":   {values: replicated, set: []string{"httpRoute.enabled=true"}, want: "httpRoute.parentRefs is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"template", "berth", chart, "--values", c.values}
			for _, set := range c.set {
				args = append(args, "--set", set)
			}
			wants(t, command{}.refused(t, peer(t, "helm"), args...), c.want)
		})
	}
}

// The plain manifests are the chart, rendered: what is for Helm only is taken out.
func TestPlainManifests(t *testing.T) {
	known := strict(t)
	for file, values := range map[string]string{"standalone.yaml": "standalone.yaml", "replicated.yaml": "replicated-s3.yaml"} {
		t.Run(file, func(t *testing.T) {
			head := "# " + map[string]string{
				"standalone.yaml": "berth as one pod with its own disk.",
				"replicated.yaml": "berth as three replicas on PostgreSQL and S3, behind an ingress controller.",
			}[file] + " Made from the chart by `go test ./test/deploy -update`:\n" +
				"# deploy/helm/berth/ci/" + values + " has the values. Read README.md beside it before you apply it.\n"
			want := head + plain(render(t, filepath.Join(chart, "ci", values), "--skip-tests"))
			path := filepath.Join(tree, "deploy", "kubernetes", file)
			if *update {
				write(t, path, want)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("%s is not what the chart gives; go test ./test/deploy -update writes it again", path)
			}
			command{stdin: strings.NewReader(want)}.run(t, known, "kubernetes")
			// What no secret of the README names would never start.
			readme := read(t, filepath.Join(tree, "deploy", "kubernetes", "README.md"))
			for _, name := range regexp.MustCompile(`secret: \{name: ([a-z0-9-]+)`).FindAllStringSubmatch(want, -1) {
				wants(t, readme, name[1])
			}
		})
	}
}

func plain(manifests string) string {
	var out strings.Builder
	for line := range strings.Lines(manifests) {
		if strings.HasPrefix(line, "# Source:") || strings.Contains(line, "helm.sh/chart:") || strings.Contains(line, "app.kubernetes.io/managed-by:") {
			continue
		}
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}
