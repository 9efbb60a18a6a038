package oracle

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// sight is what one repository answers to everything that can be asked. Nothing of it is a promise: a HEAD of a blob would
// be one, and would keep everything alive by being looked at.
type sight struct {
	list      []string
	listed    stand.Answer
	tags      map[string]stand.Answer
	manifests map[string]stand.Answer
	blobs     map[string]stand.Answer
	referrers map[string][]string
	histories map[string][]stand.TagEntry
	trash     []stand.Trashed
	refused   map[string]stand.Answer // lists that were not answered
}

func observe(c *stand.Client, u *universe, repo string) *sight {
	s := &sight{
		tags: map[string]stand.Answer{}, manifests: map[string]stand.Answer{}, blobs: map[string]stand.Answer{},
		referrers: map[string][]string{}, histories: map[string][]stand.TagEntry{}, refused: map[string]stand.Answer{},
	}
	s.list, s.listed = c.Tags(repo)
	for _, tag := range u.tags {
		s.tags[tag] = c.Get(repo, "manifests", tag)
		list, a := c.History(repo, tag)
		s.histories[tag] = list
		s.note("the history of tag "+tag, a)
	}
	list, a := c.Trash(repo)
	s.trash = list
	s.note("the trash", a)
	for digest, m := range u.manifests {
		s.manifests[digest] = c.Get(repo, "manifests", digest)
		if m.Subject == "" {
			continue
		}
		list, a := c.Referrers(repo, m.Subject)
		s.referrers[m.Subject] = list
		s.note("the referrers of "+u.name(m.Subject), a)
	}
	for _, b := range u.blobs {
		s.blobs[b.Digest] = c.Get(repo, "blobs", b.Digest)
	}
	return s
}

// note remembers a list that was not answered; there may be nothing to list.
func (s *sight) note(list string, a stand.Answer) {
	if a.Status != http.StatusOK && a.Status != http.StatusNotFound {
		s.refused[list] = a
	}
}

// difference is something that is not as the model says. key is the digest or tag that it is about.
type difference struct{ repo, key, text string }

func (d difference) String() string { return d.repo + ": " + d.text }

// compare holds what was seen against the model, repository by repository.
func (s state) compare(u *universe, sights map[string]*sight) (all []difference) {
	for _, repo := range sorted(s) {
		all = append(all, s[repo].compare(u, repo, sights[repo])...)
	}
	return all
}

func (s state) absorb(u *universe, sights map[string]*sight) {
	for repo, r := range s {
		r.absorb(u, sights[repo])
	}
}

// compare holds what was seen of a repository against the model.
func (r *repository) compare(u *universe, repo string, s *sight) (all []difference) {
	differ := func(key, format string, args ...any) {
		all = append(all, difference{repo, key, fmt.Sprintf(format, args...)})
	}
	for _, b := range u.blobs {
		a := s.blobs[b.Digest]
		is := r.blob(u, b.Digest, a.Ended)
		switch {
		case a.Status == http.StatusOK && !bytes.Equal(a.Body, b.Bytes()):
			differ(b.Digest, "%s: a clean 200 with %d bytes that are not its own", u.name(b.Digest), len(a.Body))
		case a.Status == http.StatusOK && is == mustNot:
			differ(b.Digest, "%s is there, and it was deleted, collected or never pushed", u.name(b.Digest))
		case a.Status == http.StatusNotFound && is == must:
			differ(b.Digest, "%s is lost; %s: %s", u.name(b.Digest), r.why(u, b.Digest, a), a)
		case a.Status != http.StatusOK && a.Status != http.StatusNotFound:
			differ(b.Digest, "%s: %s", u.name(b.Digest), a)
		}
	}
	for digest, m := range u.manifests {
		a := s.manifests[digest]
		switch {
		case a.Status == http.StatusOK && !bytes.Equal(a.Body, m.Body):
			differ(digest, "%s: a clean 200 with %d bytes that are not its own", u.name(digest), len(a.Body))
		case a.Status == http.StatusOK && r.manifest(digest) == mustNot:
			differ(digest, "%s is there, and it was deleted or never pushed", u.name(digest))
		case a.Status != http.StatusOK && r.manifest(digest) == must:
			differ(digest, "%s is lost: %s", u.name(digest), a)
		case a.Status != http.StatusOK && a.Status != http.StatusNotFound:
			differ(digest, "%s: %s", u.name(digest), a)
		}
	}
	r.compareTags(u, s, differ)
	r.comparePast(u, s, differ)
	return all
}

