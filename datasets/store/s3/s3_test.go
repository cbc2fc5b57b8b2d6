package s3

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A host that cannot be found is most often a region that does not exist.
func TestWhereFrom(t *testing.T) {
	c := &client{sdk: s3.New(s3.Options{Region: "no-such-region-1"})}
	if got := c.WhereFrom(); got != `AWS_REGION is "no-such-region-1": is there such a region?` {
		t.Errorf("got %q", got)
	}
}
