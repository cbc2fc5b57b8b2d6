package store

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// WhereFrom is what is said of the host of a region.
func WhereFrom(region string) string {
	return (&s3Client{client: s3.New(s3.Options{Region: region})}).whereFrom()
}

// Forget drops the clients, so that the next call makes new ones of the environment.
func Forget() {
	for _, o := range []*once{gcs, s3Clients} {
		o.set(nil)
	}
}

// Hasten makes retries quick, and a silent body one that stays so for this long. It returns
// what undoes it.
func Hasten(silence time.Duration) (undo func()) {
	first, longest, was, patience, one := firstPause, longestPause, stalled, answered, tried
	firstPause, longestPause, stalled, answered, tried = time.Millisecond, 10*time.Millisecond, silence, 60*silence, 15*silence
	return func() { firstPause, longestPause, stalled, answered, tried = first, longest, was, patience, one }
}
