package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
)

// oneImage are the flag groups of a command that names one image or repository.
type oneImage struct {
	shared option.Shared
	image  *option.Image
	retry  option.Retry
}

// oneImageFlags adds them; registryOnly leaves out what concerns other transports.
func (a *app) oneImageFlags(f *pflag.FlagSet, registryOnly bool) *oneImage {
	o := &oneImage{}
	o.image = option.NewImage(&o.shared, "")
	o.shared.AddFlags(f, a.t)
	if registryOnly {
		o.image.AddRegistryFlags(f, a.t)
	} else {
		o.image.AddFlags(f, a.t)
	}
	o.retry.AddFlags(f, a.t)
	return o
}

// system makes what the transports take, from the flags of the tool and of one side.
func (a *app) system(side interface {
	Apply(*types.SystemContext) error
}) (*types.SystemContext, error) {
	sys, err := a.global.System(version)
	if err != nil {
		return nil, err
	}
	sys.BlobInfoCacheDir = os.Getenv("BERTH_BLOB_CACHE_DIR") // else where podman has it
	a.systems = append(a.systems, sys)
	return sys, side.Apply(sys)
}

// again does something, and again as often as the flags allow, as long as trying again can help.
func (a *app) again(ctx context.Context, r option.Retry, do func() error) error {
	times, _ := a.global.Retries(r)
	return repeated(ctx, times, r.Delay, do)
}

// repeated does something, and again so many times as long as trying again can help. delay is the pause; 0 is a second, doubled
// for each further try.
func repeated(ctx context.Context, times int, delay time.Duration, do func() error) error {
	wait := time.Second
	for n := 0; ; n++ {
		err := do()
		if err == nil || n >= times || !passing(err) {
			return err
		}
		pause := delay
		if pause == 0 {
			pause, wait = wait, min(2*wait, time.Minute)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// passing reports whether the same request may succeed later: a busy registry, a server's fault, a lost connection.
func passing(err error) bool {
	var status docker.UnexpectedHTTPStatusError
	var code errcode.ErrorCoder
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, docker.ErrTooManyRequests), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPIPE):
		return true
	case errors.As(err, &status):
		return status.StatusCode >= http.StatusInternalServerError || status.StatusCode == http.StatusTooManyRequests
	case errors.As(err, &code):
		c := code.ErrorCode()
		return c == errcode.ErrorCodeUnavailable || c == errcode.ErrorCodeTooManyRequests
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.As(err, &network):
		return network.Timeout()
	}
	return false
}
