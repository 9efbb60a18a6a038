package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// line is a line of the journal. What a kind does not use is left out; fields are only ever added.
type line struct {
	Kind       lineKind   `json:"t"`
	Project    string     `json:"p,omitempty"`
	Public     bool       `json:"public,omitempty"`
	Repository string     `json:"r,omitempty"`
	Listed     bool       `json:"listed,omitempty"`
	Tag        string     `json:"n,omitempty"`
	Digest     oci.Digest `json:"d,omitzero"`
	MediaType  string     `json:"mt,omitempty"`
	At         time.Time  `json:"at,omitzero"`
	By         string     `json:"by,omitempty"`
	Place      string     `json:"place,omitempty"` // where in the store
	Size       int64      `json:"size,omitempty"`  // bytes; of content, that follow the line
	Bytes      []byte     `json:"b,omitempty"`     // of a signature
	Page       string     `json:"page,omitempty"`  // see chain.go
	Number     int64      `json:"no,omitempty"`    // likewise
}

// lineKind is what a line says.
type lineKind string

// The kinds of lines. A later line about the same thing counts.
const (
	projectLine    lineKind = "project"
	repositoryLine lineKind = "repository"
	manifestLine   lineKind = "manifest" // is in a repository
	goneLine       lineKind = "gone"     // a manifest is not any more
	tagLine        lineKind = "tag"
	untagLine      lineKind = "untag"
	contentLine    lineKind = "content" // bytes that are in the database, and follow
	placeLine      lineKind = "place"   // bytes that do not lie under their digest
	signatureLine  lineKind = "sign"    // of a manifest, in the form of containers/image: n is its name
	chainLine      lineKind = "chain"   // the number of this page, and which is before it
)

// journalHead says which journal counts.
type journalHead struct {
	Format int       `json:"format"`
	ID     string    `json:"id"` // folder of its pages
	At     time.Time `json:"at"`
	// Chained says that its pages are a chain; see chain.go.
	Chained bool `json:"chained,omitempty"`
}

const (
	// journalFormat is 2 since signatures are in the journal. One of format 1 is read, and begun anew by who writes on.
	journalFormat = 2
	journalFolder = "journal"
	headNote      = "journal/head"
	// pageBytes is after how many bytes, before compression, a page is full. One manifest may make it 4 MiB larger.
	pageBytes = 4 << 20
)

// page is an object of the journal in the making: lines, compressed, with the digest of that before them.
type page struct {
	raw   int64
	lines int
	out   bytes.Buffer
	zip   *gzip.Writer
}

func (p *page) add(l line, content []byte) error {
	if p.zip == nil {
		p.zip = gzip.NewWriter(&p.out)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	p.lines++
	for _, b := range [][]byte{text, {'\n'}, content} {
		p.raw += int64(len(b))
		if _, err := p.zip.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) full() bool { return p.raw >= pageBytes }

// write puts the page into the store and empties it. It returns its size there.
func (p *page) write(ctx context.Context, to blob.NoteKeeper, name string) (int64, error) {
	if err := p.zip.Close(); err != nil {
		return 0, err
	}
	sum := oci.FromBytes(oci.SHA256, p.out.Bytes()).Hex()
	text := append([]byte(sum+"\n"), p.out.Bytes()...)
	*p = page{}
	return int64(len(text)), to.PutNote(ctx, name, text)
}

// readPage calls each for every line of a page; content is that of a contentLine.
func readPage(ctx context.Context, from blob.NoteKeeper, name string, each func(l line, content []byte) error) error {
	text, err := from.Note(ctx, name)
	if err != nil {
		return err
	}
	const sum = 2 * 32
	if len(text) <= sum || text[sum] != '\n' || oci.FromBytes(oci.SHA256, text[sum+1:]).Hex() != string(text[:sum]) {
		return damagedPage(name, errors.New("another digest"))
	}
	if _, err := hex.DecodeString(string(text[:sum])); err != nil {
		return damagedPage(name, err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(text[sum+1:]))
	if err != nil {
		return damagedPage(name, err)
	}
	lines := bufio.NewReaderSize(zip, 64<<10)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil
		}
		var l line
		if err != nil || json.Unmarshal(text, &l) != nil || l.Size < 0 || l.Size > blob.MaxNote {
			return damagedPage(name, err)
		}
		var content []byte
		if l.Kind == contentLine {
			content = make([]byte, l.Size)
			if _, err := io.ReadFull(lines, content); err != nil {
				return damagedPage(name, err)
			}
		}
		if err := each(l, content); err != nil {
			return err
		}
	}
}

func damagedPage(name string, cause error) error {
	return fault.New(fault.Conflict, fault.Unknown, "page %s of the journal is damaged", name).Because(fmt.Errorf("backup: read journal: %w", cause))
}

func readHead(ctx context.Context, from blob.NoteKeeper) (h journalHead, err error) {
	text, err := from.Note(ctx, headNote)
	if err != nil {
		return h, err
	}
	if json.Unmarshal(text, &h) != nil || h.ID == "" {
		return h, fault.New(fault.Conflict, fault.Unknown, "head of the journal is damaged")
	}
	if h.Format > journalFormat {
		return h, fault.New(fault.Conflict, fault.Unknown, "journal was written by a newer berth (form %d; this one knows %d)", h.Format, journalFormat)
	}
	return h, nil
}
