package output

import (
	"fmt"
	"io"
	"strings"

	"github.com/berth-registry/berth/internal/legible"
)

// Exit codes of the tool. Those of verify (10 to 13) are cosign's, and the business of that command.
const (
	ExitFailure     = 1 // anything else
	ExitNotFound    = 2 // the image, tag or repository is not there
	ExitUsage       = 3 // the command line is wrong
	ExitAuth        = 4 // the registry does not know who is calling
	ExitDenied      = 5 // the registry knows, and they may not
	ExitPolicy      = 6 // a policy or a verification refused
	ExitNetwork     = 7 // no connection, or no trust in the other side's certificate
	ExitQuota       = 8 // no space, quota, or read-only
	ExitInterrupted = 9 // ended early by a signal or a time limit; or only a part was done
)

// Failure is an error as a person sees it. What is always set; the rest may be empty. The texts are one line each,
// lowercase, without a period.
type Failure struct {
	What    string // what could not be done
	Why     string // for what reason
	Fix     string // what to type or to do
	Code    string // the registry's code and status: DENIED (403)
	Request string // the registry's id of the request
	Exit    int    // exit code
	Cause   error
}

// Error is the failure on one line.
func (f *Failure) Error() string {
	if f.Why == "" {
		return f.What
	}
	return f.What + ": " + f.Why
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// Usage is a wrong command line.
func Usage(format string, args ...any) *Failure {
	return &Failure{What: fmt.Sprintf(format, args...), Exit: ExitUsage}
}

// WithFix returns the failure with what to do.
func (f *Failure) WithFix(format string, args ...any) *Failure {
	c := *f
	c.Fix = fmt.Sprintf(format, args...)
	return &c
}

// Print writes the block:
//
//	error: cannot push team/app:v1 to registry.example.com
//	  why:  tag v1 is immutable
//	  fix:  push another tag
//	  code: DENIED (403)   request 7f3a   more: berth explain DENIED
func (f *Failure) Print(w io.Writer, l Language, colored bool) {
	paint := func(s string) string {
		if !colored {
			return s
		}
		return "\x1b[31m" + s + "\x1b[0m"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n", paint(l.Pick("error: ", "错误：")), indent(l.Say(f.What)))
	if f.Why != "" {
		fmt.Fprintf(&b, "  %s%s\n", l.Pick("why:  ", "原因："), indent(l.Say(f.Why)))
	}
	if f.Fix != "" {
		fmt.Fprintf(&b, "  %s%s\n", l.Pick("fix:  ", "办法："), indent(l.Say(f.Fix)))
	}
	if f.Code != "" {
		name, _, _ := strings.Cut(f.Code, " ")
		fmt.Fprintf(&b, "  %s%s", l.Pick("code: ", "代码："), legible.Show(f.Code))
		if f.Request != "" {
			fmt.Fprintf(&b, "   %s%s", l.Pick("request ", "请求："), legible.Show(f.Request))
		}
		fmt.Fprintf(&b, "   %sberth explain %s\n", l.Pick("more: ", "详见："), legible.Show(name))
	}
	_, _ = io.WriteString(w, b.String())
}

// indent keeps the lines after the first under it.
func indent(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, line := range lines {
		lines[i] = legible.Show(line) // a registry may have said it
	}
	return strings.Join(lines, "\n        ")
}
