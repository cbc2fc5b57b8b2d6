// Package clouds registers the clients of gs:// and s3:// with package store. Programs import it for this
// effect alone, as does storetest. All other packages import only package store, so their tests do not link the
// libraries of the clouds, unless they use storetest.
package clouds

import (
	"coeval/datasets/store"
	"coeval/datasets/store/gcs"
	"coeval/datasets/store/s3"
)

func init() {
	store.Register("gs://", gcs.New)
	store.Register("s3://", s3.New)
}
