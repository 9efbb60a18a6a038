package config

import (
	"net/url"
	"slices"
	"strings"
)

// S3 keeps content in a bucket. Every key of distribution's driver is read, with its defaults except where a text says
// otherwise.
type S3 struct {
	AccessKey                   Secret `yaml:"accesskey" doc:"Access key. Not set, with secretkey: what the AWS SDK finds, such as AWS_ACCESS_KEY_ID, a web identity (IRSA), or the role of the machine." zh:"访问密钥。与 secretkey 均未设置时，由 AWS SDK 查找：AWS_ACCESS_KEY_ID、Web 身份（IRSA）或机器角色等。"`
	SecretKey                   Secret `yaml:"secretkey" doc:"Secret key." zh:"密钥。"`
	SessionToken                Secret `yaml:"sessiontoken" doc:"Session token of temporary credentials." zh:"临时凭据的会话令牌。"`
	Region                      string `yaml:"region" doc:"Region of the bucket. Not set: AWS_REGION, or us-east-1 with a regionendpoint." zh:"桶所在区域。未设置时使用 AWS_REGION；设置了 regionendpoint 时为 us-east-1。"`
	RegionEndpoint              string `yaml:"regionendpoint" doc:"Address of a service that is not Amazon's, such as https://s3.example.com or minio:9000." zh:"非 Amazon 服务的地址，如 https://s3.example.com 或 minio:9000。"`
	RedirectEndpoint            string `yaml:"redirectendpoint" doc:"Address that clients are redirected to, when they reach the service by another name than berthd does." zh:"客户端被重定向到的地址，用于客户端与 berthd 以不同名称访问存储服务时。"`
	ForcePathStyle              bool   `yaml:"forcepathstyle" doc:"Bucket in the path, not in the host name. Not set: true with a regionendpoint." zh:"桶名放在路径而非主机名中。设置了 regionendpoint 时默认为 true。"`
	Accelerate                  bool   `yaml:"accelerate" doc:"Transfer acceleration." zh:"传输加速。"`
	Bucket                      string `yaml:"bucket" doc:"Name of the bucket, which has to exist." zh:"桶名，须已存在。"`
	Encrypt                     bool   `yaml:"encrypt" doc:"Ask the service to encrypt what it stores." zh:"要求服务端加密存储。"`
	KeyID                       string `yaml:"keyid" doc:"KMS key to encrypt with; needs encrypt." zh:"用于加密的 KMS 密钥，需同时设置 encrypt。"`
	Secure                      bool   `yaml:"secure" default:"true" doc:"Use HTTPS, where regionendpoint does not say http or https." zh:"regionendpoint 未写明 http 或 https 时使用 HTTPS。"`
	SkipVerify                  bool   `yaml:"skipverify" doc:"Do not check the certificate of the service." zh:"不校验服务端证书。"`
	V4Auth                      bool   `yaml:"v4auth" default:"true" doc:"Signature version 4. Version 2 is not offered." zh:"签名版本 4。不提供版本 2。"`
	ChunkSize                   Bytes  `yaml:"chunksize" default:"5MiB" doc:"Size of an upload's parts, 5MiB to 5GiB. Up to 30MiB, and at least two parts, of every running upload are in memory." zh:"上传分段大小，5MiB 至 5GiB。每个进行中的上传最多在内存中保留 30MiB，且至少两个分段。"`
	MultipartCopyChunkSize      Bytes  `yaml:"multipartcopychunksize" unsupported:"warn" effect:"parts are copied as they were uploaded; chunksize is their size" doc:"Size of a copy part, in distribution." zh:"distribution 的复制分段大小。"`
	MultipartCopyMaxConcurrency int    `yaml:"multipartcopymaxconcurrency" default:"100" check:"positive" doc:"Most parts that the service copies for us at once." zh:"服务端同时为我们复制的分段上限。"`
	MultipartCopyThresholdSize  Bytes  `yaml:"multipartcopythresholdsize" unsupported:"warn" effect:"what was uploaded in parts is copied in parts" doc:"Size from which copies are made in parts, in distribution." zh:"distribution 中超过此大小时分段复制。"`
	RootDirectory               string `yaml:"rootdirectory" doc:"Prefix of every key in the bucket." zh:"桶中所有对象键的前缀。"`
	StorageClass                string `yaml:"storageclass" doc:"Storage class of content, such as STANDARD_IA. Not set, or NONE: what the bucket has." zh:"内容的存储类别，如 STANDARD_IA。未设置或 NONE 时使用桶的默认值。"`
	UserAgent                   string `yaml:"useragent" doc:"Words to add to the User-Agent of requests." zh:"附加到请求 User-Agent 的文字。"`
	UseDualStack                bool   `yaml:"usedualstack" doc:"Amazon's addresses for IPv4 and IPv6." zh:"使用 Amazon 的双栈地址。"`
	UseFIPSEndpoint             bool   `yaml:"usefipsendpoint" doc:"Amazon's FIPS addresses." zh:"使用 Amazon 的 FIPS 地址。"`
	ObjectACL                   string `yaml:"objectacl" doc:"Access list of content, such as private. Not set: none is sent, as buckets ask that have no access lists." zh:"内容的访问控制列表，如 private。未设置时不发送，禁用 ACL 的桶要求如此。"`
	LogLevel                    string `yaml:"loglevel" oneof:"off|debug|debugwithsigning|debugwithhttpbody|debugwithrequestretries|debugwithrequesterrors|debugwitheventstreambody" doc:"Any but off: log repeated requests. Signatures and content are never logged." zh:"除 off 外均记录重试的请求。签名与内容从不写入日志。"`
}

