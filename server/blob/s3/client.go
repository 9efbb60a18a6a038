package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

const (
	dialWithin   = 10 * time.Second
	minBackoff   = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	maxIdle      = 256
	idleFor      = 60 * time.Second
	socketBuffer = 64 << 10
)

// connect makes the client. It sends nothing, except what finding credentials and region takes.
func (s *Store) connect(ctx context.Context) error {
	o := s.o
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(o.transport)),
		config.WithRetryer(func() aws.Retryer { return o.retryer() }),
		// Services that are not Amazon's do not know the checksums that the SDK would add of itself.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken)))
	}
	if mode := o.logMode(); mode != 0 {
		load = append(load, config.WithClientLogMode(mode), config.WithLogger(sdkLog{o.Log}))
	}
	conf, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return fmt.Errorf("s3: the environment or the files of the AWS SDK cannot be used: %w", err)
	}
	if conf.Region == "" {
		return errors.New("s3: storage.s3.region is missing and the environment names none: set the bucket's region, or regionendpoint for a service that is not Amazon's")
	}
	var transport *http.Transport
	if b, ok := conf.HTTPClient.(*awshttp.BuildableClient); ok {
		transport = b.GetTransport() // with the certificates that AWS_CA_BUNDLE names
	} else {
		transport = &http.Transport{}
		o.transport(transport)
	}
	s.idle = transport.CloseIdleConnections
	conf.HTTPClient = &http.Client{
		Transport: transport,
		// The service sends elsewhere when the region is wrong; that is to be said, not followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.client = s3.NewFromConfig(conf, func(c *s3.Options) {
		o.adjust(c, o.Endpoint)
		c.APIOptions = append(c.APIOptions, o.watchAttempts)
	})
	s.presign = s3.NewPresignClient(s3.NewFromConfig(conf, func(c *s3.Options) {
		o.adjust(c, orDefault(o.RedirectEndpoint, o.Endpoint))
	}))
	return nil
}

func (o Options) adjust(c *s3.Options, endpoint string) {
	if endpoint != "" {
		c.BaseEndpoint = aws.String(endpoint)
	}
	c.UsePathStyle = o.PathStyle
	c.UseAccelerate = o.Accelerate
	if o.DualStack {
		c.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	}
	if o.FIPS {
		c.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
	c.EndpointOptions.DisableHTTPS = o.Insecure
	c.DisableLogOutputChecksumValidationSkipped = true
	if o.UserAgent != "" {
		c.APIOptions = append(c.APIOptions, awsmiddleware.AddUserAgentKey(o.UserAgent))
	}
}

func (o Options) transport(t *http.Transport) {
	dialer := &net.Dialer{Timeout: dialWithin, KeepAlive: 15 * time.Second}
	t.Proxy, t.DialContext = http.ProxyFromEnvironment, dialer.DialContext
	t.TLSHandshakeTimeout, t.ExpectContinueTimeout = dialWithin, time.Second
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost, t.IdleConnTimeout = maxIdle, maxIdle, 0, idleFor
	t.WriteBufferSize, t.ReadBufferSize = socketBuffer, socketBuffer
	t.DisableCompression = true                                                                     // ranges and lengths are of what is stored
	t.ForceAttemptHTTP2 = false                                                                     // parts go faster on connections of their own
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.SkipVerify} //nolint:gosec // skipverify asks for it
}

// retryer repeats what may succeed the next time, with pauses that grow and differ. There is no budget shared by all
// requests: while a service is slow, each upload has the same patience.
func (o Options) retryer() aws.Retryer {
	return retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = o.Attempts
		r.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) { return backoff(attempt), nil })
		r.RateLimiter = ratelimit.None
		r.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, r.Retryables...)
	})
}

// backoff is how long to wait after so many attempts: longer each time, and never the same, so that those who failed
// together do not come back together.
func backoff(attempt int) time.Duration {
	d := min(minBackoff<<min(max(attempt-1, 0), 10), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

// retryable knows errors of services that are not Amazon's.
func retryable(err error) aws.Ternary {
	switch code := errorCode(err); code {
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch": // bytes were changed on the way
		return aws.TrueTernary
	case "XMinioServerNotInitialized", "SlowDownRead", "SlowDownWrite", "XMinioReadQuorum", "XMinioWriteQuorum", "ServiceUnavailable", "OperationAborted",
		"ExistingObjectIsDirectory": // versitygw, while another request removes the last object of a directory
		return aws.TrueTernary
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded":
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// attempts are options of a call that is tried so often.
func attempts(n int) func(*s3.Options) {
	return func(o *s3.Options) { o.RetryMaxAttempts = n }
}

// stalled says that an attempt made no progress. It is worth one more on another connection; a service that hangs then,
// hangs.
type stalled struct {
	operation string
	after     time.Duration
	last      bool
}

// stalls counts the attempts of one call that made no progress.
type stalls struct{}

func (e *stalled) Error() string {
	return fmt.Sprintf("%s: no progress for %s", e.operation, e.after)
}

// RetryableError is asked by the SDK.
func (e *stalled) RetryableError() bool { return !e.last }

// pulse lets a body that is being sent say that it moves.
type pulse struct{ beat func() }

type pulseKey struct{}

// withPulse returns a context for a call whose body calls beat while it is read.
func withPulse(ctx context.Context) (context.Context, *pulse) {
	p := &pulse{}
	return context.WithValue(ctx, pulseKey{}, p), p
}

// watchAttempts ends every attempt that makes no progress, so that the next one can begin on another connection.
func (o Options) watchAttempts(stack *middleware.Stack) error {
	err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc("CountStalls", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(middleware.WithStackValue(ctx, stalls{}, new(int)), in)
	}), middleware.Before)
	if err != nil {
		return err
	}
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("WatchAttempt", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (out middleware.FinalizeOutput, meta middleware.Metadata, err error) {
		operation := awsmiddleware.GetOperationName(ctx)
		patience := o.Stall
		switch operation {
		case "CopyObject", "UploadPartCopy", "CompleteMultipartUpload":
			patience = o.Slow
		}
		end := &stalled{operation: operation, after: patience}
		watched, cancel := context.WithCancelCause(ctx)
		timer := time.AfterFunc(patience, func() { cancel(end) })
		if p, ok := ctx.Value(pulseKey{}).(*pulse); ok {
			p.beat = func() {
				if timer.Stop() {
					timer.Reset(patience)
				}
			}
		}
		out, meta, err = next.HandleFinalize(watched, in)
		timer.Stop()
		if err != nil && errors.Is(context.Cause(watched), end) {
			err = end // not the cancelled context, which nobody would retry
			if n, ok := middleware.GetStackValue(ctx, stalls{}).(*int); ok {
				*n++
				end.last = *n > 1
			}
		}
		if err != nil || operation != "GetObject" { // whose body is yet to be read
			cancel(nil)
		}
		return out, meta, err
	}), "Retry", middleware.After)
}

// logMode is what of loglevel may be logged: retries. Requests with their signature, and bodies, may not.
func (o Options) logMode() aws.ClientLogMode {
	if o.LogLevel == "" || strings.EqualFold(o.LogLevel, "off") {
		return 0
	}
	return aws.LogRetries
}

// sdkLog writes what the SDK says.
type sdkLog struct{ log *slog.Logger }

// Logf implements logging.Logger.
func (l sdkLog) Logf(class logging.Classification, format string, v ...any) {
	level := slog.LevelDebug
	if class == logging.Warn {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, "s3 client", "says", fmt.Sprintf(format, v...))
}
