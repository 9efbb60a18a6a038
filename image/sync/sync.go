package sync

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Place is a repository, a folder or an archive that images come from and go to.
type Place interface {
	copy.Source
	copy.Target
	Delete(ctx context.Context, at ref.Reference) error
}

// Engine syncs by rules.
type Engine struct {
	Open    func(ctx context.Context, name string) (Place, error)      // opens From and To of a rule
	Catalog func(ctx context.Context, host string) ([]ref.Name, error) // lists repositories, for rules about registries
	Limit   func(name string) remote.Limit                             // what the registry of a place said of its limit; nil is never asked
	Copy    copy.Options                                               // for all rules
	Images  int                                                        // images at the same time; 0 is 8
	Prune   bool                                                       // remove from targets the tags that the rule's selection does not have
	DryRun  bool                                                       // find out, and change nothing
	Keep    bool                                                       // go on after a failure
	State   *State                                                     // of an interrupted run; nil is none
	Tell    func(Outcome)                                              // told of each tag as it is decided; nil is nobody
}

// Action is what is done about one tag.
type Action string

// The actions. In a dry run they say what would be done.
const (
	Copied    Action = "copied"
	Unchanged Action = "unchanged"
	Skipped   Action = "done before" // by the interrupted run that this one goes on with
	Pruned    Action = "pruned"
	Failed    Action = "failed"
)

// Outcome is what became of one tag.
type Outcome struct {
	From   string       `json:"from,omitempty"`
	To     string       `json:"to"`
	Action Action       `json:"action"`
	Digest oci.Digest   `json:"digest,omitzero"`
	Result *copy.Result `json:"result,omitempty"`
	Error  string       `json:"error,omitempty"`
	Err    error        `json:"-"`
}

// Report sums up a run.
type Report struct {
	DryRun   bool           `json:"dryRun"`
	Actions  map[Action]int `json:"actions"`
	Bytes    int64          `json:"bytesSent"`
	Outcomes []Outcome      `json:"outcomes"`

	mu   sync.Mutex
	tell func(Outcome)
	seen map[string]bool // pairs of names that were decided
}

func (r *Report) add(o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Err != nil {
		o.Error = o.Err.Error()
	}
	if o.Result != nil {
		r.Bytes += o.Result.Bytes
	}
	r.Actions[o.Action]++
	r.Outcomes = append(r.Outcomes, o)
	if r.tell != nil {
		r.tell(o)
	}
}

