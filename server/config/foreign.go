package config

import "time"

// The sections of distribution that this version reads and checks but does not act on. What happens
// when one is set is in its unsupported tag, here or in Config.

// Health holds distribution's health checks.
type Health struct {
	StorageDriver HealthStorage `yaml:"storagedriver" doc:"Check of the store. berth always checks it: /readyz and /healthz." zh:"存储检查。berth 始终检查：/readyz 与 /healthz。"`
	File          []HealthFile  `yaml:"file" unsupported:"warn" effect:"it is not part of /healthz" doc:"Unhealthy while a file exists." zh:"文件存在时视为不健康。"`
	HTTP          []HealthHTTP  `yaml:"http" unsupported:"warn" effect:"it is not part of /healthz" doc:"Unhealthy while an address does not answer." zh:"地址无响应时视为不健康。"`
	TCP           []HealthTCP   `yaml:"tcp" unsupported:"warn" effect:"it is not part of /healthz" doc:"Unhealthy while a port is closed." zh:"端口不可达时视为不健康。"`
}

// HealthStorage is the check of the store.
type HealthStorage struct {
	Enabled   bool          `yaml:"enabled" default:"true" unsupported:"warn" effect:"the store is always checked when /readyz or /healthz is asked" doc:"Check the store." zh:"检查存储。"`
	Interval  time.Duration `yaml:"interval" unsupported:"warn" effect:"the store is checked when /readyz or /healthz is asked" doc:"How often." zh:"间隔。"`
	Threshold int           `yaml:"threshold" unsupported:"warn" effect:"one failed check counts" doc:"Failures that count." zh:"判定不健康的失败次数。"`
}

// HealthFile is unhealthy while a file exists.
type HealthFile struct {
	File      string        `yaml:"file" doc:"The file." zh:"文件。"`
	Interval  time.Duration `yaml:"interval" doc:"How often." zh:"间隔。"`
	Threshold int           `yaml:"threshold" doc:"Failures that count." zh:"判定不健康的失败次数。"`
}

// HealthHTTP is unhealthy while an address does not answer.
type HealthHTTP struct {
	URI        string              `yaml:"uri" doc:"Address." zh:"地址。"`
	Headers    map[string][]Secret `yaml:"headers" doc:"Headers of the request." zh:"请求头。"`
	StatusCode int                 `yaml:"statuscode" doc:"Status of a healthy answer." zh:"健康时的状态码。"`
	Timeout    time.Duration       `yaml:"timeout" doc:"Longest request." zh:"请求超时。"`
	Interval   time.Duration       `yaml:"interval" doc:"How often." zh:"间隔。"`
	Threshold  int                 `yaml:"threshold" doc:"Failures that count." zh:"判定不健康的失败次数。"`
}

// HealthTCP is unhealthy while a port is closed.
type HealthTCP struct {
	Addr      string        `yaml:"addr" doc:"Host and port." zh:"主机与端口。"`
	Timeout   time.Duration `yaml:"timeout" doc:"Longest attempt." zh:"连接超时。"`
	Interval  time.Duration `yaml:"interval" doc:"How often." zh:"间隔。"`
	Threshold int           `yaml:"threshold" doc:"Failures that count." zh:"判定不健康的失败次数。"`
}

