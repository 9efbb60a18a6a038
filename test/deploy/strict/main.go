// Command strict reads what deploy/ has for other programs with the types of those programs: Kubernetes manifests with
// k8s.io/api and the Gateway API, a Compose file with the loader of docker compose. A field that they do not know is an
// error. It has a module of its own, so that those types never reach the module of berthd.
//
//	strict kubernetes < manifests.yaml     prints {"kind","name"} of each object, one in a line
//	strict compose compose.yaml            prints the project as JSON, with what the environment says put in
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "strict:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "kubernetes":
		return kubernetes(os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "compose":
		return compose(args[1], os.Stdout)
	}
	return errors.New("usage: strict kubernetes < FILE, strict compose FILE")
}

// ServiceMonitor has the fields of monitoring.coreos.com/v1 that the chart may use.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// kinds are the objects that deploy/ may have.
func kinds() map[string]func() any {
	return map[string]func() any{
		"v1 ConfigMap":                            func() any { return new(corev1.ConfigMap) },
		"v1 Pod":                                  func() any { return new(corev1.Pod) },
		"v1 Service":                              func() any { return new(corev1.Service) },
		"v1 ServiceAccount":                       func() any { return new(corev1.ServiceAccount) },
		"apps/v1 Deployment":                      func() any { return new(appsv1.Deployment) },
		"apps/v1 StatefulSet":                     func() any { return new(appsv1.StatefulSet) },
		"autoscaling/v2 HorizontalPodAutoscaler":  func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
		"networking.k8s.io/v1 Ingress":            func() any { return new(networkingv1.Ingress) },
		"networking.k8s.io/v1 NetworkPolicy":      func() any { return new(networkingv1.NetworkPolicy) },
		"policy/v1 PodDisruptionBudget":           func() any { return new(policyv1.PodDisruptionBudget) },
		"gateway.networking.k8s.io/v1 HTTPRoute":  func() any { return new(gatewayv1.HTTPRoute) },
		"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(serviceMonitor) },
	}
}

func kubernetes(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var errs []error
	for i, doc := range strings.Split("\n"+string(text), "\n---") {
		if bare(doc) {
			continue
		}
		head := struct {
			metav1.TypeMeta `json:",inline"`
			Metadata        metav1.ObjectMeta `json:"metadata"`
		}{}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", i, err))
			continue
		}
		make, known := kinds()[head.APIVersion+" "+head.Kind]
		if !known {
			errs = append(errs, fmt.Errorf("document %d: %s %s %q is not a kind this program knows", i, head.APIVersion, head.Kind, head.Metadata.Name))
			continue
		}
		// UnmarshalStrict also refuses a key that is there twice.
		if err := yaml.UnmarshalStrict([]byte(doc), make()); err != nil {
			errs = append(errs, fmt.Errorf("document %d: %s %s: %w", i, head.Kind, head.Metadata.Name, err))
			continue
		}
		line, err := json.Marshal(map[string]string{"kind": head.Kind, "name": head.Metadata.Name})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", line)
	}
	return errors.Join(errs...)
}

// bare reports whether a document has comments and space only.
func bare(doc string) bool {
	for line := range strings.Lines(doc) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

func compose(file string, out io.Writer) error {
	o, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv, cli.WithEnvFiles(), cli.WithDotEnv, cli.WithConsistency(true))
	if err != nil {
		return err
	}
	project, err := o.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	_, err = indented.WriteTo(out)
	return err
}
