package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// Rebuilding says of which store the metadata is made again, and where it goes. Store, Plan, Temp, Now and Log are
// required, and one of File and Database, unless it is a dry run.
type Rebuilding struct {
	Store    blob.Store
	File     string         // SQLite database that does not exist yet
	Database metadb.Options // an empty PostgreSQL database, when File is ""
	Temp     string         // directory with room for the metadata, on the file system of File
	DryRun   bool           // say what would be made

	// Plan works out of a manifest's bytes what it is in rows; see registry.Plan.
	Plan     func(ctx context.Context, mediaType string, d oci.Digest, body []byte) (metadb.Manifest, []metadb.Edge, []oci.Digest, error)
	Grace    time.Duration // how long content that no manifest refers to is kept; default 24 h
	Progress func(Progress)

	Now func() time.Time
	Log *slog.Logger
}

// Rebuilt is the outcome.
type Rebuilt struct {
	Journal  time.Time // when the journal was begun
	Holds    metadb.Census
	Idle     Amount   // content that no manifest refers to; collection removes it when its grace is over
	Problems []string // what could not be brought back, and why; the first maxNamed
	Failed   int      // all of them
}

// Rebuild makes the metadata of a store again, from its journal and from what it has: projects, repositories, manifests,
// referrers, tags, and the signatures of podman. It is made beside and put in its place when it is complete; the store is not changed. Accounts, robots,
// keys, the history of tags and the trash are not in a journal: the next start makes a new first administrator.
//
// Pages and manifests that are damaged are named and left out. The metadata is held in memory: about a kilobyte for an
// image.
func Rebuild(ctx context.Context, o Rebuilding) (_ *Rebuilt, err error) {
	if o.Grace <= 0 {
		o.Grace = 24 * time.Hour
	}
	b := &rebuilding{o: o, tell: o.Progress, repos: map[string]*repoState{}, projects: map[string]bool{}, places: map[oci.Digest]line{}}
	if b.notes, err = blob.Notes(o.Store); err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := requireEmpty(ctx, o.File, o.Database); err != nil {
			return nil, err
		}
	}
	if err := b.readJournal(ctx); err != nil {
		return nil, err
	}
	dir, err := workDir(o.Temp)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "berth.db")
	if err := b.build(ctx, file); err != nil {
		return nil, err
	}
	if !o.DryRun {
		b.tell.say(Progress{Doing: "putting the metadata in its place"})
		if err := putInPlace(ctx, file, o.File, o.Database, o.Log, o.Now); err != nil {
			return nil, err
		}
	}
	return &b.out, nil
}

// repoState is a repository as the journal has it.
type repoState struct {
	id         int64
	project    string
	listed     bool
	manifests  map[oci.Digest]line
	tags       map[string]line
	signatures map[oci.Digest]map[string]time.Time // by manifest and name, when they were made; their bytes are read again
}

type rebuilding struct {
	o        Rebuilding
	notes    blob.NoteKeeper
	tell     tell
	pages    []string
	projects map[string]bool
	repos    map[string]*repoState
	places   map[oci.Digest]line
	db       *metadb.DB
	out      Rebuilt
}

func (b *rebuilding) problem(format string, args ...any) {
	if b.out.Failed++; len(b.out.Problems) < maxNamed {
		b.out.Problems = append(b.out.Problems, fmt.Sprintf(format, args...))
	}
}

// RequireJournal is NotFound when a store has no journal to rebuild from. It changes nothing.
func RequireJournal(ctx context.Context, store blob.Store) error {
	notes, err := blob.Notes(store)
	if err == nil {
		_, err = knownHead(ctx, notes)
	}
	return err
}

func knownHead(ctx context.Context, notes blob.NoteKeeper) (journalHead, error) {
	head, err := readHead(ctx, notes)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.NotFound, fault.Unknown, "storage has no journal of names (berth.journal), so the names of its content are lost; restore a backup")
	}
	return head, err
}

