package webhook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// MediaType is the Content-Type of a notification, as of CNCF distribution, notifications/event.go.
const MediaType = "application/vnd.docker.distribution.events.v2+json"

// The actions of events.
const (
	actionPush   = "push"
	actionPull   = "pull"
	actionMount  = "mount"
	actionDelete = "delete"
)

const blobMediaType = "application/octet-stream"

// envelope is the body of a notification. Receivers must take any number of events; one is sent, as distribution does.
type envelope struct {
	Events []json.RawMessage `json:"events"`
}

// record is an event in the form of CNCF distribution.
type record struct {
	ID        string        `json:"id,omitempty"`
	Timestamp time.Time     `json:"timestamp"`
	Action    string        `json:"action,omitempty"`
	Target    target        `json:"target"`
	Request   requestRecord `json:"request"`
	Actor     actorRecord   `json:"actor"`
	Source    Source        `json:"source"`
}

type target struct {
	MediaType      string       `json:"mediaType"`
	Digest         string       `json:"digest"`
	Size           int64        `json:"size"`
	Length         int64        `json:"length,omitempty"`
	Repository     string       `json:"repository,omitempty"`
	FromRepository string       `json:"fromRepository,omitempty"`
	URL            string       `json:"url,omitempty"`
	Tag            string       `json:"tag,omitempty"`
	References     []descriptor `json:"references,omitempty"`
}

// descriptor is what a manifest refers to.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     json.RawMessage   `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type requestRecord struct {
	ID        string `json:"id"`
	Addr      string `json:"addr,omitempty"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method"`
	UserAgent string `json:"useragent"`
}

type actorRecord struct {
	Name string `json:"name,omitempty"`
}

// Source is the registry that says so: its address, and which of its processes.
type Source struct {
	Addr       string `json:"addr,omitempty"`
	InstanceID string `json:"instanceID,omitempty"`
}

// record makes the record of an outbox event; ok is false for what endpoints are not told.
func (s *Service) record(ctx context.Context, e event.Event) (r record, ok bool, err error) {
	d := e.Detail()
	r = s.blank(d.Request, e.Principal)
	r.ID, r.Timestamp = eventID(s.namespace, e.Cursor), e.At
	t := &r.Target
	t.Repository = e.Repository
	described := func(action, kind string) {
		r.Action = action
		t.Digest, t.Size, t.Length, t.MediaType = e.Digest.String(), d.Size, d.Size, d.MediaType
		t.URL = s.contentURL(d.Request, e.Repository, kind, e.Digest)
	}
	switch e.Kind {
	case event.KindManifestPushed:
		if d.Tagged { // each tag says it
			return r, false, nil
		}
		described(actionPush, "manifests")
	case event.KindTagMoved:
		described(actionPush, "manifests")
		t.Tag = e.Tag
	case event.KindBlobMounted:
		described(actionMount, "blobs")
		t.FromRepository, t.MediaType = d.FromRepository, blobMediaType
	case event.KindManifestDeleted, event.KindBlobDeleted:
		r.Action, t.Digest = actionDelete, e.Digest.String()
	case event.KindTagDeleted:
		r.Action, t.Tag = actionDelete, e.Tag // without a digest, which would say that the manifest is gone
	default:
		return r, false, nil // of a newer berthd
	}
	if s.o.IncludeReferences && r.Action == actionPush {
		t.References, err = s.references(ctx, e.Digest)
	}
	return r, true, err
}

// blank is a record with who asked for what.
func (s *Service) blank(q *event.Request, principal string) record {
	r := record{Source: s.o.Source}
	if q != nil {
		r.Request = requestRecord{ID: q.ID, Addr: q.Addr, Host: q.Host, Method: q.Method, UserAgent: q.UserAgent}
	}
	if principal != "anonymous" && principal != "nobody" {
		r.Actor.Name = principal
	}
	return r
}

func (s *Service) contentURL(q *event.Request, repository, kind string, d oci.Digest) string {
	base := s.o.Base
	if q != nil && q.Base != "" {
		base = q.Base
	}
	if base == "" || d.IsZero() {
		return ""
	}
	return strings.TrimSuffix(base, "/") + "/v2/" + repository + "/" + kind + "/" + d.String()
}

// references is what the manifest refers to, in the order of distribution. A manifest that is gone by now refers to
// nothing any more.
func (s *Service) references(ctx context.Context, d oci.Digest) ([]descriptor, error) {
	body, err := s.o.DB.Content(ctx, d)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return describe(body), nil
}

// describe lists what a manifest or index refers to, without its subject, as distribution does.
func describe(body []byte) []descriptor {
	var m struct {
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if json.Unmarshal(body, &m) != nil { // it was pushed under other rules
		return nil
	}
	var refs []descriptor
	if m.Config != nil {
		refs = append(refs, *m.Config)
	}
	return append(append(refs, m.Layers...), m.Manifests...)
}

// eventID is the id of an event for receivers: the same whenever and by whomever it is sent, other than any of another
// registry, and in the form of a UUID (version 8, RFC 9562). Its last bits are the number in the outbox, so that an
// operator can name an event by what a receiver saw.
func eventID(namespace string, c event.Cursor) string {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], uint64(c.Epoch))
	binary.BigEndian.PutUint64(seed[8:], uint64(c.ID))
	sum := sha256.Sum256(append([]byte(namespace), seed[:]...))
	var u [16]byte
	copy(u[:8], sum[:])
	binary.BigEndian.PutUint64(u[8:], uint64(c.ID))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return hyphenate(u)
}

// outboxNumber is the number that eventID has put into an id.
func outboxNumber(id string) (int64, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 || b[6]>>4 != 8 {
		return 0, fmt.Errorf("%q is not the id of an event; expected the id that a receiver saw, such as 6f1c2a9e-51d0-8c3b-8000-00000000002a, or the number of an event", id)
	}
	return int64(binary.BigEndian.Uint64(b[8:]) & (1<<62 - 1)), nil
}

// randomID is the id of an event that has no number in the outbox.
func randomID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return hyphenate(u)
}

func hyphenate(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
