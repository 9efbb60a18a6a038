package fs

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/berth-registry/berth/server/blob"
)

// unsynced is up to how many bytes an upload is not synced when it is suspended; its state has their sum instead. Many
// such uploads end in the database and never need their file again.
const unsynced = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func addSum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// sumState is the driver's part of a state whose bytes were not synced. It is empty when they were.
func sumState(sum uint32) []byte { return binary.BigEndian.AppendUint32(nil, sum) }

// stateSum is the sum of the bytes up to the state, 0 when nobody needs it any more.
func stateSum(state blob.State) uint32 {
	if len(state.Driver) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(state.Driver)
}

// checkSum reads the bytes of a state that were not synced: after a power loss they may be others. It guards against
// accidents of a disk; what is committed is named by a digest that the caller verifies.
func checkSum(r io.ReaderAt, id string, state blob.State) error {
	if len(state.Driver) == 0 {
		return nil
	}
	if len(state.Driver) != 4 || state.Offset > unsynced {
		return blob.UploadUnknown(id)
	}
	held := make([]byte, state.Offset)
	if _, err := r.ReadAt(held, 0); err != nil && err != io.EOF {
		return failed("upload", err)
	}
	if addSum(0, held) != stateSum(state) {
		return blob.UploadUnknown(id)
	}
	return nil
}