// readJournal gathers what there is, page by page in the order in which they were written.
func (b *rebuilding) readJournal(ctx context.Context) error {
	head, err := knownHead(ctx, b.notes)
	if err != nil {
		return err
	}
	b.out.Journal = head.At
	if b.pages, err = b.notes.NoteNames(ctx, journalFolder+"/"+head.ID); err != nil { // base-… sorts before log-…
		return err
	}
	var end link
	if head.Chained {
		end, err = readChain(ctx, b.notes, head.ID)
		if unknown := fault.Is(err, fault.NotFound) && len(b.pages) > 0 || fault.Is(err, fault.Conflict); unknown {
			b.problem("which page of the journal is the last is not known (%s is missing or damaged), so pages that are missing cannot be named", chainNote(head.ID))
		} else if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	for before := b.out; ; b.out = before {
		c, err := b.readPages(ctx)
		if err != nil {
			return err
		}
		found, err := b.follow(ctx, end, c)
		if err != nil || len(found) == 0 {
			return err
		}
		b.pages = append(b.pages, found...) // they count in their order, so all is read again
		slices.Sort(b.pages)
		b.projects, b.repos, b.places = map[string]bool{}, map[string]*repoState{}, map[oci.Digest]line{}
	}
}

// readPages takes in what the pages say, and returns what they say of the chain.
func (b *rebuilding) readPages(ctx context.Context) (*chained, error) {
	c := &chained{map[string]link{}, map[string]bool{}}
	for i, name := range b.pages {
		b.tell.say(Progress{Done: int64(i), Total: int64(len(b.pages)), Doing: "reading the journal"})
		err := readPage(ctx, b.notes, name, func(l line, _ []byte) error {
			if l.Kind == chainLine {
				c.before[name] = link{l.Page, l.Number}
			}
			b.take(l)
			return nil
		})
		switch {
		case fault.Is(err, fault.Conflict):
			c.damaged[name] = true
			b.problem("%v; what only it had is lost", err)
		case fault.Is(err, fault.NotFound): // listed, and not there: it is missed when it is in the chain
		case err != nil:
			return nil, err
		}
	}
	return c, nil
}

func (b *rebuilding) repo(name string) *repoState {
	r := b.repos[name]
	if r == nil {
		project, _, _ := strings.Cut(name, "/")
		r = &repoState{project: project, manifests: map[oci.Digest]line{}, tags: map[string]line{}, signatures: map[oci.Digest]map[string]time.Time{}}
		b.repos[name] = r
	}
	return r
}

func (b *rebuilding) take(l line) {
	switch l.Kind {
	case projectLine:
		b.projects[l.Project] = l.Public
	case repositoryLine:
		r := b.repo(l.Repository)
		r.project, r.listed = l.Project, l.Listed
	case manifestLine:
		r := b.repo(l.Repository)
		r.manifests[l.Digest], r.listed = l, true
	case goneLine:
		delete(b.repo(l.Repository).manifests, l.Digest)
		delete(b.repo(l.Repository).signatures, l.Digest)
	case signatureLine:
		all := b.repo(l.Repository).signatures
		if all[l.Digest] == nil {
			all[l.Digest] = map[string]time.Time{}
		}
		all[l.Digest][l.Tag] = l.At
	case tagLine:
		b.repo(l.Repository).tags[l.Tag] = l
	case untagLine:
		delete(b.repo(l.Repository).tags, l.Tag)
	case placeLine:
		b.places[l.Digest] = l
	case contentLine, chainLine: // who reads pages takes them
	}
}

// build makes the database in a file of its own.
func (b *rebuilding) build(ctx context.Context, file string) (err error) {
	b.db, err = metadb.Open(ctx, metadb.Options{Path: file, MaxOpen: 2, Log: b.o.Log, Now: b.o.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.db.Close()) }()
	for _, step := range []func(context.Context) error{b.contents, b.stored, b.placed, b.names, b.signed, b.count} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// batch runs changes in transactions of some hundred.
type batch struct {
	db    *metadb.DB
	queue []func(*metadb.Tx) error
	bytes int
}

func (q *batch) add(ctx context.Context, bytes int, fn func(*metadb.Tx) error) error {
	q.queue = append(q.queue, fn)
	if q.bytes += bytes; len(q.queue) < 200 && q.bytes < 8<<20 {
		return nil
	}
	return q.flush(ctx)
}

func (q *batch) flush(ctx context.Context) error {
	err := q.db.UpdateSoft(ctx, func(tx *metadb.Tx) error {
		for _, fn := range q.queue {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	q.queue, q.bytes = q.queue[:0], 0
	return err
}

// contents takes the bytes that only the database had. Everything begins with a grace, and collection looks at it when that
// is over: what nothing refers to goes then.
func (b *rebuilding) contents(ctx context.Context) error {
	q := &batch{db: b.db}
	until := b.o.Now().Add(b.o.Grace)
	for i, name := range b.pages {
		b.tell.say(Progress{Done: int64(i), Total: int64(len(b.pages)), Doing: "taking small content from the journal"})
		err := readPage(ctx, b.notes, name, func(l line, content []byte) error {
			if l.Kind != contentLine {
				return nil
			}
			if oci.FromBytes(l.Digest.Algorithm(), content) != l.Digest {
				b.problem("content %s in the journal is damaged", l.Digest)
				return nil
			}
			return q.add(ctx, len(content), func(tx *metadb.Tx) error {
				return tx.PutBlob(metadb.Blob{Digest: l.Digest, Size: int64(len(content)), LeaseUntil: until}, content)
			})
		})
		if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) { // that one is named already
			return err
		}
	}
	return q.flush(ctx)
}

// stored takes what the store lists.
func (b *rebuilding) stored(ctx context.Context) error {
	q := &batch{db: b.db}
	until := b.o.Now().Add(b.o.Grace)
	n := int64(0)
	err := blob.List(ctx, b.o.Store, oci.Digest{}, func(l blob.Listed) error {
		if n++; n%1000 == 0 {
			b.tell.say(Progress{Done: n, Doing: fmt.Sprintf("listing the storage: %d blobs", n)})
		}
		delete(b.places, l.Digest)
		return q.add(ctx, 0, func(tx *metadb.Tx) error {
			have, err := tx.BlobAnywhere(ctx, l.Digest)
			if err == nil && have.Size != l.Size { // the database's own bytes were verified, and these are not needed
				return nil
			}
			if err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return err
			}
			return tx.PutBlob(metadb.Blob{Digest: l.Digest, Size: l.Size, LeaseUntil: until}, nil)
		})
	})
	return errors.Join(err, q.flush(ctx))
}

// placed takes what lies elsewhere in the store, as far as it is still there.
func (b *rebuilding) placed(ctx context.Context) error {
	until := b.o.Now().Add(b.o.Grace)
	for _, l := range b.places {
		c, size, err := blob.OpenAt(ctx, b.o.Store, l.Place, l.Digest)
		if fault.Has(err, fault.BlobUnknown) {
			continue // what needs it says so
		} else if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
		err = b.db.UpdateSoft(ctx, func(tx *metadb.Tx) error {
			return tx.PutBlob(metadb.Blob{Digest: l.Digest, Size: size, Place: l.Place, LeaseUntil: until}, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// names makes projects, repositories, manifests and tags.
func (b *rebuilding) names(ctx context.Context) error {
	q := &batch{db: b.db}
	for _, name := range slices.Sorted(maps.Keys(b.projects)) {
		public := b.projects[name]
		if err := q.add(ctx, 0, func(tx *metadb.Tx) error { _, _, err := tx.EnsureProject(name, public); return err }); err != nil {
			return err
		}
	}
	if err := q.flush(ctx); err != nil {
		return err
	}
	for i, name := range slices.Sorted(maps.Keys(b.repos)) {
		b.tell.say(Progress{Done: int64(i), Total: int64(len(b.repos)), Doing: "making repositories"})
		if err := b.repository(ctx, name, b.repos[name]); err != nil {
			return fmt.Errorf("rebuild: repository %s: %w", name, err)
		}
	}
	return nil
}

func (b *rebuilding) repository(ctx context.Context, name string, state *repoState) error {
	var repo metadb.Repository
	err := b.db.UpdateSoft(ctx, func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject(state.project, b.projects[state.project])
		if err != nil {
			return err
		}
		if repo, err = tx.EnsureRepository(p.ID, name); err != nil {
			return err
		}
		return tx.SetListed(repo.ID, state.listed)
	})
	if err != nil {
		return err
	}
	state.id = repo.ID
	q := &batch{db: b.db}
	have := map[oci.Digest]bool{}
	// Oldest first, as they came: what sorts by that is as it was.
	for _, l := range slices.SortedFunc(maps.Values(state.manifests), func(x, y line) int {
		if c := x.At.Compare(y.At); c != 0 {
			return c
		}
		return strings.Compare(x.Digest.String(), y.Digest.String())
	}) {
		m, err := b.manifest(ctx, name, l)
		if err != nil {
			return err
		}
		if m == nil {
			delete(state.signatures, l.Digest) // they go where it goes
			continue
		}
		have[l.Digest] = true
		if err := q.add(ctx, 0, func(tx *metadb.Tx) error { return m.put(tx, repo.ID) }); err != nil {
			return err
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(state.tags)) {
		l := state.tags[tag]
		if !have[l.Digest] {
			b.problem("tag %s:%s is not restored, because its manifest %s is not", name, tag, l.Digest)
			continue
		}
		err := q.add(ctx, 0, func(tx *metadb.Tx) error {
			_, err := tx.PutTag(repo.ID, tag, l.Digest, metadb.Origin{By: l.By, Source: "berthd rebuild"})
			return err
		})
		if err != nil {
			return err
		}
	}
	return q.flush(ctx)
}

// signed takes the signatures of the manifests that are there, by the last that the journal says of each.
func (b *rebuilding) signed(ctx context.Context) error {
	q := &batch{db: b.db}
	for i, name := range b.pages {
		b.tell.say(Progress{Done: int64(i), Total: int64(len(b.pages)), Doing: "taking signatures from the journal"})
		err := readPage(ctx, b.notes, name, func(l line, _ []byte) error {
			if l.Kind != signatureLine {
				return nil
			}
			state := b.repos[l.Repository]
			at, ok := state.signatures[l.Digest][l.Tag]
			if _, there := state.manifests[l.Digest]; !ok || !there || !at.Equal(l.At) {
				return nil
			}
			s := metadb.Signature{RepoID: state.id, Digest: l.Digest, Name: l.Tag, Content: l.Bytes, CreatedAt: l.At, CreatedBy: l.By}
			return q.add(ctx, len(l.Bytes), func(tx *metadb.Tx) error {
				_, _, _, err := tx.PutSignature(s)
				return err
			})
		})
		if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) { // that one is named already
			return err
		}
	}
	return q.flush(ctx)
}

// planned is a manifest in rows.
type planned struct {
	row   metadb.Manifest
	edges []metadb.Edge
	links []oci.Digest
}

func (p *planned) put(tx *metadb.Tx, repoID int64) error {
	for _, d := range p.links {
		if _, err := tx.LinkBlob(repoID, d); err != nil {
			return err
		}
	}
	p.row.RepoID = repoID
	_, err := tx.PutManifest(p.row, p.edges)
	return err
}

// manifest works a manifest out, or says why it cannot be brought back: nil then.
func (b *rebuilding) manifest(ctx context.Context, repo string, l line) (*planned, error) {
	lost := func(format string, args ...any) (*planned, error) {
		b.problem("manifest %s@%s is not restored: %s", repo, l.Digest, fmt.Sprintf(format, args...))
		return nil, nil
	}
	body, err := b.body(ctx, l.Digest)
	if detail, ok := lostAs(err); ok {
		return lost("%s", detail)
	} else if err != nil {
		return nil, err
	}
	p := &planned{}
	var required []oci.Digest
	p.row, p.edges, required, err = b.o.Plan(ctx, l.MediaType, l.Digest, body)
	if err != nil {
		return lost("%v", err)
	}
	p.row.PushedAt, p.row.PushedBy = l.At, l.By
	for _, d := range required {
		switch _, err := b.db.BlobAnywhere(ctx, d); {
		case errors.Is(err, metadb.ErrNotFound):
			return lost("its content %s is missing", d)
		case err != nil:
			return nil, err
		}
		p.links = append(p.links, d)
	}
	return p, nil
}

// body is the bytes of a manifest, which are what its digest says.
func (b *rebuilding) body(ctx context.Context, d oci.Digest) ([]byte, error) {
	body, err := b.db.Content(ctx, d)
	if err == nil || !errors.Is(err, metadb.ErrNotFound) {
		return body, err // verified when it was taken in
	}
	c, size, err := b.o.Store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if size > blob.MaxNote {
		return nil, &blob.WrongError{Digest: d, Size: blob.MaxNote, Read: size}
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	if found := oci.FromBytes(d.Algorithm(), body); found != d {
		return nil, &blob.WrongError{Digest: d, Found: found, Size: size, Read: size}
	}
	return body, nil
}

// count says what was made.
func (b *rebuilding) count(ctx context.Context) (err error) {
	if b.out.Holds, err = b.db.Census(ctx); err != nil {
		return err
	}
	return storedBlobs(ctx, b.db, func(s metadb.StoredBlob) error {
		repos, err := b.db.BlobRepositories(ctx, s.Digest, 1)
		if err == nil && len(repos) == 0 {
			b.out.Idle.Blobs++
			b.out.Idle.Bytes += s.Size
		}
		return err
	})
}
