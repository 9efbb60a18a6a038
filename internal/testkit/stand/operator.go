package stand

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// password is that of the account admin of every berthd that is started here.
const password = "a-password-of-a-test"

// Operate asks the management API, as the administrator. path is behind /api/v1/; body may be nil.
func (c *Client) Operate(method, path string, body any) Answer {
	r, err := http.NewRequest(method, "/", http.NoBody)
	if err != nil {
		return Answer{Err: err}
	}
	r.SetBasicAuth("admin", password)
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return Answer{Err: err}
		}
		r.Header.Set("Content-Type", "application/json")
	}
	return c.Do(method, "/api/v1/"+path, r.Header, text)
}

// Decode reads the JSON of an answer that has to be a success.
func (a Answer) Decode(into any) error {
	if a.Status < 200 || a.Status > 299 {
		return fmt.Errorf("answer %s", a)
	}
	return json.Unmarshal(a.Body, into)
}

// TagEntry is an entry of a tag's history; Digest "" says that it was deleted.
type TagEntry struct {
	Digest string    `json:"digest"`
	Since  time.Time `json:"since"`
	By     string    `json:"by"`
	Cause  string    `json:"cause"`
}

// History is where a tag pointed, newest first, page by page.
func (c *Client) History(repo, tag string) ([]TagEntry, Answer) {
	return pages[TagEntry](c, "repositories/"+repo+"/-/tags/"+tag+"/history")
}

// Trashed is a manifest that was deleted and can be brought back.
type Trashed struct {
	Digest string   `json:"digest"`
	Tags   []string `json:"tags"`
}

// Trash is what can be brought back in a repository, the last deleted first.
func (c *Client) Trash(repo string) ([]Trashed, Answer) {
	return pages[Trashed](c, "repositories/"+repo+"/-/trash")
}

// pages reads a list to its end, in small pages, so that the seams between them are read, too.
func pages[T any](c *Client, path string) (all []T, a Answer) {
	after := ""
	for {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		a = c.Operate(http.MethodGet, path+"?limit=5"+after, nil)
		if a.Status != http.StatusOK {
			return all, a
		}
		if err := json.Unmarshal(a.Body, &page); err != nil {
			a.Err, a.Status = err, 0
			return all, a
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, a
		}
		after = "&after=" + page.Next
	}
}
