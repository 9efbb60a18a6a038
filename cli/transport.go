package cli

import (
	"os"
	"slices"
	"strings"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/daemon"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/openshift"
	"go.podman.io/image/v5/sif"
	"go.podman.io/image/v5/tarball"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/output"
)

// imageTransports are the places that an image can be in. The name of one is what stands before the first colon.
func imageTransports() []types.ImageTransport {
	all := []types.ImageTransport{docker.Transport, layout.Transport, ociarchive.Transport, archive.Transport, directory.Transport,
		daemon.Transport, sif.Transport, tarball.Transport, openshift.Transport}
	if t := storageTransport(); t != nil {
		all = append(all, t)
	}
	return all
}

// transportOf finds the transport of an image name, nil when it has none.
func transportOf(name string) types.ImageTransport {
	prefix, _, _ := strings.Cut(name, ":")
	for _, t := range imageTransports() {
		if t.Name() == prefix {
			return t
		}
	}
	return nil
}

// parseImage reads an image name of the form transport:details.
func (a *app) parseImage(name string) (types.ImageReference, error) {
	t := transportOf(name)
	if t == nil {
		return nil, a.noTransport(name)
	}
	_, details, _ := strings.Cut(name, ":")
	if place, _, _ := strings.Cut(details, ":"); place == "" && (t == layout.Transport || t == ociarchive.Transport || t == directory.Transport || t == archive.Transport) {
		f := output.Usage(a.t("invalid image name %s", "镜像名称无效：%s"), name)
		f.Why = a.t("it does not say which file or folder", "未指定文件或目录")
		return nil, f.WithFix("%s:PATH", t.Name())
	}
	ref, err := t.ParseReference(details)
	if err != nil {
		return nil, &output.Failure{What: a.t("invalid image name ", "镜像名称无效：") + name, Why: err.Error(), Exit: output.ExitUsage, Cause: err}
	}
	return ref, nil
}

// noTransport says what a name without a known transport lacks.
func (a *app) noTransport(name string) error {
	prefix, _, found := strings.Cut(name, ":")
	f := output.Usage(a.t("invalid image name %s", "镜像名称无效：%s"), name)
	switch {
	case prefix == "containers-storage":
		f.Why = a.t("this build has no access to local storage (it was built with cgo and without the tag exclude_graphdriver_btrfs)", "此构建不支持本地存储（使用 cgo 构建且缺少标签 exclude_graphdriver_btrfs）")
	case strings.HasPrefix(name, "docker.io/"), strings.Contains(prefix, "."), strings.Contains(prefix, "/"), !found, strings.HasPrefix(prefix, "localhost"):
		f.Why = a.t("it does not say where the image is", "未说明镜像所在位置")
		f.Fix = a.t("put docker:// before it when it is in a registry: docker://", "若在仓库中，请加上 docker:// 前缀：docker://") + name
	default:
		var names []string
		for _, t := range imageTransports() {
			names = append(names, t.Name())
		}
		f.Why = a.t("there is no transport ", "没有此传输方式：") + prefix
		if near := output.Closest(prefix, names); near != "" {
			f.Fix = a.meant(near)
		} else {
			slices.Sort(names)
			f.Fix = a.t("transports are ", "可用的传输方式：") + strings.Join(names, ", ")
		}
	}
	return f
}

// mayUseStorage refuses containers-storage: of a user who is not root, where the library would have to enter a user
// namespace, which takes cgo. Inside of podman unshare the user is root.
func (a *app) mayUseStorage(refs ...types.ImageReference) error {
	for _, ref := range refs {
		if ref.Transport().Name() == "containers-storage" && os.Geteuid() != 0 {
			return &output.Failure{What: a.t("the images of podman can only be reached as root of a user namespace", "只能在用户命名空间内以 root 访问 podman 的镜像"),
				Fix: "podman unshare berth …", Exit: output.ExitFailure}
		}
	}
	return nil
}
