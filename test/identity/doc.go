// Package identity holds whole-product tests of identity providers: a real berthd with a real OpenLDAP, a certified OpenID
// Connect provider and a SPIFFE Workload API at the same time, whose people and workloads log in as they do: podman with a
// password, a browser, a device that shows a code, a client certificate.
package identity
