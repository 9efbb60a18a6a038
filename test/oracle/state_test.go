package oracle

import (
	"maps"
	"slices"
	"time"
)

// certainty is what the model knows about a thing.
type certainty int

const (
	mustNot certainty = iota // it was deleted, collected or never there
	may                      // nothing needs it and no promise holds: collection may have taken it, or not yet
	must                     // something needs it, or an answer has promised it
)

// repository is what one repository has, as far as its only writer can know.
type repository struct {
	blobs     map[string]time.Time // digest → until when an answer promises it; no entry: it is not there
	manifests map[string]bool
	loose     map[string]bool     // of the manifests: those that collection may have put into the trash, see follows
	trash     map[string][]string // manifests that can be brought back → the tags that were deleted with them
	tags      map[string]string
	moves     map[string][]string // tag → every digest that it had, oldest first; "" is a deletion
}

// state is all repositories of a walker.
type state map[string]*repository

func newState(repos ...string) state {
	s := state{}
	for _, name := range repos {
		s[name] = &repository{
			blobs: map[string]time.Time{}, manifests: map[string]bool{}, loose: map[string]bool{}, trash: map[string][]string{},
			tags: map[string]string{}, moves: map[string][]string{},
		}
	}
	return s
}

func (s state) clone() state {
	c := state{}
	for name, r := range s {
		n := &repository{
			blobs: maps.Clone(r.blobs), manifests: maps.Clone(r.manifests), loose: maps.Clone(r.loose), trash: maps.Clone(r.trash),
			tags: maps.Clone(r.tags), moves: map[string][]string{},
		}
		for tag, all := range r.moves {
			n.moves[tag] = slices.Clone(all)
		}
		c[name] = n
	}
	return c
}

// needs says whether a manifest of the repository needs the blob.
func (r *repository) needs(u *universe, blob string) certainty {
	least := mustNot
	for d := range r.manifests {
		if slices.Contains(u.manifests[d].Blobs, blob) {
			least = max(least, r.manifest(d))
		}
	}
	return least
}

// manifest is what is known about a manifest.
func (r *repository) manifest(digest string) certainty {
	switch {
	case r.loose[digest]:
		return may
	case r.manifests[digest]:
		return must
	}
	return mustNot
}

// follows says whether collection may put a manifest into the trash because it was there for one that is: it never had a
// tag, no index that is there has it, its subject is not there, and an index that has it, or its subject, is in the trash.
func (r *repository) follows(u *universe, digest string) bool {
	for tag := range r.moves {
		if slices.Contains(r.moves[tag], digest) {
			return false
		}
	}
	subject := u.manifests[digest].Subject
	_, orphaned := r.trash[subject]
	orphaned = orphaned || r.loose[subject]
	if subject != "" && r.manifest(subject) == must {
		return false
	}
	for _, index := range u.indexes {
		if !slices.Contains(index.Children, digest) {
			continue
		}
		if r.manifests[index.Digest] {
			return false
		}
		_, binned := r.trash[index.Digest]
		orphaned = orphaned || binned
	}
	return orphaned
}

// review notes what collection may put into the trash from now on.
func (r *repository) review(u *universe) {
	for before := -1; before != len(r.loose); {
		before = len(r.loose)
		for d := range r.manifests {
			if r.follows(u, d) {
				r.loose[d] = true
			}
		}
	}
}

// settle learns where a manifest is, of which that was not sure.
func (r *repository) settle(digest string, there bool) {
	delete(r.loose, digest)
	if !there {
		delete(r.manifests, digest)
		r.trash[digest] = nil
	}
}

// blob is what is known about a blob at a time.
func (r *repository) blob(u *universe, digest string, at time.Time) certainty {
	until, linked := r.blobs[digest]
	switch {
	case !linked:
		return mustNot
	case until.After(at), r.needs(u, digest) == must:
		return must
	}
	return may
}

// promise notes an answer that vouches for a blob.
func (r *repository) promise(digest string, until time.Time) {
	if r.blobs[digest].Before(until) {
		r.blobs[digest] = until
		return
	}
	if _, ok := r.blobs[digest]; !ok {
		r.blobs[digest] = time.Time{} // it is there, also when nothing is promised
	}
}

// put adds a manifest; what it needs is there, or it would have been refused.
func (r *repository) put(u *universe, digest string) {
	r.manifests[digest] = true
	delete(r.loose, digest)
	delete(r.trash, digest)
	for _, b := range u.manifests[digest].Blobs {
		r.promise(b, time.Time{})
	}
}

func (r *repository) move(tag, digest string) {
	if r.tags[tag] == digest {
		return
	}
	r.moves[tag] = append(r.moves[tag], digest)
	if digest == "" {
		delete(r.tags, tag)
		return
	}
	r.tags[tag] = digest
}

// drop puts a manifest into the trash, with the tags that point at it.
func (r *repository) drop(digest string) {
	tags := r.tagsOf(digest)
	for _, tag := range tags {
		r.move(tag, "")
	}
	delete(r.manifests, digest)
	delete(r.loose, digest)
	r.trash[digest] = tags
}

// bringBack takes a manifest out of the trash, and with an index its manifests that are there, too.
func (r *repository) bringBack(u *universe, digest string) {
	if _, binned := r.trash[digest]; !binned {
		return
	}
	r.put(u, digest)
	for _, child := range u.manifests[digest].Children {
		r.bringBack(u, child)
	}
}

// before is where a tag pointed before it came to where it is; "" when that is not known.
func (r *repository) before(tag string) string {
	for _, d := range slices.Backward(r.moves[tag]) {
		if d != "" && d != r.tags[tag] {
			return d
		}
	}
	return ""
}

func (r *repository) tagsOf(digest string) (tags []string) {
	for tag, d := range r.tags {
		if d == digest {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// sorted are the keys of a map in an order that a seed repeats.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
