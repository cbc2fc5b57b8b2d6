package score

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"coeval/schemas"
)

// CalibrationVersion is the form of calibration files that this code writes and reads.
const CalibrationVersion = 1

// A Calibration is a monotone map from a judge's mean score of a response to the scale of people, with
// its origin: the judge, the labels and the date. It is what `coeval calibrate` writes and
// `judge.calibration` names.
//
// Between two points the map is linear, and before the first and after the last it is level:
// there is no evidence for more. So it never reverses an order. It makes ties where it is level,
// and of means whose images are less than a thousandth apart.
type Calibration struct {
	Version int `json:"version"`
	// Date is the day on which it was made, for example 2026-11-25.
	Date string `json:"date"`
	// Judge is the judge of the mapped scores.
	Judge CalibratedJudge `json:"judge"`
	// Responses and Prompts are how many people's scores are of.
	Responses int `json:"responses"`
	Prompts   int `json:"prompts"`
	// Labels is the file with people's scores.
	Labels CalibrationLabels `json:"labels"`
	// Points are at least two. Score rises from one to the next and People doesn't fall; both
	// lie within 0 to 5, and People of the last is above that of the first.
	Points []CalibrationPoint `json:"points"`
}

// CalibratedJudge is the judge that a calibration was made for.
type CalibratedJudge struct {
	Model    string `json:"model"`
	Revision string `json:"revision,omitempty"`
	// Judgments is the number of judgments behind each mean, and Template the digest of the judge's prompt.
	Judgments int    `json:"judgments"`
	Template  string `json:"template"`
}

// CalibrationLabels names a file of people's scores.
type CalibrationLabels struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// CalibrationPoint is people's score for the judge's Score.
type CalibrationPoint struct {
	Score  Points `json:"score"`
	People Points `json:"people"`
}

// Points are rubric points in thousandths; in JSON a decimal number of points.
type Points int

// MarshalJSON implements [json.Marshaler].
func (p Points) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(p)/1000, 'f', -1, 64), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Points) UnmarshalJSON(b []byte) error {
	x, err := strconv.ParseFloat(string(b), 64)
	thousandths := math.Round(x * 1000)
	if err != nil || math.Abs(x) > 1e6 || thousandths/1000 != x {
		return fmt.Errorf("%s is no number of points with at most 3 decimals", b)
	}
	*p = Points(thousandths)
	return nil
}

// maxPoints is the rubric's highest score.
const maxPoints Points = 5000

// ParseCalibration returns the calibration in a file, or an error of one sentence.
func ParseCalibration(file []byte) (*Calibration, error) {
	var version struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(file, &version); err != nil {
		return nil, fmt.Errorf("it is no JSON object of a calibration: %w", err)
	}
	if version.Version == nil {
		return nil, errors.New("version is missing, so it is no calibration")
	}
	if *version.Version != CalibrationVersion {
		return nil, fmt.Errorf("version is %d; this program reads version %d", *version.Version, CalibrationVersion)
	}
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	var c Calibration
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands after the calibration")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Encode returns the calibration as a file.
func (c *Calibration) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// Validate returns the first problem of the calibration, in one sentence.
func (c *Calibration) Validate() error {
	sum, hexErr := hex.DecodeString(c.Labels.SHA256)
	_, dateErr := time.Parse(time.DateOnly, c.Date)
	const sha256Bytes = 32
	switch {
	case c.Version != CalibrationVersion:
		return fmt.Errorf("version is %d; allowed is %d", c.Version, CalibrationVersion)
	case dateErr != nil:
		return fmt.Errorf("date is %q; allowed is a day as 2026-11-25", c.Date)
	case c.Judge.Model == "":
		return errors.New("judge.model is empty; allowed is the name of a model")
	case c.Judge.Judgments < 1 || c.Judge.Judgments > 256:
		return fmt.Errorf("judge.judgments is %d; allowed is 1 to 256", c.Judge.Judgments)
	case c.Responses < 1 || c.Prompts < 1 || c.Prompts > c.Responses:
		return fmt.Errorf("responses is %d and prompts %d; allowed is at least 1 of each, and no more prompts than responses", c.Responses, c.Prompts)
	case hexErr != nil || len(sum) != sha256Bytes:
		return fmt.Errorf("labels.sha256 is %q; allowed are 64 hexadecimal digits", c.Labels.SHA256)
	case len(c.Points) < 2:
		return fmt.Errorf("points has %d entries; a map needs at least 2", len(c.Points))
	}
	return c.validatePoints()
}

func (c *Calibration) validatePoints() error {
	for i, p := range c.Points {
		for _, v := range []struct {
			name  string
			value Points
		}{{"score", p.Score}, {"people", p.People}} {
			if v.value < 0 || v.value > maxPoints {
				return fmt.Errorf("points[%d].%s is %s; allowed is 0 to 5", i, v.name, v.value)
			}
		}
		if i == 0 {
			continue
		}
		before := c.Points[i-1]
		if p.Score <= before.Score {
			return fmt.Errorf("points[%d].score is %s after %s; scores must rise", i, p.Score, before.Score)
		}
		if p.People < before.People {
			return fmt.Errorf("points[%d].people is %s after %s; a map may not reverse an order", i, p.People, before.People)
		}
	}
	if first, last := c.Points[0].People, c.Points[len(c.Points)-1].People; first == last {
		return fmt.Errorf("all points have people %s; this map would tie all responses", first)
	}
	return nil
}

// String returns a decimal number of points.
func (p Points) String() string { return strconv.FormatFloat(float64(p)/1000, 'f', -1, 64) }

// Apply returns a scored response's sums with S on the scale of people: the image of the mean,
// rounded to thousandths, halves up. A nil calibration and a response without score change nothing.
func (c *Calibration) Apply(s schemas.Score) schemas.Score {
	if c == nil || !s.Scored {
		return s
	}
	written := s.Written()
	s.Sum = int64(s.N) * c.image(int64(s.N), written)
	s.Shift = s.Sum - written
	return s
}

// image returns the image of the mean sum/n in thousandths. With n of at most 256 and points of
// at most 5,000 thousandths no product is above 2·5000·5000·256 = 1.3e10.
func (c *Calibration) image(n, sum int64) int64 {
	i := 0
	for i < len(c.Points) && int64(c.Points[i].Score)*n <= sum {
		i++
	}
	if i == 0 || i == len(c.Points) {
		return int64(c.Points[max(i-1, 0)].People)
	}
	low, high := c.Points[i-1], c.Points[i]
	// people + rise·(sum/n − score)/run, over the one denominator n·run.
	whole := n * int64(high.Score-low.Score)
	part := int64(low.People)*whole + int64(high.People-low.People)*(sum-int64(low.Score)*n)
	return (2*part + whole) / (2 * whole)
}
