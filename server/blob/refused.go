package blob

// RefusedError says that the backend refuses what it was asked for a reason that does not go by itself: credentials, a policy,
// a bucket that is not there. To ask again is pointless until somebody has changed that. Drivers whose backend can refuse have
// it as a cause of their errors.
type RefusedError struct {
	Advice string // what was refused and what to change, for administrators
	Cause  error
}

func (e *RefusedError) Error() string {
	if e.Cause == nil {
		return e.Advice
	}
	return e.Advice + ": " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }
