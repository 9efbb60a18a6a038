package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/internal/legible"
)

// writeTo gives write standard output, or a file beside path that takes its place when all was written: a file that was
// there stays as it was when write fails. "" and "-" are standard output; a device or pipe is written to as it is.
func (a *app) writeTo(path string, write func(io.Writer) error) error {
	if path == "" || path == "-" {
		if isTerminal(a.Out) {
			return write(&screen{a: a, to: legible.Writer(a.Out)})
		}
		w := bufio.NewWriterSize(a.Out, 64<<10)
		return errors.Join(write(w), w.Flush())
	}
	perm := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return fmt.Errorf("%s is a directory", path)
		}
		if !info.Mode().IsRegular() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(write(f), f.Close())
		}
		perm = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	if err = write(w); err == nil {
		err = errors.Join(w.Flush(), f.Chmod(perm), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is not whole must not be found
	}
	return err
}

// screen is a terminal that content of an image is written to: text, which does nothing to the terminal; what is no text is refused.
type screen struct {
	a  *app
	to io.Writer
}

// Write implements io.Writer.
func (s *screen) Write(b []byte) (int, error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return 0, output.Usage("%s", s.a.t("the content is no text, and not for a terminal", "内容不是文本，不能输出到终端")).WithFix("%s", s.a.t("write it to a file: berth … > FILE", "写入文件：berth … > FILE"))
	}
	return s.to.Write(b)
}
