package backup

import (
	"context"
	"encoding/json"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// Pages of a journal are a chain: the last line of each is its number and the name of the page that was written before it, and
// a note beside the journal, which is found by name, has the last. So a page that a listing does not show is found all the same, and
// one that is lost is missed. A page that is not in the chain is one that was written again: its writer ended, or lost the journal,
// before it could say so. Journals of versions before have no chain, and are begun anew by who writes on.

// link is the end of a chain: a page and what is before it.
type link struct {
	Page   string `json:"page"`   // name of the note
	Number int64  `json:"number"` // of pages up to it
}

func chainNote(id string) string { return journalFolder + "/last-" + id }

// readChain reads where the chain of a journal ends; the zero link when no page was written.
func readChain(ctx context.Context, notes blob.NoteKeeper, id string) (l link, err error) {
	text, err := notes.Note(ctx, chainNote(id))
	if err == nil && (json.Unmarshal(text, &l) != nil || l.Page == "" || l.Number < 1 || blob.CheckNote(l.Page) != nil) {
		err = fault.New(fault.Conflict, fault.Unknown, "note of the journal's last page is damaged")
	}
	return l, err
}

// put writes a page and makes it the end of the chain. It returns its size in the store.
func (w *writer) put(ctx context.Context, p *page, name string) (int64, error) {
	next := link{name, w.last.Number + 1}
	if err := p.add(line{Kind: chainLine, Page: w.last.Page, Number: next.Number}, nil); err != nil {
		return 0, err
	}
	n, err := p.write(ctx, w.j.notes, name)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(next)
	if err != nil {
		return 0, err
	}
	if err := w.j.notes.PutNote(ctx, chainNote(w.id), text); err != nil {
		return 0, err
	}
	w.last = next
	w.j.pages.Inc()
	return n, nil
}

// chained is what the pages that were read say of the chain.
type chained struct {
	before  map[string]link // by page: what is before it, and its number
	damaged map[string]bool
}

// follow goes along the chain from its end, and finds pages that were not listed. What is missing is said once nothing more is
// found.
func (b *rebuilding) follow(ctx context.Context, end link, c *chained) (found []string, err error) {
	at, broken := end, false
	for at.Page != "" && !broken {
		before, ok := c.before[at.Page]
		if !ok && !c.damaged[at.Page] {
			err := readPage(ctx, b.notes, at.Page, func(l line, _ []byte) error {
				if l.Kind == chainLine {
					before, ok = link{l.Page, l.Number}, true
				}
				return nil
			})
			switch {
			case fault.Is(err, fault.NotFound):
			case err == nil, fault.Is(err, fault.Conflict):
				found = append(found, at.Page)
			default:
				return nil, err
			}
			if err == nil && ok {
				c.before[at.Page] = before
			}
		}
		if broken = !ok || before.Number != at.Number; !broken {
			at = link{before.Page, before.Number - 1}
		}
	}
	if len(found) > 0 || !broken {
		return found, nil
	}
	lost := at.Number - 1 - int64(len(c.damaged)) // of those before it, which are known by number alone
	if c.damaged[at.Page] {                       // it is named already
		lost++
	} else {
		b.problem("page %s of the journal is missing; what only it had is lost", at.Page)
	}
	numbers := map[int64]bool{}
	for _, l := range c.before {
		if l.Number < at.Number && !numbers[l.Number] {
			numbers[l.Number] = true
			lost--
		}
	}
	if lost > 0 {
		b.problem("%d more pages of the journal are missing, before page %s; what only they had is lost", lost, at.Page)
	}
	return nil, nil
}
