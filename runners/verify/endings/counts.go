package endings

// Counts counts texts by the relation of their recorded value to the independent reading of the text.
// A contradiction is a problem and counts nowhere.
type Counts struct {
	// Confirmed: the text ends with the recorded value.
	Confirmed int64 `json:"confirmed"`
	// Unconfirmed: the independent reader can't read the text's ending.
	Unconfirmed int64 `json:"unconfirmed"`
	// CutOff: the row has no value because its text was cut off, which is not visible in the text.
	CutOff int64 `json:"cut_off"`
}

// Add adds the counts of other texts.
func (c *Counts) Add(other Counts) {
	c.Confirmed += other.Confirmed
	c.Unconfirmed += other.Unconfirmed
	c.CutOff += other.CutOff
}

// Count counts a text whose recorded reason for no value is this one, empty for none.
func (c *Counts) Count(reason string, finding Finding) {
	switch {
	case reason == CutOff:
		c.CutOff++
	case finding == Unconfirmed:
		c.Unconfirmed++
	case finding == Confirmed:
		c.Confirmed++
	}
}
