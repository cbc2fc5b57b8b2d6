package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3Clients is the client of S3, or of the store at AWS_ENDPOINT_URL_S3.
var s3Clients = &once{create: newS3}

const (
	// s3Part is the size of an upload's buffer; a larger file goes in parts of this size. S3 accepts
	// 10,000 parts, of at least 5 MiB.
	s3Part = 8 << 20
	// s3MaxCopy is the largest object that S3 copies in one request.
	s3MaxCopy = 5 << 30
	// s3Removes is the largest number of objects to remove in one request.
	s3Removes = 1000
)

type s3Client struct{ client *s3.Client }

func newS3(ctx context.Context) (bucketClient, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64
	})
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(transport), config.WithLogger(logging.Nop{}), config.WithAppID("coeval"),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.RateLimiter = tries, ratelimit.None
				o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(noHost)}, o.Retryables...)
				o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(brokenOff), retry.RetryableErrorCode{Codes: conflicts})
				o.Backoff = retry.NewExponentialJitterBackoff(longestPause)
			})
		}))
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration can't be read: %w", err)
	}
	err = patiently(ctx, func(ctx context.Context) error {
		_, err := cfg.Credentials.Retrieve(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role (%w)", err)
	}
	region := true
	c := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.DisableLogOutputChecksumValidationSkipped = true
		o.HTTPClient = boundedClient{o.HTTPClient}
		if o.BaseEndpoint == nil {
			region = o.Region != ""
			return
		}
		// Other stores have no host for each bucket, mostly accept any region, and lack some of S3's
		// checksums.
		o.UsePathStyle = true
		if o.Region == "" {
			o.Region = "us-east-1"
		}
		if !wantsChecksums(&cfg) {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		}
	})
	if !region {
		return nil, errors.New("no region for S3: set AWS_REGION, or AWS_ENDPOINT_URL_S3 for another store")
	}
	return &s3Client{client: c}, nil
}

// wantsChecksums reports whether the environment or the profile requests checksums. The configuration
// itself requests them when neither sets a value.
func wantsChecksums(cfg *aws.Config) bool {
	for _, source := range cfg.ConfigSources {
		said := aws.RequestChecksumCalculationUnset
		switch c := source.(type) {
		case config.EnvConfig:
			said = c.RequestChecksumCalculation
		case config.SharedConfig:
			said = c.RequestChecksumCalculation
		}
		if said != aws.RequestChecksumCalculationUnset { // the environment comes first
			return said == aws.RequestChecksumCalculationWhenSupported
		}
	}
	return false
}

// boundedClient bounds the attempts of the S3 client. It wraps the client of AWS's configuration, which
// honours AWS_CA_BUNDLE.
type boundedClient struct{ s3.HTTPClient }

// Do makes one attempt.
func (c boundedClient) Do(r *http.Request) (*http.Response, error) {
	return bounded(r, c.HTTPClient.Do)
}

// answer runs a request with a time limit, its repetitions included, and translates its errors into those
// of this package.
func answer[In, Out any](ctx context.Context, send func(context.Context, *In, ...func(*s3.Options)) (*Out, error), in *In, o ...func(*s3.Options)) (*Out, error) {
	var out *Out
	err := patiently(ctx, func(ctx context.Context) (err error) {
		out, err = send(ctx, in, o...)
		return err
	})
	return out, s3Error(err)
}

