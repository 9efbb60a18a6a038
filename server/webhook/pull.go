package webhook

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
)

// pullQueue is how many pulls of one endpoint wait in memory. A pull writes nothing, so that there is no outbox for it:
// what does not fit is dropped and counted, and what waits when the process ends is not told.
const pullQueue = 4096

// pullTries are the attempts at one pull.
const pullTries = 3

// Pull is a pull of a manifest or blob.
type Pull struct {
	Repository string
	Tag        string // "" when it was asked for by digest
	Digest     oci.Digest
	MediaType  string // "" is a blob
	Size       int64  // bytes
	Body       []byte // of a manifest, for its references; nil for a blob
	Principal  string
	Request    event.Request
}

// WantsPulls reports whether any endpoint is told of pulls. Without one there is no need to call Pulled.
func (s *Service) WantsPulls() bool { return s.pulls }

// Pulled tells those who want to know. It never waits.
func (s *Service) Pulled(p Pull) {
	var r record
	made := false
	for _, e := range s.endpoints {
		mediaType := p.MediaType
		if mediaType == "" {
			mediaType = blobMediaType
		}
		if !e.wants(actionPull, mediaType) {
			continue
		}
		if !made {
			r, made = s.pulled(p, mediaType), true
		}
		e.meter.count("Events", 1)
		select {
		case e.pulls <- r:
		default:
			e.meter.count("Dropped", 1)
		}
	}
}

func (s *Service) pulled(p Pull, mediaType string) record {
	r := s.blank(&p.Request, p.Principal)
	r.ID, r.Timestamp, r.Action = randomID(), s.o.Now().UTC(), actionPull
	kind := "manifests"
	if p.MediaType == "" {
		kind = "blobs"
	}
	r.Target = target{
		MediaType: mediaType, Digest: p.Digest.String(), Size: p.Size, Length: p.Size, Repository: p.Repository,
		URL: s.contentURL(&p.Request, p.Repository, kind, p.Digest), Tag: p.Tag,
	}
	if s.o.IncludeReferences && p.Body != nil {
		r.Target.References = describe(p.Body)
	}
	return r
}

// tellPulls sends what is in the endpoint's queue, until ctx ends.
func (s *Service) tellPulls(ctx context.Context, e *endpoint) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-e.pulls:
			s.tellPull(ctx, e, r)
		}
	}
}

func (s *Service) tellPull(ctx context.Context, e *endpoint, r record) {
	body, err := json.Marshal(r)
	if err != nil { // texts and numbers can be written
		return
	}
	for try := int64(1); try <= pullTries; try++ {
		err := e.send(ctx, body)
		var f *failure
		if !errors.As(err, &f) {
			return // delivered, or the process ends
		}
		if f.refused {
			break
		}
		pause(ctx, e.pauseAfter(int64(e.Threshold)+try, f))
	}
	e.meter.count("Dropped", 1)
}
