package config

import (
	"fmt"
	"net/url"
	"time"
)

// Notifications say who is told what happens in the registry: distribution's webhooks.
type Notifications struct {
	Events    NotificationEvents     `yaml:"events" doc:"What is told, and how long it waits for endpoints." zh:"事件的内容，以及为端点保留多久。"`
	Endpoints []NotificationEndpoint `yaml:"endpoints" doc:"Addresses that get events." zh:"接收事件的地址。"`
}

// NotificationEvents is the form of events, and how long they are kept.
type NotificationEvents struct {
	IncludeReferences bool          `yaml:"includereferences" default:"false" doc:"List what a manifest refers to, in events of its push and pull." zh:"在推送与拉取事件中列出 manifest 引用的内容。"`
	Keep              time.Duration `yaml:"keep" default:"168h" check:"positive" doc:"Events are kept at least so long for a replay, and longer until every endpoint has them." zh:"事件至少保留多久以便重放；端点尚未收到的会保留更久。"`
	Most              int           `yaml:"most" default:"1000000" check:"positive" doc:"More events than this are not kept: the oldest are dropped with an error in the log, also when an endpoint does not have them." zh:"最多保留的事件数；超出时丢弃最旧的并记录错误日志，即使端点尚未收到。"`
	MaxAge            time.Duration `yaml:"maxage" default:"24h" check:"positive" doc:"An event that an endpoint has not taken for so long, while it takes others, becomes a dead letter." zh:"端点接收其他事件却持续拒收某事件超过此时间后，该事件成为死信。"`
}

// NotificationEndpoint is one address that gets events.
type NotificationEndpoint struct {
	Name              string              `yaml:"name" check:"required" doc:"Name; the place in the events that the endpoint has reached is kept under it." zh:"名称；端点的进度以此名保存。"`
	Disabled          bool                `yaml:"disabled" doc:"Switched off." zh:"停用。"`
	URL               Secret              `yaml:"url" check:"endpoint" doc:"Address that gets POST requests. It may hold a secret, so it is not shown." zh:"接收 POST 请求的地址。可能含有密钥，因此不显示。"`
	Headers           map[string][]Secret `yaml:"headers" check:"header" doc:"Headers of the request, such as Authorization." zh:"请求头，例如 Authorization。"`
	Timeout           time.Duration       `yaml:"timeout" check:"natural" doc:"Longest request, at most 2m. Not set: 5s." zh:"请求超时，最长 2m。未设置时为 5s。"`
	Threshold         int                 `yaml:"threshold" check:"natural" doc:"Failures in a row before a pause. Not set: 10." zh:"暂停前的连续失败次数。未设置时为 10。"`
	Backoff           time.Duration       `yaml:"backoff" check:"natural" doc:"Length of the first pause; each is twice as long, up to 5m. Not set: 1s." zh:"首次暂停的时长，之后逐次加倍，最长 5m。未设置时为 1s。"`
	IgnoredMediaTypes []string            `yaml:"ignoredmediatypes" doc:"Media types without events." zh:"不发送事件的媒体类型。"`
	Ignore            NotificationIgnore  `yaml:"ignore" doc:"What gets no events." zh:"不发送事件的内容。"`
}

// NotificationIgnore names what gets no events.
type NotificationIgnore struct {
	MediaTypes []string `yaml:"mediatypes" doc:"Media types." zh:"媒体类型。"`
	Actions    []string `yaml:"actions" doc:"Actions: push, pull, mount, delete." zh:"动作：push、pull、mount、delete。"`
}

// checkEndpoints refuses endpoints that cannot be told from each other or cannot be reached.
func (d *decoder) checkEndpoints(c *Config) {
	seen := map[string]bool{}
	for i, e := range c.Notifications.Endpoints {
		section := fmt.Sprintf("notifications.endpoints[%d]", i)
		if seen[e.Name] && e.Name != "" {
			d.refuse(section, "notifications.endpoints: two endpoints are called %q; the place of each in the events is kept under its name, so give each its own", e.Name)
		}
		seen[e.Name] = true
		if !e.Disabled && !e.URL.IsSet() && !d.misspelt("url", section) {
			d.refuse(section, "notifications.endpoints: endpoint %q has no url", e.Name)
		}
		for _, a := range e.Ignore.Actions {
			switch a {
			case "push", "pull", "mount", "delete":
			default:
				d.warn(section, "notifications.endpoints: endpoint %q ignores the action %q, which no event has; there are push, pull, mount and delete", e.Name, a)
			}
		}
	}
}

// checkEndpoint never quotes what it found: it may hold a secret.
func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("expects a URL that begins with https:// or http://")
	}
	return nil
}
