package config

import "time"

// Storage says where content is kept. Load leaves exactly one driver non-nil.
type Storage struct {
	Filesystem *Filesystem `yaml:"filesystem" choice:"storage driver" doc:"Files in a directory of this machine (the default)." zh:"本机目录中的文件（默认）。"`
	S3         *S3         `yaml:"s3" choice:"storage driver" doc:"A bucket of Amazon S3, or of a service that speaks its protocol." zh:"Amazon S3 或兼容服务的桶。"`
	GCS        *GCS        `yaml:"gcs" choice:"storage driver" unsupported:"refuse" doc:"Google Cloud Storage." zh:"Google Cloud Storage。"`
	Azure      *Azure      `yaml:"azure" choice:"storage driver" unsupported:"refuse" doc:"Azure Blob Storage." zh:"Azure Blob Storage。"`
	InMemory   *InMemory   `yaml:"inmemory" choice:"storage driver" doc:"Memory only, for tests: everything is gone when berthd stops." zh:"仅存于内存，供测试使用：停止后内容全部丢失。"`

	Delete      Delete       `yaml:"delete" doc:"Deleting by the API." zh:"通过 API 删除。"`
	Maintenance Maintenance  `yaml:"maintenance" doc:"Upkeep of the store." zh:"存储维护。"`
	Redirect    Redirect     `yaml:"redirect" doc:"Redirects of blob downloads to the store: with s3, clients are sent to the bucket with an address that is signed for some minutes. A directory has no address to redirect to, so with filesystem every download is answered here." zh:"将 blob 下载重定向到存储后端：使用 s3 时，客户端会被带到签名数分钟内有效的桶地址。filesystem 没有可重定向的地址，所有下载都由本服务返回。"`
	Cache       StorageCache `yaml:"cache" unsupported:"warn" effect:"berth always caches what is read often in bounded memory; its size is berth.limits.cache_bytes" doc:"Descriptor cache of distribution." zh:"distribution 的描述符缓存。"`
	Tag         StorageTag   `yaml:"tag" unsupported:"warn" effect:"tags are rows in a database here and need no parallel look-up" doc:"Tag look-up of distribution." zh:"distribution 的标签查找。"`
}

// Driver is the name of the driver that is configured: filesystem, s3, gcs, azure or inmemory.
func (s Storage) Driver() string {
	switch {
	case s.Filesystem != nil:
		return "filesystem"
	case s.S3 != nil:
		return "s3"
	case s.GCS != nil:
		return "gcs"
	case s.Azure != nil:
		return "azure"
	case s.InMemory != nil:
		return "inmemory"
	}
	return ""
}

// Filesystem keeps content in files.
type Filesystem struct {
	RootDirectory string `yaml:"rootdirectory" check:"path" doc:"Directory of the content. Not set: berth.data." zh:"内容目录。未设置时使用 berth.data。"`
	MaxThreads    int    `yaml:"maxthreads" default:"100" check:"positive" unsupported:"warn" effect:"the number of file operations at once needs no bound here" doc:"Most file operations at once, in distribution." zh:"distribution 中同时进行的文件操作上限。"`
}

// InMemory keeps content in memory.
type InMemory struct{}

// Delete says whether the API deletes.
type Delete struct {
	Enabled bool `yaml:"enabled" default:"true" doc:"Allow DELETE of manifests, tags and blobs; off, they are answered with 405. A file of distribution (version without a berth section) that does not say keeps distribution's default, false." zh:"允许 DELETE 删除 manifest、标签与 blob；关闭时返回 405。distribution 的配置文件（有 version、无 berth 段）未写明时沿用其默认值 false。"`
}

// Redirect says whether blob downloads may be redirected to the store.
type Redirect struct {
	Disable bool `yaml:"disable" default:"false" doc:"Answer every download here." zh:"所有下载都由本服务返回。"`
}

// Maintenance is the upkeep of the store.
type Maintenance struct {
	UploadPurging UploadPurging `yaml:"uploadpurging" doc:"Removal of uploads that nobody finished." zh:"清理未完成的上传。"`
	ReadOnly      ReadOnly      `yaml:"readonly" doc:"Refusal of everything that writes." zh:"只读模式。"`
}

// UploadPurging removes abandoned uploads.
type UploadPurging struct {
	Enabled  bool          `yaml:"enabled" default:"true" doc:"Remove abandoned uploads." zh:"清理被放弃的上传。"`
	Age      time.Duration `yaml:"age" default:"168h" check:"positive" doc:"How long an upload may rest before it counts as abandoned." zh:"上传闲置多久后视为被放弃。"`
	Interval time.Duration `yaml:"interval" default:"24h" check:"positive" doc:"How often to look." zh:"检查间隔。"`
	DryRun   bool          `yaml:"dryrun" default:"false" doc:"Only log what would be removed." zh:"只记录将被清理的内容，不实际删除。"`
}

