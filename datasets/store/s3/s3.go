// Package s3 is the client of S3, or of the store at AWS_ENDPOINT_URL_S3.
package s3

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

	"coeval/datasets/store/bucket"
)

const (
	// partSize is the size of an upload's buffer; a larger file goes in parts of this size. S3 accepts
	// 10,000 parts, of at least 5 MiB.
	partSize = 8 << 20
	// maxCopy is the largest object that S3 copies in one request.
	maxCopy = 5 << 30
	// maxRemoves is the largest number of objects to remove in one request.
	maxRemoves = 1000
)

type client struct {
	sdk      *s3.Client
	patience *bucket.Patience
}

// New creates the client.
func New(ctx context.Context, p *bucket.Patience) (bucket.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64
	})
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(transport), config.WithLogger(logging.Nop{}), config.WithAppID("coeval"),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.RateLimiter = p.Tries, ratelimit.None
				o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(noHost)}, o.Retryables...)
				o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(brokenOff), retry.RetryableErrorCode{Codes: conflicts})
				o.Backoff = retry.NewExponentialJitterBackoff(p.LongestPause)
			})
		}))
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration can't be read: %w", err)
	}
	err = p.Limit(ctx, func(ctx context.Context) error {
		_, err := cfg.Credentials.Retrieve(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role (%w)", err)
	}
	region := true
	c := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.DisableLogOutputChecksumValidationSkipped = true
		o.HTTPClient = boundedClient{o.HTTPClient, p}
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
	return &client{sdk: c, patience: p}, nil
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
type boundedClient struct {
	s3.HTTPClient

	patience *bucket.Patience
}

// Do makes one attempt.
func (c boundedClient) Do(r *http.Request) (*http.Response, error) {
	return c.patience.Attempt(r, c.HTTPClient.Do)
}

// answer runs a request with a time limit, its repetitions included, and translates its errors into the
// errors of package bucket.
func answer[In, Out any](ctx context.Context, p *bucket.Patience, send func(context.Context, *In, ...func(*s3.Options)) (*Out, error), in *In, o ...func(*s3.Options)) (*Out, error) {
	var out *Out
	err := p.Limit(ctx, func(ctx context.Context) (err error) {
		out, err = send(ctx, in, o...)
		return err
	})
	return out, translated(err)
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

func (c *client) Head(ctx context.Context, o bucket.Object) (bucket.Attributes, error) {
	if o.Key == "" {
		return bucket.Attributes{}, bucket.ErrNoObject
	}
	a, err := answer(ctx, c.patience, c.sdk.HeadObject, &s3.HeadObjectInput{Bucket: &o.Bucket, Key: &o.Key})
	if err != nil {
		return bucket.Attributes{}, c.absent(ctx, o, err)
	}
	return bucket.Attributes{Key: o.Key, Size: aws.ToInt64(a.ContentLength), Version: bucket.Version(aws.ToString(a.ETag)), Digest: aws.ToString(a.ETag)}, nil
}

func (c *client) Get(ctx context.Context, o bucket.Object, v bucket.Version, offset, length int64) (io.ReadCloser, bucket.Attributes, error) {
	in := &s3.GetObjectInput{Bucket: &o.Bucket, Key: &o.Key}
	if v != "" {
		in.IfMatch = aws.String(string(v))
	}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	r, err := c.sdk.GetObject(ctx, in)
	if err != nil {
		return nil, bucket.Attributes{}, c.absent(ctx, o, translated(err))
	}
	if is := bucket.Version(aws.ToString(r.ETag)); v != "" && is != v { // a store without If-Match
		return nil, bucket.Attributes{}, errors.Join(bucket.ErrChanged, r.Body.Close())
	}
	return r.Body, bucket.Attributes{Key: o.Key, Size: offset + aws.ToInt64(r.ContentLength), Version: bucket.Version(aws.ToString(r.ETag))}, nil
}

// upload buffers a file until it is published, or the next part of a large one.
type upload struct {
	ctx    context.Context
	client *client
	object bucket.Object
	buffer bytes.Buffer
	sent   int64
	// checksum is the algorithm for checking parts, or empty. An upload must begin and end with the
	// same one, or S3 finds none of the parts.
	checksum types.ChecksumAlgorithm
	// id is empty until the file has a part.
	id    *string
	parts []types.CompletedPart
}

func (c *client) Upload(ctx context.Context, o bucket.Object) bucket.Upload {
	u := &upload{ctx: ctx, client: c, object: o}
	if c.sdk.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenSupported {
		u.checksum = types.ChecksumAlgorithmCrc32
	}
	return u
}

// Write adds to the object.
func (u *upload) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if u.buffer.Len() >= partSize {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		k, err := u.buffer.Write(p[n:min(len(p), n+partSize-u.buffer.Len())])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// send uploads the buffer as a part.
func (u *upload) send() error {
	if u.id == nil {
		m, err := answer(u.ctx, u.client.patience, u.client.sdk.CreateMultipartUpload, &s3.CreateMultipartUploadInput{
			Bucket: &u.object.Bucket, Key: &u.object.Key, ChecksumAlgorithm: u.checksum,
		})
		if err != nil {
			return err
		}
		u.id = m.UploadId
	}
	number := aws.Int32(int32(len(u.parts) + 1))
	p, err := answer(u.ctx, u.client.patience, u.client.sdk.UploadPart, &s3.UploadPartInput{
		Bucket: &u.object.Bucket, Key: &u.object.Key, UploadId: u.id, PartNumber: number, Body: bytes.NewReader(u.buffer.Bytes()),
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

func (u *upload) Publish() error {
	if u.id == nil {
		_, err := answer(u.ctx, u.client.patience, u.client.sdk.PutObject, &s3.PutObjectInput{
			Bucket: &u.object.Bucket, Key: &u.object.Key, Body: bytes.NewReader(u.buffer.Bytes()),
		})
		return err
	}
	err := u.send()
	if err == nil {
		_, err = answer(u.ctx, u.client.patience, u.client.sdk.CompleteMultipartUpload, &s3.CompleteMultipartUploadInput{
			Bucket: &u.object.Bucket, Key: &u.object.Key, UploadId: u.id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
		})
	}
	if errors.Is(err, bucket.ErrNoObject) { // an answer was lost, and the upload is complete and closed
		if a, headErr := u.client.Head(u.ctx, u.object); headErr == nil && a.Size == u.sent {
			return nil
		}
		err = errors.New("the upload is gone before it was complete")
	}
	if err != nil {
		return errors.Join(err, u.Discard())
	}
	return nil
}

// discardTime bounds the removal of unneeded parts.
const discardTime = 30 * time.Second

// discard removes the parts, even after the end of the context.
func (u *upload) Discard() error {
	if u.id == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), discardTime)
	defer cancel()
	_, err := u.client.sdk.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.object.Bucket, Key: &u.object.Key, UploadId: u.id})
	u.id = nil
	if err := translated(err); err != nil && !errors.Is(err, bucket.ErrNoObject) {
		return err
	}
	return nil
}

func (c *client) Put(ctx context.Context, o bucket.Object, v bucket.Version, data []byte) (bucket.Version, error) {
	in := &s3.PutObjectInput{Bucket: &o.Bucket, Key: &o.Key, Body: bytes.NewReader(data)}
	if v == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = aws.String(string(v))
	}
	p, err := answer(ctx, c.patience, c.sdk.PutObject, in)
	if err != nil {
		if errors.Is(err, bucket.ErrNoObject) { // the version to replace is gone
			err = bucket.ErrChanged
		}
		return "", err
	}
	return bucket.Version(aws.ToString(p.ETag)), nil
}

func (c *client) List(ctx context.Context, o bucket.Object, flat bool, each func(bucket.Attributes), folder func(string)) error {
	in := &s3.ListObjectsV2Input{Bucket: &o.Bucket, Prefix: &o.Key}
	if flat {
		in.Delimiter = aws.String("/")
	}
	for pages := s3.NewListObjectsV2Paginator(c.sdk, in); pages.HasMorePages(); {
		var page *s3.ListObjectsV2Output
		err := c.patience.Limit(ctx, func(ctx context.Context) (err error) {
			page, err = pages.NextPage(ctx)
			return err
		})
		if err != nil {
			return translated(err)
		}
		for i := range page.Contents {
			each(bucket.Attributes{Key: aws.ToString(page.Contents[i].Key), Size: aws.ToInt64(page.Contents[i].Size)})
		}
		for i := range page.CommonPrefixes {
			folder(aws.ToString(page.CommonPrefixes[i].Prefix))
		}
	}
	return nil
}

// Copy may be repeated: it copies one version and replaces any target.
func (c *client) Copy(ctx context.Context, from, to bucket.Object, a bucket.Attributes) error {
	if a.Size > maxCopy {
		return fmt.Errorf("the file has %d bytes, and S3 copies at most %d at once; lower output.prompts_per_shard", a.Size, int64(maxCopy))
	}
	_, err := answer(ctx, c.patience, c.sdk.CopyObject, &s3.CopyObjectInput{
		Bucket: &to.Bucket, Key: &to.Key, CopySource: aws.String((&url.URL{Path: from.Bucket + "/" + from.Key}).EscapedPath()),
		CopySourceIfMatch: aws.String(string(a.Version)),
	})
	return err
}

// RemoveMany removes up to a thousand objects with each request. It removes objects one by one where a
// store does not support or refuses that.
func (c *client) RemoveMany(ctx context.Context, name string, keys []string) error {
	for batch := range slices.Chunk(keys, maxRemoves) {
		in := &s3.DeleteObjectsInput{Bucket: &name, Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, key := range batch {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &key})
		}
		// Some stores require the digest of the list, which S3 no longer needs.
		out, err := answer(ctx, c.patience, c.sdk.DeleteObjects, in, s3.WithAPIOptions(smithyhttp.AddContentChecksumMiddleware))
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
		if err := bucket.RemoveEach(ctx, c, name, left); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) Remove(ctx context.Context, o bucket.Object) error {
	if _, err := answer(ctx, c.patience, c.sdk.DeleteObject, &s3.DeleteObjectInput{Bucket: &o.Bucket, Key: &o.Key}); !errors.Is(err, bucket.ErrNoObject) {
		return err
	}
	return nil
}

// translated translates errors into the errors of package bucket.
func translated(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound", "NoSuchUpload":
		return bucket.ErrNoObject
	case "PreconditionFailed":
		return bucket.ErrChanged
	}
	return err
}

func (c *client) Sentence(err error, o bucket.Object) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	switch api.ErrorCode() {
	case "NoSuchBucket":
		return bucket.NoBucket(o)
	case "AccessDenied", "Forbidden":
		return bucket.NoPermission(o, rightOf(err)) + bucket.Quoted(api.ErrorMessage())
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return fmt.Sprintf("the credentials are not accepted (%s); see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN", api.ErrorCode())
	case "PermanentRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return fmt.Sprintf("the bucket %q lies in another region than AWS_REGION (%s)%s", o.Bucket, api.ErrorCode(), bucket.Quoted(api.ErrorMessage()))
	case "NotImplemented":
		return "the store doesn't know this request (NotImplemented); a run needs conditional writes (If-Match, If-None-Match)"
	}
	return fmt.Sprintf("the store answered %s%s", api.ErrorCode(), bucket.Quoted(api.ErrorMessage()))
}

