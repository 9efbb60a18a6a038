package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	stdsync "sync"

	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sync"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// syncRules are the flags of sync that skopeo has not: they are about registries at both ends, where image/sync does the work.
type syncRules struct {
	related          relations
	include, exclude []string
	versions         []string
	prune            bool
	state            string
	images, layers   uint
	asJSON           bool
}

func (r *syncRules) addFlags(a *app, f *pflag.FlagSet) {
	r.related.addFlags(f, a.t)
	f.StringArrayVar(&r.include, "include", nil, a.t("only tags that match this `REGEX` as a whole (again for more)", "只同步整体匹配该正则的标签（可重复）"))
	f.StringArrayVar(&r.exclude, "exclude", nil, a.t("no tags that match this `REGEX` as a whole", "排除整体匹配该正则的标签"))
	f.StringArrayVar(&r.versions, "semver", nil, a.t("only tags that are versions within `RANGE`, such as '>= 1.2, < 2'", "只同步版本在该范围内的标签，如 '>= 1.2, < 2'"))
	f.BoolVar(&r.prune, "prune", false, a.t("remove from the destination the tags that the source does not have", "删除目标中来源没有的标签"))
	f.StringVar(&r.state, "state", "", a.t("`FILE` in which an interrupted run says what it did, for the next", "记录中断进度的文件，供下次继续"))
	f.UintVar(&r.images, "images", 8, a.t("images on their way at the same time", "同时同步的镜像数"))
	f.UintVar(&r.layers, "image-parallel-copies", 0, a.t("layers on their way at the same time, of all images", "所有镜像同时传输的层数"))
	f.BoolVar(&r.asJSON, "json", false, a.t("print a report as JSON", "以 JSON 输出报告"))
}

// asked is the first flag that was given and is about registries at both ends; "" when none was.
func (r *syncRules) asked(f *pflag.FlagSet) (first string) {
	for _, name := range []string{"include", "exclude", "semver", "prune", "state", "images", "json", "image-parallel-copies"} {
		if f.Changed(name) && first == "" {
			first = "--" + name
		}
	}
	if r.related.given && r.related.which[0] != "none" && first == "" {
		first = "--referrers"
	}
	return first
}

// filter adds the flags to a rule's own selection.
func (r *syncRules) filter(f *sync.Filter) error {
	for _, s := range r.include {
		re, err := sync.Anchored(s)
		if err != nil {
			return err
		}
		f.Allow = append(f.Allow, re)
	}
	for _, s := range r.exclude {
		re, err := sync.Anchored(s)
		if err != nil {
			return err
		}
		f.Deny = append(f.Deny, re)
	}
	for _, s := range r.versions {
		v, err := sync.Version(s)
		if err != nil {
			return err
		}
		f.Versions = append(f.Versions, v)
	}
	return nil
}

// directSync is a sync between registries.
type directSync struct {
	a                    *app
	o                    *syncOptions
	sourceSys, targetSys *types.SystemContext
	logins               map[string]sync.Login
	mu                   stdsync.Mutex
	clients              map[string]*remote.Client // by side and host
	targets              map[string]bool           // names of targets
	digests              []string
	sources              map[string]bool
	left                 int // what refers to indexes of which one image was copied
}

func newDirectSync(a *app, o *syncOptions) *directSync {
	return &directSync{a: a, o: o, logins: map[string]sync.Login{}, clients: map[string]*remote.Client{}, targets: map[string]bool{}, sources: map[string]bool{}}
}

// present are patterns of the tags that a repository has; one that is not there has none.
func (s *directSync) present(ctx context.Context, name string) ([]*regexp.Regexp, error) {
	s.targets[name] = true
	p, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	tags, err := p.Tags(ctx)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	var all []*regexp.Regexp
	for _, tag := range tags {
		re, err := sync.Anchored(regexp.QuoteMeta(tag))
		if err != nil {
			return nil, err
		}
		all = append(all, re)
	}
	return all, nil
}

// syncDirect syncs by image/sync when it can: registries at both ends, nothing converted. done is false when it cannot.
func (a *app) syncDirect(ctx context.Context, o *syncOptions, from, to string) (done bool, err error) {
	if o.convert.Converts() || o.to != "docker" && o.from != "regsync" || o.from == "dir" {
		if flag := o.rules.asked(o.flags); flag != "" {
			return false, output.Usage(a.t("%s needs registries at both ends, and no flag that changes images", "%s 要求两端均为镜像仓库，且不改变镜像"), flag)
		}
		return false, nil
	}
	s := newDirectSync(a, o)
	if s.sourceSys, err = a.system(o.source); err != nil {
		return false, err
	}
	if s.targetSys, err = a.system(o.target); err != nil {
		return false, err
	}
	rules, err := s.rules(from, to)
	if err != nil {
		return false, err
	}
	for _, r := range rules {
		if r.Repos != nil {
			continue
		}
		for _, side := range []struct {
			name string
			sys  *types.SystemContext
		}{{r.From, s.sourceSys}, {r.To, s.targetSys}} {
			named, err := reference.ParseNormalizedNamed(side.name)
			if err != nil {
				return false, output.Usage("%s: %v", side.name, err)
			}
			if simple, err := plainRegistry(side.sys, named); err != nil || !simple {
				return false, err // mirrors and other places are the library's
			}
		}
	}
	return true, s.run(ctx, rules)
}

