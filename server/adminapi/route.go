package adminapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// permission is what a caller needs. It is part of the contract: x-permission of the operation in api/openapi.yaml.
type permission string

const (
	everybody     permission = "everybody"     // nothing is told that is not public
	administrator permission = "administrator" // CheckAdmin of the access room
	reader        permission = "pull"          // the engine asks for this verb on the repository of the path
	writer        permission = "push"
	deleter       permission = "delete"
)

// route is an operation of the API.
type route struct {
	id      string // operationId
	method  string
	pattern string // below /api/v1/; {repository} is a name with its slashes, ended by /-/ or the path's end
	needs   permission
	query   []string // parameters that it reads
	serve   func(*call) error
}

// repository is the name in the path, when the route has one.
func (rt *route) repository(params []string) (string, bool) {
	if strings.Contains(rt.pattern, repositoryParam) {
		return params[0], true
	}
	return "", false
}

const (
	root            = "/api/v1/"
	repositoryParam = "{repository}"
	// separator ends a repository's name in a path. No component of a name can be a dash alone, so there is one way to
	// read a path, and it stays the same when a proxy decodes or encodes the slashes in the name.
	separator = "-"
)

// routes are all operations.
func routes() []route {
	return slices.Concat(documentRoutes(), jobRoutes(), tagRoutes(), trashRoutes(), gcRoutes(), fsckRoutes(), backupRoutes())
}

// find gives the route of a request and the parameters of its path.
func find(w http.ResponseWriter, r *http.Request) (*route, []string, error) {
	rest, ok := strings.CutPrefix(r.URL.Path, root)
	if !ok {
		return nil, nil, noRoute(r.URL.Path)
	}
	segments := split(rest)
	method := r.Method
	if method == http.MethodHead { // net/http drops the body
		method = http.MethodGet
	}
	var allowed []string
	all := routes()
	for i := range all {
		params, ok := match(all[i].pattern, segments)
		if !ok {
			continue
		}
		if all[i].method == method {
			return &all[i], params, nil
		}
		allowed = append(allowed, all[i].method)
	}
	if allowed == nil {
		return nil, nil, noRoute(r.URL.Path)
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	return nil, nil, fault.New(fault.Unsupported, MethodUnknown, "method %.20s is not offered here; use one of %s", r.Method, list)
}

func noRoute(path string) error {
	return fault.New(fault.NotFound, RouteUnknown, "path %.200q is not part of the management API; see "+root+"openapi.yaml", path)
}

// split cuts a path into its segments; the name of a repository is one, whatever slashes it has.
func split(rest string) []string {
	segments := strings.Split(rest, "/")
	if segments[0] != "repositories" || len(segments) < 3 {
		return segments
	}
	end := slices.Index(segments, separator)
	if end < 0 {
		end = len(segments)
	}
	if end < 2 {
		return segments
	}
	return slices.Concat([]string{segments[0], strings.Join(segments[1:end], "/")}, segments[end:])
}

// match compares a pattern with segments and takes the parameters out.
func match(pattern string, segments []string) (params []string, ok bool) {
	i := 0
	for part := range strings.SplitSeq(pattern, "/") {
		switch {
		case i == len(segments):
			return nil, false
		case strings.HasPrefix(part, "{"):
			if segments[i] == "" {
				return nil, false
			}
			params = append(params, segments[i])
		case part != segments[i]:
			return nil, false
		}
		i++
	}
	return params, i == len(segments)
}
