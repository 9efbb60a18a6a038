// Package output is how the tool speaks: two languages, the form of errors, tables and JSON, and progress.
//
// It knows nothing of images or registries. Start reading at Failure, Print and Progress.
package output
