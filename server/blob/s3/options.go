package s3

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

const (
	minPart          = 5 << 20
	maxPart          = 5 << 30
	defaultPart      = 5 << 20
	partMemory       = 28 << 20 // of one upload, as long as ChunkSize allows
	defaultCopies    = 100
	defaultStall     = 15 * time.Second
	defaultSlow      = 10 * time.Minute
	defaultAttempts  = 7
	defaultURLExpiry = 15 * time.Minute
)

// Options are the settings of storage.s3, under distribution's names, and what tests need.
type Options struct {
	AccessKey    string // with SecretKey; without them, the chain of the SDK: environment, files, web identity, instance role
	SecretKey    string
	SessionToken string

	Region           string // may be empty with an Endpoint
	Endpoint         string // regionendpoint: URL or host; empty is Amazon
	RedirectEndpoint string // URL that presigned addresses are for; empty is Endpoint
	Bucket           string
	RootDirectory    string

	PathStyle    bool
	Accelerate   bool
	DualStack    bool
	FIPS         bool
	Insecure     bool // secure: false; for an Endpoint that does not say http or https, and for Amazon
	SkipVerify   bool
	Encrypt      bool
	KeyID        string
	StorageClass string // of content; empty or NONE is the bucket's
	ObjectACL    string
	UserAgent    string
	LogLevel     string // distribution's words; what would show secrets or content is not logged

	ChunkSize       int64 // bytes of a part; default 5 MiB
	CopyConcurrency int   // multipartcopymaxconcurrency, over all commits; default 100
	URLExpiry       time.Duration

	Stall    time.Duration // no byte for so long ends an attempt; default 30 s
	Slow     time.Duration // the same for what the service may take long for: copies, completing; default 10 min
	Attempts int           // of each request, over some 6 s; default 7

	Log *slog.Logger     // default: nowhere
	Now func() time.Time // default: time.Now
}

func (o Options) filled() (Options, error) {
	o.ChunkSize = orDefault(o.ChunkSize, defaultPart)
	o.CopyConcurrency = orDefault(o.CopyConcurrency, defaultCopies)
	o.URLExpiry = orDefault(o.URLExpiry, defaultURLExpiry)
	o.Stall = orDefault(o.Stall, defaultStall)
	o.Slow = orDefault(o.Slow, defaultSlow)
	o.Attempts = orDefault(o.Attempts, defaultAttempts)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if strings.EqualFold(o.StorageClass, "NONE") {
		o.StorageClass = ""
	}
	o.StorageClass = strings.ToUpper(o.StorageClass)
	var err error
	switch {
	case o.Bucket == "":
		err = errors.New("s3: storage.s3.bucket is missing: name the bucket")
	case o.ChunkSize < minPart || o.ChunkSize > maxPart:
		err = fmt.Errorf("s3: storage.s3.chunksize is %d bytes: the service takes parts of %d to %d bytes", o.ChunkSize, minPart, maxPart)
	case (o.AccessKey == "") != (o.SecretKey == ""):
		err = errors.New("s3: storage.s3.accesskey and storage.s3.secretkey belong together: set both, or none for the role of the machine")
	case o.CopyConcurrency < 1:
		err = errors.New("s3: storage.s3.multipartcopymaxconcurrency must be at least 1")
	}
	if err != nil {
		return o, err
	}
	if o.Endpoint != "" {
		if o.Endpoint, err = o.address(o.Endpoint); err != nil {
			return o, fmt.Errorf("s3: storage.s3.regionendpoint: %w", err)
		}
		o.Region = orDefault(o.Region, "us-east-1") // who asks no region accepts this one
	}
	if o.RedirectEndpoint != "" {
		if o.RedirectEndpoint, err = o.address(o.RedirectEndpoint); err != nil {
			return o, fmt.Errorf("s3: storage.s3.redirectendpoint: %w", err)
		}
	}
	return o, nil
}

// address is an endpoint as a URL. One without a scheme gets it from secure.
func (o Options) address(text string) (string, error) {
	if !strings.Contains(text, "://") {
		scheme := "https://"
		if o.Insecure {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is not an address such as https://s3.example.com or minio:9000", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return "", fmt.Errorf("%q has more than a scheme, a host and a port; the bucket and the prefix have settings of their own", u.Redacted())
	}
	return u.Scheme + "://" + u.Host, nil
}

// buffers is how many parts of one upload may be in memory: one that fills, the others on their way.
func (o Options) buffers() int { return int(max(2, partMemory/o.ChunkSize)) }

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
