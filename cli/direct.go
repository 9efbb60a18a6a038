package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
	libcopy "go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	ociarchive "go.podman.io/image/v5/oci/archive"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/policy"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// What is not converted on its way goes by image/copy, which moves bytes as they are and takes along what refers to an image;
// everything else by the library of skopeo and podman.

// relations are the flags about what travels beside an image.
type relations struct {
	which []string
	given bool
}

func (r *relations) addFlags(f *pflag.FlagSet, t option.Text) {
	f.StringSliceVar(&r.which, "referrers", []string{"all"}, t("what refers to the image is copied along: all, none, or artifact `TYPE`s (cosign: its tags)",
		"一并复制引用该镜像的内容：all、none，或制品类型（cosign：其标签）"))
}

func (r *relations) choice() (copy.Referrers, error) {
	switch {
	case len(r.which) == 1 && r.which[0] == "all":
		return copy.Referrers{}, nil
	case len(r.which) == 1 && r.which[0] == "none":
		return copy.Referrers{None: true}, nil
	case len(r.which) == 0:
		return copy.Referrers{}, output.Usage("--referrers expects all, none or artifact types")
	}
	for _, w := range r.which {
		if w == "all" || w == "none" || w == "" {
			return copy.Referrers{}, output.Usage("--referrers %q: all and none stand alone", strings.Join(r.which, ","))
		}
	}
	return copy.Referrers{Types: r.which}, nil
}

// end is one side of a copy by our own engine.
type end struct {
	source  copy.Source
	target  copy.Target
	at      ref.Reference
	commit  func() error // makes what was written visible
	release func()
}

// from opens an image for reading; nil when it is in a place of another kind.
func (a *app) from(ctx context.Context, name string, img types.ImageReference, sys *types.SystemContext, retry option.Retry) (*end, error) {
	switch img.Transport() {
	case docker.Transport:
		return a.repository(img, sys, retry)
	case liblayout.Transport:
		dir, at, ok := layoutName(name)
		if !ok || sys.OCISharedBlobDirPath != "" {
			return nil, nil
		}
		l, err := layout.OpenDir(dir)
		if err != nil {
			return nil, err
		}
		return &end{source: l, at: at, release: func() { _ = l.Close() }}, nil
	case ociarchive.Transport:
		file, at, ok := layoutName(name)
		if !ok {
			return nil, nil
		}
		arch, err := layout.OpenPacked(ctx, file, a.bigTemp(), layout.Limits{})
		if err != nil {
			return nil, err
		}
		return &end{source: arch, at: at, release: func() { _ = arch.Close() }}, nil
	}
	return nil, nil
}

// to opens the place that an image is written to; nil when it is of another kind.
func (a *app) to(name string, img types.ImageReference, sys *types.SystemContext, retry option.Retry) (*end, error) {
	switch img.Transport() {
	case docker.Transport:
		return a.repository(img, sys, retry)
	case liblayout.Transport:
		dir, at, ok := layoutName(name)
		if !ok || sys.OCISharedBlobDirPath != "" {
			return nil, nil
		}
		l, err := layout.CreateDir(dir)
		if err != nil {
			return nil, err
		}
		return &end{target: l, at: at, release: func() { _ = l.Close() }}, nil
	case ociarchive.Transport:
		file, at, ok := layoutName(name)
		if !ok {
			return nil, nil
		}
		b, err := layout.NewBuilder(file)
		if err != nil {
			return nil, err
		}
		return &end{target: b, at: at, commit: b.Commit, release: func() { _ = b.Close() }}, nil
	}
	return nil, nil
}

func (a *app) repository(img types.ImageReference, sys *types.SystemContext, retry option.Retry) (*end, error) {
	named := img.DockerReference()
	if named == nil {
		return nil, nil
	}
	if simple, err := plainRegistry(sys, named); err != nil || !simple {
		return nil, err
	}
	n, err := ref.ParseName(reference.Path(named))
	if err != nil {
		return nil, err
	}
	r := a.client(sys, retry, func(text string) { a.warn(text, text) }).Repository(reference.Domain(named), n)
	e := &end{source: r, target: r, release: func() {}}
	if d, ok := named.(reference.Digested); ok {
		if e.at.Digest, err = oci.ParseDigest(d.Digest().String()); err != nil {
			return nil, err
		}
		return e, nil
	}
	if t, ok := named.(reference.Tagged); ok {
		e.at.Tag = t.Tag()
		return e, nil
	}
	return nil, nil
}

