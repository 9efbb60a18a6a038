package oracle

import "time"

// rebuild is a round after which the database is lost, and made again from what the store has. The registry was stopped in order,
// so that no push is missing; what the store does not know is gone for good: the trash, the history of tags, and what no manifest
// needs.
func (r *run) rebuild() {
	r.each("walk", func(w *walker) error { return w.walk(stepsOfRound) })
	if err := r.fleet.Stop(); err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.fleet.Rows(`SELECT r.name, t.digest FROM trash t JOIN repository r ON r.id = t.repo_id`)
	if err != nil {
		r.t.Fatal(err)
	}
	trash := map[string]map[string]bool{}
	for _, row := range rows {
		if trash[row[0]] == nil {
			trash[row[0]] = map[string]bool{}
		}
		trash[row[0]][row[1]] = true
	}
	if err := r.fleet.LoseDatabase(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.fleet.Rebuild(); err != nil {
		r.t.Fatalf("round %d: %v", r.rounds, err)
	}
	r.journal.event("the database is lost and made again from the store")
	r.repositories(func(_ *walker, name string, repo *repository) {
		for _, d := range sorted(repo.loose) { // collection has put it into the trash in time, or not
			repo.settle(d, !trash[name][d])
		}
		repo.rebuilt(r.universe)
	})
	r.count(rebuilt)
}

// rebuilt forgets what cannot be made again from a store.
func (r *repository) rebuilt(u *universe) {
	clear(r.trash)
	clear(r.moves)
	clear(r.blobs)
	for tag, d := range r.tags {
		r.moves[tag] = []string{d}
	}
	for d := range r.manifests {
		for _, b := range u.manifests[d].Blobs {
			r.promise(b, time.Time{})
		}
	}
}
