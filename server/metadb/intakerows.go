package metadb

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// intakeSetting names the log whose entries the database has, and up to which number: "salt number", hexadecimal.
const intakeSetting = "metadb.intake"

func intakeMark(salt, upto uint64) string {
	return strconv.FormatUint(salt, 16) + " " + strconv.FormatUint(upto, 16)
}

func parseIntakeMark(text string) (salt, upto uint64, ok bool) {
	a, b, found := strings.Cut(text, " ")
	salt, err := strconv.ParseUint(a, 16, 64)
	upto, err2 := strconv.ParseUint(b, 16, 64)
	return salt, upto, found && err == nil && err2 == nil
}

// maxIntakeRows bounds a statement of makeRows.
const maxIntakeRows = 64

// makeRows makes the rows of entries: blobs with their contents, and which repository has them, as PutBlob and LinkBlob
// would one by one. A digest that is claimed becomes live again: whoever claimed it removes bytes in the store, which
// these do not need, and finds no claim when it ends it.
func makeRows(ctx context.Context, s session, es []*intakeEntry) error {
	var blobs, links []*intakeEntry
	for _, e := range es {
		if e.link {
			links = append(links, e)
		} else {
			blobs = append(blobs, e)
		}
	}
	if err := makeBlobRows(ctx, s, blobs); err != nil {
		return err
	}
	return makeLinkRows(ctx, s, links)
}

func makeBlobRows(ctx context.Context, s session, es []*intakeEntry) error {
	for part := range slices.Chunk(es, maxIntakeRows) {
		width := paddedLen(len(part)) // of repeated rows none does anything
		blobs, contents, links := make([]any, 0, 4*width), make([]any, 0, 2*width), make([]any, 0, 3*width)
		for i := range width {
			e := part[min(i, len(part)-1)]
			blobs = append(blobs, e.digest, int64(len(e.content)), e.at, e.lease)
			contents = append(contents, e.digest, e.content)
			links = append(links, e.repoID, e.digest, e.at)
		}
		text := intakeTexts[width]
		if _, err := s.exec(ctx, text.blobs, blobs...); err != nil {
			return err
		}
		if _, err := s.exec(ctx, text.contents, contents...); err != nil {
			return err
		}
		if _, err := s.exec(ctx, text.links, links...); err != nil {
			return err
		}
	}
	return nil
}

func makeLinkRows(ctx context.Context, s session, es []*intakeEntry) error {
	for part := range slices.Chunk(es, maxIntakeRows) {
		width := paddedLen(len(part))
		links, leases := make([]any, 0, 3*width), make([]any, 2, 2+width)
		last := part[len(part)-1]
		leases[0], leases[1] = last.lease, last.at+(last.lease-last.at)*2/3
		for i := range width {
			e := part[min(i, len(part)-1)]
			links = append(links, e.repoID, e.digest, e.at)
			leases = append(leases, e.digest)
		}
		text := intakeTexts[width]
		if _, err := s.exec(ctx, text.links, links...); err != nil {
			return err
		}
		if _, err := s.exec(ctx, text.leases, leases...); err != nil {
			return err
		}
	}
	return nil
}

type intakeText struct{ blobs, contents, links, leases string }

// intakeTexts are the statements for each number of rows.
var intakeTexts = func() map[int]intakeText {
	texts := map[int]intakeText{}
	for width := 1; width <= maxIntakeRows; width *= 2 {
		values := func(row string, columns int) string {
			var b strings.Builder
			for i := range width {
				if i > 0 {
					b.WriteByte(',')
				}
				for c := range columns {
					row := strings.Split(row, "?")
					b.WriteString(row[c] + "$" + strconv.Itoa(i*columns+c+1))
				}
				b.WriteString(row[strings.LastIndexByte(row, '?')+1:])
			}
			return b.String()
		}
		list := func(from int) string {
			ps := make([]string, width)
			for i := range ps {
				ps[i] = "$" + strconv.Itoa(from+i)
			}
			return strings.Join(ps, ",")
		}
		texts[width] = intakeText{
			blobs: `INSERT INTO blob (digest, size, inline, stored, state, created_at, lease_until) VALUES ` + values(`(?,?,TRUE,FALSE,0,?,?)`, 4) + `
				ON CONFLICT (digest) DO UPDATE SET size = excluded.size, inline = TRUE, state = 0, lease_until = MAX(blob.lease_until, excluded.lease_until)
				WHERE blob.state <> 0 OR NOT blob.inline OR blob.lease_until < (2 * excluded.lease_until + excluded.created_at) / 3`,
			contents: `INSERT INTO blob_content (digest, bytes) VALUES ` + values(`(?,?)`, 2) + `
				ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE blob_content.bytes <> excluded.bytes`, // it was damaged
			links: `INSERT INTO repo_blob (repo_id, digest, created_at) SELECT v.column1, v.column2, v.column3 FROM (VALUES ` + values(`(?,?,?)`, 3) + `) v
				JOIN repository r ON r.id = v.column1 JOIN blob b ON b.digest = v.column2 AND b.state = 0 WHERE TRUE ON CONFLICT (repo_id, digest) DO NOTHING`,
			leases: `UPDATE blob SET lease_until = $1 WHERE digest IN (` + list(3) + `) AND state = 0 AND lease_until < $2`,
		}
	}
	return texts
}()