// rights are the rights that requests need, by the names of policies. A copy needs both of its rights.
var rights = map[string]string{
	"ListObjectsV2": "s3:ListBucket",
	"HeadObject":    "s3:GetObject", "GetObject": "s3:GetObject",
	"PutObject": "s3:PutObject", "CreateMultipartUpload": "s3:PutObject", "UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject",
	"CopyObject":   "s3:GetObject and s3:PutObject",
	"DeleteObject": "s3:DeleteObject", "DeleteObjects": "s3:DeleteObject",
	"AbortMultipartUpload": "s3:AbortMultipartUpload",
}

// rightOf returns the right that the refused request needed.
func rightOf(err error) string {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return ""
	}
	return rights[op.Operation()]
}

// denied reports a refusal for lack of a right.
func denied(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (api.ErrorCode() == "AccessDenied" || api.ErrorCode() == "Forbidden")
}

// absent replaces the refusal to read an object which does not exist by bucket.ErrNoObject. S3 answers
// 403 for a missing object when the right to list depends on the prefix of a listing, since a read
// names none.
func (c *client) absent(ctx context.Context, o bucket.Object, refused error) error {
	if !denied(refused) {
		return refused
	}
	page, err := answer(ctx, c.patience, c.sdk.ListObjectsV2, &s3.ListObjectsV2Input{Bucket: &o.Bucket, Prefix: &o.Key, MaxKeys: aws.Int32(1)})
	switch {
	case err != nil:
		return err // S3 answers 403 for a missing object too when the right to list is missing
	case len(page.Contents) > 0 && aws.ToString(page.Contents[0].Key) == o.Key:
		return refused
	}
	return bucket.ErrNoObject
}

func (c *client) WhereFrom() string {
	if region := c.sdk.Options().Region; c.sdk.Options().BaseEndpoint == nil {
		return fmt.Sprintf("AWS_REGION is %q: check that this region exists", region)
	}
	return "AWS_ENDPOINT_URL_S3 names it"
}
