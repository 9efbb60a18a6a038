package oci // want "has no package comment"
