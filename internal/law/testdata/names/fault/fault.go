// This is about faults.
package fault // want "does not begin with"
