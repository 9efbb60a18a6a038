package config

// Config is everything that can be set. The zero value is not usable: [Load] fills in defaults.
// A Config is not changed after Load returned it; a reload makes a new one (see [Diff]).
type Config struct {
	Version       string                  `yaml:"version" default:"0.1" check:"version" doc:"Version of this grammar. 0.1 is the only one." zh:"配置语法的版本，目前只有 0.1。"`
	Log           Log                     `yaml:"log" doc:"What is logged, and how. Everything goes to stderr." zh:"日志的内容与格式，全部写到 stderr。"`
	Loglevel      string                  `yaml:"loglevel" oneof:"error|warn|info|debug" doc:"Old name of log.level; used only when log.level is not set." zh:"log.level 的旧名，仅在未设置 log.level 时有效。"`
	HTTP          HTTP                    `yaml:"http" doc:"Where and how the registry listens." zh:"监听地址与方式。"`
	Auth          Auth                    `yaml:"auth" doc:"Who may log in, and what everyone else may do." zh:"谁可以登录，以及未登录者可以做什么。"`
	Storage       Storage                 `yaml:"storage" doc:"Where the content of images is kept. Name one driver: filesystem or inmemory." zh:"镜像内容的存放位置。指定一个驱动：filesystem 或 inmemory。"`
	Catalog       Catalog                 `yaml:"catalog" doc:"GET /v2/_catalog, the list of repositories." zh:"GET /v2/_catalog，仓库列表。"`
	Tags          Tags                    `yaml:"tags" doc:"GET /v2/<name>/tags/list, the list of tags." zh:"GET /v2/<name>/tags/list，标签列表。"`
	Berth         Berth                   `yaml:"berth" doc:"Settings that only berth has." zh:"berth 独有的设置。"`
	Notifications Notifications           `yaml:"notifications" doc:"Webhooks of distribution." zh:"distribution 的 webhook。"`
	Health        Health                  `yaml:"health" doc:"Health checks of distribution." zh:"distribution 的健康检查。"`
	Redis         Redis                   `yaml:"redis" unsupported:"warn" effect:"berth needs no redis; nothing connects to it" doc:"Redis of distribution. berth does not use it." zh:"distribution 的 redis 设置，berth 不使用。"`
	Proxy         Proxy                   `yaml:"proxy" unsupported:"refuse" effect:"berth would start as an empty registry instead of a pull-through cache" doc:"Pull-through cache of distribution." zh:"distribution 的拉取缓存（pull-through cache）。"`
	Middleware    map[string][]Middleware `yaml:"middleware" unsupported:"refuse" effect:"requests would reach the registry without it" doc:"Middleware of distribution, by hook: registry, repository, storage." zh:"distribution 的中间件，按挂载点：registry、repository、storage。"`
	Validation    Validation              `yaml:"validation" doc:"Rules for pushed manifests." zh:"对推送的 manifest 的规则。"`
	Policy        Policy                  `yaml:"policy" doc:"Repository policy of distribution." zh:"distribution 的仓库策略。"`
	Reporting     Reporting               `yaml:"reporting" unsupported:"warn" effect:"errors are logged and counted in /metrics only" doc:"Error reporting services of distribution v2." zh:"distribution v2 的错误上报服务。"`
	Compatibility Compatibility           `yaml:"compatibility" doc:"Old manifest formats of distribution v2." zh:"distribution v2 的旧 manifest 格式。"`
}

// Catalog bounds GET /v2/_catalog.
type Catalog struct {
	MaxEntries int `yaml:"maxentries" default:"1000" check:"positive" doc:"Most repositories in one page; a client that asks for more gets this many." zh:"每页最多的仓库数，请求更多时按此数返回。"`
}

// Tags bounds GET /v2/<name>/tags/list.
type Tags struct {
	MaxTags int `yaml:"maxtags" default:"1000" check:"positive" doc:"Most tags in one page; a client that asks for more gets this many." zh:"每页最多的标签数，请求更多时按此数返回。"`
}