// rules are those of the command line or of a file.
func (s *directSync) rules(from, to string) ([]sync.Rule, error) {
	if s.o.from == "docker" {
		named, err := reference.ParseNormalizedNamed(from)
		if err != nil {
			return nil, output.Usage("%s: %v", from, err)
		}
		r := sync.Rule{From: named.Name()}
		if d, ok := named.(reference.Digested); ok {
			digest, err := oci.ParseDigest(d.Digest().String())
			if err != nil {
				return nil, err
			}
			r.Select.Refs = []ref.Reference{{Digest: digest}}
		} else if t, ok := named.(reference.Tagged); ok {
			r.Select.Refs = []ref.Reference{{Tag: t.Tag()}}
		}
		return s.aimed([]sync.Rule{r}, to)
	}
	body, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	var c *sync.Config
	if s.o.from == "regsync" {
		c, err = sync.ParseRegsync(body, os.Getenv)
	} else {
		c, err = sync.ParseSkopeo(body)
	}
	if err != nil {
		return nil, failed(err, s.a.t("cannot read %s", "无法读取 %s"), from)
	}
	for _, w := range c.Warnings {
		s.a.warn(from+": "+w, from+": "+w)
	}
	if c.Parallel > 0 && !s.o.flags.Changed("images") {
		s.o.rules.images = uint(c.Parallel) //nolint:gosec // a small number
	}
	for _, l := range c.Logins {
		s.logins[l.Host] = l
	}
	return s.aimed(c.Rules, to)
}

// aimed completes rules: where they go, what is put behind tags, and the filters of the command line.
func (s *directSync) aimed(rules []sync.Rule, to string) ([]sync.Rule, error) {
	for i := range rules {
		r := &rules[i]
		host, _, _ := strings.Cut(r.From, "/")
		s.sources[host] = true
		if r.To == "" {
			name := r.From
			if !s.o.scoped {
				name = path.Base(name)
			}
			r.To = path.Join(to, name)
		} else if s.o.from == "regsync" && to != "" && to != "-" {
			return nil, output.Usage("%s", s.a.t("a regsync file says itself where images go; write - as the destination", "regsync 文件自带目标，请以 - 作为目标参数"))
		}
		r.Suffix = s.o.suffix
		if s.o.all || s.o.from == "regsync" {
			// as the file or the flag says
		} else {
			p := systemPlatform(s.sourceSys)
			r.Options.One = &p
		}
		if err := s.o.rules.filter(&r.Select); err != nil {
			return nil, err
		}
		s.targets[r.To] = true
	}
	return rules, nil
}

func (s *directSync) run(ctx context.Context, rules []sync.Rule) (err error) {
	related, err := s.o.rules.related.choice()
	if err != nil {
		return err
	}
	related.Unsigned = s.o.convert.RemoveSignatures
	memory := newBlobMemory(s.targetSys)
	defer memory.close()
	show := s.a.progress(s.o.rules.asJSON)
	e := &sync.Engine{Open: s.open, Catalog: s.catalog, Images: int(s.o.rules.images), Prune: s.o.rules.prune, DryRun: s.o.dryRun, Keep: s.o.keepGoing, //nolint:gosec // a small number
		Copy: copy.Options{Referrers: related, Parallel: int(s.o.rules.layers), Progress: s.a.shown(show), Check: s.check, Memory: memory}, Limit: s.limit} //nolint:gosec // a small number
	if !s.o.convert.RemoveSignatures {
		e.Copy.Signatures = &signatureStores{a: s.a, system: s.system}
	}
	e.Tell = func(o sync.Outcome) { s.tell(ctx, o) }
	if s.o.rules.state != "" && !s.o.dryRun {
		if e.State, err = sync.OpenState(s.o.rules.state); err != nil {
			return err
		}
	}
	rep, err := e.Run(ctx, rules)
	if cerr := e.State.Close(err == nil); err == nil {
		err = cerr
	}
	if s.o.digestFile != "" && !s.o.dryRun {
		if werr := os.WriteFile(s.o.digestFile, []byte(strings.Join(s.digests, "")), 0o644); err == nil {
			err = werr
		}
	}
	if s.o.rules.asJSON {
		enc := json.NewEncoder(s.a.Out)
		enc.SetIndent("", "    ")
		if jerr := enc.Encode(rep); err == nil {
			err = jerr
		}
	}
	if !s.o.dryRun {
		show.Summary(s.a.t("copied", "已复制"))
	}
	if s.left > 0 {
		s.a.leftBehind(s.left)
	}
	return s.end(ctx, rep, err)
}