// layoutName takes "oci:PATH[:NAME]" apart. Entries by number are the library's.
func layoutName(name string) (path string, at ref.Reference, ok bool) {
	_, rest, _ := strings.Cut(name, ":")
	path, at.Tag, _ = strings.Cut(rest, ":")
	return path, at, path != "" && !strings.Contains(path, "@") && !strings.HasPrefix(at.Tag, "@")
}

// direct copies by our own engine when it can: both ends are registries or OCI layouts, and no flag asks for other bytes than
// those of the source. done is false when it cannot, and then nothing was done.
func (a *app) direct(ctx context.Context, o *copyOptions, names [2]string, source, target types.ImageReference) (done bool, err error) {
	if o.convert.Converts() || o.target.Converts() || len(o.encryptKeys)+len(o.decryptKeys)+len(o.tags) > 0 {
		return false, a.cannotRelate(o)
	}
	sourceSystem, err := a.system(o.source)
	if err != nil {
		return false, err
	}
	targetSystem, err := a.system(o.target)
	if err != nil {
		return false, err
	}
	opt, err := a.engineOptions(o, sourceSystem)
	if err != nil {
		return false, err
	}
	from, err := a.from(ctx, names[0], source, sourceSystem, o.retry)
	if err != nil || from == nil {
		return false, errors.Join(err, a.cannotRelate(o))
	}
	defer from.release()
	opt.Check = a.policyCheck(source, sourceSystem, o.retry)
	_, statErr := os.Lstat(strings.SplitN(names[1], ":", 3)[1])
	if target.Transport() != docker.Transport && !o.convert.PreserveDigests && !o.related.given && dockerTyped(ctx, from) {
		if err := a.cannotRelate(o); err != nil { // a layout holds OCI's types: the library converts
			return false, err
		}
		if source.Transport() != docker.Transport || target.Transport() != liblayout.Transport {
			return false, nil
		}
		return false, a.bringLayers(ctx, o, opt, from, names[1], target, targetSystem, errors.Is(statErr, fs.ErrNotExist))
	}
	to, err := a.to(names[1], target, targetSystem, o.retry)
	if err != nil || to == nil {
		return false, errors.Join(err, a.cannotRelate(o))
	}
	defer to.release()
	if !o.convert.RemoveSignatures {
		opt.Signatures = &signatureStores{a: a, system: func(_ string, target bool) *types.SystemContext {
			if target {
				return targetSystem
			}
			return sourceSystem
		}}
	}
	memory := newBlobMemory(targetSystem)
	defer memory.close()
	opt.Memory = memory
	show := a.progress(o.quiet)
	tell := a.shown(show)
	var moved atomic.Bool
	opt.Progress = func(e copy.Event) {
		if e.Kind == copy.BlobProgress {
			moved.Store(true)
		}
		tell(e)
	}
	res, err := copy.New(opt).Copy(ctx, copy.Job{From: from.source, At: from.at, To: to.target, As: []ref.Reference{to.at}})
	if err == nil && to.commit != nil && !o.dryRun {
		err = to.commit()
	}
	if (err != nil && res.Sent == 0 && !moved.Load() || o.dryRun) && errors.Is(statErr, fs.ErrNotExist) { // an empty folder would look like something
		removeEmpty(to.target)
	}
	if err != nil {
		return true, err
	}
	return true, a.copied(o, show, res)
}

// bringLayers brings the layers of an image of Docker's types into a layout before the library converts it: in OCI's form they are the
// same bytes, and the library, which begins each layer anew, finds them there. An unpacked one the library compresses. What is
// not understood here is left to the library. fresh says that the layout is not there yet.
func (a *app) bringLayers(ctx context.Context, o *copyOptions, opt copy.Options, from *end, name string, target types.ImageReference, sys *types.SystemContext, fresh bool) error {
	to, err := a.to(name, target, sys, o.retry)
	if err != nil || to == nil {
		return err
	}
	defer to.release()
	o.show, o.brought = a.progress(o.quiet), map[string]bool{}
	tell := a.shown(o.show)
	var mu sync.Mutex
	opt.Progress = func(e copy.Event) {
		mu.Lock()
		o.brought[e.Digest.String()] = true
		mu.Unlock()
		tell(e)
	}
	packed := func(d oci.Descriptor) bool { return strings.HasSuffix(d.MediaType, ".gzip") && !d.External() }
	_, err = copy.New(opt).Blobs(ctx, copy.Job{From: from.source, At: from.at, To: to.target}, packed)
	if err != nil && fresh && len(o.brought) == 0 {
		removeEmpty(to.target)
	}
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Unsupported) {
		return nil
	}
	return err
}

