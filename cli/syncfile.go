package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/cli/output"
)

// syncRegistry is what skopeo's YAML file says of one registry. The file is a map of them by host.
type syncRegistry struct {
	Images           map[string][]string `yaml:"images"` // tags and digests by repository; none is all tags
	ImagesByTagRegex map[string]string   `yaml:"images-by-tag-regex"`
	ImagesBySemver   map[string]string   `yaml:"images-by-semver"`
	Credentials      struct {
		Username string `yaml:"username"`
		Password string `yaml:"password"`
	} `yaml:"credentials"`
	TLSVerify *bool  `yaml:"tls-verify"`
	CertDir   string `yaml:"cert-dir"`
}

// yamlSources finds the images that a file names, registries and repositories in the order of their names. A key that
// is not known is an error: one that skopeo would ignore is a typing error more often than not.
func (a *app) yamlSources(ctx context.Context, file string, sys *types.SystemContext) ([]syncSource, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var registries map[string]syncRegistry
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&registries); err != nil {
		return nil, output.Usage("%s: %v", file, err)
	}
	var sources []syncSource
	for _, host := range slices.Sorted(maps.Keys(registries)) {
		r := registries[host]
		own := *sys
		r.apply(&own)
		if len(r.Images)+len(r.ImagesByTagRegex)+len(r.ImagesBySemver) == 0 {
			a.warn(file+": "+host+" names no image", file+"："+host+" 未列出镜像")
		}
		images, err := r.find(ctx, a, host, &own)
		if err != nil {
			return nil, err
		}
		for name, refs := range images {
			if len(refs) == 0 {
				a.warn(file+": "+name+" has no image that is asked for", file+"："+name+" 没有符合条件的镜像")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(images)) {
			if len(images[name]) > 0 {
				sources = append(sources, syncSource{images: images[name], system: &own})
			}
		}
	}
	if len(sources) == 0 {
		return nil, &output.Failure{What: a.t("there is no image in ", "没有镜像：") + file, Exit: output.ExitNotFound}
	}
	return sources, nil
}

// apply sets what the file says of how to reach the registry.
func (r *syncRegistry) apply(sys *types.SystemContext) {
	sys.DockerCertPath, sys.DockerDaemonCertPath = r.CertDir, r.CertDir
	if r.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!*r.TLSVerify)
		sys.DockerDaemonInsecureSkipTLSVerify = !*r.TLSVerify
	}
	if r.Credentials.Username != "" || r.Credentials.Password != "" {
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: r.Credentials.Username, Password: r.Credentials.Password}
	}
}

// find lists the images of a registry, by repository; each once.
func (r *syncRegistry) find(ctx context.Context, a *app, host string, sys *types.SystemContext) (map[string][]types.ImageReference, error) {
	images := map[string][]types.ImageReference{}
	add := func(name string, refs []types.ImageReference) {
		images[name] = append(images[name], slices.DeleteFunc(refs, func(ref types.ImageReference) bool {
			return slices.ContainsFunc(images[name], func(had types.ImageReference) bool {
				return had.StringWithinTransport() == ref.StringWithinTransport()
			})
		})...)
	}
	for name, wanted := range r.Images {
		repository, err := syncRepository(host, name)
		if err != nil {
			return nil, err
		}
		var refs []types.ImageReference
		if len(wanted) == 0 {
			refs, err = a.tagged(ctx, sys, repository, func(string) bool { return true })
		} else {
			refs, err = named(repository, wanted)
		}
		if err != nil {
			return nil, err
		}
		add(name, refs)
	}
	byRule := func(rules map[string]string, matcher func(string) (func(string) bool, error)) error {
		for name, rule := range rules {
			repository, err := syncRepository(host, name)
			if err != nil {
				return err
			}
			match, err := matcher(rule)
			if err != nil {
				return output.Usage("%s/%s: %q: %v", host, name, rule, err)
			}
			refs, err := a.tagged(ctx, sys, repository, match)
			if err != nil {
				return err
			}
			add(name, refs)
		}
		return nil
	}
	if err := byRule(r.ImagesByTagRegex, regexMatcher); err != nil {
		return nil, err
	}
	return images, byRule(r.ImagesBySemver, semverMatcher)
}

func syncRepository(host, name string) (reference.Named, error) {
	repository, err := reference.ParseNormalizedNamed(host + "/" + name)
	if err != nil {
		return nil, output.Usage("%s/%s: %v", host, name, err)
	}
	if !reference.IsNameOnly(repository) {
		return nil, output.Usage("%s/%s names an image, and not a repository", host, name)
	}
	return repository, nil
}

// named makes references of tags and digests.
func named(repository reference.Named, wanted []string) ([]types.ImageReference, error) {
	var refs []types.ImageReference
	for _, want := range wanted {
		var full reference.Named
		d, err := digest.Parse(want)
		if err == nil {
			full, err = reference.WithDigest(repository, d)
		} else {
			full, err = reference.WithTag(repository, want)
		}
		if err != nil {
			return nil, output.Usage("%s: %q is neither a tag nor a digest", repository.Name(), want)
		}
		ref, err := docker.NewReference(full)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", full, err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func regexMatcher(rule string) (func(string) bool, error) {
	r, err := regexp.Compile(rule)
	if err != nil {
		return nil, err
	}
	return r.MatchString, nil
}

func semverMatcher(rule string) (func(string) bool, error) {
	c, err := semver.NewConstraint(rule)
	if err != nil {
		return nil, err
	}
	return func(tag string) bool {
		v, err := semver.NewVersion(tag)
		return err == nil && c.Check(v)
	}, nil
}
