package option

import (
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

const refused = "refused"

// Refuse adds a flag that other tools have and that cannot be honoured here. Giving it is an error with the reason.
// noValue says that it takes no value.
func Refuse(f *pflag.FlagSet, name, shorthand, reason string, noValue bool) {
	var ignored string
	f.VarP(&optional{&ignored, nil}, name, shorthand, reason)
	flag := f.Lookup(name)
	if noValue {
		flag.NoOptDefVal = "true"
	}
	flag.Hidden = true
	flag.Annotations = map[string][]string{refused: {reason}}
}

// CheckRefused returns the failure of the first flag that was given and cannot be honoured.
func CheckRefused(f *pflag.FlagSet) error {
	var first error
	f.Visit(func(flag *pflag.Flag) {
		if reason := flag.Annotations[refused]; reason != nil && first == nil {
			first = &output.Failure{What: "--" + flag.Name + " cannot be honoured", Why: reason[0], Exit: output.ExitUsage}
		}
	})
	return first
}

// optional is a string flag that knows whether it was given, also when it was given as "".
type optional struct {
	value *string
	given *bool
}

func (o *optional) String() string {
	if o.value == nil {
		return ""
	}
	return *o.value
}

func (o *optional) Set(s string) error {
	*o.value = s
	if o.given != nil {
		*o.given = true
	}
	return nil
}

func (o *optional) Type() string { return "string" }

// Optional is a string that knows whether its flag was given.
type Optional struct {
	Value string
	Given bool
}

func (o *Optional) add(f *pflag.FlagSet, name, shorthand, usage string) {
	f.VarP(&optional{&o.Value, &o.Given}, name, shorthand, usage)
}

// Add adds the flag of an optional string.
func (o *Optional) Add(f *pflag.FlagSet, name, shorthand, usage string) {
	o.add(f, name, shorthand, usage)
}
