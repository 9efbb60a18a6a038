package registry_test

import (
	x2 "database/sql" // want "monopoly"
	x1 "flag"
	x0 "net/http"
)