// ReadOnly refuses writes.
type ReadOnly struct {
	Enabled bool `yaml:"enabled" default:"false" doc:"Answer pushes and deletes with 405." zh:"对推送与删除返回 405。"`
}

// StorageCache is distribution's descriptor cache.
type StorageCache struct {
	BlobDescriptor     string `yaml:"blobdescriptor" oneof:"inmemory|redis" doc:"Kind of cache." zh:"缓存类型。"`
	BlobDescriptorSize int    `yaml:"blobdescriptorsize" check:"natural" doc:"Entries in the cache." zh:"缓存条目数。"`
	LayerInfo          string `yaml:"layerinfo" oneof:"inmemory|redis" doc:"Old name of blobdescriptor." zh:"blobdescriptor 的旧名。"`
}

// StorageTag is distribution's tag look-up.
type StorageTag struct {
	ConcurrencyLimit int `yaml:"concurrencylimit" check:"natural" doc:"Tags looked up at once." zh:"同时查找的标签数。"`
}

// GCS keeps content in a bucket of Google Cloud Storage.
type GCS struct {
	Bucket         string         `yaml:"bucket" doc:"Name of the bucket." zh:"桶名。"`
	KeyFile        string         `yaml:"keyfile" doc:"File with a service account key." zh:"服务账号密钥文件。"`
	Credentials    GCSCredentials `yaml:"credentials" doc:"A service account key, written out." zh:"直接写出的服务账号密钥。"`
	RootDirectory  string         `yaml:"rootdirectory" doc:"Prefix of every name." zh:"所有对象名的前缀。"`
	ChunkSize      Bytes          `yaml:"chunksize" doc:"Size of an upload part." zh:"上传分段大小。"`
	UserAgent      string         `yaml:"useragent" doc:"User-Agent of requests." zh:"请求的 User-Agent。"`
	MaxConcurrency int            `yaml:"maxconcurrency" check:"natural" doc:"Requests at once." zh:"并发请求数。"`
}

// GCSCredentials is a service account key of Google Cloud.
type GCSCredentials struct {
	Type                string `yaml:"type" doc:"Kind of account." zh:"账号类型。"`
	ProjectID           string `yaml:"project_id" doc:"Project." zh:"项目。"`
	PrivateKeyID        string `yaml:"private_key_id" doc:"Id of the key." zh:"密钥编号。"`
	PrivateKey          Secret `yaml:"private_key" doc:"The key." zh:"密钥。"`
	ClientEmail         string `yaml:"client_email" doc:"Name of the account." zh:"账号名。"`
	ClientID            string `yaml:"client_id" doc:"Id of the account." zh:"账号编号。"`
	AuthURI             string `yaml:"auth_uri" doc:"Authorization address." zh:"授权地址。"`
	TokenURI            string `yaml:"token_uri" doc:"Token address." zh:"令牌地址。"`
	AuthProviderCertURL string `yaml:"auth_provider_x509_cert_url" doc:"Certificates of the provider." zh:"提供方证书地址。"`
	ClientCertURL       string `yaml:"client_x509_cert_url" doc:"Certificates of the account." zh:"账号证书地址。"`
	UniverseDomain      string `yaml:"universe_domain" doc:"Domain of the cloud." zh:"云的域名。"`
}

// Azure keeps content in a container of Azure Blob Storage.
type Azure struct {
	AccountName      string           `yaml:"accountname" doc:"Storage account." zh:"存储账号。"`
	AccountKey       Secret           `yaml:"accountkey" doc:"Key of the account." zh:"账号密钥。"`
	ConnectionString Secret           `yaml:"connectionstring" doc:"Connection string." zh:"连接字符串。"`
	Container        string           `yaml:"container" doc:"Container." zh:"容器名。"`
	RootDirectory    string           `yaml:"rootdirectory" doc:"Prefix of every name." zh:"所有对象名的前缀。"`
	Realm            string           `yaml:"realm" doc:"Domain of the service." zh:"服务域名。"`
	ServiceURL       string           `yaml:"serviceurl" doc:"Address of the service." zh:"服务地址。"`
	Credentials      AzureCredentials `yaml:"credentials" doc:"Login instead of a key." zh:"代替密钥的登录方式。"`
	MaxRetries       int              `yaml:"max_retries" check:"natural" doc:"Attempts." zh:"重试次数。"`
	RetryDelay       time.Duration    `yaml:"retry_delay" doc:"Pause between attempts." zh:"重试间隔。"`
	SkipVerify       bool             `yaml:"skipverify" doc:"Skip verification of its certificate." zh:"不校验证书。"`
}

// AzureCredentials is a login to Azure.
type AzureCredentials struct {
	Type     string `yaml:"type" doc:"Kind of login." zh:"登录类型。"`
	ClientID string `yaml:"clientid" doc:"Client." zh:"客户端。"`
	TenantID string `yaml:"tenantid" doc:"Tenant." zh:"租户。"`
	Secret   Secret `yaml:"secret" doc:"Secret of the client." zh:"客户端密钥。"`
}