// dockerTyped reports whether an image is of Docker's types, as far as that can be had without a pull.
func dockerTyped(ctx context.Context, from *end) bool {
	h, ok := from.source.(interface {
		Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error)
	})
	if !ok {
		return false
	}
	d, err := h.Head(ctx, from.at)
	return err == nil && strings.Contains(d.MediaType, "vnd.docker.")
}

// cannotRelate refuses --referrers where the library copies, which knows nothing of them.
func (a *app) cannotRelate(o *copyOptions) error {
	if o.related.given && o.related.which[0] != "none" {
		return output.Usage("%s", a.t("--referrers needs docker:, oci: or oci-archive: at both ends, and no flag that changes the image: what refers to it refers to its bytes",
			"--referrers 要求两端均为 docker:、oci: 或 oci-archive:，且不使用会改变镜像的参数"))
	}
	if o.dryRun {
		return output.Usage("%s", a.t("--dry-run needs docker:, oci: or oci-archive: at both ends, and no flag that changes the image", "--dry-run 要求两端均为 docker:、oci: 或 oci-archive:，且不改变镜像"))
	}
	return nil
}

func removeEmpty(t copy.Target) {
	switch t := t.(type) {
	case *layout.Builder:
		_ = t.Abort() // nothing was written into it
	case *layout.Dir:
		if tags, err := t.Tags(context.Background()); err == nil && len(tags) == 0 {
			for _, name := range []string{"/oci-layout", "/index.json", "/.index.lock", "/blobs/sha256", "/blobs", ""} {
				_ = os.Remove(t.String() + name) // a folder with something in it stays
			}
		}
	}
}

// engineOptions are what the flags of copy say to our engine.
func (a *app) engineOptions(o *copyOptions, sys *types.SystemContext) (copy.Options, error) {
	opt := copy.Options{Parallel: int(o.parallel), DryRun: o.dryRun} //nolint:gosec // a number of layers
	var err error
	if opt.Referrers, err = o.related.choice(); err != nil {
		return opt, err
	}
	opt.Referrers.Unsigned = o.convert.RemoveSignatures
	for _, s := range o.platforms {
		p, err := copy.ParsePlatform(s)
		if err != nil {
			return opt, err
		}
		opt.Platforms = append(opt.Platforms, p)
	}
	switch {
	case len(opt.Platforms) > 0:
		if o.multiArch.Given && o.multiArch.Value != "all" {
			return opt, output.Usage("--platform and --multi-arch %s contradict each other", o.multiArch.Value)
		}
	case o.multiArch.Value == "index-only":
		opt.Select = copy.IndexOnly
	case !o.all && (!o.multiArch.Given || o.multiArch.Value == "system"):
		opt.Select, opt.Platform = copy.One, systemPlatform(sys)
	}
	return opt, nil
}

func systemPlatform(sys *types.SystemContext) copy.Platform {
	p := copy.Platform{OS: "linux", Architecture: runtime.GOARCH, Variant: sys.VariantChoice}
	if sys.OSChoice != "" {
		p.OS = sys.OSChoice
	}
	if sys.ArchitectureChoice != "" {
		p.Architecture = sys.ArchitectureChoice
	}
	return p
}

// copied says what was done.
func (a *app) copied(o *copyOptions, show *output.Progress, res *copy.Result) error {
	if o.dryRun {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "    ")
		return enc.Encode(res)
	}
	show.Summary(a.t("copied", "已复制"))
	if res.Signed > 0 && !o.quiet {
		_, _ = a.Err.Write([]byte(sized(res.Signed, a.t("GPG signature came along", "个 GPG 签名一并复制"), a.t("GPG signatures came along", "个 GPG 签名一并复制")) + "\n"))
	}
	if res.Referrers > 0 && !o.quiet {
		_, _ = a.Err.Write([]byte(sized(res.Referrers, a.t("referrer came along", "项引用一并复制"), a.t("referrers came along", "项引用一并复制")) + "\n"))
	}
	if res.Left > 0 && !o.quiet {
		a.leftBehind(res.Left)
	}
	if o.digestFile == "" {
		return nil
	}
	return os.WriteFile(o.digestFile, []byte(res.Digest.String()), 0o644)
}

