package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// errorCode is the service's word for a failure, or "".
func errorCode(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// errorStatus is the status of the answer, or 0 without one.
func errorStatus(err error) int {
	var e *awshttp.ResponseError
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

// isMissing says that there is no such object.
func isMissing(err error) bool {
	switch errorCode(err) {
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return true
	}
	return false
}

// isMissingUpload says that there is no such multipart upload: it was completed or aborted.
func isMissingUpload(err error) bool { return errorCode(err) == "NoSuchUpload" }

// failed turns an error of the client into the contract's.
func (s *Store) failed(what string, err error) error {
	if f := new(fault.Error); err == nil || errors.As(err, &f) {
		return err
	}
	if err := ended(err); err != nil {
		return fmt.Errorf("s3: %s: %w", what, err)
	}
	cause := fmt.Errorf("s3: %s: %w", what, err)
	switch errorCode(err) {
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "XAdminBucketQuotaExceeded":
		return blob.Full(cause)
	case "EntityTooLarge":
		return fault.New(fault.TooLarge, fault.SizeInvalid, "the content is larger than what the blob storage takes as one object").Because(cause)
	}
	if errorStatus(err) == http.StatusInsufficientStorage {
		return blob.Full(cause)
	}
	if advice := s.refusal(err); advice != "" {
		return fault.New(fault.Unavailable, fault.UnavailableReason,
			"the blob storage refuses this registry; its administrator finds the setting in the log").Because(&blob.RefusedError{Advice: advice, Cause: cause})
	}
	if status := errorStatus(err); status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
		return cause
	}
	var request *smithy.OperationError
	var slow *stalled
	if !errors.As(err, &request) && !errors.As(err, &slow) {
		return cause // not the service's doing
	}
	return fault.New(fault.Unavailable, fault.UnavailableReason, "the blob storage does not answer; try again later").
		Because(fmt.Errorf("%s: %w", s.place(), cause))
}

// ended is the error of a context that has ended, if that is what happened.
func ended(err error) error {
	var slow *stalled
	switch {
	case errors.As(err, &slow):
		return nil
	case errors.Is(err, errAbandoned):
		return errAbandoned
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	return nil
}

// place says which bucket it is about, for a log.
func (s *Store) place() string {
	if s.o.Endpoint != "" {
		return fmt.Sprintf("bucket %q at %s (storage.s3.regionendpoint)", s.o.Bucket, s.o.Endpoint)
	}
	return fmt.Sprintf("bucket %q in %s", s.o.Bucket, s.o.Region)
}

// refusal is what to do about an answer that will not change by itself, naming the setting; "" for any other.
func (s *Store) refusal(err error) string {
	at := s.place()
	switch code := errorCode(err); code {
	case "NoSuchBucket":
		return at + " does not exist: make it, or correct storage.s3.bucket, region and regionendpoint"
	case "InvalidAccessKeyId", "XAdminUserNotFound":
		return at + ": the service does not know the access key: check storage.s3.accesskey"
	case "SignatureDoesNotMatch":
		return at + ": the signature does not match: check storage.s3.secretkey, and that nothing on the way changes requests"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidClientTokenId":
		return at + ": the temporary credentials have expired or are not valid: check storage.s3.sessiontoken, or use the role of the machine"
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return at + ": the clock of this machine and that of the service differ too much: set this machine's clock (NTP)"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegion", "MovedPermanently":
		return at + " is in another region" + actualRegion(err) + ": correct storage.s3.region"
	case "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "MethodNotAllowed", "KMS.DisabledException", "KMS.NotFoundException":
		return at + ": the credentials may not do this: check the policy of storage.s3.accesskey or of the role (docs/operate/storage.md has one that is enough), and storage.s3.keyid"
	case "InvalidBucketName":
		return at + ": the service does not take this name: correct storage.s3.bucket"
	case "AccessControlListNotSupported":
		return at + " takes no access lists: remove storage.s3.objectacl"
	case "InvalidStorageClass":
		return at + ": the service does not have the storage class: correct storage.s3.storageclass"
	}
	if advice := tlsAdvice(err); advice != "" {
		return at + advice
	}
	if noCredentials(err) {
		return at + ": no credentials were found: set storage.s3.accesskey and secretkey, or give this machine a role"
	}
	switch errorStatus(err) {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return at + " is in another region" + actualRegion(err) + ": correct storage.s3.region"
	case http.StatusForbidden, http.StatusUnauthorized:
		return at + ": the service refuses the credentials: check storage.s3.accesskey, secretkey and the policy"
	}
	return ""
}

// tlsAdvice is what to do when something is at the endpoint and we do not agree on TLS; "" for any other failure.
func tlsAdvice(err error) string {
	certificate := (*tls.CertificateVerificationError)(nil)
	switch {
	case errors.As(err, &certificate):
		return " shows a certificate which is not trusted: add its authority to the system or to AWS_CA_BUNDLE, and use the host name that the certificate has in storage.s3.regionendpoint"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return " does not speak TLS: begin storage.s3.regionendpoint with http://, set storage.s3.secure to false, or correct the port"
	}
	return ""
}

// noCredentials says that the chain of credentials came to nothing: the request was never sent.
func noCredentials(err error) bool {
	if errorStatus(err) != 0 {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "get credentials") || strings.Contains(text, "get identity") ||
		strings.Contains(text, "failed to refresh cached credentials")
}

// actualRegion is the region that the service named in its refusal.
func actualRegion(err error) string {
	var e *awshttp.ResponseError
	if errors.As(err, &e) && e.HTTPResponse() != nil {
		if r := e.HTTPResponse().Header.Get("X-Amz-Bucket-Region"); r != "" {
			return fmt.Sprintf(" (%s)", r)
		}
	}
	return ""
}
