package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/internal/legible"
)

// device is a login at a berthd by an identity provider, for who has a browser on this or any other machine.
//
// Spec: RFC 8628, whose requests berthd passes on.
type device struct {
	a        *app
	client   *http.Client
	agent    string
	base     string // https://HOST/api/v1/login
	provider string
}

// deviceLogin lets an identity provider prove who the user is, and returns what takes the place of a password. provider may be empty
// where there is one only.
func (a *app) deviceLogin(ctx context.Context, sys *types.SystemContext, host, provider string) (user, password string, err error) {
	_, r := a.registries(sys, host, option.Retry{}, nil)
	d := &device{a: a, agent: sys.DockerRegistryUserAgent, base: "https://" + host + "/api/v1/login", provider: provider,
		// Codes go nowhere else; berthd redirects none of these.
		client: &http.Client{Transport: r.endpoint(host).Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if err := d.choose(ctx); err != nil {
		return "", "", err
	}
	var began struct {
		Code     string `json:"device_code"`
		UserCode string `json:"user_code"`
		URL      string `json:"verification_uri"`
		Complete string `json:"verification_uri_complete"`
		Expires  int    `json:"expires_in"` // seconds, as Interval
		Interval int    `json:"interval"`
	}
	if _, err := d.ask(ctx, http.MethodPost, "/"+url.PathEscape(d.provider)+"/device", nil, &began); err != nil {
		return "", "", err
	}
	if began.Code == "" || began.UserCode == "" || began.URL == "" {
		return "", "", errors.New(a.t("the registry began no login: its answer has no code", "仓库未开始登录：应答中没有代码"))
	}
	place := began.URL
	if began.Complete != "" {
		place = began.Complete
	}
	fmt.Fprintf(a.Err, a.t("Open %s\nin a browser on any machine, compare or enter the code %s, and sign in there.\n", "请在任意设备的浏览器中打开 %s\n核对或输入代码 %s 并登录。\n"),
		legible.Show(place), legible.Show(began.UserCode))

	interval := time.Duration(max(began.Interval, 1)) * time.Second
	if began.Expires > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, time.Duration(began.Expires)*time.Second, errors.New(a.t("nobody signed in with the code in time", "代码已过期，无人登录")))
		defer stop()
	}
	for {
		select {
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		case <-time.After(interval):
		}
		var said struct {
			Account, Token string
			SlowDown       bool `json:"slow_down"`
		}
		status, err := d.ask(ctx, http.MethodPost, "/"+url.PathEscape(d.provider)+"/device/poll", url.Values{"device_code": {began.Code}}, &said)
		switch {
		case err != nil:
			return "", "", err
		case status == http.StatusAccepted && said.SlowDown:
			interval += 5 * time.Second
		case status == http.StatusAccepted:
		case said.Account == "" || said.Token == "":
			return "", "", errors.New(a.t("the registry's answer names no account", "仓库的应答中没有账户"))
		default:
			return said.Account, said.Token, nil
		}
	}
}

// choose finds the provider, or makes sure that the one that was named is there.
func (d *device) choose(ctx context.Context) error {
	var all struct {
		Providers []struct {
			Name   string
			Device bool
		}
	}
	if _, err := d.ask(ctx, http.MethodGet, "", nil, &all); err != nil {
		return err
	}
	var names []string
	for _, p := range all.Providers {
		if p.Device {
			names = append(names, p.Name)
		}
		if p.Device && p.Name == d.provider {
			return nil
		}
	}
	list := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		return &output.Failure{What: d.a.t("no identity provider of this registry offers a login by a browser elsewhere", "此仓库没有支持设备登录的身份提供方"),
			Fix: "berth login -u NAME", Exit: output.ExitFailure}
	case d.provider != "":
		return output.Usage(d.a.t("there is no provider %s; there are: %s", "没有提供方 %s；可选：%s"), d.provider, list).WithFix("--provider NAME")
	case len(names) > 1:
		return output.Usage(d.a.t("there are several providers: %s", "有多个提供方：%s"), list).WithFix("--provider NAME")
	}
	d.provider = names[0]
	return nil
}

// ask makes a request, and reads the answer of a status below 300 into answer.
func (d *device) ask(ctx context.Context, method, path string, form url.Values, answer any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", d.agent)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode < 300 && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, answer); err == nil {
			return resp.StatusCode, nil
		}
	}
	var problem struct{ Detail, Reason string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return 0, &output.Failure{What: d.a.t("this registry has no logins by identity providers: it is no berthd", "此仓库不支持身份提供方登录：不是 berthd"), Fix: "berth login -u NAME", Exit: output.ExitFailure}
	}
	return 0, &output.Failure{What: problem.Detail, Code: fmt.Sprintf("%s (%d)", problem.Reason, resp.StatusCode), Exit: exitOfStatus(resp.StatusCode), Request: resp.Header.Get("X-Request-Id")}
}
