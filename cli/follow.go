package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/daemon"
	"go.podman.io/image/v5/types"
	"golang.org/x/term"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/rootfs"
)

// progress makes what shows a transfer on standard error.
func (a *app) progress(quiet bool) *output.Progress {
	mode, width := a.global.Progress, 0
	if quiet {
		mode = "none"
	}
	if f, ok := a.Err.(*os.File); ok {
		width, _, _ = term.GetSize(int(f.Fd()))
	}
	return output.NewProgress(a.Err, mode, isTerminal(a.Err), width, a.lang, a.now)
}

// follow shows what copy.Image does, and ends it when a blob does not end where its manifest says: the library would write all that
// comes, and compare afterwards. The caller runs copy.Image with limited, and calls finish with the outcome, which says why it was ended.
func (a *app) follow(ctx context.Context, quiet bool, target types.ImageReference, o *copy.Options) (limited context.Context, show *output.Progress, finish func(error) error) {
	show = a.progress(quiet)
	limited, finish = a.followOn(ctx, show, target, o, nil)
	return limited, show, finish
}

// followOn shows what copy.Image does where something was shown before: the blobs that were brought then, by digest, are there only
// since then, and no news.
func (a *app) followOn(ctx context.Context, show *output.Progress, target types.ImageReference, o *copy.Options, brought map[string]bool) (limited context.Context, finish func(error) error) {
	limited, end := context.WithCancelCause(ctx)
	events := make(chan types.ProgressProperties)
	o.Progress, o.ProgressInterval = events, 100*time.Millisecond
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events {
			id := e.Artifact.Digest.String()
			if brought[id] {
				continue
			}
			switch e.Event {
			case types.ProgressEventNewArtifact:
				show.Start(id, shortDigest(id), e.Artifact.Size)
			case types.ProgressEventRead:
				show.Move(id, int64(e.Offset))                                                        //nolint:gosec // a size of a file
				if e.Artifact.Size > 0 && int64(e.Offset) > mostWritten(target, o, e.Artifact.Size) { //nolint:gosec // likewise
					end(fault.New(fault.Unavailable, remote.ReasonWrongDigest, "blob %s goes on far beyond the %d bytes that the manifest says it has", shortDigest(id), e.Artifact.Size))
				}
			case types.ProgressEventDone:
				show.Move(id, int64(e.Offset)) //nolint:gosec // a size of a file
				show.Done(id)
			case types.ProgressEventSkipped:
				show.Skip(id, shortDigest(id), e.Artifact.Size, a.t("already there", "已存在"))
			}
		}
	}()
	return limited, func(err error) error {
		close(events)
		<-done
		if tooLong := (*fault.Error)(nil); err != nil && errors.As(context.Cause(limited), &tooLong) {
			err = tooLong
		}
		end(nil)
		return err
	}
}

// mostWritten is more than is ever written of a blob of a size. What the library reports is what it writes, and that may be unpacked,
// packed otherwise or encrypted.
func mostWritten(target types.ImageReference, o *copy.Options, size int64) int64 {
	t, d := target.Transport(), o.DestinationCtx
	if t == archive.Transport || t == daemon.Transport || o.ForceManifestMIMEType != "" || o.OciDecryptConfig != nil || d != nil && (d.DirForceCompress || d.DirForceDecompress || d.CompressionFormat != nil) {
		limits := rootfs.Defaults()
		return max(limits.Free, min(size, limits.Bytes)*limits.Ratio)
	}
	return 4*size + 64<<20
}

// shortDigest is what people compare: the first twelve digits.
func shortDigest(d string) string {
	_, hex, found := strings.Cut(d, ":")
	if !found {
		hex = d
	}
	return hex[:min(12, len(hex))]
}

// askPassphrase asks a person for the passphrase of a key.
func (a *app) askPassphrase(key string) (string, error) {
	if _, err := a.Err.Write([]byte(fmt.Sprintf(a.t("Passphrase for key %s: ", "密钥 %s 的口令："), key))); err != nil {
		return "", err
	}
	defer a.Err.Write([]byte("\n")) //nolint:errcheck // a line feed for people
	text, err := a.readSecret(bufio.NewReader(a.In))
	if errors.As(err, new(*output.Failure)) {
		err = output.Usage("%s", a.t("no password of the key was given", "未提供密钥的口令")).WithFix("--sign-passphrase-file FILE, --passphrase-file FILE")
	}
	return text, err
}
