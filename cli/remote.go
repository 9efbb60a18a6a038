package cli

import (
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci/ref"
)

// parseRemote reads the name of an image in a registry, with docker:// before it or without: commands that know no other
// place take both, as cosign and skopeo do. Without tag and digest it is the tag latest.
func (a *app) parseRemote(name string) (reference.Named, error) {
	if t := transportOf(name); t != nil && !strings.HasPrefix(name, "docker://") {
		return nil, output.Usage(a.t("%s is not in a registry; this command works on docker:// only", "%s 不在仓库中；此命令仅支持 docker://"), name)
	}
	named, err := a.parseNamed(name)
	if err != nil {
		return nil, err
	}
	return reference.TagNameOnly(named), nil
}

// parseNamed reads a name in a registry, with docker:// before it or without. A name without either docker:// or a host is in the
// registry of the context, when there is one; else it is docker's, as everywhere.
func (a *app) parseNamed(name string) (reference.Named, error) {
	rest, prefixed := strings.CutPrefix(name, "docker://")
	if _, standIn := standIns()[a.name]; !prefixed && !standIn && a.context.Registry != "" && !hasHost(rest) {
		rest = a.context.Registry + "/" + rest
	}
	named, err := reference.ParseNormalizedNamed(rest)
	if err != nil {
		return nil, &output.Failure{What: a.t("invalid image name ", "镜像名称无效：") + name, Why: err.Error(), Exit: output.ExitUsage, Cause: err}
	}
	return named, nil
}

// hasHost reports whether a name begins with a registry, by the rule that docker has for it.
func hasHost(name string) bool {
	host, _, deep := strings.Cut(name, "/")
	return deep && (strings.ContainsAny(host, ".:") || host == "localhost" || strings.ToLower(host) != host)
}

// remoteRepository is the repository of an image, and what in it the name means: its digest, when it has one.
func remoteRepository(c *remote.Client, named reference.Named) (*remote.Repository, ref.Reference, error) {
	name, err := ref.ParseName(reference.Path(named))
	if err != nil {
		return nil, ref.Reference{}, err
	}
	at := ""
	if tagged, ok := named.(reference.Tagged); ok {
		at = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		at = digested.Digest().String()
	}
	r, err := ref.ParseReference(at)
	return c.Repository(reference.Domain(named), name), r, err
}
