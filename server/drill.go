package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/telemetry"
)

// Drilled is what a drill has found.
type Drilled struct {
	Record   *backup.Record
	Tags     int // that were pulled
	Blobs    int
	Bytes    int64
	Problems []string
}

// Drill starts a second registry on a snapshot, on loopback and in a temporary directory, with the content left in the
// backup and nothing that writes to it, and pulls a random sample of tags as a client would, verifying every byte.
func Drill(ctx context.Context, c *config.Config, o Restore, sample int) (d *Drilled, err error) {
	log := slog.New(slog.DiscardHandler)
	clock := time.Now
	from, stop, err := OpenBackup(ctx, c, o.From, false, log, clock)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	dir, err := os.MkdirTemp("", "berth-drill-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d = &Drilled{}
	if d.Record, err = backup.Unpack(ctx, from, o.Snapshot, filepath.Join(dir, "berth.db"), clock, log); err != nil {
		return nil, err
	}
	tags, err := sampleTags(ctx, filepath.Join(dir, "berth.db"), sample)
	if err != nil {
		return nil, err
	}
	loaded, err := config.Load(config.LoadOptions{Flags: map[string]string{"data": dir, "addr": "127.0.0.1:0"}, Fallback: []string{}})
	if err != nil {
		return nil, err
	}
	loaded.Config.Berth.Journal, loaded.Config.Berth.Socket = false, "off"
	loaded.Config.Storage.Maintenance.ReadOnly.Enabled = true
	password, err := ResetPassword(ctx, loaded.Config, "admin", "")
	if err != nil {
		return nil, err
	}
	return d, d.run(ctx, loaded, from, tags, password)
}

// sampleTags chooses tags, each as likely as any other. Collection is held: a drill deletes nothing.
func sampleTags(ctx context.Context, file string, most int) (tags []metadb.NamedTag, err error) {
	db, err := metadb.Open(ctx, metadb.Options{Path: file, MaxOpen: 2, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.HoldCollection("drill", 7*24*time.Hour) }); err != nil {
		return nil, err
	}
	const page = 1000
	repo, name, seen := int64(0), "", 0
	for {
		all, err := db.NamedTags(ctx, repo, name, page)
		if err != nil {
			return nil, err
		}
		for _, t := range all {
			if seen++; len(tags) < most {
				tags = append(tags, t)
			} else if i := rand.IntN(seen); i < most {
				tags[i] = t
			}
		}
		if len(all) < page {
			return tags, nil
		}
		repo, name = all[page-1].RepoID, all[page-1].Name
	}
}

// run boots the second registry and pulls.
func (d *Drilled) run(ctx context.Context, loaded *config.Loaded, from blob.Store, tags []metadb.NamedTag, password string) (err error) {
	clock := time.Now
	ready := make(chan struct{})
	s, err := New(ctx, Options{
		Config: loaded, Stderr: io.Discard, Getenv: func(string) string { return "" }, Build: telemetry.Build{Version: "drill"}, Now: clock,
		Listening: func() { close(ready) }, store: untouched{from},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended, s.Close())
	}()
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		return err
	}
	p := &drillPull{d: d, base: "http://" + s.http.Addr().String() + "/v2/", password: password, seen: map[oci.Digest]bool{}}
	for _, t := range tags {
		if err := p.manifest(ctx, t.Repository, t.Name, t.Digest); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.Problems = append(d.Problems, fmt.Sprintf("%s:%s: %v", t.Repository, t.Name, err))
			continue
		}
		d.Tags++
	}
	return nil
}

// drillPull is a client.
type drillPull struct {
	d              *Drilled
	base, password string
	seen           map[oci.Digest]bool
}

// get asks for content and verifies it. keep says whether it is wanted.
func (p *drillPull) get(ctx context.Context, path string, want oci.Digest, keep bool) (body []byte, mediaType string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.SetBasicAuth("admin", p.password)
	req.Header.Set("Accept", "*/*")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return nil, "", fmt.Errorf("%s is answered %s: %s", path, resp.Status, text)
	}
	h := oci.NewHasher(want.Algorithm())
	var n int64
	if keep {
		body, err = io.ReadAll(resp.Body)
		_, _ = h.Write(body) // never fails
		n = int64(len(body))
	} else {
		n, err = io.Copy(h, resp.Body)
	}
	if err == nil && h.Digest() != want {
		err = fmt.Errorf("%s has digest %s, not %s", path, h.Digest(), want)
	}
	p.d.Bytes += n
	return body, resp.Header.Get("Content-Type"), err
}

// manifest pulls what a tag or digest names, with all that belongs to it.
func (p *drillPull) manifest(ctx context.Context, repo, reference string, want oci.Digest) error {
	body, mediaType, err := p.get(ctx, repo+"/manifests/"+reference, want, true)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		return err
	}
	var blobs []oci.Descriptor
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range append(blobs, m.Layers...) {
		if p.seen[b.Digest] || b.External() {
			continue
		}
		if _, _, err := p.get(ctx, repo+"/blobs/"+b.Digest.String(), b.Digest, false); err != nil {
			return err
		}
		p.seen[b.Digest] = true
		p.d.Blobs++
	}
	for _, child := range m.Manifests {
		err := p.manifest(ctx, repo, child.Digest.String(), child.Digest)
		if err != nil && !isUnknown(err) { // an index may name what was never pushed
			return err
		}
	}
	return nil
}

// isUnknown reports whether a pull was answered with 404 MANIFEST_UNKNOWN.
func isUnknown(err error) bool {
	var answer struct{ Errors []struct{ Code string } }
	text := err.Error()
	for i := range text {
		if text[i] == '{' && json.Unmarshal([]byte(text[i:]), &answer) == nil {
			return len(answer.Errors) == 1 && answer.Errors[0].Code == string(fault.ManifestUnknown)
		}
	}
	return false
}

// untouched is a store that is read and never changed.
type untouched struct{ blob.Store }

var errUntouched = fault.New(fault.Unsupported, fault.UnsupportedReason, "a drill changes nothing in a backup")

// Upload refuses.
func (untouched) Upload(context.Context, string, blob.State) (blob.Writer, error) {
	return nil, errUntouched
}

// Commit refuses.
func (untouched) Commit(context.Context, string, blob.State, oci.Digest) error { return errUntouched }

// Abort has nothing to remove.
func (untouched) Abort(context.Context, string, blob.State) error { return nil }

// Delete refuses.
func (untouched) Delete(context.Context, ...oci.Digest) error { return errUntouched }
