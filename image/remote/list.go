package remote

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// What a registry may make us read of one list, so that one that never ends does not keep us for ever.
const (
	maxPages    = 10_000
	maxPage     = 16 << 20
	maxEntries  = 2_000_000
	maxReferrer = 100_000
)

// pages gets path and what its Link headers lead to, on the same origin only, and hands each page to read.
func (r *Repository) pages(ctx context.Context, cl *call, read func(resp *http.Response, body []byte) error) error {
	return r.c.pages(ctx, r.h, cl, read)
}

func (c *Client) pages(ctx context.Context, h *host, cl *call, read func(resp *http.Response, body []byte) error) error {
	seen := map[string]bool{}
	for range maxPages {
		resp, err := c.do(ctx, h, cl)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
		discard(resp)
		if err != nil {
			return cl.broken(ctx, h, err)
		}
		if len(body) > maxPage {
			return fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: a page is larger than %d MiB", h.name, cl.describe(), maxPage>>20)
		}
		if err := read(resp, body); err != nil {
			return err
		}
		link := parseNext(resp.Header.Values("Link"))
		if link == "" {
			return nil
		}
		next, err := resp.Request.URL.Parse(link)
		if err != nil || !sameOrigin(next, h.origin()) {
			return fault.New(fault.Unavailable, ReasonRedirect, "%s: %s: the next page is on another host (%s) and is not asked for", h.name, cl.describe(), plain(link, 100))
		}
		if seen[next.String()] {
			return fault.New(fault.Unavailable, ReasonNoRegistry, "%s: %s: the list leads back to a page that was read", h.name, cl.describe())
		}
		seen[next.String()] = true
		cl.url = next
	}
	return fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: more than %d pages", h.name, cl.describe(), maxPages)
}

// Tags lists the tags of the repository in the registry's order, over all pages. A name that is no tag is left out.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	cl := &call{method: http.MethodGet, path: r.path("tags", "list"), scope: r.pull(), repo: r.name.String(),
		what: "list tags of " + r.name.String(), missing: fault.NameUnknown}
	err := r.pages(ctx, cl, func(_ *http.Response, body []byte) error {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return notAList(r.h, cl, err)
		}
		for _, t := range page.Tags {
			if _, err := ref.ParseTag(t); err == nil {
				tags = append(tags, t)
			}
		}
		return tooMany(r.h, cl, len(tags))
	})
	return tags, err
}

// Catalog lists the repositories of a registry, over all pages. Many registries offer it to administrators only, or not; some
// answer strangers with what is public, so a login that is known is used without being asked for.
func (c *Client) Catalog(ctx context.Context, hostname string) ([]ref.Name, error) {
	var names []ref.Name
	h := c.host(hostname)
	if err := c.introduce(ctx, h); err != nil {
		return nil, err
	}
	cl := &call{method: http.MethodGet, path: "/v2/_catalog?n=1000", scope: []string{"registry:catalog:*"}, what: "list repositories"}
	err := c.pages(ctx, h, cl, func(_ *http.Response, body []byte) error {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return notAList(h, cl, err)
		}
		for _, s := range page.Repositories {
			if n, err := ref.ParseName(s); err == nil {
				names = append(names, n)
			}
		}
		return tooMany(h, cl, len(names))
	})
	return names, err
}

func notAList(h *host, cl *call, err error) error {
	return fault.New(fault.Unavailable, ReasonNoRegistry, "%s: %s: the answer is not the list that was asked for", h.name, cl.describe()).Because(err)
}

func tooMany(h *host, cl *call, n int) error {
	if n > maxEntries {
		return fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: more than %d entries", h.name, cl.describe(), maxEntries)
	}
	return nil
}

// index is what the referrers API and the fallback tag hold.
type index struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`
}

// FallbackTag is the tag that lists the referrers of a digest where the registry does not.
//
// Spec: OCI distribution v1.1.1, "Referrers Tag Schema".
func FallbackTag(d oci.Digest) string {
	return string(d.Algorithm()) + "-" + d.Hex()
}

// Referrers lists the manifests whose subject is d, by the API or, where the registry has none, by the fallback tag. Nothing
// that refers to d is an empty list.
//
// Spec: OCI distribution v1.1.1, "Listing Referrers".
func (r *Repository) Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	r.h.mu.Lock()
	without := r.h.noReferrers
	r.h.mu.Unlock()
	if !without {
		all, err := r.listReferrers(ctx, d)
		if err == nil {
			return all, nil
		}
		if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unsupported) && !fault.Is(err, fault.Invalid) && !fault.Has(err, ReasonNoRegistry) {
			return nil, err
		}
		if !fault.Has(err, fault.NameUnknown) { // the repository is not there: says nothing of the API
			r.h.mu.Lock()
			r.h.noReferrers = true
			r.h.mu.Unlock()
		}
	}
	doc, err := r.fallback(ctx, d)
	return doc.Manifests, err
}

func (r *Repository) listReferrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	var all []oci.Descriptor
	cl := &call{method: http.MethodGet, path: r.path("referrers", d.String()), header: http.Header{"Accept": {oci.MediaTypeIndex}}, scope: r.pull(),
		repo: r.name.String(), what: "list referrers of " + d.Short() + " in " + r.name.String()}
	err := r.pages(ctx, cl, func(resp *http.Response, body []byte) error {
		var page index
		if err := json.Unmarshal(body, &page); err != nil || page.SchemaVersion != 2 {
			return notAList(r.h, cl, err)
		}
		all = append(all, page.Manifests...)
		if len(all) > maxReferrer {
			return fault.New(fault.TooLarge, fault.SizeInvalid, "%s: %s: more than %d", r.h.name, cl.describe(), maxReferrer)
		}
		return nil
	})
	return all, err
}

// fallback reads the index under the fallback tag; one that is not there, or is none, has no entries.
func (r *Repository) fallback(ctx context.Context, d oci.Digest) (index, error) {
	doc := index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	got, body, err := r.Manifest(ctx, ref.Reference{Tag: FallbackTag(d)})
	if fault.Is(err, fault.NotFound) {
		return doc, nil
	}
	if err != nil {
		return doc, err
	}
	if got.MediaType != oci.MediaTypeIndex || json.Unmarshal(body, &doc) != nil {
		return index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}, nil
	}
	return doc, nil
}

// enterFallback adds an entry to the fallback tag of a subject. Two processes that do so at the same moment may lose one of
// the entries, as the specification says; inside of one client they queue.
func (r *Repository) enterFallback(ctx context.Context, subject oci.Digest, entry oci.Descriptor) error {
	m := r.h.lock("fallback " + r.name.String() + " " + subject.String())
	m.Lock()
	defer m.Unlock()
	doc, err := r.fallback(ctx, subject)
	if err != nil {
		return err
	}
	for _, d := range doc.Manifests {
		if d.Digest == entry.Digest {
			return nil
		}
	}
	doc.Manifests = append(doc.Manifests, entry)
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	return r.PutManifest(ctx, ref.Reference{Tag: FallbackTag(subject)}, d, body)
}

// escaped is a value in a query.
func escaped(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%3A", ":") }
