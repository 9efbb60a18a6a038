package adminapi

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

// IfMatch is the header of a change that must not undo another's.
type IfMatch struct {
	IfMatch string `header:"If-Match" doc:"ETag of the object as it was read, or * for whatever it is. Required."`
}

// anyGeneration is an object whatever it is by now.
const anyGeneration = -1

// generation is what the object has to be; see metadb.ErrChanged.
//
// Spec: RFC 9110, 13.1.1, and RFC 6585, 3.
func (c IfMatch) generation() (int64, error) {
	if c.IfMatch == "" {
		return 0, fault.New(fault.Invalid, PreconditionRequired, "the request has no If-Match; send the ETag of the object as you have read it, or * to change it whatever it is").At("If-Match")
	}
	return generationOf(c.IfMatch)
}

// IfMatchOptional is IfMatch of a deletion.
type IfMatchOptional struct {
	IfMatch string `header:"If-Match" doc:"ETag of the object as it was read; without it the object goes whatever it is."`
}

func (c IfMatchOptional) generation() (int64, error) {
	if c.IfMatch == "" {
		return anyGeneration, nil
	}
	return generationOf(c.IfMatch)
}

func generationOf(header string) (int64, error) {
	if header == "*" {
		return anyGeneration, nil
	}
	if text, ok := strings.CutPrefix(header, `"`); ok {
		if n, err := strconv.ParseInt(strings.TrimSuffix(text, `"`), 10, 64); err == nil && n >= 0 && etag(n) == header {
			return n, nil
		}
	}
	// Some other tag: none is of an object of ours, and so none matches.
	return 0, fault.New(fault.Conflict, Changed, "If-Match %.100q is not the ETag of the object as it is now; read it again", header).At("If-Match")
}

// eachTag does a change once for every tag that If-Match has, until one is the object's: each time as a whole or not at all.
func eachTag(h http.Header, do func() (*answer, error)) (*answer, error) {
	tags := tagsOf(h.Values("If-Match"))
	if len(tags) < 2 {
		return do()
	}
	var a *answer
	var err error
	for _, tag := range tags[:min(len(tags), mostTags)] {
		h.Set("If-Match", tag)
		a, err = do()
		if !fault.Has(err, Changed) && !errors.Is(err, metadb.ErrChanged) {
			break
		}
	}
	return a, err
}

// mostTags are tried of one If-Match.
const mostTags = 16

// sameTag reports whether one of the tags of If-None-Match is that of the object.
//
// Spec: RFC 9110, 13.1.2: by the weak comparison.
func sameTag(header []string, tag string) bool {
	return tag != "" && slices.ContainsFunc(tagsOf(header), func(t string) bool { return t == "*" || strings.TrimPrefix(t, "W/") == tag })
}

// tagsOf takes a list of tags apart. Ours have no commas in them.
func tagsOf(header []string) (tags []string) {
	for tag := range strings.SplitSeq(strings.Join(header, ","), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// etag is the ETag of an object: its generation, which no other object of its name has had.
func etag(generation int64) string { return `"` + strconv.FormatInt(generation, 10) + `"` }

// tagged is an answer of an object that can be changed.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"Of the object as it is; for If-Match."`
	Body T
}

func showTagged[T any](v T, generation int64, err error) (*tagged[T], error) {
	if err != nil {
		return nil, err
	}
	return &tagged[T]{etag(generation), v}, nil
}

// created is an answer of an object that was made.
type created[T any] struct {
	ETag     string `header:"ETag" doc:"Of the object as it is; for If-Match."`
	Location string `header:"Location" doc:"Where it is."`
	Body     T
}

// done is the answer of what has none.
type done struct{}

func finish(err error) (*done, error) {
	if err != nil {
		return nil, err
	}
	return &done{}, nil
}
