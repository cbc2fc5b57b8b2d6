package storetest

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// RemoteS3 creates the bucket "bucket" on a running S3 server, whose user must have the keys of [Keys]. A
// versioned bucket keeps the earlier versions of replaced and removed objects.
func RemoteS3(tb testing.TB, url string, versioned bool) (Environment, *Bucket) {
	tb.Helper()
	e := Keys(tb)
	e["AWS_ENDPOINT_URL_S3"] = url
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(url), Region: e["AWS_REGION"], UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(e["AWS_ACCESS_KEY_ID"], Secret, ""),
	})
	name := aws.String("bucket")
	if _, err := client.CreateBucket(tb.Context(), &s3.CreateBucketInput{Bucket: name}); err != nil {
		tb.Fatal(err)
	}
	if versioned {
		_, err := client.PutBucketVersioning(tb.Context(), &s3.PutBucketVersioningInput{
			Bucket: name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return e, bucketOfClient(tb.Context(), client, name)
}

// Limited returns the environment of a temporary user of a running S3 server. A policy limits the
// user's rights. The server must have the API of AWS's security token service, as MinIO has.
func Limited(tb testing.TB, url, policy string) Environment {
	tb.Helper()
	e := Keys(tb)
	client := sts.New(sts.Options{
		BaseEndpoint: aws.String(url), Region: e["AWS_REGION"],
		Credentials: credentials.NewStaticCredentialsProvider(e["AWS_ACCESS_KEY_ID"], Secret, ""),
	})
	user, err := client.AssumeRole(tb.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::0:role/limited"), RoleSessionName: aws.String("limited"), Policy: &policy,
	})
	if err != nil {
		tb.Fatal(err)
	}
	e["AWS_ENDPOINT_URL_S3"] = url
	e["AWS_ACCESS_KEY_ID"], e["AWS_SECRET_ACCESS_KEY"] = *user.Credentials.AccessKeyId, *user.Credentials.SecretAccessKey
	e["AWS_SESSION_TOKEN"] = *user.Credentials.SessionToken
	return e
}

func bucketOfClient(ctx context.Context, client *s3.Client, bucket *string) *Bucket {
	return &Bucket{
		put: func(name string, data []byte) error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &name, Body: bytes.NewReader(data)})
			return err
		},
		list: func(prefix string) (names []string, err error) {
			pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &prefix})
			for pages.HasMorePages() {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				for _, o := range page.Contents {
					names = append(names, *o.Key)
				}
			}
			return names, nil
		},
		get: func(name string) ([]byte, bool) {
			o, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &name})
			if err != nil {
				return nil, false
			}
			defer o.Body.Close()
			data, err := io.ReadAll(o.Body)
			return data, err == nil
		},
	}
}
