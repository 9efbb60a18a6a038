package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	maxPause    = 5 * time.Minute
	maxResponse = 64 << 10 // bytes of an answer that are read, so that the connection can be used again; none is looked at
	maxTimeout  = 2 * time.Minute
)

// endpoint is an Endpoint that can be sent to.
type endpoint struct {
	Endpoint
	where   string // the URL without what may be secret, for the log
	header  http.Header
	client  *http.Client
	ignored struct{ mediaTypes, actions map[string]bool }
	meter   meter
	pulls   chan record
}

func newEndpoint(e Endpoint, o Options) (*endpoint, error) {
	u, err := url.Parse(e.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("webhook: the URL of endpoint %s does not begin with http:// or https:// and a host", e.Name)
	}
	e.Timeout, e.Threshold, e.Backoff = orDefault(e.Timeout, 5*time.Second), orDefault(e.Threshold, 10), orDefault(e.Backoff, time.Second)
	e.Timeout = min(e.Timeout, maxTimeout)
	m := &endpoint{Endpoint: e, where: u.Scheme + "://" + u.Host, header: http.Header{}, meter: o.Metrics.endpoint(e.Name), pulls: make(chan record, pullQueue)}
	m.header.Set("User-Agent", "berthd")
	for name, values := range e.Headers {
		m.header[http.CanonicalHeaderKey(name)] = values
	}
	m.header.Set("Content-Type", MediaType)
	m.ignored.mediaTypes, m.ignored.actions = set(e.IgnoreMediaTypes), set(e.IgnoreActions)
	m.client = &http.Client{
		Timeout: e.Timeout,
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: e.Timeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxConnsPerHost: laneLimit + 2, MaxIdleConnsPerHost: laneLimit, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: maxResponse, DisableCompression: true,
		},
		// The headers of an endpoint are credentials for this URL and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return m, nil
}

func set(words []string) map[string]bool {
	m := map[string]bool{}
	for _, w := range words {
		m[w] = true
	}
	return m
}

// wants reports whether the endpoint is told of such events.
func (e *endpoint) wants(action, mediaType string) bool {
	return !e.ignored.actions[action] && !(mediaType != "" && e.ignored.mediaTypes[mediaType])
}

// failure is why an event was not taken. Its text holds nothing that the endpoint or its URL may want kept secret.
type failure struct {
	text string
	// refused says that the endpoint is there and does not want this event: another may be welcome.
	refused bool
	after   time.Duration // the endpoint asks to be left alone for so long; 0 is nothing said
}

func (f *failure) Error() string { return f.text }

// wrap puts a record into an envelope, in the layout of distribution.
func wrap(recordJSON json.RawMessage) ([]byte, error) {
	return json.MarshalIndent(envelope{Events: []json.RawMessage{recordJSON}}, "", "   ")
}

// send makes one attempt. The end of ctx is its error; everything else is a failure.
func (e *endpoint) send(ctx context.Context, recordJSON json.RawMessage) error {
	body, err := wrap(recordJSON)
	if err != nil {
		return &failure{text: "event cannot be written as JSON", refused: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return &failure{text: "the URL of the endpoint cannot be used"}
	}
	req.Header = e.header.Clone()
	resp, err := e.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.meter.erred()
		return &failure{text: e.transport(err)}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxResponse)
	_ = resp.Body.Close()
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	e.meter.answered(resp.StatusCode, ok)
	if ok {
		return nil
	}
	f := &failure{text: "endpoint answered " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode), refused: refusal(resp.StatusCode)}
	if resp.StatusCode/100 == 3 {
		f.text += "; redirects are not followed, name the final address in the endpoint's url"
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		f.after = min(time.Duration(s)*time.Second, maxPause)
	}
	return f
}

// refusal reports the statuses that are about the event and not about the endpoint or the way to it.
func refusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusMisdirectedRequest:
		return false
	}
	return status/100 == 4
}

// transport says what went wrong without the URL, which may hold a secret.
func (e *endpoint) transport(err error) string {
	var about *url.Error
	if errors.As(err, &about) {
		if about.Timeout() {
			return fmt.Sprintf("%s did not answer within %s", e.where, e.Timeout)
		}
		err = about.Err
	}
	return fmt.Sprintf("%s cannot be reached: %v", e.where, err)
}

// pauseAfter is how long to wait after the nth failure in a row.
func (e *endpoint) pauseAfter(n int64, f *failure) time.Duration {
	d := e.Backoff / 10
	if past := n - int64(e.Threshold); past >= 0 {
		d = maxPause
		if past < 16 {
			d = min(e.Backoff<<past, maxPause)
		}
	}
	if f != nil {
		d = max(d, f.after)
	}
	return jitter(d)
}
