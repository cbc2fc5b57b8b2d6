package s3

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A missing host mostly means a wrong region.
func TestWhereFrom(t *testing.T) {
	c := &client{sdk: s3.New(s3.Options{Region: "no-such-region-1"})}
	if got := c.WhereFrom(); got != `AWS_REGION is "no-such-region-1": check that this region exists` {
		t.Errorf("got %q", got)
	}
}
