package cli

import (
	"io"
	"os"

	"github.com/berth-registry/berth/fault"
)

// readFile reads a file of bounded size.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return readBounded(f, name, most)
}

// readBounded reads what is no longer than it may be.
func readBounded(r io.Reader, name string, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fault.New(fault.TooLarge, fault.SizeInvalid, "%s is larger than %d bytes", name, most)
	}
	return b, err
}