// tell says what became of one tag: what is copied and pruned on standard output in a dry run, else on standard error.
func (s *directSync) tell(ctx context.Context, o sync.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := "docker://" + o.From + " -> docker://" + o.To
	switch o.Action {
	case sync.Copied, sync.Unchanged, sync.Skipped:
		if o.Result != nil {
			s.left += o.Result.Left
		}
		if !o.Digest.IsZero() {
			s.digests = append(s.digests, o.Digest.String()+" docker://"+o.To+"\n")
		}
		if o.Action == sync.Copied && s.o.dryRun && !s.o.rules.asJSON {
			_, _ = fmt.Fprintln(s.a.Out, line)
		}
	case sync.Pruned:
		if s.o.dryRun && !s.o.rules.asJSON {
			_, _ = fmt.Fprintln(s.a.Out, "prune docker://"+o.To)
		}
	case sync.Failed:
		if s.o.keepGoing {
			f := s.a.classify(ctx, o.Err)
			if f.Why == "" {
				f.Why = f.What
			}
			f.What = fmt.Sprintf(s.a.t("cannot copy %s", "无法复制 %s"), line)
			f.Print(s.a.Err, s.a.lang, s.a.colored(s.a.Err))
		}
	}
}

func (s *directSync) end(ctx context.Context, rep *sync.Report, err error) error {
	good := rep.Actions[sync.Copied] + rep.Actions[sync.Unchanged] + rep.Actions[sync.Skipped]
	text := s.a.t("synced %d images from %d sources\n", "已同步 %d 个镜像，来自 %d 个来源\n")
	if s.o.dryRun {
		text = s.a.t("would sync %d images from %d sources\n", "将同步 %d 个镜像，来自 %d 个来源\n")
		good = rep.Actions[sync.Copied]
	}
	if err == nil || s.o.keepGoing {
		fmt.Fprintf(s.a.Err, text, good, len(s.sources))
		parts := s.a.t("%d copied, %d unchanged, %d done before, %d pruned\n", "复制 %d，未变 %d，此前已完成 %d，删除 %d\n")
		if s.o.dryRun {
			parts = s.a.t("%d to copy, %d unchanged, %d done before, %d to prune\n", "待复制 %d，未变 %d，此前已完成 %d，待删除 %d\n")
		}
		fmt.Fprintf(s.a.Err, parts,
			rep.Actions[sync.Copied], rep.Actions[sync.Unchanged], rep.Actions[sync.Skipped], rep.Actions[sync.Pruned])
	}
	if err == nil || !s.o.keepGoing || rep.Actions[sync.Failed] == 0 || ctx.Err() != nil {
		if err == nil && len(rep.Outcomes) == 0 {
			return &output.Failure{What: s.a.t("no image was chosen", "没有选中任何镜像"), Exit: output.ExitNotFound}
		}
		return err
	}
	exit := output.ExitInterrupted
	if good == 0 {
		exit = output.ExitFailure
	}
	return &output.Failure{What: fmt.Sprintf(s.a.t("%d images could not be copied, %d were", "%d 个镜像失败，%d 个成功"), rep.Actions[sync.Failed], good), Exit: exit}
}

// open makes a repository of a name: a target's with the settings of the target, any other with those of the source.
func (s *directSync) open(_ context.Context, name string) (sync.Place, error) {
	host, repository, err := sync.Split(name)
	if err != nil {
		return nil, err
	}
	return s.client(host, s.isTarget(name)).Repository(host, repository), nil
}

func (s *directSync) isTarget(name string) bool {
	for t := range s.targets {
		if name == t || strings.HasPrefix(name, t+"/") {
			return true
		}
	}
	return false
}

func (s *directSync) catalog(ctx context.Context, host string) ([]ref.Name, error) {
	return s.client(host, false).Catalog(ctx, host)
}

func (s *directSync) limit(name string) remote.Limit {
	host, _, err := sync.Split(name)
	if err != nil {
		return remote.Limit{}
	}
	return s.client(host, false).Limit(host)
}

func (s *directSync) client(host string, target bool) *remote.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(host, target)
	if c := s.clients[key]; c != nil {
		return c
	}
	c := s.a.client(s.system(host, target), s.o.retry, func(text string) { s.a.warn(text, text) })
	s.clients[key] = c
	return c
}

// system is the settings for a host: those of its side, and what a file says of it.
func (s *directSync) system(host string, target bool) *types.SystemContext {
	sys := *s.sourceSys
	if target {
		sys = *s.targetSys
	}
	l, ok := s.logins[host]
	if !ok {
		return &sys
	}
	if l.User != "" {
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: l.User, Password: l.Password}
	}
	if l.CertDir != "" {
		sys.DockerCertPath = l.CertDir
	}
	if l.Insecure || l.Plain {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return &sys
}

// check asks policy.json about one image, under the name that leads to it: a signature may be good for one tag and for no other.
func (s *directSync) check(ctx context.Context, from copy.Source, at ref.Reference, d oci.Descriptor, body []byte) error {
	r, ok := from.(*remote.Repository)
	if !ok {
		return errors.New("policy: the source is no repository")
	}
	name := "//" + r.String() + "@" + d.Digest.String()
	if at.Tag != "" {
		name = "//" + r.String() + ":" + at.Tag
	}
	img, err := docker.ParseReference(name)
	if err != nil {
		return err
	}
	return s.a.policyCheck(img, s.system(r.Host(), false), s.o.retry)(ctx, from, at, d, body)
}
