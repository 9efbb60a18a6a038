package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

func tagsCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "tags",
		Short:   a.t("list, delete and roll back tags", "列出、删除与回滚标签"),
		Example: "berth tags ls registry.example.com/team/app\nberth tags rm registry.example.com/team/app:old\nberth tags history registry.example.com/team/app:v1",
	}
	c.AddCommand(tagsListCommand(a), tagsRemoveCommand(a), tagsHistoryCommand(a), tagsRollbackCommand(a))
	return a.family(c)
}

func tagsListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "ls [flags] REPOSITORY",
		Short:   a.t("list the tags of a repository", "列出仓库的标签"),
		Example: "berth tags ls registry.example.com/team/app\nberth tags ls --digests registry.example.com/team/app",
		Args:    a.args(1, 1),
	}
	var digests, full, omit bool
	p := a.placesFlags(c.Flags())
	c.Flags().BoolVar(&full, "full-ref", false, a.t("print HOST/REPOSITORY:TAG", "显示 HOST/REPOSITORY:TAG"))
	c.Flags().BoolVarP(&omit, "omit-digest-tags", "O", false, a.t("leave out tags that belong to a digest (sha256-…)", "不显示属于摘要的标签（sha256-…）"))
	c.Flags().BoolVar(&digests, "digests", false, a.t("say what each tag points at", "显示每个标签的摘要"))
	format := a.formatFlag(c.Flags(), output.Name)
	c.RunE = p.onRemote(func(ctx context.Context, named reference.Named, args []string) error {
		repo, tags, err := ownTags(ctx, p.client, p.sys, named)
		if err != nil {
			return failed(err, a.t("cannot list the tags of %s", "无法列出 %s 的标签"), args[0])
		}
		slices.Sort(tags)
		type line struct {
			Tag       string `json:"tag"`
			Digest    string `json:"digest,omitempty"`
			MediaType string `json:"mediaType,omitempty"`
		}
		lines := []line{}
		table := output.Table{Header: []string{"TAG"}}
		if digests = digests || format.Kind == output.Wide; digests {
			table.Header = []string{"TAG", "DIGEST", "TYPE"}
			if format.Kind == output.Name {
				format.Kind = output.TableKind
			}
		}
		for _, tag := range tags {
			if omit && copy.CosignTag(tag) {
				continue
			}
			l := line{Tag: tag}
			if digests {
				d, err := repo.Head(ctx, ref.Reference{Tag: tag})
				if fault.Is(err, fault.NotFound) { // deleted meanwhile
					continue
				}
				if err != nil {
					return failed(err, a.t("cannot look at tag %s", "无法查看标签 %s"), tag)
				}
				l.Digest, l.MediaType = d.Digest.String(), d.MediaType
			}
			if full {
				l.Tag = named.Name() + ":" + tag
			}
			lines = append(lines, l)
			table.Rows = append(table.Rows, []string{l.Tag, l.Digest, l.MediaType}[:len(table.Header)])
		}
		return format.Print(a.Out, lines, table)
	})
	return c
}

// tagName reads HOST/REPOSITORY:TAG.
func (p *places) tagName(text string) (reference.NamedTagged, error) {
	named, err := p.remoteName(text)
	if err != nil {
		return nil, err
	}
	tagged, ok := named.(reference.NamedTagged)
	if _, digested := named.(reference.Digested); !ok || digested {
		return nil, output.Usage(p.a.t("%s names no tag; a tag is HOST/REPOSITORY:TAG", "%s 没有标签；应为 HOST/REPOSITORY:TAG"), text)
	}
	return tagged, nil
}

func tagsRemoveCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "rm [flags] REPOSITORY:TAG...",
		Aliases: []string{"delete"},
		Short:   a.t("delete tags, and nothing else: the image and its other tags stay", "仅删除标签：镜像及其他标签保留"),
		Example: "berth tags rm registry.example.com/team/app:old",
		Args:    a.args(1, -1),
	}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		var tags []reference.NamedTagged
		for _, text := range args {
			tagged, err := p.tagName(text)
			if err != nil {
				return err
			}
			tags = append(tags, tagged)
		}
		for _, tagged := range tags {
			repo, err := p.repository(tagged)
			if err == nil {
				err = repo.Delete(ctx, ref.Reference{Tag: tagged.Tag()})
			}
			if fault.Is(err, fault.Unsupported) {
				return &output.Failure{What: fmt.Sprintf(a.t("cannot delete the tag %s", "无法删除标签 %s"), tagged), Cause: err,
					Why:  a.t("this registry can only delete images with all their tags, by digest", "该仓库只能按摘要删除镜像及其全部标签"),
					Fix:  "berth delete docker://" + tagged.String(),
					Exit: output.ExitFailure}
			}
			if err != nil {
				return failed(err, a.t("cannot delete the tag %s", "无法删除标签 %s"), tagged)
			}
		}
		return nil
	})
	return c
}

// tagEntry is an entry of a tag's history, as berthd tells it.
type tagEntry struct {
	Tag    string    `json:"tag"`
	Digest string    `json:"digest,omitempty"` // "": the tag was not there
	Since  time.Time `json:"since"`
	By     string    `json:"by,omitempty"`
	From   string    `json:"from,omitempty"`
	Cause  string    `json:"cause,omitempty"`
}