// noHost reports an unknown host, mostly because no region has that name.
func noHost(err error) aws.Ternary {
	if d := (*net.DNSError)(nil); errors.As(err, &d) && d.IsNotFound {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// conflicts are the answers 409 after which S3 requires a repetition: two requests collided, and the
// answer does not reveal the current state.
var conflicts = map[string]struct{}{"ConditionalRequestConflict": {}, "OperationAborted": {}}

// brokenOff reports a broken answer, for example of a page of a listing.
func brokenOff(err error) aws.Ternary {
	if d := (*smithy.DeserializationError)(nil); errors.As(err, &d) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

func (c *s3Client) head(ctx context.Context, o object) (attributes, error) {
	if o.key == "" {
		return attributes{}, errNoObject
	}
	a, err := answer(ctx, c.client.HeadObject, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
	if err != nil {
		return attributes{}, err
	}
	return attributes{key: o.key, size: aws.ToInt64(a.ContentLength), version: Version(aws.ToString(a.ETag)), digest: aws.ToString(a.ETag)}, nil
}

func (c *s3Client) get(ctx context.Context, o object, v Version, offset, length int64) (io.ReadCloser, attributes, error) {
	in := &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key}
	if v != "" {
		in.IfMatch = aws.String(string(v))
	}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	r, err := c.client.GetObject(ctx, in)
	if err != nil {
		return nil, attributes{}, s3Error(err)
	}
	if is := Version(aws.ToString(r.ETag)); v != "" && is != v { // a store without If-Match
		return nil, attributes{}, errors.Join(errChanged, r.Body.Close())
	}
	return r.Body, attributes{key: o.key, size: offset + aws.ToInt64(r.ContentLength), version: Version(aws.ToString(r.ETag))}, nil
}

// s3Upload buffers a file until it is published, or the next part of a large one.
type s3Upload struct {
	ctx    context.Context
	client *s3.Client
	object object
	buffer bytes.Buffer
	sent   int64
	// checksum is the algorithm for checking parts, or empty. An upload must begin and end with the
	// same one, or S3 finds none of the parts.
	checksum types.ChecksumAlgorithm
	// id is empty until the file has a part.
	id    *string
	parts []types.CompletedPart
}

func (c *s3Client) upload(ctx context.Context, o object) target {
	u := &s3Upload{ctx: ctx, client: c.client, object: o}
	if c.client.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenSupported {
		u.checksum = types.ChecksumAlgorithmCrc32
	}
	return u
}

// Write adds to the object.
func (u *s3Upload) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if u.buffer.Len() >= s3Part {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		k, err := u.buffer.Write(p[n:min(len(p), n+s3Part-u.buffer.Len())])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// send uploads the buffer as a part.
func (u *s3Upload) send() error {
	if u.id == nil {
		m, err := answer(u.ctx, u.client.CreateMultipartUpload, &s3.CreateMultipartUploadInput{
			Bucket: &u.object.bucket, Key: &u.object.key, ChecksumAlgorithm: u.checksum,
		})
		if err != nil {
			return err
		}
		u.id = m.UploadId
	}
	number := aws.Int32(int32(len(u.parts) + 1))
	p, err := answer(u.ctx, u.client.UploadPart, &s3.UploadPartInput{
		Bucket: &u.object.bucket, Key: &u.object.key, UploadId: u.id, PartNumber: number, Body: bytes.NewReader(u.buffer.Bytes()),
		ChecksumAlgorithm: u.checksum,
	})
	if err != nil {
		return err
	}
	u.sent += int64(u.buffer.Len())
	u.parts = append(u.parts, types.CompletedPart{ETag: p.ETag, PartNumber: number, ChecksumCRC32: p.ChecksumCRC32})
	u.buffer.Reset()
	return nil
}

func (u *s3Upload) publish() error {
	if u.id == nil {
		_, err := answer(u.ctx, u.client.PutObject, &s3.PutObjectInput{
			Bucket: &u.object.bucket, Key: &u.object.key, Body: bytes.NewReader(u.buffer.Bytes()),
		})
		return err
	}
	err := u.send()
	if err == nil {
		_, err = answer(u.ctx, u.client.CompleteMultipartUpload, &s3.CompleteMultipartUploadInput{
			Bucket: &u.object.bucket, Key: &u.object.key, UploadId: u.id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
		})
	}
	if errors.Is(err, errNoObject) { // an answer was lost, and the upload is complete and closed
		if a, headErr := (&s3Client{client: u.client}).head(u.ctx, u.object); headErr == nil && a.size == u.sent {
			return nil
		}
		err = errors.New("the upload is gone before it was complete")
	}
	if err != nil {
		return errors.Join(err, u.discard())
	}
	return nil
}

// discardTime bounds the removal of unneeded parts.
const discardTime = 30 * time.Second

// discard removes the parts, even after the end of the context.
func (u *s3Upload) discard() error {
	if u.id == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), discardTime)
	defer cancel()
	_, err := u.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.object.bucket, Key: &u.object.key, UploadId: u.id})
	u.id = nil
	if err := s3Error(err); err != nil && !errors.Is(err, errNoObject) {
		return err
	}
	return nil
}

func (c *s3Client) put(ctx context.Context, o object, v Version, data []byte) (Version, error) {
	in := &s3.PutObjectInput{Bucket: &o.bucket, Key: &o.key, Body: bytes.NewReader(data)}
	if v == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = aws.String(string(v))
	}
	p, err := answer(ctx, c.client.PutObject, in)
	if err != nil {
		if errors.Is(err, errNoObject) { // the version to replace is gone
			err = errChanged
		}
		return "", err
	}
	return Version(aws.ToString(p.ETag)), nil
}

