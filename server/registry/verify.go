package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// Content that is not what its digest says is never answered as if it were. What comes from the database is verified
// whenever it enters memory; a blob from the store when it is sent whole, as often as Options.Verify says. What is found
// to be wrong is put aside for everybody (metadb.Quarantine): from then on a push of it is what brings it back.

// Verify says which blobs are verified on their way from the store to a client. Manifests and small blobs always are.
type Verify uint8

// How often blobs are verified.
const (
	VerifySampled Verify = iota // one of sampleOf that are sent whole
	VerifyAlways
	VerifyNever // the scrub alone finds what is wrong; blobs leave by sendfile
)

const sampleOf = 16

// SendBlob writes to w all that OpenBlob has opened, size bytes, and returns how many w took. Fewer than size come with an
// error, after which the answer must not look complete: content that is wrong is found before its last bytes are written.
func (s *Service) SendBlob(ctx context.Context, w io.Writer, d oci.Digest, content blob.Content, size int64) (int64, error) {
	if s.o.Verify == VerifyNever || s.o.Verify == VerifySampled && rand.N(sampleOf) != 0 {
		return blob.Copy(w, content, size)
	}
	n, err := blob.Send(w, content, size, d)
	var wrong *blob.WrongError
	if errors.As(err, &wrong) {
		s.quarantine(ctx, metadb.Damage{Digest: d, Detail: wrong.Error()})
	}
	return n, err
}

// quarantineWithin bounds how long a request whose answer is lost goes on with putting the blob aside.
const quarantineWithin = 10 * time.Second

// quarantine puts a blob aside that a pull found to be wrong. When that fails the next pull finds it again.
func (s *Service) quarantine(ctx context.Context, m metadb.Damage) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), quarantineWithin)
	defer stop()
	m.FoundBy = "pull"
	done := false
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		var repos []int64
		repos, done, err = tx.Quarantine(m)
		if err != nil || !done {
			return err
		}
		tx.AfterCommit(func() { s.Forget(m.Digest, repos...) })
		if s.o.Suspect != nil {
			return s.o.Suspect(tx, m)
		}
		return nil
	})
	if err != nil {
		s.o.Log.ErrorContext(ctx, "a damaged blob could not be put aside", "digest", m.Digest, "found", m.Detail, "err", err)
	} else if done {
		s.o.Log.ErrorContext(ctx, "a blob is damaged; a push of it repairs it, and berthd fsck tells which tags need it",
			"digest", m.Digest, "found", m.Detail)
	}
}

// Forget drops what memory has of a digest in repositories, after a commit by another engine.
func (s *Service) Forget(d oci.Digest, repos ...int64) {
	for _, id := range repos {
		s.manifests.drop(contentKey{id, d})
		s.blobs.drop(contentKey{id, d})
	}
}

// damagedBlob is the answer for a blob that is known by name alone.
func damagedBlob(name ref.Name, d oci.Digest) *fault.Error {
	return fault.New(fault.NotFound, fault.BlobUnknown,
		"blob %s of %s is damaged: the bytes that the registry stored are lost or not what the digest says; push it again to repair it", d, name)
}

func damagedManifest(name string, d oci.Digest) *fault.Error {
	return fault.New(fault.NotFound, fault.ManifestUnknown,
		"manifest %s of %s is damaged: the bytes that the registry stored are lost or not what the digest says; push it again to repair it", d, name)
}

// errDamaged says of content in the database that it is not what its digest says.
type errDamaged struct{ damage metadb.Damage }

func (e *errDamaged) Error() string { return e.damage.Detail }

// checkStored compares what the database has with the digest. body is nil when it has nothing.
func checkStored(d oci.Digest, body []byte) error {
	if body == nil {
		return &errDamaged{metadb.Damage{Digest: d, Missing: true, Detail: "the database does not have the content"}}
	}
	if got := oci.FromBytes(d.Algorithm(), body); got != d {
		return &errDamaged{metadb.Damage{Digest: d, Detail: fmt.Sprintf("the content in the database has digest %s", got)}}
	}
	return nil
}
