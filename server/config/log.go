package config

import "log/slog"

// Log says what is logged, and how.
type Log struct {
	Level        string            `yaml:"level" default:"info" oneof:"error|warn|info|debug" reload:"true" doc:"Least severe line that is written." zh:"最低的日志级别。"`
	Formatter    string            `yaml:"formatter" default:"text" oneof:"text|json|logstash" env:"BERTH_LOG_FORMAT" flag:"log-format" doc:"Form of a line: text for people, json for machines (logstash is written as json)." zh:"日志格式：text 便于阅读，json 便于机器处理（logstash 按 json 输出）。"`
	Fields       map[string]string `yaml:"fields" doc:"Fixed fields that every line carries, such as service: registry." zh:"每行日志都带的固定字段，例如 service: registry。"`
	AccessLog    AccessLog         `yaml:"accesslog" doc:"One line for each request." zh:"访问日志，每个请求一行。"`
	ReportCaller bool              `yaml:"reportcaller" default:"false" unsupported:"warn" effect:"lines name what happened, not where in the source" doc:"Write the source file and line that logged." zh:"记录写日志的源文件与行号。"`
	Hooks        []LogHook         `yaml:"hooks" unsupported:"warn" effect:"no mail is sent for log lines" doc:"Mail for log lines, of distribution." zh:"distribution 的日志邮件通知。"`
}

// AccessLog is the log of requests.
type AccessLog struct {
	Disabled bool `yaml:"disabled" default:"false" doc:"Write no line for requests." zh:"不记录请求。"`
}

// SlogLevel is Level as log/slog knows it.
func (l Log) SlogLevel() slog.Level {
	switch l.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// LogHook is one entry of log.hooks.
type LogHook struct {
	Disabled bool     `yaml:"disabled" doc:"Switch the hook off." zh:"停用此项。"`
	Type     string   `yaml:"type" doc:"Kind of hook: mail." zh:"类型：mail。"`
	Levels   []string `yaml:"levels" doc:"Levels that trigger it." zh:"触发的日志级别。"`
	Options  LogMail  `yaml:"options" doc:"How the mail is sent." zh:"邮件发送方式。"`
}

// LogMail says how a mail hook sends.
type LogMail struct {
	SMTP SMTP     `yaml:"smtp" doc:"Mail server." zh:"邮件服务器。"`
	From string   `yaml:"from" doc:"Sender." zh:"发件人。"`
	To   []string `yaml:"to" doc:"Recipients." zh:"收件人。"`
}

// SMTP is a mail server.
type SMTP struct {
	Addr     string `yaml:"addr" doc:"Host and port." zh:"主机与端口。"`
	Username string `yaml:"username" doc:"Account." zh:"账号。"`
	Password Secret `yaml:"password" doc:"Password." zh:"密码。"`
	Insecure bool   `yaml:"insecure" doc:"Skip verification of its certificate." zh:"不校验证书。"`
}