func (c *s3Client) list(ctx context.Context, o object, flat bool, each func(attributes), folder func(string)) error {
	in := &s3.ListObjectsV2Input{Bucket: &o.bucket, Prefix: &o.key}
	if flat {
		in.Delimiter = aws.String("/")
	}
	for pages := s3.NewListObjectsV2Paginator(c.client, in); pages.HasMorePages(); {
		var page *s3.ListObjectsV2Output
		err := patiently(ctx, func(ctx context.Context) (err error) {
			page, err = pages.NextPage(ctx)
			return err
		})
		if err != nil {
			return s3Error(err)
		}
		for i := range page.Contents {
			each(attributes{key: aws.ToString(page.Contents[i].Key), size: aws.ToInt64(page.Contents[i].Size)})
		}
		for i := range page.CommonPrefixes {
			folder(aws.ToString(page.CommonPrefixes[i].Prefix))
		}
	}
	return nil
}

// copy may be repeated: it copies one version and replaces any target.
func (c *s3Client) copy(ctx context.Context, from, to object, a attributes) error {
	if a.size > s3MaxCopy {
		return fmt.Errorf("the file has %d bytes, and S3 copies at most %d at once; lower output.prompts_per_shard", a.size, int64(s3MaxCopy))
	}
	_, err := answer(ctx, c.client.CopyObject, &s3.CopyObjectInput{
		Bucket: &to.bucket, Key: &to.key, CopySource: aws.String((&url.URL{Path: from.bucket + "/" + from.key}).EscapedPath()),
		CopySourceIfMatch: aws.String(string(a.version)),
	})
	return err
}

// removeMany removes up to a thousand objects with each request. It removes objects one by one where a
// store does not support or refuses that.
func (c *s3Client) removeMany(ctx context.Context, bucket string, keys []string) error {
	for batch := range slices.Chunk(keys, s3Removes) {
		in := &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, key := range batch {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &key})
		}
		// Some stores require the digest of the list, which S3 no longer needs.
		out, err := answer(ctx, c.client.DeleteObjects, in, s3.WithAPIOptions(smithyhttp.AddContentChecksumMiddleware))
		left := batch
		var api smithy.APIError
		switch {
		case err == nil:
			left = nil
			for i := range out.Errors {
				left = append(left, aws.ToString(out.Errors[i].Key))
			}
		case errors.As(err, &api) && slices.Contains([]string{"NotImplemented", "MethodNotAllowed"}, api.ErrorCode()):
		default:
			return err
		}
		if err := removeEach(ctx, c, bucket, left); err != nil {
			return err
		}
	}
	return nil
}

func (c *s3Client) remove(ctx context.Context, o object) error {
	if _, err := answer(ctx, c.client.DeleteObject, &s3.DeleteObjectInput{Bucket: &o.bucket, Key: &o.key}); !errors.Is(err, errNoObject) {
		return err
	}
	return nil
}

// s3Error translates errors into those of this package.
func s3Error(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound", "NoSuchUpload":
		return errNoObject
	case "PreconditionFailed":
		return errChanged
	}
	return err
}

func (c *s3Client) sentence(err error, o object) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	switch api.ErrorCode() {
	case "NoSuchBucket":
		return noBucket(o)
	case "AccessDenied", "Forbidden":
		return noPermission(o) + said(api.ErrorMessage())
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return fmt.Sprintf("the credentials are not accepted (%s); see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN", api.ErrorCode())
	case "PermanentRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return fmt.Sprintf("the bucket %q lies in another region than AWS_REGION says (%s)%s", o.bucket, api.ErrorCode(), said(api.ErrorMessage()))
	case "NotImplemented":
		return "the store doesn't know this request (NotImplemented); a run needs conditional writes (If-Match, If-None-Match)"
	}
	return fmt.Sprintf("the store answered %s%s", api.ErrorCode(), said(api.ErrorMessage()))
}

func (c *s3Client) whereFrom() string {
	if region := c.client.Options().Region; c.client.Options().BaseEndpoint == nil {
		return fmt.Sprintf("AWS_REGION is %q: is there such a region?", region)
	}
	return "AWS_ENDPOINT_URL_S3 names it"
}
