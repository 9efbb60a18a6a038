package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/httpd"
)

// errNoServer says that nobody listens at the socket of the data directory. A command may then do its work itself.
var errNoServer = errors.New("no berthd is running")

// api is a berthd as commands speak to it: the one that uses the data directory, through its socket, or one elsewhere,
// with an account. Every answer is JSON of api/openapi.yaml.
type api struct {
	http           *http.Client
	base           string // scheme and host
	where          string // for people: the socket, or the address
	user, password string // of an account elsewhere; "" through a socket
	stop           func() error
}

// apiFlags are the settings of the command and where else the server may be.
func apiFlags(f *pflag.FlagSet) {
	settingFlags(f)
	f.String("server", "", "address of a berthd elsewhere, such as https://registry.example.com (or BERTHD_SERVER)")
	f.String("user", "", "administrator's account there (or BERTHD_USER); its password is asked for, or is BERTHD_PASSWORD")
	f.String("cacert", "", "certificate authority of that server, a PEM file")
}

// connect finds the running berthd of the flags and the configuration. errNoServer: there is none on this machine.
func connect(cmd *cobra.Command, c *config.Config) (*api, error) {
	if address := flagOr(cmd, "server", "BERTHD_SERVER"); address != "" {
		return connectElsewhere(cmd, address)
	}
	return connectSocket(cmd.Context(), server.Sockets(c))
}

func flagOr(cmd *cobra.Command, flag, variable string) string {
	if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
		return f.Value.String()
	}
	return os.Getenv(variable)
}

// connectSocket takes the first socket that somebody listens at.
func connectSocket(ctx context.Context, paths []string) (*api, error) {
	for _, path := range paths {
		conn, err := httpd.DialSocket(ctx, path)
		switch {
		case err == nil:
			_ = conn.Close()
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return httpd.DialSocket(ctx, path) }}
			return &api{http: &http.Client{Transport: transport}, base: "http://localhost", where: path,
				stop: func() error { transport.CloseIdleConnections(); return nil }}, nil
		case errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("berthd listens at %s, and you may not use it; run this as the user that runs berthd, or as root, or name the server with --server and an account with --user", path)
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		default:
			return nil, fmt.Errorf("berthd at %s cannot be asked: %w", path, err)
		}
	}
	return nil, errNoServer
}

// connectElsewhere speaks to a server by its address, as an account.
func connectElsewhere(cmd *cobra.Command, address string) (*api, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, fmt.Errorf("--server expects an address such as https://registry.example.com; got %q", address)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--server %s would send the password in clear over the network; use https://%s", address, u.Host)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http says what it is
	if f := cmd.Flags().Lookup("cacert"); f != nil && f.Changed {
		pem, err := os.ReadFile(f.Value.String())
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s has no certificate in PEM form", f.Value)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	a := &api{http: &http.Client{Transport: transport}, base: strings.TrimRight(u.String(), "/"), where: u.Host,
		user: flagOr(cmd, "user", "BERTHD_USER"), password: os.Getenv("BERTHD_PASSWORD"),
		stop: func() error { transport.CloseIdleConnections(); return nil }}
	if a.user == "" {
		return nil, errors.New("--server needs an account of an administrator; name it with --user")
	}
	if a.password == "" {
		if a.password, err = readPassword(cmd, a.user, false); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// close ends the connections.
func (a *api) close() error { return a.stop() }

// problem is an answer that says why not (RFC 9457), as api/openapi.yaml describes it.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Reason string `json:"reason"` // of package fault: MANIFEST_UNKNOWN …
	Field  string `json:"field"`  // of the request, where one is wrong
	ID     string `json:"requestId"`
}

// Error is what the server said, for people.
func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = fmt.Sprintf("the server answered %d %s", p.Status, p.Title)
	}
	if p.Status >= 500 && p.ID != "" {
		text += " (request " + p.ID + ")"
	}
	return text
}

// get, post and remove call a route. path begins with /api/v1 and has its query; in is the body to send and out takes the
// answer, nil where there is none. A refusal is a *problem.
func (a *api) get(ctx context.Context, path string, out any) error {
	return a.call(ctx, http.MethodGet, path, nil, out)
}

func (a *api) post(ctx context.Context, path string, in, out any) error {
	return a.call(ctx, http.MethodPost, path, in, out)
}

func (a *api) remove(ctx context.Context, path string, out any) error {
	return a.call(ctx, http.MethodDelete, path, nil, out)
}

func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", "berthd/"+version)
	if a.user != "" {
		req.SetBasicAuth(a.user, a.password)
	}
	answer, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return a.unanswered(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= 300 {
		return a.refused(answer)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("the answer of berthd at %s to %s %s cannot be read; is it another version than this program? %w", a.where, method, path, err)
	}
	return nil
}

// unanswered says why there is no answer.
func (a *api) unanswered(err error) error {
	if stranger := (x509.UnknownAuthorityError{}); errors.As(err, &stranger) {
		return fmt.Errorf("the certificate of %s is by an authority that this machine does not know; when it is berthd's own, name its file with --cacert (tls/ca.crt in the data directory, and at /ca.crt of the server)", a.where)
	}
	return fmt.Errorf("berthd at %s does not answer: %w", a.where, errors.Unwrap(err))
}

// refused reads what an answer that is no success says.
func (a *api) refused(answer *http.Response) error {
	p := &problem{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode)}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // what is missing says less, not something else
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") {
		return fmt.Errorf("%s answered %s, and not as berthd does; is --server the address of a berthd?", a.where, answer.Status)
	}
	if err := json.Unmarshal(text, p); err != nil {
		return fmt.Errorf("%s answered %s, and its reason cannot be read: %w", a.where, answer.Status, err)
	}
	return p
}

// page is how every list answers.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"` // "" at the end
}

// each visits all items of a list, page by page, until visit returns an error. query are the list's other parameters.
func each[T any](ctx context.Context, a *api, path string, query url.Values, visit func(T) error) error {
	asked := url.Values{"limit": {"500"}}
	maps.Copy(asked, query)
	for {
		var p page[T]
		if err := a.get(ctx, path+"?"+asked.Encode(), &p); err != nil {
			return err
		}
		for _, item := range p.Items {
			if err := visit(item); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		asked.Set("after", p.Next)
	}
}

// follow waits for a job and says on w how far it is: one line that moves on a terminal, else a line every ten seconds.
// It returns the job as it ended; one that did not succeed is an error with its reason.
func (a *api) follow(ctx context.Context, w io.Writer, id int64) (jobView, error) {
	p := progress{w: w, terminal: isTerminal(w), now: time.Now}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var j jobView
		if err := a.get(ctx, fmt.Sprintf("/api/v1/jobs/%d", id), &j); err != nil {
			return j, err
		}
		p.show(j)
		switch j.State {
		case "succeeded":
			p.end()
			return j, nil
		case "dead", "cancelled":
			p.end()
			if j.Error == "" {
				return j, fmt.Errorf("job %d (%s) was %s", id, j.Kind, j.State)
			}
			return j, fmt.Errorf("job %d (%s) is %s: %s", id, j.Kind, j.State, j.Error)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.end()
			return j, fmt.Errorf("job %d (%s) goes on; see berthd job show %d, stop it with berthd job cancel %d", id, j.Kind, id, id)
		}
	}
}