// leftBehind says that signatures and the like are about an index of which one image was copied.
func (a *app) leftBehind(n int) {
	a.warn(sized(n, "thing refers", "things refer")+" to the index, such as its signature, and stayed behind with it: --all copies the index and what refers to it",
		fmt.Sprintf("有 %d 项内容（例如签名）引用该索引，未随单个镜像复制：使用 --all 可复制索引及其引用", n))
}

// unconverted counts what refers to an image of a registry that is about to be converted: it is about bytes that change, or goes to a
// place that has none for it. What cannot be found out is not said.
func (a *app) unconverted(ctx context.Context, o *copyOptions, source types.ImageReference, sys *types.SystemContext) int {
	if source.Transport() != docker.Transport {
		return 0
	}
	opt, err := a.engineOptions(o, sys)
	if err != nil || opt.Referrers.None {
		return 0
	}
	from, err := a.repository(source, sys, o.retry)
	if err != nil || from == nil {
		return 0
	}
	defer from.release()
	e := copy.New(opt)
	d, body, err := from.source.Manifest(ctx, from.at)
	if err != nil {
		return 0
	}
	of := []oci.Digest{d.Digest}
	if m, err := oci.ParseManifest(d.MediaType, body); err == nil && opt.Select == copy.All {
		for _, k := range m.Manifests {
			of = append(of, k.Digest)
		}
	}
	total := 0
	for _, d := range of {
		n, err := e.Related(ctx, from.source, d)
		if err != nil {
			return total
		}
		total += n
	}
	return total
}

// notConverted says what stayed behind where the library copied, and how it comes along.
func (a *app) notConverted(n int, target types.ImageReference) {
	en, zh := sized(n, "thing refers", "things refer")+" to the image, such as a signature, and stayed behind", fmt.Sprintf("有 %d 项内容（例如签名）引用该镜像，未随之复制", n)
	switch target.Transport() {
	case docker.Transport, liblayout.Transport, ociarchive.Transport:
		en, zh = en+": what changes the image leaves them; with --referrers all its bytes stay as they are, and they come along", zh+"：转换后的镜像不再适用；使用 --referrers all 可原样复制并附带引用"
	default:
		en, zh = en+": transport "+target.Transport().Name()+" has no place for them; oci: and oci-archive: have", zh+"：传输方式 "+target.Transport().Name()+" 无法存放；oci: 与 oci-archive: 可以"
	}
	a.warn(en, zh)
}

// shown shows the events of the engine. Bars are named by what they are of: two targets may need the same blob.
func (a *app) shown(show *output.Progress) func(copy.Event) {
	return func(e copy.Event) {
		id := e.Digest.String()
		switch e.Kind {
		case copy.BlobStarted:
			show.Start(id, shortDigest(id), e.Size)
			if e.Done > 0 {
				show.Resume(id, e.Done)
			}
		case copy.BlobProgress:
			show.Move(id, e.Done)
		case copy.BlobDone:
			switch e.How {
			case copy.Sent:
				show.Move(id, e.Size)
				show.Done(id)
			case copy.Mounted:
				show.Skip(id, shortDigest(id), e.Size, a.t("mounted", "已挂载"))
			case copy.Present:
				show.Skip(id, shortDigest(id), e.Size, a.t("already there", "已存在"))
			case copy.Planned:
				show.Skip(id, shortDigest(id), e.Size, a.t("to be sent", "将要传输"))
			case copy.Mountable:
				show.Skip(id, shortDigest(id), e.Size, a.t("to be mounted", "将要挂载"))
			case copy.Elsewhere:
				show.Skip(id, shortDigest(id), e.Size, a.t("not distributable", "不可分发"))
			}
		}
	}
}

// enginesTries is how often berth's own client makes a request again, when no flag says.
const enginesTries = 4

// policyChecker decides whether a manifest, as the source has it, may be used: copy.Options.Check.
type policyChecker = func(ctx context.Context, from copy.Source, at ref.Reference, d oci.Descriptor, body []byte) error