// Redis is distribution's connection to redis: the keys of v2 (addr, pool) and of v3.
type Redis struct {
	Addr                  string        `yaml:"addr" doc:"Host and port (v2)." zh:"主机与端口（v2）。"`
	Addrs                 []string      `yaml:"addrs" doc:"Hosts and ports (v3)." zh:"主机与端口（v3）。"`
	Username              string        `yaml:"username" doc:"Account." zh:"账号。"`
	Password              Secret        `yaml:"password" doc:"Password." zh:"密码。"`
	SentinelUsername      string        `yaml:"sentinelusername" doc:"Account at sentinels." zh:"sentinel 账号。"`
	SentinelPassword      Secret        `yaml:"sentinelpassword" doc:"Password at sentinels." zh:"sentinel 密码。"`
	MasterName            string        `yaml:"mastername" doc:"Master that sentinels name." zh:"sentinel 的主节点名。"`
	ClientName            string        `yaml:"clientname" doc:"Name of the connection." zh:"连接名。"`
	DB                    int           `yaml:"db" doc:"Number of the database." zh:"数据库编号。"`
	Protocol              int           `yaml:"protocol" doc:"Version of the protocol." zh:"协议版本。"`
	MaxRetries            int           `yaml:"maxretries" doc:"Attempts." zh:"重试次数。"`
	MinRetryBackoff       time.Duration `yaml:"minretrybackoff" doc:"Shortest pause." zh:"最短重试间隔。"`
	MaxRetryBackoff       time.Duration `yaml:"maxretrybackoff" doc:"Longest pause." zh:"最长重试间隔。"`
	DialTimeout           time.Duration `yaml:"dialtimeout" doc:"Longest connect." zh:"连接超时。"`
	ReadTimeout           time.Duration `yaml:"readtimeout" doc:"Longest read." zh:"读超时。"`
	WriteTimeout          time.Duration `yaml:"writetimeout" doc:"Longest write." zh:"写超时。"`
	ContextTimeoutEnabled bool          `yaml:"contexttimeoutenabled" doc:"Obey deadlines." zh:"遵守截止时间。"`
	Pool                  RedisPool     `yaml:"pool" doc:"Connections (v2)." zh:"连接池（v2）。"`
	PoolFIFO              bool          `yaml:"poolfifo" doc:"Order of the pool." zh:"连接池次序。"`
	PoolSize              int           `yaml:"poolsize" doc:"Connections." zh:"连接数。"`
	PoolTimeout           time.Duration `yaml:"pooltimeout" doc:"Longest wait for one." zh:"等待连接的时限。"`
	MinIdleConns          int           `yaml:"minidleconns" doc:"Fewest idle connections." zh:"最少空闲连接。"`
	MaxIdleConns          int           `yaml:"maxidleconns" doc:"Most idle connections." zh:"最多空闲连接。"`
	MaxActiveConns        int           `yaml:"maxactiveconns" doc:"Most connections." zh:"最多连接数。"`
	ConnMaxIdleTime       time.Duration `yaml:"connmaxidletime" doc:"Longest idle time." zh:"最长空闲时间。"`
	ConnMaxLifetime       time.Duration `yaml:"connmaxlifetime" doc:"Longest life." zh:"最长存活时间。"`
	MaxRedirects          int           `yaml:"maxredirects" doc:"Redirects in a cluster." zh:"集群重定向次数。"`
	ReadOnly              bool          `yaml:"readonly" doc:"Read from replicas." zh:"从副本读取。"`
	RouteByLatency        bool          `yaml:"routebylatency" doc:"Nearest node." zh:"按延迟选择节点。"`
	RouteRandomly         bool          `yaml:"routerandomly" doc:"Any node." zh:"随机选择节点。"`
	DisableIdentity       bool          `yaml:"disableidentity" doc:"Send no identity." zh:"不发送标识。"`
	IdentitySuffix        string        `yaml:"identitysuffix" doc:"Suffix of the identity." zh:"标识后缀。"`
	UnstableResp3         bool          `yaml:"unstableresp3" doc:"RESP3." zh:"RESP3。"`
	TLS                   RedisTLS      `yaml:"tls" doc:"TLS." zh:"TLS。"`
}

// RedisPool is the pool of v2.
type RedisPool struct {
	MaxIdle     int           `yaml:"maxidle" doc:"Most idle connections." zh:"最多空闲连接。"`
	MaxActive   int           `yaml:"maxactive" doc:"Most connections." zh:"最多连接数。"`
	IdleTimeout time.Duration `yaml:"idletimeout" doc:"Longest idle time." zh:"最长空闲时间。"`
}

// RedisTLS is TLS to redis: the keys of v2 (enabled) and of v3, in both spellings of its documents.
type RedisTLS struct {
	Enabled     bool     `yaml:"enabled" doc:"Use TLS (v2)." zh:"使用 TLS（v2）。"`
	Certificate string   `yaml:"certificate" doc:"Certificate of the client." zh:"客户端证书。"`
	Key         string   `yaml:"key" doc:"Its key." zh:"私钥。"`
	RootCAs     []string `yaml:"rootcas" doc:"Authorities." zh:"CA。"`
	ClientCAs   []string `yaml:"clientcas" doc:"Authorities, as older documents spell it." zh:"CA（旧文档写法）。"`
}

// Proxy makes distribution a pull-through cache.
type Proxy struct {
	RemoteURL         string        `yaml:"remoteurl" check:"url" doc:"Registry that is cached." zh:"被缓存的仓库。"`
	Username          string        `yaml:"username" doc:"Account there." zh:"账号。"`
	Password          Secret        `yaml:"password" doc:"Password there." zh:"密码。"`
	Exec              ProxyExec     `yaml:"exec" doc:"Program that supplies the login." zh:"提供登录信息的程序。"`
	TTL               time.Duration `yaml:"ttl" doc:"How long content is kept." zh:"内容保留时间。"`
	CacheWriteTimeout time.Duration `yaml:"cachewritetimeout" doc:"Longest write into the cache." zh:"写缓存的时限。"`
	RemoteNamespace   string        `yaml:"remotenamespace" doc:"Namespace there." zh:"远端命名空间。"`
}

