package edit_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/berth-registry/berth/image/edit"
)

// What is appended to has as many entries of its history with a layer as it has layers, also when it had none.
func TestAppendKeepsTheHistoryWhole(t *testing.T) {
	without := image(t, []string{"a=1"}, []string{"b=2"})
	file := configOf(t, without).DeepCopy()
	file.History = nil
	without, err := mutate.ConfigFile(without, file)
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]v1.Image{"with a history": image(t, []string{"a=1"}, []string{"b=2"}), "without one": without, "without layers": image(t)} {
		t.Run(name, func(t *testing.T) {
			before := configOf(t, img)
			out, err := edit.Append(img, layerOf(t, "c=3"), layerOf(t, "d=4"))
			if err != nil {
				t.Fatal(err)
			}
			sound(t, out)
			after := configOf(t, out)
			with := 0
			for _, h := range after.History {
				if !h.EmptyLayer {
					with++
				}
			}
			if n := len(after.RootFS.DiffIDs); with != n || n != len(before.RootFS.DiffIDs)+2 || after.History[len(after.History)-1].CreatedBy != "berth append" {
				t.Errorf("%d entries with a layer for %d layers: %+v", with, n, after.History)
			}
			if len(before.History) > 0 && after.History[0].CreatedBy != before.History[0].CreatedBy {
				t.Errorf("the history that was there changed: %+v", after.History)
			}
		})
	}
}
