package stand

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// jobWithin is how long a job may take that has nothing but a small registry to look at.
const jobWithin = 45 * time.Second

// Checked is what a check of all stored content has found.
type Checked struct {
	Clean                              bool
	Blobs, Damaged, Missing, Unchecked int64
	Broken                             int64
}

// StartJob asks for a collection ("gc") or a check ("fsck") and returns the number of its job.
func (c *Client) StartJob(what string) (id int64, err error) {
	var j struct{ ID int64 }
	err = c.Operate(http.MethodPost, what, nil).Decode(&j)
	return j.ID, err
}

// AwaitJob waits until a job has succeeded.
func (c *Client) AwaitJob(id int64) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var j struct{ State, Error string }
		if err := c.Operate(http.MethodGet, fmt.Sprint("jobs/", id), nil).Decode(&j); err != nil {
			return err
		}
		switch {
		case j.State == "succeeded":
			return nil
		case j.State == "dead", j.State == "cancelled", time.Since(began) > jobWithin:
			return fmt.Errorf("job %d is %s after %s: %s", id, j.State, time.Since(began).Round(time.Second), j.Error)
		}
	}
}

// Check has all stored content checked now, and waits for the report.
func (c *Client) Check() (r Checked, err error) {
	id, err := c.StartJob("fsck")
	if err == nil {
		err = c.AwaitJob(id)
	}
	if err == nil {
		err = c.Operate(http.MethodGet, fmt.Sprint("fsck/", id), nil).Decode(&r)
	}
	return r, err
}

// Damage is damaged content and the tags that need it, as repository:tag, in order.
type Damage struct {
	Digest  string
	Missing bool
	Tags    []string
}

// Damages lists what is damaged.
func (c *Client) Damages() (all []Damage, err error) {
	list, a := pages[struct {
		Digest  string
		Missing bool
		Needs   []struct{ Repository, Tag string }
	}](c, "damage")
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("the list of damage: %s", a)
	}
	for _, d := range list {
		one := Damage{Digest: d.Digest, Missing: d.Missing}
		for _, n := range d.Needs {
			if n.Tag != "" {
				one.Tags = append(one.Tags, n.Repository+":"+n.Tag)
			}
		}
		slices.Sort(one.Tags)
		all = append(all, one)
	}
	return all, nil
}
