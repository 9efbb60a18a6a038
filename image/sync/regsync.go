package sync

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// regsync's file, as far as it has a meaning for one run. Fields of type any are read, and a warning says that they do nothing.
type regsyncFile struct {
	Version  int             `yaml:"version"`
	Creds    []regsyncLogin  `yaml:"creds"`
	Defaults regsyncDefaults `yaml:"defaults"`
	Sync     []regsyncRule   `yaml:"sync"`
	Ignored  map[string]any  `yaml:",inline"`
}

type regsyncLogin struct {
	Registry string         `yaml:"registry"`
	Hostname string         `yaml:"hostname"`
	User     string         `yaml:"user"`
	Pass     string         `yaml:"pass"`
	TLS      string         `yaml:"tls"`
	Ignored  map[string]any `yaml:",inline"`
}

type regsyncDefaults struct {
	Parallel   int            `yaml:"parallel"`
	RateLimit  regsyncLimit   `yaml:"ratelimit"`
	Referrers  *bool          `yaml:"referrers"`
	DigestTags *bool          `yaml:"digestTags"`
	Ignored    map[string]any `yaml:",inline"`
}

type regsyncLimit struct {
	Min   int    `yaml:"min"`
	Retry string `yaml:"retry"`
}

type regsyncFilter struct {
	Allow       []string `yaml:"allow"`
	Deny        []string `yaml:"deny"`
	SemverRange []string `yaml:"semverRange"`
}

type regsyncRule struct {
	Source          string        `yaml:"source"`
	Target          string        `yaml:"target"`
	Type            string        `yaml:"type"`
	Tags            regsyncFilter `yaml:"tags"`
	Repos           regsyncFilter `yaml:"repos"`
	Platform        string        `yaml:"platform"`
	Platforms       []string      `yaml:"platforms"`
	Referrers       *bool         `yaml:"referrers"`
	ReferrerFilters []struct {
		ArtifactType string         `yaml:"artifactType"`
		Annotations  map[string]any `yaml:"annotations"`
	} `yaml:"referrerFilters"`
	DigestTags *bool          `yaml:"digestTags"`
	RateLimit  *regsyncLimit  `yaml:"ratelimit"`
	Ignored    map[string]any `yaml:",inline"`
}

// harmless are regsync's fields about when it runs and how it tells, which say nothing about what is copied.
var harmless = map[string]bool{"x-": true, "schedule": true, "interval": true, "skipDockerConfig": true, "userAgent": true, "blobLimit": true, "cacheCount": true,
	"cacheTime": true, "fastCheck": true, "forceRecursive": true, "hooks": true, "repoAuth": true, "reqPerSec": true,
	"reqConcurrent": true, "credExpire": true, "blobChunk": true, "blobMax": true, "pathPrefix": true, "apiOpts": true, "priority": true, "mirrors": true}

// ParseRegsync reads the YAML that regsync reads. env answers {{env "NAME"}}; nil is an empty environment. What has no meaning
// for one run becomes a warning; what would change what is copied and is not known is an error. Referrers and digest tags are
// copied unless the file says false.
func ParseRegsync(body []byte, env func(string) string) (*Config, error) {
	body, err := expand(body, env)
	if err != nil {
		return nil, err
	}
	var doc regsyncFile
	if err := Decode(body, &doc); err != nil {
		return nil, err
	}
	if doc.Version != 1 {
		return nil, invalid("version %d of a regsync file is not known; 1 is", doc.Version)
	}
	c := &Config{Parallel: doc.Defaults.Parallel}
	if err := c.ignore("", doc.Ignored, "defaults", doc.Defaults.Ignored); err != nil {
		return nil, err
	}
	for _, l := range doc.Creds {
		if err := c.ignore("creds", l.Ignored); err != nil {
			return nil, err
		}
		if l.Hostname != "" && l.Hostname != l.Registry {
			return nil, invalid("creds of %s: another hostname (%s) is not supported; name that host in the rules", l.Registry, l.Hostname)
		}
		c.Logins = append(c.Logins, Login{Host: l.Registry, User: l.User, Password: l.Pass, Insecure: l.TLS == "insecure", Plain: l.TLS == "disabled"})
	}
	for i, r := range doc.Sync {
		if err := c.ignore(fmt.Sprintf("sync[%d]", i), r.Ignored); err != nil {
			return nil, err
		}
		rule, err := r.rule(doc.Defaults)
		if err != nil {
			return nil, fmt.Errorf("sync[%d]: %w", i, err)
		}
		c.Rules = append(c.Rules, rule)
	}
	if len(c.Rules) == 0 {
		return nil, invalid("the file has no sync entries")
	}
	return c, nil
}