// storageClasses are those whose objects can be read at once, as distribution has them.
func storageClasses() []string {
	return []string{
		"NONE", "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "OUTPOSTS", "GLACIER_IR",
		"EXPRESS_ONEZONE",
	}
}

func objectACLs() []string {
	return []string{
		"private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
		"bucket-owner-full-control",
	}
}

// checkS3 refuses what the driver could not start with, so that "berthd config check" knows. A key that could not be read
// hides its own rules only: everything wrong is told at once.
func (d *decoder) checkS3(c *Config) {
	s := c.Storage.S3
	if s == nil || d.refused("storage.s3") {
		return
	}
	const key = "storage.s3."
	if s.RegionEndpoint != "" && !d.said(key+"forcepathstyle") {
		s.ForcePathStyle = true
		d.origins[key+"forcepathstyle"] = Origin{Source: "derived", Name: key + "regionendpoint"}
	}
	if s.Bucket == "" && !d.misspelt("bucket", "storage.s3") {
		d.refuse("storage.s3", "storage.s3.bucket is missing; name the bucket that content is kept in")
	}
	if s.AccessKey.IsSet() != s.SecretKey.IsSet() && !d.misspelt("accesskey", "storage.s3") && !d.misspelt("secretkey", "storage.s3") {
		d.refuse("storage.s3", "storage.s3.accesskey and storage.s3.secretkey belong together; set both, or none to use the role of the machine")
	}
	if s.SessionToken.IsSet() && !s.AccessKey.IsSet() && !d.misspelt("accesskey", "storage.s3") {
		d.refuse(key+"sessiontoken", "storage.s3.sessiontoken is of an accesskey and a secretkey, which are not set")
	}
	if !d.failed(key+"chunksize") && (s.ChunkSize < 5<<20 || s.ChunkSize > 5<<30) {
		d.refuse(key+"chunksize", "storage.s3.chunksize: %s is outside of what S3 takes as a part, 5MiB to 5GiB", s.ChunkSize)
	}
	if !s.V4Auth && !d.failed(key+"v4auth") {
		d.refuse(key+"v4auth", "storage.s3.v4auth: false asks for signature version 2, which is not offered; every current service takes version 4")
	}
	if s.KeyID != "" && !s.Encrypt && !d.misspelt("encrypt", "storage.s3") {
		d.refuse(key+"keyid", "storage.s3.keyid has no effect without storage.s3.encrypt: true")
	}
	if s.SkipVerify {
		d.warn(key+"skipverify", "storage.s3.skipverify: whoever is between here and the service can read and change content; add its CA to the system, or to AWS_CA_BUNDLE, instead")
	}
	if s.StorageClass != "" && !slices.Contains(storageClasses(), strings.ToUpper(s.StorageClass)) {
		d.refuse(key+"storageclass", "storage.s3.storageclass: unknown value %q (%s)", s.StorageClass, strings.Join(storageClasses(), ", "))
	}
	if s.ObjectACL != "" && !slices.Contains(objectACLs(), s.ObjectACL) {
		d.refuse(key+"objectacl", "storage.s3.objectacl: unknown value %q (%s)", s.ObjectACL, strings.Join(objectACLs(), ", "))
	}
	d.checkEndpoint(key+"regionendpoint", s.RegionEndpoint)
	d.checkEndpoint(key+"redirectendpoint", s.RedirectEndpoint)
}

// checkEndpoint takes a URL without a path, or a host with or without a port.
func (d *decoder) checkEndpoint(key, text string) {
	if text == "" {
		return
	}
	whole := text
	if !strings.Contains(whole, "://") {
		whole = "https://" + whole
	}
	u, err := url.Parse(whole)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		d.refuse(key, "%s is not an address such as https://s3.example.com or minio:9000", key)
	case u.User != nil:
		d.refuse(key, "%s has a name or password in it; use accesskey and secretkey", key)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		d.refuse(key, "%s %q has more than a host and a port; the bucket and the prefix go to storage.s3.bucket and storage.s3.rootdirectory", key, text)
	}
}
