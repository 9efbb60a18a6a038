package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Item is one image to put into a bundle.
type Item struct {
	From       copy.Source
	At         ref.Reference
	Repository ref.Name // what it is called in the bundle
	Tag        string   // likewise; "" for an image by digest only
}

// Order says what to put into a bundle.
type Order struct {
	Items   []Item
	Files   []File // with Kind, Name and Body
	Against []*Receipt
	Key     *key.Private // nil leaves it unsigned
	Copy    copy.Options // what of an image, and how many transfers; Check is asked for every image
	Now     func() time.Time
	Tell    func(copy.Event)
}

// Create writes a bundle to a file, which appears when it is whole. A partial file of an interrupted run is taken up again: what
// lies in it is verified and not fetched. An older file of that name stays until the end.
func Create(ctx context.Context, name string, o Order) (*List, error) {
	if o.Tell == nil {
		o.Tell = func(copy.Event) {}
	}
	parts, err := o.survey(ctx)
	if err != nil {
		return nil, err
	}
	list := o.list(parts)
	body, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("bundle: write list: %w", err)
	}
	if len(body) > MaxList {
		return nil, tooLarge(len(body), len(list.Images))
	}
	b, err := layout.NewBuilder(name)
	if err != nil {
		return nil, err
	}
	err = o.fill(ctx, b, list, body, parts)
	if err == nil {
		err = b.Commit()
	}
	return list, errors.Join(err, b.Close())
}

// part is one item with what a survey of it found.
type part struct {
	item  Item
	image Image
	found *survey
}

