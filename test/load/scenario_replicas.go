package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Every replica gets one processor (GOMAXPROCS=1): else one would take all that there are, and two more could add nothing. The
// load generator, PostgreSQL and the S3 server have no such bound and share the processors with the replicas, so the factor
// means something where there are more processors than replicas, and "server CPU for an operation" means something anywhere.
const (
	replicaEnv     = "GOMAXPROCS=1"
	replicaCount   = 3
	replicaConns   = 48
	replicaPushers = 12
	replicaLayer   = 64 << 10 // goes to the bucket; smaller ones stay in the database
)

// replicasStage has one berthd, and a twin of three, each of the two with a database and a bucket of its own on the same servers.
func replicasStage(z size) stage {
	return stage{name: "replicas", turns: true, below: below{postgres: true, objects: makesOfObjects()[0]}, prepare: prepareDatabases,
		scenarios: replicaScenarios(z),
		start: func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
			s, err := startBerthd(ctx, b, t, on, 1, replicaEnv)
			if err != nil {
				return nil, err
			}
			return withTwin(s, func() (*server, error) { return startBerthd(ctx, b, t, on, replicaCount, replicaEnv) })
		}}
}

func replicaScenarios(z size) []scenario {
	var scs []scenario
	add := func(name, unit, about string, run func(ctx context.Context, b *bench, s *server, round int) (phase, error)) {
		for _, n := range []int{1, replicaCount} {
			scs = append(scs, scenario{name: fmt.Sprintf("%s/r%d", name, n), unit: unit, fits: has(canReplicas),
				about: fmt.Sprintf("%s, over %d replica(s) of one processor each", about, n),
				run: func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
					if runtime.NumCPU() <= replicaCount {
						return phase{}, errors.New("there are not more processors than replicas: the figure would say nothing")
					}
					if n > 1 {
						s = s.twin
					}
					return run(ctx, b, s, round)
				}})
		}
	}
	add("scale-get-tag", "req/s", fmt.Sprintf("manifest GET by tag, %d connections", replicaConns), func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
		return hot(ctx, s, replicaConns, b.size.phase, manifestRequests("GET", func(_ image, i int) string { return imageTag(i) })(b, s.launch.addr))
	})
	add("scale-blob-16k", "req/s", fmt.Sprintf("blob GET of 16 KiB, %d connections", replicaConns), func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
		return hot(ctx, s, replicaConns, b.size.phase, layerRequests("GET", b, s.launch.addr))
	})
	add("scale-push-small", "img/s", fmt.Sprintf("push of images (manifest, config, 3 layers of 16 KiB, all new), %d at once", replicaPushers),
		runPushImages("scale-push-small", replicaPushers, layerSize, z.pushOps))
	add("scale-push-64k", "img/s", fmt.Sprintf("push of images with layers of 64 KiB, which go to the bucket, %d at once", replicaPushers),
		runPushImages("scale-push-64k", replicaPushers, replicaLayer, z.pushOps/4))
	return scs
}