// Run follows the rules, one after the other, the images of each at the same time. What two rules choose is copied once. At the
// end targets are pruned whose rules had no failure: of all tags but those that any of their rules chose. The report is complete
// also when it fails; with Keep the error joins all failures.
func (e *Engine) Run(ctx context.Context, rules []Rule) (*Report, error) {
	rep := &Report{DryRun: e.DryRun, Actions: map[Action]int{}, tell: e.Tell, seen: map[string]bool{}}
	var failed []error
	var order []string
	targets := map[string]*target{}
	for _, r := range rules {
		flat, err := e.flatten(ctx, r)
		for _, one := range flat {
			if err != nil && !e.Keep {
				break
			}
			t := targets[one.To]
			if t == nil {
				t = &target{kept: map[string]bool{}}
				targets[one.To], order = t, append(order, one.To)
			}
			if ruleErr := e.rule(ctx, one, rep, t); ruleErr != nil {
				t.failed, err = true, errors.Join(err, ruleErr)
			}
		}
		if err == nil {
			continue
		}
		if failed = append(failed, err); !e.Keep || ctx.Err() != nil {
			return rep, errors.Join(failed...)
		}
	}
	for _, name := range order {
		if t := targets[name]; e.Prune && !t.failed {
			if err := e.prune(ctx, name, t, rep); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return rep, errors.Join(failed...)
}

// target is what the rules that lead to one place come to.
type target struct {
	kept     map[string]bool // tags
	suffixes []string
	failed   bool
}

// flatten makes rules about repositories of a rule about a registry.
func (e *Engine) flatten(ctx context.Context, r Rule) ([]Rule, error) {
	if r.Repos == nil {
		return []Rule{r}, nil
	}
	host, prefix, _ := strings.Cut(strings.TrimSuffix(r.From, "/"), "/")
	all, err := e.Catalog(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("sync: list repositories of %s: %w", host, err)
	}
	var out []Rule
	for _, n := range all {
		rest, ok := strings.CutPrefix(n.String(), prefix)
		rest = strings.TrimPrefix(rest, "/")
		if !ok || rest == "" || !r.Repos.Select.fits(n.String()) {
			continue
		}
		one := r
		one.Repos, one.From, one.To = nil, host+"/"+n.String(), path.Join(r.To, rest)
		out = append(out, one)
	}
	return out, nil
}

func (e *Engine) rule(ctx context.Context, r Rule, rep *Report, t *target) error {
	from, err := e.Open(ctx, r.From)
	if err != nil {
		return fmt.Errorf("sync %s: %w", r.From, err)
	}
	to, err := e.Open(ctx, r.To)
	if err != nil {
		return fmt.Errorf("sync %s to %s: %w", r.From, r.To, err)
	}
	engine := copy.New(e.options(r))
	var tags []string
	if r.Select.listed() {
		if tags, err = from.Tags(ctx); err != nil {
			return fmt.Errorf("sync %s: %w", r.From, err)
		}
		engine.UseTags(from, tags)
	}
	images := e.Images
	if images <= 0 {
		images = 8
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(images)
	var mu sync.Mutex
	var failed []error
	t.suffixes = append(t.suffixes, r.Suffix)
	for _, at := range r.Select.pick(tags) {
		as := r.name(at)
		if as.Tag != "" {
			t.kept[as.Tag] = true
		}
		key := place(r.From, at) + " " + place(r.To, as)
		if rep.seen[key] {
			continue
		}
		rep.seen[key] = true
		g.Go(func() error {
			o := e.one(gctx, engine, r, from, to, at, as)
			if o.Err == nil || ctx.Err() == nil {
				rep.add(o)
			}
			if o.Err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, o.Err)
				if !e.Keep {
					return o.Err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return errors.Join(failed...)
}

// name is under which reference an image is written.
func (r Rule) name(at ref.Reference) ref.Reference {
	if r.Rename != "" {
		at = ref.Reference{Tag: r.Rename}
	}
	if at.Tag != "" {
		at.Tag += r.Suffix
	}
	return at
}

func (e *Engine) options(r Rule) copy.Options {
	o := e.Copy
	o.DryRun = e.DryRun
	o.Unchanged = true
	if r.Options.Referrers != nil {
		o.Referrers = *r.Options.Referrers
	}
	if len(r.Options.Platforms) > 0 {
		o.Platforms = r.Options.Platforms
	}
	if r.Options.One != nil {
		o.Select, o.Platform = copy.One, *r.Options.One
	}
	return o
}

// one copies one image, or finds that there is nothing to do.
func (e *Engine) one(ctx context.Context, engine *copy.Engine, r Rule, from, to Place, at, as ref.Reference) (o Outcome) {
	o = Outcome{From: place(r.From, at), To: place(r.To, as)}
	fail := func(err error) Outcome {
		o.Action, o.Err = Failed, err
		return o
	}
	if err := e.limit(r); err != nil {
		return fail(err)
	}
	if e.State != nil {
		d, err := from.Head(ctx, at)
		if err != nil {
			return fail(err)
		}
		if e.State.has(o.From, o.To, d.Digest) {
			o.Action, o.Digest = Skipped, d.Digest
			return o
		}
		defer func() {
			if o.Err == nil && !e.DryRun {
				o.Err = e.State.add(o.From, o.To, d.Digest)
			}
		}()
	}
	res, err := engine.Copy(ctx, copy.Job{From: from, At: at, To: to, As: []ref.Reference{as}})
	o.Result = res
	if res != nil {
		o.Digest = res.Digest
	}
	if err != nil {
		return fail(err)
	}
	if o.Action = Unchanged; res.Changed {
		o.Action = Copied
	}
	return o
}

// limit refuses to go on when less is left of the source's limit than the rule wants kept.
func (e *Engine) limit(r Rule) error {
	if e.Limit == nil || r.Options.Least <= 0 {
		return nil
	}
	if l := e.Limit(r.From); l.Known && l.Remaining < r.Options.Least {
		return fault.New(fault.RateLimited, fault.TooManyRequests, "%s has %d requests left and %d are to be kept; run it again later, it goes on from here", r.From, l.Remaining, r.Options.Least)
	}
	return nil
}

// prune removes the tags that no rule chose. A target without the tag by the time is as good.
func (e *Engine) prune(ctx context.Context, name string, t *target, rep *Report) error {
	if len(t.kept) == 0 {
		return fault.New(fault.Conflict, fault.Unknown, "nothing of the source was chosen, so nothing is pruned from %s", name)
	}
	to, err := e.Open(ctx, name)
	if err != nil {
		return err
	}
	tags, err := to.Tags(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync: prune %s: %w", name, err)
	}
	ours := func(tag string) bool { // with suffixes, only tags that end so are the rules' business
		return slices.ContainsFunc(t.suffixes, func(s string) bool { return strings.HasSuffix(tag, s) })
	}
	for _, tag := range tags {
		if t.kept[tag] || copy.CosignTag(tag) || !ours(tag) {
			continue
		}
		o := Outcome{To: place(name, ref.Reference{Tag: tag}), Action: Pruned}
		if !e.DryRun {
			if err := to.Delete(ctx, ref.Reference{Tag: tag}); err != nil && !fault.Is(err, fault.NotFound) {
				o.Action, o.Err = Failed, fmt.Errorf("sync: prune %s: %w", o.To, err)
			}
		}
		if rep.add(o); o.Err != nil && !e.Keep {
			return o.Err
		}
		err = errors.Join(err, o.Err)
	}
	return err
}

func place(name string, at ref.Reference) string {
	switch {
	case at.Tag != "":
		return name + ":" + at.Tag
	case !at.Digest.IsZero():
		return name + "@" + at.Digest.String()
	}
	return name
}
