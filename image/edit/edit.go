// Package edit makes new images from others: with another configuration, more layers, fewer layers, or another base. The
// images it is given are not changed, and what stays the same keeps its bytes and digest.
//
// It may assume images of go-containerregistry from any place. What it has to make itself, a layer, it writes to a file in
// a directory that the caller names and removes.
//
// Start reading at [Apply], then [Flatten] and [Rebase].
package edit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-registry/berth/fault"
)

// Reasons of this room's failures.
const (
	ChangeInvalid fault.Reason = "CHANGE_INVALID" // a change that makes no sense, or not for this image
	NotBased      fault.Reason = "NOT_BASED"      // an image is not built on what was said to be its base
)

// Change is what to make different. A nil or empty field changes nothing.
type Change struct {
	Annotations  map[string]string // of the manifest; "" removes
	Labels       map[string]string // "" removes
	Env          []string          // NAME=value; replaces the variable or adds it; NAME alone removes
	Entrypoint   []string          // with ClearEntrypoint it is emptied
	Cmd          []string
	ClearEntry   bool
	ClearCmd     bool
	User         *string
	WorkDir      *string
	StopSignal   *string
	ExposedPorts []string // 80, 80/tcp, 53/udp; replaces the list
	Volumes      []string // added
	Platform     *v1.Platform
	Created      *time.Time // of the image and of every entry of its history
	Layers       []v1.Layer // on top
	MediaTypes   MediaTypes // of the result
}

// MediaTypes chooses between the two families of media types.
type MediaTypes string

// The families.
const (
	Keep   MediaTypes = ""
	OCI    MediaTypes = "oci"
	Docker MediaTypes = "v2s2"
)

// Apply makes the changed image. It fails with CHANGE_INVALID when a change makes no sense.
func Apply(img v1.Image, c Change) (v1.Image, error) {
	var err error
	if len(c.Layers) > 0 {
		if img, err = Append(img, c.Layers...); err != nil {
			return nil, err
		}
	}
	if img, err = c.config(img); err != nil {
		return nil, err
	}
	if img, err = Convert(img, c.MediaTypes); err != nil {
		return nil, err
	}
	return Annotate(img, c.Annotations)
}

// Append puts layers on top. The media types of the layers have to be of the image's family. Where the image has layers and no
// history, each gets an entry: a history has an entry for every layer, or none at all.
func Append(img v1.Image, layers ...v1.Layer) (v1.Image, error) {
	img, err := remembering(img)
	if err != nil {
		return nil, err
	}
	var adds []mutate.Addendum
	for _, l := range layers {
		adds = append(adds, mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "berth append", Comment: "one layer"}})
	}
	out, err := mutate.Append(img, adds...)
	if err != nil {
		return nil, fmt.Errorf("edit: append: %w", err)
	}
	return out, nil
}

// remembering is the image with a history: what is not known of its layers stays empty.
func remembering(img v1.Image) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	if len(file.History) > 0 || len(file.RootFS.DiffIDs) == 0 {
		return img, nil
	}
	file = file.DeepCopy()
	for range file.RootFS.DiffIDs {
		file.History = append(file.History, v1.History{Created: file.Created, Comment: "a layer of an image without history"})
	}
	out, err := mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	return out, nil
}

// config applies what stands in the configuration. An image whose configuration stays the same keeps its bytes.
func (c Change) config(img v1.Image) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	file = file.DeepCopy()
	before := file.DeepCopy()
	for k, v := range c.Labels {
		file.Config.Labels = put(file.Config.Labels, k, v)
	}
	if file.Config.Env, err = environment(file.Config.Env, c.Env); err != nil {
		return nil, err
	}
	if c.Entrypoint != nil || c.ClearEntry {
		file.Config.Entrypoint = c.Entrypoint
		file.Config.Cmd = nil // as in a Containerfile: arguments of the old program are none of the new one's
	}
	if c.Cmd != nil || c.ClearCmd {
		file.Config.Cmd = c.Cmd
	}
	for field, value := range map[*string]*string{&file.Config.User: c.User, &file.Config.WorkingDir: c.WorkDir, &file.Config.StopSignal: c.StopSignal} {
		if value != nil {
			*field = *value
		}
	}
	if c.ExposedPorts != nil {
		file.Config.ExposedPorts = map[string]struct{}{}
		for _, p := range c.ExposedPorts {
			number, protocol, ok := strings.Cut(p, "/")
			if !ok {
				protocol = "tcp"
			}
			if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) || strings.Trim(number, "0123456789-") != "" || number == "" {
				return nil, fault.New(fault.Invalid, ChangeInvalid, "port %q is none; write 80, 80/tcp or 53/udp", p)
			}
			file.Config.ExposedPorts[number+"/"+protocol] = struct{}{}
		}
	}
	for _, v := range c.Volumes {
		if file.Config.Volumes == nil {
			file.Config.Volumes = map[string]struct{}{}
		}
		file.Config.Volumes[v] = struct{}{}
	}
	if p := c.Platform; p != nil {
		file.OS, file.Architecture, file.Variant, file.OSVersion, file.OSFeatures = p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures
	}
	if c.Created != nil {
		file.Created = v1.Time{Time: c.Created.UTC()}
		for i := range file.History {
			file.History[i].Created = file.Created
		}
	}
	if equal(before, file) {
		return img, nil
	}
	out, err := mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	return out, nil
}

func put(m map[string]string, k, v string) map[string]string {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	if m[k] = v; v == "" {
		delete(m, k)
	}
	return m
}

// environment replaces variables in their places, so that those that refer to nothing else stay in order.
func environment(old, changes []string) ([]string, error) {
	env := slices.Clone(old)
	for _, c := range changes {
		name, _, set := strings.Cut(c, "=")
		if name == "" || strings.ContainsAny(name, "\x00 ") {
			return nil, fault.New(fault.Invalid, ChangeInvalid, "environment %q is not NAME=value, and not the NAME of one to remove", c)
		}
		at := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") || e == name })
		switch {
		case !set && at >= 0:
			env = slices.Delete(env, at, at+1)
		case !set:
		case at >= 0:
			env[at] = c
		default:
			env = append(env, c)
		}
	}
	return env, nil
}

// Annotate sets annotations of the manifest; an empty value removes one. A Docker manifest has none to set.
func Annotate(img v1.Image, annotations map[string]string) (v1.Image, error) {
	if len(annotations) == 0 {
		return img, nil
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("edit: manifest: %w", err)
	}
	if m.MediaType == types.DockerManifestSchema2 {
		return nil, fault.New(fault.Invalid, ChangeInvalid, "a docker manifest has no annotations; convert the image to OCI with --format oci, or set labels")
	}
	want := maps.Clone(m.Annotations)
	remove := false
	for k, v := range annotations {
		want = put(want, k, v)
		remove = remove || v == ""
	}
	if !remove {
		return mutate.Annotations(img, want).(v1.Image), nil
	}
	return withoutAnnotations(img, want)
}

// withoutAnnotations makes the image anew, because annotations can only be added to one.
func withoutAnnotations(img v1.Image, want map[string]string) (v1.Image, error) {
	parts, err := take(img)
	if err != nil {
		return nil, err
	}
	out, err := parts.build(parts.pairs)
	if err != nil || len(want) == 0 {
		return out, err
	}
	return mutate.Annotations(out, want).(v1.Image), nil
}
