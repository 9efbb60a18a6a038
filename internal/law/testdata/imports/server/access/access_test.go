package access_test

import (
	x4 "example.com/house/internal/law" // want "nobody"
	x2 "example.com/house/internal/testkit"
	x0 "example.com/house/server/auth"
	x1 "example.com/house/server/blob/mem"
	x3 "example.com/house/server/distapi" // want "point down"
)
