package conformance_test

// Versions a row stands in, and its levels (RFC 2119).
const (
	both     = "v1.1.1 and main"
	onlyMain = "main"

	must      = "MUST"
	mustNot   = "MUST NOT"
	should    = "SHOULD"
	shouldNot = "SHOULD NOT"
	may       = "MAY" // optional for a registry; a promise of berthd
)

// requirement is one sentence of the specification that binds a registry, in our words. Where v1.1.1 says SHOULD and
// main says MUST, the row has the stronger level and says so. Sentences that bind only clients have no row, except
// where a registry that believes a careless client would store something wrong.
type requirement struct {
	id      string
	version string
	level   string
	section string
	text    string
}

// requirements is the list that the suite is measured by. main is read as of 2026-07-16 (commit 967efdc079b9).
func requirements() []requirement {
	return []requirement{
		{"cat-1", both, must, "Requirements", "every API of the category Pull is there"},
		{"cat-2", both, should, "Requirements", "the categories Push, Content Discovery and Content Management are there too"},
		{"cat-3", both, must, "Requirements", "a category that is claimed is there with all its APIs"},

		{"pull-1", both, must, "Pulling manifests", "a reference is a digest or a tag"},
		{"pull-2", both, mustNot, "Pulling manifests", "a reference has no other form: it is refused, and nothing is stored under it"},
		{"pull-3", both, must, "Pulling manifests", "a repository name fits its grammar; one that does not is refused"},
		{"pull-4", both, must, "Pulling manifests", "a tag has at most 128 characters; 128 are accepted, 129 refused"},
		{"pull-5", both, must, "Pulling manifests", "a tag fits its grammar; one that does not is refused"},
		{"pull-6", both, shouldNot, "Pulling manifests", "Content-Type of a manifest has no parameters"},
		{"pull-7", both, should, "Pulling manifests", "Content-Type of a manifest is what was pushed"},
		{"pull-8", both, must, "Pulling manifests", "GET of a manifest that exists gives that manifest"},
		{"pull-9", both, must, "Pulling manifests", "GET of a manifest that exists answers 200"},
		{"pull-10", both, must, "Pulling manifests", "GET of a manifest says its digest in Docker-Content-Digest (v1.1.1: SHOULD)"},
		{"pull-11", both, must, "Pulling manifests", "a manifest that is not in the repository answers 404"},

		{"blob-1", both, must, "Pulling blobs", "GET of a blob that exists gives that blob"},
		{"blob-2", both, must, "Pulling blobs", "GET of a blob that exists answers 200"},
		{"blob-3", both, must, "Pulling blobs", "GET of a blob says its digest in Docker-Content-Digest (v1.1.1: SHOULD)"},
		{"blob-4", both, must, "Pulling blobs", "that header, if there, is true of the body"},
		{"blob-5", both, must, "Pulling blobs", "a blob that is not in the repository answers 404"},
		{"blob-6", both, should, "Pulling blobs", "Range is supported as in RFC 9110, section 14"},

		{"head-1", both, must, "Checking if content exists", "HEAD of a manifest or blob that exists answers 200"},
		{"head-2", both, must, "Checking if content exists", "HEAD says the digest in Docker-Content-Digest (v1.1.1: SHOULD)"},
		{"head-3", both, must, "Checking if content exists", "HEAD says the size in Content-Length (v1.1.1: SHOULD)"},
		{"head-4", both, must, "Checking if content exists", "HEAD of what is not there answers 404"},

		{"push-1", both, must, "Push", "a manifest whose subject does not exist is accepted"},
		{"push-2", both, must, "Push", "a manifest refused for a missing blob or manifest says MANIFEST_BLOB_UNKNOWN"},
		{"push-3", onlyMain, should, "Pushing blobs", "a digest that is invalid answers 400, whichever way the blob is pushed"},
		{"push-4", onlyMain, should, "Pushing blobs", "a digest of an algorithm that is not supported answers 400"},

		{"post-1", both, must, "POST then PUT", "POST answers 202"},
		{"post-2", both, must, "POST then PUT", "POST says the upload's place in Location"},
		{"post-3", both, must, "POST then PUT", "that place has a UUID, another one for each upload"},
		{"post-4", both, must, "POST then PUT", "PUT answers 201"},
		{"post-5", both, must, "POST then PUT", "PUT says a URL in Location from where the blob can be pulled"},
		{"post-6", both, may, "POST then PUT", "Location may have query parameters and may be relative: used as it came, it works"},

		{"single-1", both, may, "Single POST", "a blob can be pushed by one POST"},
		{"single-2", both, must, "Single POST", "the blob's length is what Content-Length says; one cut short is not stored"},
		{"single-3", both, must, "Single POST", "the blob's digest is what was said; another blob is refused and not stored"},
		{"single-4", both, should, "Single POST", "a registry without it answers 202 with Location, and PUT goes on from there"},
		{"single-5", both, must, "Single POST", "success answers 201"},
		{"single-6", both, must, "Single POST", "success says a URL in Location from where the blob can be pulled"},

		{"chunk-1", both, must, "Pushing a blob in chunks", "POST with Content-Length 0 opens a session"},
		{"chunk-2", onlyMain, should, "Pushing a blob in chunks", "digest-algorithm on the POST chooses the algorithm of the blob"},
		{"chunk-3", both, should, "Pushing a blob in chunks", "OCI-Chunk-Min-Length says the least size of a chunk, if there is one; chunks of that size are accepted"},
		{"chunk-4", both, must, "Pushing a blob in chunks", "a chunk's range is inclusive on both ends: 0-3 has four bytes"},
		{"chunk-5", both, must, "Pushing a blob in chunks", "the first chunk begins with 0"},
		{"chunk-6", both, must, "Pushing a blob in chunks", "Content-Range is <digits>-<digits>; anything else is refused"},
		{"chunk-7", both, may, "Pushing a blob in chunks", "the last chunk may be of any length"},
		{"chunk-8", both, must, "Pushing a blob in chunks", "PATCH answers 202"},
		{"chunk-9", both, must, "Pushing a blob in chunks", "PATCH says in Location where the next chunk goes"},
		{"chunk-10", both, must, "Pushing a blob in chunks", "PATCH says in Range 0-<last byte that was received>"},
		{"chunk-11", both, should, "Pushing a blob in chunks", "the next chunk goes to the Location of the chunk before"},
		{"chunk-12", both, must, "Pushing a blob in chunks", "chunks are uploaded in order"},
		{"chunk-13", both, must, "Pushing a blob in chunks", "a chunk out of order answers 416"},
		{"chunk-14", both, may, "Pushing a blob in chunks", "the last chunk may be sent with the PUT, or with a PATCH before it"},
		{"chunk-15", both, must, "Pushing a blob in chunks", "the session is closed by a PUT: before it the blob is not there"},
		{"chunk-16", both, must, "Pushing a blob in chunks", "the PUT says the digest of the whole blob; without a digest, or with another one, it is refused"},
		{"chunk-17", both, must, "Pushing a blob in chunks", "the PUT answers 201"},
		{"chunk-18", both, must, "Pushing a blob in chunks", "the PUT says a URL in Location from where the blob can be pulled"},
		{"chunk-19", onlyMain, must, "Pushing a blob in chunks", "a last chunk out of order, sent with the PUT, answers 416"},
		{"chunk-20", both, must, "Pushing a blob in chunks", "GET of an active upload answers 204"},
		{"chunk-21", both, must, "Pushing a blob in chunks", "GET of an active upload says in Location where the next chunk goes"},
		{"chunk-22", both, must, "Pushing a blob in chunks", "GET of an active upload says in Range 0-<last byte that was received>"},
		{"chunk-23", both, should, "Pushing a blob in chunks", "after a 416 the upload goes on from what GET says"},

		{"cancel-1", onlyMain, should, "Cancel a blob upload", "DELETE of an upload answers 204"},
		{"cancel-2", onlyMain, must, "Endpoints", "an upload that was cancelled, closed or never opened answers 404"},
		{"cancel-3", onlyMain, should, "Cancel a blob upload", "uploads that nobody ends are ended by the registry after some time"},

		{"mount-1", both, must, "Mounting a blob", "a mount answers 201"},
		{"mount-2", both, must, "Mounting a blob", "a mount says in Location where the blob is, and there it is"},
		{"mount-3", both, may, "Mounting a blob", "a mount without from finds the blob in another repository"},
		{"mount-4", both, should, "Mounting a blob", "a blob that cannot be mounted answers 202, and the upload goes on from there"},

		{"put-1", both, should, "Pushing Manifests", "parameters of a pushed Content-Type are ignored"},
		{"put-2", both, must, "Pushing Manifests", "a manifest is pushed to a digest or to a tag, nothing else"},
		{"put-3", both, may, "Pushing Manifests", "the list of blobs may be empty"},
		{"put-4", both, must, "Pushing Manifests", "a manifest is stored byte for byte"},
		{"put-5", both, must, "Pushing Manifests", "PUT answers 201"},
		{"put-6", both, must, "Pushing Manifests", "PUT says a URL in Location from where the manifest can be pulled"},
		{"put-7", both, must, "Pushing Manifests", "Docker-Content-Digest of the answer is the digest the client said"},
		{"put-8", both, must, "Pushing Manifests", "a pull from a repository that does not exist answers 404"},
		{"put-9", both, should, "Pushing Manifests", "there is a limit to the size of a manifest"},
		{"put-10", both, should, "Pushing Manifests", "a manifest over the limit answers 413"},
		{"put-11", both, should, "Pushing Manifests", "a manifest of 4 megabytes is accepted"},
		{"put-12", both, may, "Pushing Manifests", "media types of Docker, and types nobody knows, are kept as they are or refused, never converted"},
		{"put-14", both, may, "Pushing Manifests", "JSON that two readers may understand differently is no manifest: a key twice, text after the end, nesting without measure"},
		{"put-13", both, may, "Push", "layers that may not be distributed need not be there"},

		{"tag-1", onlyMain, may, "Pushing Manifests", "tag parameters of a push by digest set these tags"},
		{"tag-2", onlyMain, should, "Pushing Manifests", "ten tags in one push are accepted"},
		{"tag-3", onlyMain, must, "Pushing Manifests", "each tag that was accepted is in OCI-Tag"},
		{"tag-4", onlyMain, may, "Pushing Manifests", "too many tags answer 414, or all are set"},

		{"subject-1", both, must, "Pushing Manifests with Subject", "a manifest with a subject is answered with OCI-Subject: <subject's digest>"},

		{"list-1", both, must, "Listing Tags", "tags/list of a repository answers 200"},
		{"list-2", both, may, "Listing Tags", "the list of tags may be empty"},
		{"list-3", both, must, "Listing Tags", "tags are in lexical or ASCIIbetical order"},
		{"list-4", both, must, "Listing Tags", "the body is {\"name\": …, \"tags\": […]}"},
		{"list-5", both, must, "Listing Tags", "with n the answer has n tags, or fewer only when there are no more or a Link says so"},
		{"list-6", both, must, "Listing Tags", "Link is of the form of RFC 5988 with rel=\"next\""},
		{"list-7", both, must, "Listing Tags", "n=0 gives an empty list"},
		{"list-8", both, mustNot, "Listing Tags", "n=0 gives no Link"},
		{"list-9", both, must, "Listing Tags", "with n the tags are in order, from the beginning"},
		{"list-10", both, mustNot, "Listing Tags", "last is a tag, never an index into the list"},
		{"list-11", both, must, "Listing Tags", "with last the tags are those after it, without it, in order"},
		{"list-12", both, may, "Listing Tags", "last may come without n"},

		{"ref-1", both, must, "Listing Referrers", "referrers of a digest in a repository answers 200"},
		{"ref-2", both, mustNot, "Listing Referrers", "referrers never answers 404"},
		{"ref-3", both, must, "Listing Referrers", "referrers of an invalid digest answers 400"},
		{"ref-4", both, must, "Listing Referrers", "the body is an image index of descriptors"},
		{"ref-5", both, must, "Listing Referrers", "its Content-Type is that of an image index"},
		{"ref-6", both, must, "Listing Referrers", "a descriptor has the manifest's artifactType"},
		{"ref-7", both, must, "Listing Referrers", "an image without artifactType is described with its config's media type"},
		{"ref-8", both, must, "Listing Referrers", "an index without artifactType is described without one"},
		{"ref-9", both, must, "Listing Referrers", "a descriptor has the manifest's annotations"},
		{"ref-10", both, must, "Listing Referrers", "no referrers: an empty list"},
		{"ref-11", both, must, "Listing Referrers", "a list too long for one answer has a Link"},
		{"ref-12", both, must, "Listing Referrers", "that Link is of the form of RFC 5988 with rel=\"next\""},
		{"ref-13", both, should, "Listing Referrers", "the list can be filtered by artifactType"},
		{"ref-14", both, must, "Listing Referrers", "a filter that was applied is in OCI-Filters-Applied"},
		{"ref-15", both, must, "Listing Referrers", "several filters that were applied are a list with commas"},

		{"del-1", both, must, "Deleting tags", "DELETE of a tag answers 202, and the tag is gone"},
		{"del-2", both, must, "Deleting tags", "if tags cannot be deleted the answer is 400 or 405"},
		{"del-3", both, must, "Deleting Manifests", "DELETE of a manifest answers 202; the manifest and its tags are gone"},
		{"del-4", both, must, "Deleting Manifests", "DELETE in a repository that does not exist answers 404"},
		{"del-5", both, must, "Deleting Manifests", "if manifests cannot be deleted the answer is 400 or 405"},
		{"del-6", both, must, "Deleting Blobs", "DELETE of a blob answers 202, and the blob is gone"},
		{"del-7", both, must, "Deleting Blobs", "DELETE of a blob that is not there answers 404"},
		{"del-8", both, must, "Deleting Blobs", "if blobs cannot be deleted the answer is 400 or 405"},

		{"proxy-1", onlyMain, should, "Registry Proxying", "ns, where it was used, is returned in OCI-Namespace; where it was not, it changes nothing"},

		{"schema-1", both, must, "Referrers Tag Schema", "the referrers tag of a digest is <algorithm cut to 32>-<encoded cut to 64>, other characters replaced by -"},
		{"enable-1", both, must, "Enabling the Referrers API", "manifests with a subject that are listed under the referrers tag are in the answer, once"},
		{"enable-2", both, must, "Enabling the Referrers API", "every manifest with a subject that is pushed is in the answer"},

		{"http-1", onlyMain, should, "API", "what the specification leaves open follows RFC 9110: 304 for If-None-Match"},
		{"http-2", onlyMain, should, "API", "… a method that is not allowed answers 405 with Allow"},
		{"http-3", onlyMain, should, "API", "… HEAD has the headers of GET"},
		{"http-4", onlyMain, should, "API", "… 401 has a challenge"},
		{"http-5", both, may, "Content Negotiation", "Accept is honoured: what is stored is given, whole, or nothing is"},
		{"support-1", both, must, "Determining Support", "GET /v2/ answers 200"},
		{"redirect-1", onlyMain, may, "API", "an answer may be a redirect; what it leads to is the content"},

		{"err-1", both, must, "Error Codes", "a 4xx with JSON has the form {\"errors\": [{\"code\", \"message\", \"detail\"}]}"},
		{"err-2", both, must, "Error Codes", "a code is of capital letters and underscores"},
		{"err-3", both, must, "Error Codes", "a code is one of the list, and the one that fits"},
		{"err-4", both, should, "Error Codes", "a message is for people to read"},
		{"err-5", onlyMain, should, "Error Codes", "429 has Retry-After"},

		{"warn-1", both, must, "Warnings", "a Warning has the code 299 and the agent -"},
		{"warn-2", both, mustNot, "Warnings", "a Warning has no date"},
		{"warn-3", both, mustNot, "Warnings", "an answer has at most 4096 bytes of warnings"},

		{"sig-1", both, may, "Signatures (containers/image)", "GET /v2/ announces the extension in X-Registry-Supports-Signatures"},
		{"sig-2", both, may, "Signatures (containers/image)", "signatures that were put are listed as they came and in their order, and are not replaced"},
		{"sig-3", both, may, "Signatures (containers/image)", "a manifest without signatures has an empty list; one that is not there, or not any more, answers 404"},
		{"sig-4", both, may, "Signatures (containers/image)", "what is no signature of this manifest, or has no name of the grammar, answers 400, and nothing is kept"},
		{"sig-5", both, may, "Signatures (containers/image)", "a signature of more than 64 KiB, and one more than a hundred, answer 413"},
		{"sig-6", both, may, "Signatures (containers/image)", "a signature belongs to a manifest of one repository"},
		{"sig-7", both, may, "Signatures (containers/image)", "who may pull reads signatures, who may push puts them"},
		{"sig-8", both, may, "Signatures (containers/image)", "another method answers 405 with Allow"},

		{"ext-1", both, may, "Extensions: _oci", "GET _oci/ext/discover lists the extensions, of the registry and of a repository"},
	}
}
