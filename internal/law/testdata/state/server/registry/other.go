package registry

func g() { list = nil } // want "variable list is written"
