// Package option is the flag groups that commands share: the same flag has the same name, meaning and help everywhere.
//
// Names and meaning are skopeo's and podman's where they have the flag. A group is a struct with a method that adds its
// flags to a set, and one that turns what was given into what the libraries take. A flag that exists elsewhere and
// cannot be honoured here is added by Refuse, so that it is an error with its reason and never ignored.
//
// Start reading at Global and Image.
package option
