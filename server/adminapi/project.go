package adminapi

// InProject is the parameter of routes about a project.
type InProject struct {
	Project string `path:"project" doc:"Name of the project."`
}
