package main

import (
	"context"
	"fmt"
)

const rangeSize = 1 << 20

// readScenarios fetch manifests and blobs over connections that stay open.
func readScenarios(suffix string) []scenario {
	var scs []scenario
	add := func(what string, conns int, about string, list func(b *bench, host string) []request) {
		scs = append(scs, scenario{name: fmt.Sprintf("%s/c%d%s", what, conns, suffix), unit: "req/s", fits: has(canPull),
			about: fmt.Sprintf("%s, %d connections", about, conns),
			run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
				p, err := hot(ctx, s, conns, b.size.phase, list(b, s.launch.addr))
				if what == "range-1m" {
					p.Bytes = p.Ops * rangeSize
				}
				return p, err
			}})
	}
	byTag := func(_ image, i int) string { return imageTag(i) }
	byDigest := func(img image, _ int) string { return img.manifest.digest }
	for _, conns := range []int{1, 32, 256} {
		add("manifest-get-tag", conns, "manifest GET by tag", manifestRequests("GET", byTag))
	}
	for _, conns := range []int{1, 32, 256} {
		add("manifest-get-digest", conns, "manifest GET by digest", manifestRequests("GET", byDigest))
	}
	add("manifest-head-tag", 32, "manifest HEAD by tag", manifestRequests("HEAD", byTag))
	add("manifest-head-digest", 32, "manifest HEAD by digest", manifestRequests("HEAD", byDigest))
	add("blob-head", 32, "blob HEAD", func(b *bench, host string) []request { return layerRequests("HEAD", b, host) })
	add("blob-get-4k", 32, "blob GET of 4 KiB", func(b *bench, host string) []request {
		var rs []request
		for _, bl := range smallBlobs(b.size.blobs) {
			rs = append(rs, newRequest(host, "GET", blobPath(repoImages, bl.digest), "", 200, int64(len(bl.data))))
		}
		return rs
	})
	add("blob-get-16k", 32, "blob GET of 16 KiB", func(b *bench, host string) []request { return layerRequests("GET", b, host) })
	add("range-1m", 32, "1 MiB ranges of a large blob", rangeRequests)
	return scs
}

func manifestRequests(method string, reference func(image, int) string) func(*bench, string) []request {
	return func(b *bench, host string) []request {
		var rs []request
		for i, img := range images(b.size.images) {
			rs = append(rs, newRequest(host, method, manifestPath(repoImages, reference(img, i)), acceptAll, 200, int64(len(img.manifest.data))))
		}
		return rs
	}
}

func layerRequests(method string, b *bench, host string) []request {
	var rs []request
	for _, img := range images(b.size.images) {
		rs = append(rs, newRequest(host, method, blobPath(repoImages, img.blobs[1].digest), "", 200, int64(len(img.blobs[1].data))))
	}
	return rs
}

// rangeRequests start anywhere, not at multiples of a page or a buffer.
func rangeRequests(b *bench, host string) []request {
	l := newLarge(b.size.rangeBlob, seedRange)
	rs := make([]request, 64)
	for i := range rs {
		from := int64(mix(uint64(i)) % uint64(l.size-rangeSize))
		rs[i] = newRequest(host, "GET", blobPath(repoImages, l.digest), "", 206, rangeSize, "Range", fmt.Sprintf("bytes=%d-%d", from, from+rangeSize-1))
	}
	return rs
}
