package adminapi

import (
	"reflect"
	"strings"
)

// Operation is a route for tests.
type Operation struct {
	ID, Method, Path, Permission string
	Query                        []string
}

// Operations are all routes, with paths as the contract writes them.
func Operations() []Operation {
	var all []Operation
	for _, rt := range routes() {
		all = append(all, Operation{rt.id, rt.method, root + rt.pattern, string(rt.needs), rt.query})
	}
	return all
}

// Match is the route of a method and a path below the root, "" for none.
func Match(method, path string) (id string, params []string) {
	for _, rt := range routes() {
		if p, ok := match(rt.pattern, split(strings.TrimPrefix(path, root))); ok && rt.method == method {
			return rt.id, p
		}
	}
	return "", nil
}

// Bodies are the structs that requests are read into, Views those that answers are written from, by the name of their
// schema in the contract.
func Bodies() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Rollback": reflect.TypeFor[rollback](), "Restoration": reflect.TypeFor[restoration](), "Nothing": reflect.TypeFor[struct{}](),
		"Collection": reflect.TypeFor[collection](), "Check": reflect.TypeFor[check](), "NewBackup": reflect.TypeFor[newBackup](),
	}
}

// Views, see Bodies.
func Views() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Problem": reflect.TypeFor[problemView](), "Job": reflect.TypeFor[jobView](), "TagEntry": reflect.TypeFor[tagView](),
		"DeletedTag": reflect.TypeFor[deletedTagView](), "MovedTag": reflect.TypeFor[movedView](), "Trashed": reflect.TypeFor[trashedView](),
		"Restored": reflect.TypeFor[restoredView](), "Purged": reflect.TypeFor[purgedView](), "CheckReport": reflect.TypeFor[checkView](),
		"BrokenReference": reflect.TypeFor[referenceView](), "Damage": reflect.TypeFor[damageView](), "Need": reflect.TypeFor[needView](),
		"CollectionStatus": reflect.TypeFor[collectionView](), "Collected": reflect.TypeFor[collectedView](), "Preview": reflect.TypeFor[previewView](),
		"Reasons": reflect.TypeFor[reasonsView](), "Holding": reflect.TypeFor[holdingView](), "Snapshot": reflect.TypeFor[snapshotView](),
	}
}
