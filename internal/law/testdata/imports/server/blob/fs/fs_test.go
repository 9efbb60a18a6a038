package fs_test

import (
	x1 "example.com/house/server/access" // want "point down"
	x0 "example.com/house/server/blob/blobtest"
)