// expand evaluates the templates that regsync allows, of which only env has a meaning here.
func expand(body []byte, env func(string) string) ([]byte, error) {
	if !bytes.Contains(body, []byte("{{")) {
		return body, nil
	}
	if env == nil {
		env = func(string) string { return "" }
	}
	t, err := template.New("regsync").Funcs(template.FuncMap{"env": env}).Parse(string(body))
	if err != nil {
		return nil, invalid("the file's templates: %s; only {{env \"NAME\"}} is known", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return nil, invalid("the file's templates: %s", err)
	}
	return out.Bytes(), nil
}

// ignore notes fields that do nothing here: pairs of where they stand and what they are.
func (c *Config) ignore(pairs ...any) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		where, fields := pairs[i].(string), pairs[i+1].(map[string]any)
		for _, k := range sortedKeys(fields) {
			at := strings.TrimPrefix(where+"."+k, ".")
			if copiesAsHere(k, fields[k]) {
				continue
			}
			if !harmless[k] && !strings.HasPrefix(k, "x-") {
				return invalid("%s is not supported", at)
			}
			if !strings.HasPrefix(k, "x-") {
				c.Warnings = append(c.Warnings, at+" has no meaning here and is ignored")
			}
		}
	}
	return nil
}

// copiesAsHere reports whether a field that could change what is copied says what is done anyway: external layers stay where they
// are, and images and indexes of both kinds are copied.
func copiesAsHere(field string, value any) bool {
	switch field {
	case "includeExternal":
		return value == false
	case "mediaTypes":
		list, _ := value.([]any)
		for _, t := range []string{oci.MediaTypeManifest, oci.MediaTypeIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList} {
			if !slices.Contains(list, any(t)) {
				return false
			}
		}
		return true
	}
	return false
}

func (r regsyncRule) rule(d regsyncDefaults) (Rule, error) {
	out := Rule{From: r.Source, To: r.Target}
	if r.Source == "" || r.Target == "" {
		return out, invalid("source and target are needed")
	}
	tags, err := r.Tags.filter()
	if err != nil {
		return out, err
	}
	switch r.Type {
	case "image":
		var at, to ref.Reference
		if out.From, at, err = splitTag(r.Source); err != nil {
			return out, err
		}
		if out.To, to, err = splitTag(r.Target); err != nil {
			return out, err
		}
		if at == (ref.Reference{}) {
			at.Tag = "latest"
		}
		out.Select, out.Rename = one(at), to.Tag
	case "repository", "":
		out.Select = tags
	case "registry":
		repos, err := r.Repos.filter()
		if err != nil {
			return out, err
		}
		out.Select, out.Repos = tags, &RepositoryRule{repos}
	default:
		return out, invalid("type %.40q is not known; it is image, repository or registry", r.Type)
	}
	return out, r.options(d, &out.Options)
}

func (r regsyncRule) options(d regsyncDefaults, o *Options) error {
	pick := func(own, general *bool) bool {
		if own == nil {
			own = general
		}
		return own == nil || *own
	}
	refs, tags := pick(r.Referrers, d.Referrers), pick(r.DigestTags, d.DigestTags)
	o.Referrers = &copy.Referrers{None: !refs && !tags, NoTags: !tags}
	if !refs && tags {
		o.Referrers.Types = []string{copy.TypeCosignTags}
	}
	for _, f := range r.ReferrerFilters {
		if len(f.Annotations) > 0 || f.ArtifactType == "" {
			return invalid("referrerFilters are supported by artifactType only")
		}
		o.Referrers.Types = append(o.Referrers.Types, f.ArtifactType)
	}
	o.Least = d.RateLimit.Min
	if r.RateLimit != nil {
		o.Least = r.RateLimit.Min
	}
	if r.Platform != "" {
		p, err := copy.ParsePlatform(r.Platform)
		if err != nil {
			return err
		}
		o.One = &p
	}
	for _, s := range r.Platforms {
		p, err := copy.ParsePlatform(s)
		if err != nil {
			return err
		}
		o.Platforms = append(o.Platforms, p)
	}
	return nil
}

func (f regsyncFilter) filter() (out Filter, err error) {
	if out.Allow, err = regex(f.Allow...); err != nil {
		return out, err
	}
	if out.Deny, err = regex(f.Deny...); err != nil {
		return out, err
	}
	for _, s := range f.SemverRange {
		v, err := Version(s)
		if err != nil {
			return out, err
		}
		out.Versions = append(out.Versions, v)
	}
	return out, nil
}

func regex(texts ...string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, s := range texts {
		re, err := Anchored(s)
		if err != nil {
			return nil, err
		}
		out = append(out, re)
	}
	return out, nil
}
