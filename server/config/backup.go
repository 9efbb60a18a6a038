package config

// Backup says where snapshots of the registry go, and when.
type Backup struct {
	Target   string `yaml:"target" doc:"Where scheduled backups go: a directory, or s3://BUCKET/PREFIX. A bucket is reached with the settings of storage.s3, or ?region=…&endpoint=… behind its name and what the AWS SDK finds. Not set: none are made by themselves. A backup has password hashes and signing keys: keep it as secret as the data directory." zh:"定时备份的目标：目录，或 s3://BUCKET/PREFIX。桶使用 storage.s3 的设置访问，或在名称后写 ?region=…&endpoint=…，凭据由 AWS SDK 查找。未设置时不自动备份。备份含密码散列与签名密钥，须与数据目录同样保密。"`
	Schedule string `yaml:"schedule" default:"@daily" doc:"When: five cron fields in UTC, @hourly, @daily, @weekly, or @every with a duration. Takes effect with target." zh:"备份时间：UTC 的五段 cron 表达式、@hourly、@daily、@weekly，或 @every 加时长。设置 target 后生效。"`
	Keep     int    `yaml:"keep" default:"14" check:"natural" doc:"How many snapshots of this registry to keep in the target; 0 keeps all." zh:"目标中保留本仓库的快照数；0 表示全部保留。"`
	Rate     Bytes  `yaml:"rate" default:"0" check:"natural" doc:"Most bytes per second that a scheduled backup copies; 0 is as fast as it goes." zh:"定时备份每秒复制的最大字节数；0 表示不限速。"`
}