func (r *repository) compareTags(u *universe, s *sight, differ func(key, format string, args ...any)) {
	for _, tag := range u.tags {
		a, want := s.tags[tag], r.tags[tag]
		got := ""
		if a.Status == http.StatusOK {
			got = stand.DigestOf(a.Body)
		}
		if got != want || a.Status != http.StatusOK && a.Status != http.StatusNotFound {
			differ(tag, "tag %s is %q and should be %q: %.100s", tag, u.name(got), u.name(want), a)
		}
	}
	if want := sorted(r.tags); !slices.Equal(s.list, want) && (len(want) > 0 || s.listed.Status != http.StatusNotFound) {
		differ("", "the list of tags is %q and should be %q: %d", s.list, want, s.listed.Status)
	}
	for subject, list := range s.referrers {
		for d, m := range u.manifests {
			is, listed := r.manifest(d), slices.Contains(list, d)
			if m.Subject == subject && is != may && listed != (is == must) || listed && m.Subject != subject {
				differ(subject, "%s is among the referrers of %s: %v, and should be: %v", u.name(d), u.name(subject), listed, !listed)
			}
		}
	}
	for list, a := range s.refused {
		differ("", "%s: %s", list, a)
	}
}

// comparePast holds histories and the trash against the model.
func (r *repository) comparePast(u *universe, s *sight, differ func(key, format string, args ...any)) {
	for tag, entries := range s.histories {
		var got []string
		for i, e := range slices.Backward(entries) {
			got = append(got, u.name(e.Digest))
			if i > 0 && !entries[i-1].Since.After(e.Since) {
				differ(tag, "the history of tag %s has an entry of %s after one of %s", tag, entries[i-1].Since, e.Since)
			}
		}
		var want []string
		for _, d := range r.moves[tag] {
			want = append(want, u.name(d))
		}
		if !slices.Equal(got, want) {
			differ(tag, "the history of tag %s is %q and should be %q", tag, got, want)
		}
	}
	got := map[string][]string{}
	for _, m := range s.trash {
		got[m.Digest] = m.Tags
	}
	for digest, tags := range r.trash {
		if has, ok := got[digest]; !ok || !slices.Equal(has, tags) {
			differ(digest, "%s should be in the trash with tags %q: %v, %q", u.name(digest), tags, ok, has)
		}
	}
	for digest := range got {
		if _, ok := r.trash[digest]; !ok && (r.manifest(digest) != may || len(got[digest]) > 0) {
			differ(digest, "%s is in the trash and should not be", u.name(digest))
		}
	}
}

// why says for a report why a blob has to be there.
func (r *repository) why(u *universe, blob string, a stand.Answer) string {
	for d := range r.manifests {
		if r.manifest(d) == must && slices.Contains(u.manifests[d].Blobs, blob) {
			return u.name(d) + " needs it"
		}
	}
	return fmt.Sprintf("it was promised for %s more", r.blobs[blob].Sub(a.Ended))
}

// absorb learns what collection has taken. What is in the trash was there when the trash was listed, before all else.
func (r *repository) absorb(u *universe, s *sight) {
	for digest, a := range s.blobs {
		if a.Status == http.StatusNotFound {
			delete(r.blobs, digest)
		}
	}
	binned := map[string]bool{}
	for _, m := range s.trash {
		binned[m.Digest] = true
	}
	for _, d := range sorted(r.loose) {
		r.settle(d, s.manifests[d].Status == http.StatusOK && !binned[d])
	}
	r.review(u)
}
