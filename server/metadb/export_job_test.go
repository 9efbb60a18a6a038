package metadb

// ClaimStatement is the text by which workers take jobs.
func ClaimStatement(postgres bool) string {
	if postgres {
		return postgresDialect().claimJobs()
	}
	return sqliteDialect().claimJobs()
}
