package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"
)

const (
	repoClosed   = "closed/images"
	rightsAdmin  = "bench-Admin-9-lantern"
	rightsReader = "bench-Reader-9-lantern"
	rightsGrants = 1000
)

// rightsStage asks for the same manifests as a stranger, in a public project, and as an account with a thousand grants, in a
// private one.
func rightsStage() stage {
	get := func(repo string, authorization func(s *server) (string, error)) func(context.Context, *bench, *server, int) (phase, error) {
		return func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
			value, err := authorization(s)
			if err != nil {
				return phase{}, err
			}
			var headers []string
			if value != "" {
				headers = []string{"Authorization", value}
			}
			var rs []request
			for i, img := range images(b.size.images) {
				rs = append(rs, newRequest(s.launch.addr, "GET", manifestPath(repo, imageTag(i)), acceptAll, 200, int64(len(img.manifest.data)), headers...))
			}
			return hot(ctx, s, 32, b.size.phase, rs)
		}
	}
	const about = "manifest GET by tag, 32 connections, "
	return stage{name: "rights", turns: true, prepare: prepareRights,
		start: func(ctx context.Context, b *bench, t *target, _ *backends) (*server, error) {
			return startServerWith(ctx, t, b.disk.dir, false, []string{"BERTH_ADMIN_PASSWORD=" + rightsAdmin, "REGISTRY_AUTH_USERS=none"})
		},
		scenarios: []scenario{
			{name: "rights-anonymous", unit: "req/s", fits: has(canReplicas), about: about + "without a login, public",
				run: get(repoImages, func(*server) (string, error) { return "", nil })},
			{name: "rights-bearer", unit: "req/s", fits: has(canReplicas), about: about + "with a token of an account with 1,000 grants, private",
				run: get(repoClosed, readerToken)},
			{name: "rights-basic", unit: "req/s", fits: has(canReplicas), about: about + "with the password of that account, private",
				run: get(repoClosed, func(*server) (string, error) { return basicAuth("reader", rightsReader), nil })},
			{name: "token-basic", unit: "ms", lower: true, fits: has(canReplicas), about: "99th percentile of a token for a pull, 8 connections, with a password that was used before",
				run: issueTokens(repoClosed, basicAuth("reader", rightsReader))},
			{name: "token-anonymous", unit: "ms", lower: true, fits: has(canReplicas), about: "the same without a login, for a public project",
				run: issueTokens(repoImages, "")},
			{name: "token-first", unit: "ms", lower: true, fits: has(canReplicas), about: "median of a token for a password that was not used before, one at a time",
				run: firstTokens},
		}}
}

// tokenConns is how many ask for tokens at once.
const tokenConns = 8

func tokenRequest(s *server, repo, authorization string) request {
	q := url.Values{"service": {"berth"}, "scope": {"repository:" + repo + ":pull"}}
	var headers []string
	if authorization != "" {
		headers = []string{"Authorization", authorization}
	}
	return newRequest(s.launch.addr, "GET", "/token?"+q.Encode(), "", 200, -1, headers...)
}

// issueTokens reports the 99th percentile of what the token flow of docker costs.
func issueTokens(repo, authorization string) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
		r := tokenRequest(s, repo, authorization)
		if err := s.with(func(c *client) error { return c.run(&r) }); err != nil { // from here on it is remembered
			return phase{}, err
		}
		p, err := hot(ctx, s, tokenConns, b.size.phase, []request{r})
		p.Value = float64(p.P99) / float64(time.Millisecond)
		return p, err
	}
}

// firstTokens lets accounts log in that have not done so before: argon2id is computed for each.
func firstTokens(ctx context.Context, _ *bench, s *server, round int) (phase, error) {
	const count = 20
	var rs []request
	err := s.with(func(c *client) error {
		for i := range count {
			name := fmt.Sprintf("first-%d-%d", round, i)
			if err := manage(c, "POST", "users", map[string]any{"name": name, "password": rightsReader}, 201); err != nil {
				return err
			}
			rs = append(rs, tokenRequest(s, repoImages, basicAuth(name, rightsReader)))
		}
		return nil
	})
	if err != nil {
		return phase{}, err
	}
	p, err := drive(ctx, s, load{workers: 1, limit: time.Minute, maxOps: count}, func(c *client, _ int, n int64) error { return c.run(&rs[n]) })
	p.Value = float64(p.P50) / float64(time.Millisecond)
	return p, err
}

func basicAuth(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func readerToken(s *server) (value string, err error) {
	err = s.with(func(c *client) error {
		q := url.Values{"service": {"berth"}, "scope": {"repository:" + repoClosed + ":pull"}}
		a, err := c.call("GET", "/token?"+q.Encode(), nil, "Authorization", basicAuth("reader", rightsReader))
		if err != nil {
			return err
		}
		var doc struct{ Token string }
		if err := json.Unmarshal(a.body, &doc); err != nil || doc.Token == "" {
			return fmt.Errorf("no token: status %d: %.300s", a.status, a.body)
		}
		value = "Bearer " + doc.Token
		return nil
	})
	return value, err
}

// prepareRights pushes the images into a public project and into one that is private afterwards, and grants an account to read
// one repository of it, among many that it may read, too.
func prepareRights(ctx context.Context, b *bench, servers []*server) map[*server]error {
	imgs := images(b.size.images)
	return forEach(servers, func(s *server) error {
		err := pushImages(ctx, s, imgs)
		return errors.Join(err, s.with(func(c *client) error {
			for i, img := range imgs {
				if err := c.pushImage(repoClosed, imageTag(i), img); err != nil {
					return err
				}
			}
			return errors.Join(
				manage(c, "POST", "users", map[string]any{"name": "reader", "password": rightsReader}, 201),
				manage(c, "PUT", "apply", rightsDocument(), 200))
		}))
	})
}

func rightsDocument() map[string]any {
	grants := make([]map[string]any, rightsGrants)
	for i := range grants {
		pattern := fmt.Sprintf("closed/part-%d/**", i)
		if i == rightsGrants/2 {
			pattern = repoClosed
		}
		grants[i] = map[string]any{"subject": map[string]any{"kind": "user", "name": "reader"}, "project": "closed", "pattern": pattern, "role": "guest"}
	}
	return map[string]any{"version": 1, "projects": []any{map[string]any{"name": "closed", "public": false}}, "grants": grants}
}

// manage sends a request to the management API as the administrator.
func manage(c *client, method, path string, body any, status int) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	a, err := c.call(method, "/api/v1/"+path, text, "Authorization", basicAuth("admin", rightsAdmin), "Content-Type", "application/json")
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s: status %d, want %d: %.300s", method, path, a.status, status, a.body)
	}
	return err
}
