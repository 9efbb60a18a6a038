package cli

import (
	"context"
	"strings"
	"time"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/oci/ref"
)

// patience is how long a failure waits for what would have been right.
const patience = 2 * time.Second

// nearby is the image of the command line with the tag, or the repository, that the registry has and that is nearest to what it
// has not; "" when the failure is another, nothing is near or the registry does not say in time.
func (a *app) nearby(ctx context.Context, f *output.Failure, err error) string {
	if f.Fix != "" || !strings.HasPrefix(f.Code, "MANIFEST_UNKNOWN") && !strings.HasPrefix(f.Code, "NAME_UNKNOWN") && f.Exit != output.ExitNotFound {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, arg := range a.arguments {
		bare, transport := strings.CutPrefix(arg, "docker://")
		named, perr := reference.ParseNormalizedNamed(bare)
		if perr != nil || !transport && transportOf(arg) != nil || !strings.Contains(err.Error(), reference.Path(named)) || len(a.systems) == 0 {
			continue
		}
		near := a.near(ctx, named, a.systems[min(i, len(a.systems)-1)])
		if near == "" {
			continue
		}
		if transport {
			near = "docker://" + near
		}
		return near
	}
	return ""
}

func (a *app) near(ctx context.Context, named reference.Named, sys *types.SystemContext) string {
	name, err := ref.ParseName(reference.Path(named))
	if err != nil {
		return ""
	}
	once := option.Retry{}
	c := a.client(sys, once, nil)
	host := reference.Domain(named)
	tagged, hasTag := named.(reference.Tagged)
	if tags, err := c.Repository(host, name).Tags(ctx); err == nil && len(tags) > 0 {
		if !hasTag {
			return ""
		}
		if near := output.Closest(tagged.Tag(), tags); near != "" && near != tagged.Tag() {
			return named.Name() + ":" + near
		}
		return ""
	}
	all, err := c.Catalog(ctx, host)
	if err != nil {
		return ""
	}
	names := make([]string, len(all))
	for i, n := range all {
		names[i] = n.String()
	}
	near := output.Closest(name.String(), names)
	if near == "" || near == name.String() {
		return ""
	}
	near = host + "/" + near
	if hasTag {
		near += ":" + tagged.Tag()
	}
	return near
}
