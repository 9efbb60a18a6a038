package fs

// Impatient has a shared store say at once that a blob is not there.
func (s *Store) Impatient() { s.patience = 0 }