func tagsHistoryCommand(a *app) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "history [flags] REPOSITORY:TAG",
		Aliases: []string{"log"},
		Short:   a.t("show where a tag pointed, newest first (berthd only)", "显示标签的历史，最新在前（仅 berthd）"),
		Example: "berth tags history registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().IntVar(&limit, "limit", 100, a.t("at most `N` entries", "最多 N 条"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		tagged, err := p.tagName(args[0])
		if err != nil {
			return err
		}
		entries := []tagEntry{}
		for after := ""; len(entries) < limit; {
			var page struct {
				Items []tagEntry `json:"items"`
				Next  string     `json:"next"`
			}
			query := url.Values{"limit": {fmt.Sprint(min(limit-len(entries), 1000))}}
			if after != "" {
				query.Set("after", after)
			}
			if err := p.manage(ctx, http.MethodGet, tagged, "/history?"+query.Encode(), nil, &page); err != nil {
				return failed(err, a.t("cannot read the history of %s", "无法读取 %s 的历史"), args[0])
			}
			entries = append(entries, page.Items...)
			if after = page.Next; after == "" {
				break
			}
		}
		table := output.Table{Header: []string{"SINCE", "DIGEST", "BY", "CAUSE"}}
		for _, e := range entries {
			digest := e.Digest
			if digest == "" {
				digest = a.t("(deleted)", "（已删除）")
			}
			table.Rows = append(table.Rows, []string{e.Since.Format(time.RFC3339), digest, e.By, e.Cause})
		}
		return format.Print(a.Out, entries, table)
	})
	return c
}

func tagsRollbackCommand(a *app) *cobra.Command {
	var when string
	c := &cobra.Command{
		Use:     "rollback [flags] REPOSITORY:TAG [DIGEST]",
		Short:   a.t("point a tag where it pointed before (berthd only)", "将标签恢复到以前的指向（仅 berthd）"),
		Long:    a.t("Without a digest and a time: where it pointed before it came to where it is. A rollback is one more entry of the history and can be rolled back.", "未指定摘要与时间时恢复到上一个指向。回滚本身也是一条历史，可再次回滚。"),
		Example: "berth tags rollback registry.example.com/team/app:v1\nberth tags rollback --at 2026-01-02T03:04:05Z registry.example.com/team/app:v1",
		Args:    a.args(1, 2),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringVar(&when, "at", "", a.t("where it pointed at this time, RFC 3339", "恢复到该时间（RFC 3339）的指向"))
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		tagged, err := p.tagName(args[0])
		if err != nil {
			return err
		}
		body := map[string]any{}
		if len(args) > 1 {
			d, err := oci.ParseDigest(args[1])
			if err != nil {
				return err
			}
			body["digest"] = d.String()
		}
		if when != "" {
			t, err := moment(when)
			if err != nil {
				return output.Usage("--at: %v", err)
			}
			body["at"] = t
		}
		var moved struct {
			Digest string `json:"digest"`
		}
		if err := p.manage(ctx, http.MethodPost, tagged, "/rollback", body, &moved); err != nil {
			return failed(err, a.t("cannot roll back %s", "无法回滚 %s"), args[0])
		}
		_, err = fmt.Fprintln(a.Out, moved.Digest)
		return err
	})
	return c
}

// maxAnswer is more than any answer of the management API that is asked for here.
const maxAnswer = 16 << 20

// manage asks berthd's management API about a tag, as whoever the registry's credentials are.
func (p *places) manage(ctx context.Context, method string, tagged reference.NamedTagged, rest string, body, answer any) error {
	host := reference.Domain(tagged)
	r := p.reach
	e := r.endpoint(host)
	login, err := r.credentials(ctx, host, reference.Path(tagged))
	if err != nil {
		return err
	}
	address := "https://" + host + "/api/v1/repositories/" + reference.Path(tagged) + "/-/tags/" + url.PathEscape(tagged.Tag()) + rest
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, send)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", p.sys.DockerRegistryUserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if login.User != "" {
		req.SetBasicAuth(login.User, login.Password)
	}
	// A redirect would carry the login to somewhere else; this API has none.
	client := &http.Client{Transport: e.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil && e.Fallback && strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		req.URL.Scheme = "http"
		if send != nil {
			b, _ := json.Marshal(body)
			req.Body = io.NopCloser(bytes.NewReader(b))
		}
		resp, err = client.Do(req)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return json.Unmarshal(content, answer)
	}
	return p.refusal(resp, content, login)
}

// refusal makes a failure of an answer that is none.
func (p *places) refusal(resp *http.Response, content []byte, login remote.Credentials) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Reason string `json:"reason"`
	}
	f := &output.Failure{What: p.a.t("the registry refused it", "仓库拒绝了请求"), Exit: exitOfStatus(resp.StatusCode), Request: resp.Header.Get("X-Request-Id")}
	if json.Unmarshal(content, &problem) != nil || problem.Title == "" && problem.Detail == "" {
		f.Why = fmt.Sprintf(p.a.t("it answered %d: it is no berthd, or it is older than this API", "返回 %d：不是 berthd，或版本过旧"), resp.StatusCode)
		return f
	}
	f.Why = orElse(problem.Detail, problem.Title)
	f.Code = fmt.Sprintf("%s (%d)", orElse(problem.Reason, http.StatusText(resp.StatusCode)), resp.StatusCode)
	if resp.StatusCode == http.StatusUnauthorized {
		f.Fix = p.a.signIn(resp.Request.URL.Host, login.Source, login.None())
	}
	return f
}
