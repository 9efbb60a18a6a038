package load_test // want "has no package comment"
