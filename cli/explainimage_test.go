package cli_test

import (
	"testing"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/artifact"
	"github.com/berth-registry/berth/image/bundle"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/edit"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sync"
	"github.com/berth-registry/berth/image/view"
)

// A message ends with "more: berth explain CODE": every code of the rooms that look into images has its text.
func TestReasonsAreExplained(t *testing.T) {
	known := cli.Explained()
	for _, reason := range []fault.Reason{
		rootfs.LayerUnsafe, rootfs.LayerTooLarge, rootfs.LayerDamaged, rootfs.FileUnknown, view.PlatformUnknown, view.NotAnImage,
		index.ListUnknown, index.ListExists, index.ListConflict, edit.ChangeInvalid, edit.NotBased,
		artifact.NameUnsafe, artifact.FileExists, artifact.PackEmpty,
		layout.ReasonLayout, layout.ReasonCompressed, layout.ReasonBomb, bundle.ReasonDamaged, bundle.ReasonLacking, bundle.ReasonUnsigned,
		key.Reason, sign.ReasonTrust, sign.ReasonStatement, sync.ReasonRule, copy.ReasonPlatform,
	} {
		if !known[string(reason)] {
			t.Errorf("berth explain %s says nothing", reason)
		}
	}
}
