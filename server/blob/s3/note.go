package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/server/blob"
)

// notesPrefix is where notes are: below the tree of the content, so that who copies that has them, too.
func (s *Store) notesPrefix() string { return s.root + "docker/registry/v2/berth/" }

// PutNote implements blob.NoteKeeper: one request.
func (s *Store) PutNote(ctx context.Context, name string, content []byte) error {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return err
	}
	body := pagesOf(content)
	defer body.free()
	return s.failed("put "+name, s.put(ctx, s.notesPrefix()+name, body, false))
}

// Note implements blob.NoteKeeper.
func (s *Store) Note(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return nil, err
	}
	c, err := s.open(ctx, s.notesPrefix()+name)
	if isMissing(err) {
		return nil, blob.UnknownNote(name)
	} else if err != nil {
		return nil, s.failed("open "+name, err)
	}
	defer c.Close()
	if c.size > blob.MaxNote {
		return nil, fmt.Errorf("s3: %s has %d bytes, which is more than a note may have", name, c.size)
	}
	content := make([]byte, c.size)
	_, err = io.ReadFull(c, content)
	return content, err
}

// NoteNames implements blob.NoteKeeper.
func (s *Store) NoteNames(ctx context.Context, folder string) ([]string, error) {
	prefix := s.notesPrefix()
	if folder != "" {
		if err := blob.CheckNote(folder); err != nil {
			return nil, err
		}
		folder += "/"
	}
	var names []string
	err := s.list(ctx, prefix+folder, func(o types.Object) {
		if name := strings.TrimPrefix(aws.ToString(o.Key), prefix); blob.CheckNote(name) == nil {
			names = append(names, name)
		}
	})
	slices.Sort(names)
	return names, s.failed("list notes", err)
}

// DeleteNotes implements blob.NoteKeeper.
func (s *Store) DeleteNotes(ctx context.Context, names ...string) error {
	keys := make([]string, len(names))
	for i, name := range names {
		if err := blob.CheckNote(name); err != nil {
			return err
		}
		keys[i] = s.notesPrefix() + name
	}
	return s.failed("delete notes", s.remove(ctx, keys))
}