// ProxyExec is a credential helper.
type ProxyExec struct {
	Command  string        `yaml:"command" doc:"The program." zh:"程序。"`
	Lifetime time.Duration `yaml:"lifetime" doc:"How long its answer holds." zh:"结果有效期。"`
}

// Middleware is one entry of a hook.
type Middleware struct {
	Name     string `yaml:"name" doc:"Name." zh:"名称。"`
	Disabled bool   `yaml:"disabled" doc:"Switched off." zh:"停用。"`
	Options  Opaque `yaml:"options" doc:"Its parameters." zh:"参数。"`
}

// Validation holds rules for pushed manifests.
type Validation struct {
	Enabled   bool                `yaml:"enabled" unsupported:"warn" effect:"berth always validates manifests" doc:"Old opposite of disabled." zh:"disabled 的旧反义项。"`
	Disabled  bool                `yaml:"disabled" unsupported:"warn" effect:"berth always validates manifests" doc:"Switch validation off." zh:"关闭校验。"`
	Manifests ValidationManifests `yaml:"manifests" doc:"Manifests." zh:"manifest。"`
}

// ValidationManifests holds the rules.
type ValidationManifests struct {
	URLs    ValidationURLs    `yaml:"urls" unsupported:"refuse" effect:"layers with foreign URLs would not be held against these lists" doc:"URLs of foreign layers." zh:"外部层的 URL。"`
	Indexes ValidationIndexes `yaml:"indexes" unsupported:"warn" effect:"berth decides for itself which platforms of an index must exist" doc:"Indexes." zh:"index。"`
}

// ValidationURLs lists regular expressions.
type ValidationURLs struct {
	Allow []string `yaml:"allow" check:"regexp" doc:"URLs must match one of these." zh:"URL 须匹配其一。"`
	Deny  []string `yaml:"deny" check:"regexp" doc:"URLs must match none of these." zh:"URL 不得匹配任何一项。"`
}

// ValidationIndexes says which images of an index must exist.
type ValidationIndexes struct {
	Platforms    string     `yaml:"platforms" oneof:"all|none|list" doc:"Which platforms must exist." zh:"哪些平台必须存在。"`
	PlatformList []Platform `yaml:"platformlist" doc:"The platforms of list." zh:"list 所指的平台。"`
}

// Platform is an architecture and an operating system.
type Platform struct {
	Architecture string `yaml:"architecture" doc:"Architecture." zh:"架构。"`
	OS           string `yaml:"os" doc:"Operating system." zh:"操作系统。"`
}

// Policy is distribution's repository policy.
type Policy struct {
	Repository PolicyRepository `yaml:"repository" doc:"Repositories." zh:"仓库。"`
}

// PolicyRepository restricts what repositories hold.
type PolicyRepository struct {
	Classes []string `yaml:"classes" unsupported:"refuse" effect:"content of other classes would be accepted" doc:"Classes of content that are accepted." zh:"接受的内容类别。"`
}

// Reporting sends errors to services (distribution v2).
type Reporting struct {
	Bugsnag  Bugsnag  `yaml:"bugsnag" doc:"bugsnag.com." zh:"bugsnag.com。"`
	NewRelic NewRelic `yaml:"newrelic" doc:"newrelic.com." zh:"newrelic.com。"`
}

// Bugsnag is bugsnag.com.
type Bugsnag struct {
	APIKey       Secret `yaml:"apikey" doc:"Key." zh:"密钥。"`
	ReleaseStage string `yaml:"releasestage" doc:"Stage." zh:"阶段。"`
	Endpoint     string `yaml:"endpoint" doc:"Address." zh:"地址。"`
}

// NewRelic is newrelic.com.
type NewRelic struct {
	LicenseKey Secret `yaml:"licensekey" doc:"Key." zh:"密钥。"`
	Name       string `yaml:"name" doc:"Name of the application." zh:"应用名。"`
	Verbose    bool   `yaml:"verbose" doc:"Log more." zh:"详细日志。"`
}

// Compatibility is about manifest formats of the past (distribution v2).
type Compatibility struct {
	Schema1 Schema1 `yaml:"schema1" unsupported:"warn" effect:"manifests of schema 1 are not served" doc:"Docker schema 1." zh:"Docker schema 1。"`
}

// Schema1 is the manifest format of 2015.
type Schema1 struct {
	Enabled  bool   `yaml:"enabled" doc:"Serve it." zh:"启用。"`
	TrustKey string `yaml:"signingkeyfile" doc:"Key that signs it." zh:"签名密钥。"`
}