// policyCheck is asked with the manifest that is about to be copied: policy.json decides, for exactly these bytes. What it asks a
// registry for is asked again as the flags say, and without them as often as the engine does that copies.
func (a *app) policyCheck(img types.ImageReference, sys *types.SystemContext, retry option.Retry) policyChecker {
	return func(ctx context.Context, from copy.Source, _ ref.Reference, d oci.Descriptor, _ []byte) error {
		if a.global.InsecurePolicy {
			return nil
		}
		if open, err := a.acceptsAnything(sys); err != nil || open {
			return err
		}
		times, given := a.global.Retries(retry)
		if !given {
			times = enginesTries
		}
		return repeated(ctx, times, retry.Delay, func() error { return a.allowed(ctx, img, sys, from, d.Digest) })
	}
}

// allowed asks the policy about an image that has to have this digest, or be an index that names it.
func (a *app) allowed(ctx context.Context, img types.ImageReference, sys *types.SystemContext, from copy.Source, d oci.Digest) error {
	p, err := a.global.PolicyOf(sys)
	if err != nil {
		return err
	}
	if sys, err = a.withStored(ctx, sys, img); err != nil {
		return err
	}
	if err := a.look(ctx, img, sys); err != nil {
		return err
	}
	src, err := img.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // it was only read
	unparsed := image.UnparsedInstance(src, nil)
	body, _, err := unparsed.Manifest(ctx)
	if err != nil {
		return err
	}
	o := policy.Options{RequireSigned: a.global.RequireSigned}
	if oci.FromBytes(d.Algorithm(), body) != d && lists(body, d) {
		o.Instance = d
	} else if oci.FromBytes(d.Algorithm(), body) != d {
		return fault.New(fault.Conflict, remote.ReasonWrongDigest, "the image was changed while its signatures were looked at; try again")
	}
	if r, ok := from.(*remote.Repository); ok {
		o.Store = sign.Registry(r)
	}
	return policy.Allow(ctx, p, src, d, o)
}

// lists reports whether a document is an index with this entry.
func lists(body []byte, d oci.Digest) bool {
	m, err := oci.ParseManifest("", body)
	return err == nil && slices.ContainsFunc(m.Manifests, func(e oci.Descriptor) bool { return e.Digest == d })
}

// byBundle is for an image that the library refused: it knows the signatures at cosign's tags and no bundles. When policy.json accepts the
// image by a bundle, byBundle names it by the digest that was accepted; else it is nil.
func (a *app) byBundle(ctx context.Context, err error, img types.ImageReference, sys *types.SystemContext, retry option.Retry) types.ImageReference {
	var refused signature.PolicyRequirementError
	if !errors.As(err, &refused) || img.Transport() != docker.Transport {
		return nil
	}
	e, err := a.repository(img, sys, retry)
	if err != nil || e == nil {
		return nil
	}
	d, body, err := e.source.Manifest(ctx, e.at)
	if err != nil || a.policyCheck(img, sys, retry)(ctx, e.source, e.at, d, body) != nil {
		return nil
	}
	named, err := reference.WithDigest(reference.TrimNamed(img.DockerReference()), digest.Digest(d.Digest.String()))
	if err != nil {
		return nil
	}
	pinned, err := docker.NewReference(named)
	if err != nil {
		return nil
	}
	return pinned
}

// copyAccepted copies by the library what was accepted before, by digest.
func (a *app) copyAccepted(ctx context.Context, target, source types.ImageReference, options *libcopy.Options) ([]byte, error) {
	open, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return nil, err
	}
	defer open.Destroy() //nolint:errcheck // it holds nothing that could be lost
	return libcopy.Image(ctx, open, target, source, options)
}

// acceptsAnything reports whether the policy asks nothing of any image, so that no signature need be looked for.
func (a *app) acceptsAnything(sys *types.SystemContext) (bool, error) {
	policy, err := a.global.PolicyOf(sys)
	if err != nil || a.global.RequireSigned {
		return false, err
	}
	text, err := json.Marshal(policy)
	if err != nil {
		return false, err
	}
	var doc struct {
		Default    []requirement                       `json:"default"`
		Transports map[string]map[string][]requirement `json:"transports"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return false, err
	}
	all := [][]requirement{doc.Default}
	for _, scopes := range doc.Transports {
		for _, rs := range scopes {
			all = append(all, rs)
		}
	}
	for _, rs := range all {
		for _, r := range rs {
			if r.Type != "insecureAcceptAnything" {
				return false, nil
			}
		}
	}
	return true, nil
}

type requirement struct {
	Type string `json:"type"`
}
