package copy

import "github.com/berth-registry/berth/oci"

// Kind is what an Event tells.
type Kind uint8

// The kinds of events.
const (
	ImageStarted Kind = iota
	BlobStarted       // Size is known; Done is where an interrupted one goes on
	BlobProgress      // Done bytes so far, now and then
	BlobDone          // How says what became of it
	ManifestDone
	ImageDone // with Result
)

// How a blob came to be at the target.
type How uint8

// The ways.
const (
	Sent How = iota
	Present
	Mounted
	Planned   // it would be sent
	Mountable // it would be mounted
	Elsewhere // content that its own registry keeps to itself; it is not copied
)

// String is the word for people.
func (h How) String() string {
	return [...]string{"sent", "already there", "mounted", "to be sent", "to be mounted", "not distributable"}[h]
}

// Event tells what an engine does. Events of one blob are in order; those of different ones come from different goroutines.
type Event struct {
	Kind   Kind
	Image  string // the source's reference
	Target string
	Digest oci.Digest
	Media  string
	Size   int64
	Done   int64
	How    How
	From   string // of Mounted: the repository
	Result *Result
}
