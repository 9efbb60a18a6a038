package backup

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// based writes the pages of a base.
type based struct {
	*writer
	page  page
	count int
}

func (b *based) add(ctx context.Context, l line, content []byte) error {
	if err := b.page.add(l, content); err != nil || !b.page.full() {
		return err
	}
	return b.flush(ctx)
}

func (b *based) flush(ctx context.Context) error {
	if b.page.lines == 0 {
		return nil
	}
	if err := b.renew(ctx, false); err != nil {
		return err
	}
	b.count++
	n, err := b.put(ctx, &b.page, fmt.Sprintf("%s/%s/base-%010d", journalFolder, b.id, b.count))
	b.base += n
	return err
}

// writeBase writes down everything that is in the database now.
func (w *writer) writeBase(ctx context.Context) error {
	b := &based{writer: w}
	for _, part := range []func(context.Context) error{b.projects, b.repositories, b.manifests, b.signed, b.tags, b.places, b.smallBlobs, b.flush} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pages calls each for every row of a list that is read page by page; next begins behind the last.
func pages[T any](ctx context.Context, size int, next func(last *T) ([]T, error), each func(T) error) error {
	var last *T
	for {
		all, err := next(last)
		if err != nil {
			return err
		}
		for _, v := range all {
			if err := each(v); err != nil {
				return err
			}
		}
		if len(all) < size || ctx.Err() != nil {
			return ctx.Err()
		}
		last = &all[len(all)-1]
	}
}

func (b *based) projects(ctx context.Context) error {
	return pages(ctx, basePage, func(last *metadb.Project) ([]metadb.Project, error) {
		after := ""
		if last != nil {
			after = last.Name
		}
		return b.j.o.DB.Projects(ctx, after, basePage)
	}, func(p metadb.Project) error {
		return b.add(ctx, line{Kind: projectLine, Project: p.Name, Public: p.Public}, nil)
	})
}

func (b *based) repositories(ctx context.Context) error {
	return pages(ctx, basePage, func(last *metadb.NamedRepository) ([]metadb.NamedRepository, error) {
		after := int64(0)
		if last != nil {
			after = last.ID
		}
		return b.j.o.DB.NamedRepositories(ctx, after, basePage)
	}, func(r metadb.NamedRepository) error {
		return b.add(ctx, line{Kind: repositoryLine, Repository: r.Name, Project: r.Project, Listed: r.Listed}, nil)
	})
}

func (b *based) manifests(ctx context.Context) error {
	return pages(ctx, basePage, func(last *metadb.NamedManifest) ([]metadb.NamedManifest, error) {
		after := int64(0)
		if last != nil {
			after = last.ID
		}
		return b.j.o.DB.NamedManifests(ctx, after, basePage)
	}, func(m metadb.NamedManifest) error {
		return b.add(ctx, line{Kind: manifestLine, Repository: m.Repository, Digest: m.Digest, MediaType: m.MediaType, At: m.PushedAt, By: m.PushedBy}, nil)
	})
}

func (b *based) signed(ctx context.Context) error {
	return pages(ctx, contentPage, func(last *metadb.NamedSignature) ([]metadb.NamedSignature, error) {
		if last == nil {
			last = &metadb.NamedSignature{}
		}
		return b.j.o.DB.NamedSignatures(ctx, last.RepoID, last.Digest, last.Name, contentPage)
	}, func(s metadb.NamedSignature) error {
		return b.add(ctx, signatureOf(s.Repository, s.Signature), nil)
	})
}

func (b *based) tags(ctx context.Context) error {
	return pages(ctx, basePage, func(last *metadb.NamedTag) ([]metadb.NamedTag, error) {
		repo, name := int64(0), ""
		if last != nil {
			repo, name = last.RepoID, last.Name
		}
		return b.j.o.DB.NamedTags(ctx, repo, name, basePage)
	}, func(t metadb.NamedTag) error {
		return b.add(ctx, line{Kind: tagLine, Repository: t.Repository, Tag: t.Name, Digest: t.Digest, At: t.At, By: t.By}, nil)
	})
}

func (b *based) places(ctx context.Context) error {
	return pages(ctx, basePage, func(last *metadb.StoredBlob) ([]metadb.StoredBlob, error) {
		after := oci.Digest{}
		if last != nil {
			after = last.Digest
		}
		return b.j.o.DB.PlacedBlobs(ctx, after, basePage)
	}, func(s metadb.StoredBlob) error {
		return b.add(ctx, line{Kind: placeLine, Digest: s.Digest, Place: s.Place, Size: s.Size}, nil)
	})
}

func (b *based) smallBlobs(ctx context.Context) error {
	return pages(ctx, contentPage, func(last *metadb.SmallBlob) ([]metadb.SmallBlob, error) {
		after := oci.Digest{}
		if last != nil {
			after = last.Digest
		}
		return b.j.o.DB.NeededContents(ctx, after, contentPage)
	}, func(s metadb.SmallBlob) error {
		return b.add(ctx, line{Kind: contentLine, Digest: s.Digest, Size: int64(len(s.Bytes))}, s.Bytes)
	})
}
