package registry

import _ "image/gif"

var seen int

func init() { seen++ }