// survey reads the manifests of all items; blobs are only noted.
func (o Order) survey(ctx context.Context) ([]part, error) {
	opt := o.Copy
	opt.DryRun, opt.Unchanged, opt.Progress = false, false, nil
	engine := copy.New(opt)
	parts := make([]part, len(o.Items))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, it := range o.Items {
		g.Go(func() error {
			s := newSurvey(it)
			at := ref.Reference{Tag: it.Tag}
			res, err := engine.Copy(gctx, copy.Job{From: it.From, At: it.At, To: s, As: []ref.Reference{at}})
			if err != nil {
				return err
			}
			parts[i] = part{item: it, found: s, image: s.image(it, res.Digest)}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(parts, func(a, b part) int {
		return strings.Compare(a.image.Repository.String()+":"+a.image.Tag, b.image.Repository.String()+":"+b.image.Tag)
	})
	return parts, nil
}

// list makes the list: images by name, and what the other side has already.
func (o Order) list(parts []part) *List {
	l := &List{Version: 1}
	lacks := map[oci.Digest]Lack{}
	for _, p := range parts {
		l.Images = append(l.Images, p.image)
		for _, d := range p.image.Blobs {
			for _, r := range o.Against {
				if repo, ok := r.Have[d.Digest.String()]; ok {
					lacks[d.Digest] = Lack{d.Digest, d.Size, repo}
				}
			}
		}
	}
	for _, lack := range lacks {
		l.Lacks = append(l.Lacks, lack)
	}
	slices.SortFunc(l.Lacks, func(a, b Lack) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	if len(l.Lacks) > 0 {
		for _, r := range o.Against {
			l.Against = append(l.Against, r.ID())
		}
		slices.Sort(l.Against)
	}
	for _, f := range o.Files {
		f.Digest, f.Size = oci.FromBytes(oci.SHA256, f.Body), int64(len(f.Body))
		l.Files = append(l.Files, f)
	}
	slices.SortFunc(l.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	l.State = StateOf(l.Images)
	return l
}

// fill writes everything, each thing in a place that depends on the list alone.
func (o Order) fill(ctx context.Context, b *layout.Builder, l *List, body []byte, parts []part) error {
	if _, err := b.File(fileList, body); err != nil {
		return err
	}
	for i, f := range l.Files {
		if f.Size > MaxFile || i > 0 && l.Files[i-1].Name == f.Name {
			return fault.New(fault.Invalid, fault.SizeInvalid, "file %.60q is larger than %d MiB, or there are two of this name", f.Name, MaxFile>>20)
		}
		if _, err := b.File(dirFiles+f.Name, f.Body); err != nil {
			return err
		}
	}
	left := map[oci.Digest]bool{}
	for _, lack := range l.Lacks {
		left[lack.Digest] = true
	}
	blobs := map[oci.Digest]oci.Descriptor{}
	from := map[oci.Digest]copy.Source{}
	for _, p := range parts {
		for _, d := range slices.Concat(p.image.Blobs, p.image.Manifests) {
			if !left[d.Digest] && from[d.Digest] == nil {
				blobs[d.Digest], from[d.Digest] = d, p.item.From
			}
		}
	}
	order := make([]oci.Descriptor, 0, len(blobs))
	for _, d := range blobs {
		order = append(order, d)
	}
	slices.SortFunc(order, func(a, b oci.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	for _, d := range order {
		if err := b.Place(d); err != nil {
			return err
		}
	}
	if err := o.manifests(ctx, b, parts); err != nil {
		return err
	}
	if err := o.fetch(ctx, b, order, from); err != nil {
		return err
	}
	return o.sign(b, body)
}

// manifests writes what the survey has read, and names the images in the index of the layout.
func (o Order) manifests(ctx context.Context, b *layout.Builder, parts []part) error {
	for _, p := range parts {
		for _, d := range p.image.Manifests {
			if err := b.PutManifest(ctx, ref.Reference{Digest: d.Digest}, d, p.found.body(d.Digest)); err != nil {
				return err
			}
		}
		names := map[string]oci.Digest{}
		for tag, d := range p.image.Tags {
			names[tag] = d
		}
		if p.image.Tag != "" {
			names[p.image.Tag] = p.image.Digest
		}
		for _, tag := range sorted(names) {
			d := p.found.descriptor(names[tag])
			if err := b.PutManifest(ctx, ref.Reference{Tag: p.image.Repository.String() + ":" + tag}, d, p.found.body(d.Digest)); err != nil {
				return err
			}
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fetch brings the blobs, the largest first.
func (o Order) fetch(ctx context.Context, b *layout.Builder, order []oci.Descriptor, from map[oci.Digest]copy.Source) error {
	order = slices.Clone(order)
	slices.SortStableFunc(order, func(a, b oci.Descriptor) int { return int(min(max(b.Size-a.Size, -1), 1)) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(o.Copy.Parallel, 6))
	for _, d := range order {
		g.Go(func() error {
			if has, err := b.HasBlob(ctx, d); has || err != nil {
				return err
			}
			ev := copy.Event{Image: from[d.Digest].String(), Digest: d.Digest, Media: d.MediaType, Size: d.Size}
			ev.Kind = copy.BlobStarted
			o.Tell(ev)
			how := copy.Present // in the partial file
			_, err := b.PutBlob(ctx, d, nil, func(ctx context.Context, at int64) (io.ReadCloser, error) {
				how = copy.Sent
				rc, err := from[d.Digest].Blob(ctx, d, at)
				if err != nil {
					return nil, err
				}
				if at > 0 {
					resumed := ev
					resumed.Done = at
					o.Tell(resumed)
				}
				return &told{ReadCloser: rc, ev: ev, at: at, tell: o.Tell}, nil
			})
			if err != nil {
				return err
			}
			ev.Kind, ev.How, ev.Done = copy.BlobDone, how, d.Size
			o.Tell(ev)
			return nil
		})
	}
	return g.Wait()
}

// told is a blob that tells how far it was read.
type told struct {
	io.ReadCloser
	ev       copy.Event
	at, last int64
	tell     func(copy.Event)
}

// tellEvery is how many bytes pass between two events.
const tellEvery = 512 << 10

func (r *told) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.at += int64(n); r.at-r.last >= tellEvery {
		r.last = r.at
		r.ev.Kind, r.ev.Done = copy.BlobProgress, r.at
		r.tell(r.ev)
	}
	return n, err
}

func (o Order) sign(b *layout.Builder, body []byte) error {
	if o.Key == nil {
		return nil
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	s := signature{Created: now().UTC(), Bundle: oci.FromBytes(oci.SHA256, body).String(), KeyID: o.Key.Public().ID()}
	var err error
	if s.Signature, err = o.Key.Sign(message("bundle", s.Created, sum(body))); err != nil {
		return fmt.Errorf("bundle: sign: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("bundle: sign: %w", err)
	}
	_, err = b.File(fileSignature, text)
	return err
}

// survey is a target that has every blob and no manifest, and remembers both.
type survey struct {
	name string

	mu     sync.Mutex
	order  []oci.Descriptor // manifests, as they were written
	bodies map[oci.Digest][]byte
	blobs  map[oci.Digest]oci.Descriptor
	tags   map[string]oci.Digest
}

func newSurvey(it Item) *survey {
	return &survey{name: it.Repository.String(), bodies: map[oci.Digest][]byte{}, blobs: map[oci.Digest]oci.Descriptor{}, tags: map[string]oci.Digest{}}
}

func (s *survey) String() string { return s.name }

func (s *survey) Head(_ context.Context, at ref.Reference) (oci.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := at.Digest
	if at.Tag != "" {
		d = s.tags[at.Tag]
	}
	if b, ok := s.bodies[d]; ok {
		return oci.Descriptor{Digest: d, Size: int64(len(b))}, nil
	}
	if at == (ref.Reference{}) && len(s.order) > 0 {
		return s.order[len(s.order)-1], nil
	}
	return oci.Descriptor{}, fault.New(fault.NotFound, fault.ManifestUnknown, "not surveyed yet")
}

func (s *survey) HasBlob(_ context.Context, d oci.Descriptor) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Digest] = oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	return true, nil
}

func (s *survey) PutBlob(context.Context, oci.Descriptor, []ref.Name, remote.Open) (remote.Outcome, error) {
	return remote.Sent, fault.New(fault.Internal, fault.Unknown, "a survey takes no blobs")
}

func (s *survey) PutManifest(_ context.Context, at ref.Reference, d oci.Descriptor, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies[d.Digest] == nil {
		s.bodies[d.Digest] = body
		s.order = append(s.order, oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(body))})
	}
	if at.Tag != "" {
		s.tags[at.Tag] = d.Digest
	}
	return nil
}

func (s *survey) body(d oci.Digest) []byte { return s.bodies[d] }

func (s *survey) descriptor(d oci.Digest) oci.Descriptor {
	for _, m := range s.order {
		if m.Digest == d {
			return m
		}
	}
	return oci.Descriptor{}
}

// image is what was found, in an order that does not depend on which answer came first: the manifests by depth (what is needed
// before what needs it), then digest, the image itself last.
func (s *survey) image(it Item, root oci.Digest) Image {
	img := Image{Repository: it.Repository, Tag: it.Tag, Digest: root, Tags: map[string]oci.Digest{}}
	depth := map[oci.Digest]int{}
	var deep func(d oci.Digest) int
	deep = func(d oci.Digest) int {
		if n, ok := depth[d]; ok {
			return n
		}
		n := 0
		if m, err := oci.ParseManifest(s.descriptor(d).MediaType, s.bodies[d]); err == nil {
			for _, k := range m.Manifests {
				if s.bodies[k.Digest] != nil {
					n = max(n, deep(k.Digest)+1)
				}
			}
		}
		depth[d] = n
		return n
	}
	for _, d := range s.order {
		deep(d.Digest)
	}
	img.Manifests = slices.Clone(s.order)
	slices.SortFunc(img.Manifests, func(a, b oci.Descriptor) int {
		switch {
		case a.Digest == root:
			return 1
		case b.Digest == root:
			return -1
		case depth[a.Digest] != depth[b.Digest]:
			return depth[a.Digest] - depth[b.Digest]
		}
		return strings.Compare(a.Digest.String(), b.Digest.String())
	})
	for _, d := range s.blobs {
		img.Blobs = append(img.Blobs, d)
	}
	slices.SortFunc(img.Blobs, func(a, b oci.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	for tag, d := range s.tags {
		if tag != it.Tag {
			img.Tags[tag] = d
		}
	}
	if len(img.Tags) == 0 {
		img.Tags = nil
	}
	return img
}
