package store

import "time"

// Forget drops the clients, so that the next call makes new ones of the environment.
func Forget() {
	for _, o := range schemes {
		o.Set(nil)
	}
}

// Hasten makes retries quick, and a silent body one that stays so for this long. It returns
// what undoes it.
func Hasten(silence time.Duration) (undo func()) {
	was := *patience
	patience.FirstPause, patience.LongestPause = time.Millisecond, 10*time.Millisecond
	patience.Stalled, patience.Answered, patience.Tried = silence, 60*silence, 15*silence
	return func() { *patience = was }
}
