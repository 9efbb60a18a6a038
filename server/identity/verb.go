package identity

import "slices"

// Verb is one thing that can be done: to a repository, to a project, or to the registry as a whole. Roles, grants and tokens
// are made of verbs, so their names are part of the API: none changes its meaning or goes.
type Verb string

// Verbs of repositories. The first three are those of the distribution API, and the only ones in tokens of the Docker token
// flow.
const (
	Pull    Verb = "pull"    // read manifests, blobs and referrers
	Push    Verb = "push"    // write manifests, blobs and tags
	Delete  Verb = "delete"  // delete tags, manifests and blobs
	List    Verb = "list"    // see in lists that the repository is there, its tags and their history
	Restore Verb = "restore" // bring back what history and trash hold
	Purge   Verb = "purge"   // end what the trash holds
)

// Verbs of projects.
const (
	ProjectRead   Verb = "project.read"   // see the project and its settings
	ProjectUpdate Verb = "project.update" // change its settings
	ProjectDelete Verb = "project.delete"
	MemberRead    Verb = "member.read"  // see who is a member, and the grants in the project
	MemberWrite   Verb = "member.write" // change them; nobody grants what they may not do themselves
	RobotRead     Verb = "robot.read"
	RobotWrite    Verb = "robot.write"
)

// Verbs of the registry as a whole.
const (
	UserRead       Verb = "user.read"
	UserWrite      Verb = "user.write"
	GroupRead      Verb = "group.read"
	GroupWrite     Verb = "group.write"
	RoleRead       Verb = "role.read" // roles, and grants that reach beyond one project
	RoleWrite      Verb = "role.write"
	ProviderRead   Verb = "provider.read"
	ProviderWrite  Verb = "provider.write"
	SessionRead    Verb = "session.read"
	SessionWrite   Verb = "session.write"
	ProjectCreate  Verb = "project.create"
	Catalog        Verb = "catalog" // list repositories; the list itself is filtered by what the caller may see
	EventRead      Verb = "event.read"
	JobRead        Verb = "job.read"
	JobWrite       Verb = "job.write"
	GCRead         Verb = "gc.read"
	GCWrite        Verb = "gc.write"
	IntegrityRead  Verb = "integrity.read"
	IntegrityWrite Verb = "integrity.write"
	BackupRead     Verb = "backup.read"
	BackupWrite    Verb = "backup.write"
	SettingRead    Verb = "setting.read"
	TrashRead      Verb = "trash.read" // what was deleted, in all repositories
	Export         Verb = "export"     // read the configuration of the registry as a whole
	Apply          Verb = "apply"      // replace it
)

// Level says what a verb is done to.
type Level uint8

// The levels. A verb of one is never one of another.
const (
	NoLevel Level = iota // no verb that this version knows
	OfRepository
	OfProject
	OfRegistry
)

// RepositoryVerbs are the verbs of repositories, in the order in which people read them.
func RepositoryVerbs() []Verb { return []Verb{Pull, Push, Delete, List, Restore, Purge} }

// ProjectVerbs are the verbs of projects.
func ProjectVerbs() []Verb {
	return []Verb{ProjectRead, ProjectUpdate, ProjectDelete, MemberRead, MemberWrite, RobotRead, RobotWrite}
}

// RegistryVerbs are the verbs of the registry as a whole.
func RegistryVerbs() []Verb {
	return []Verb{
		UserRead, UserWrite, GroupRead, GroupWrite, RoleRead, RoleWrite, ProviderRead, ProviderWrite, SessionRead, SessionWrite,
		ProjectCreate, Catalog, EventRead, JobRead, JobWrite, GCRead, GCWrite, IntegrityRead, IntegrityWrite, BackupRead, BackupWrite,
		SettingRead, TrashRead, Export, Apply,
	}
}

// Grantable reports whether a verb can be given to somebody by a role, a grant or a token: every one that there is, but for Apply.
// Whoever replaces the configuration makes administrators, so that is for them, and a right that had no effect would be a lie.
func Grantable(v Verb) bool { return v != Apply && LevelOf(v) != NoLevel }

// LevelOf says what a verb is done to.
func LevelOf(v Verb) Level {
	switch {
	case slices.Contains(RepositoryVerbs(), v):
		return OfRepository
	case slices.Contains(ProjectVerbs(), v):
		return OfProject
	case slices.Contains(RegistryVerbs(), v):
		return OfRegistry
	}
	return NoLevel
}

// Role is a named set of verbs.
type Role struct {
	Name        string
	Description string
	Verbs       []Verb
}

// The names of the roles that need no making.
const (
	LimitedGuest = "limited-guest"
	Guest        = "guest"
	Developer    = "developer"
	Maintainer   = "maintainer"
	Admin        = "admin"
)

// BuiltinRoles are the roles that every registry has, each with all that the one before has. They cannot be changed, and no
// other role has their names.
func BuiltinRoles() []Role {
	limited := []Verb{Pull}
	guest := append(slices.Clone(limited), List, ProjectRead)
	developer := append(slices.Clone(guest), Push)
	maintainer := append(slices.Clone(developer), Delete, Restore, MemberRead, RobotRead)
	return []Role{
		{LimitedGuest, "pulls what it knows the name of, and sees no lists", limited},
		{Guest, "pulls, and sees what there is", guest},
		{Developer, "pulls and pushes", developer},
		{Maintainer, "pulls, pushes, deletes and restores, and sees members and robots", maintainer},
		{Admin, "does everything in the project, and says who else may", append(RepositoryVerbs(), ProjectVerbs()...)},
	}
}

// BuiltinRole finds a role that every registry has.
func BuiltinRole(name string) (Role, bool) {
	for _, r := range BuiltinRoles() {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

// AuditorVerbs are what an auditor may do everywhere: read how the registry is set up and what there is, but no content of a
// repository.
func AuditorVerbs() []Verb {
	return []Verb{
		List, ProjectRead, MemberRead, RobotRead, UserRead, GroupRead, RoleRead, ProviderRead, SessionRead, Catalog, EventRead, JobRead,
		GCRead, IntegrityRead, BackupRead, SettingRead, TrashRead, Export,
	}
}
