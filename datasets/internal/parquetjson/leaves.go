package parquetjson

import (
	"encoding/base64"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// newLeaf returns how a column's values are appended as JSON; false is text that is not UTF-8.
func newLeaf(typ parquet.Type) func(b []byte, v parquet.Value) ([]byte, bool) {
	if logical := typ.LogicalType(); logical != nil {
		switch t := logical.Value.(type) {
		case *format.StringType, *format.EnumType:
			return appendText
		case *format.JsonType:
			return appendJSON
		case *format.UUIDType:
			return appendUUID
		case *format.DateType:
			return appendTime(time.DateOnly, func(v parquet.Value) time.Time { return time.Unix(int64(v.Int32())*24*60*60, 0) })
		case *format.TimestampType:
			layout := "2006-01-02T15:04:05.999999999"
			if t.IsAdjustedToUTC {
				layout = time.RFC3339Nano
			}
			return appendTime(layout, clock(t.Unit))
		case *format.DecimalType:
			if t.Scale <= maxDigits {
				return appendDecimal(int(t.Scale))
			}
		case *format.IntType:
			if !t.IsSigned {
				return appendUnsigned
			}
		}
	}
	return plainLeaves[typ.Kind()]
}

var plainLeaves = map[parquet.Kind]func(b []byte, v parquet.Value) ([]byte, bool){
	parquet.Boolean: func(b []byte, v parquet.Value) ([]byte, bool) { return strconv.AppendBool(b, v.Boolean()), true },
	parquet.Int32: func(b []byte, v parquet.Value) ([]byte, bool) {
		return strconv.AppendInt(b, int64(v.Int32()), 10), true
	},
	parquet.Int64:  func(b []byte, v parquet.Value) ([]byte, bool) { return strconv.AppendInt(b, v.Int64(), 10), true },
	parquet.Int96:  appendTime(time.RFC3339Nano, julianClock),
	parquet.Float:  func(b []byte, v parquet.Value) ([]byte, bool) { return appendFloat(b, float64(v.Float()), 32), true },
	parquet.Double: func(b []byte, v parquet.Value) ([]byte, bool) { return appendFloat(b, v.Double(), 64), true },
	parquet.ByteArray: func(b []byte, v parquet.Value) ([]byte, bool) {
		if utf8.Valid(v.ByteArray()) {
			return appendText(b, v)
		}
		return appendBase64(b, v)
	},
	parquet.FixedLenByteArray: appendBase64,
}

func appendText(b []byte, v parquet.Value) ([]byte, bool) {
	b, err := jsontext.AppendQuote(b, v.ByteArray())
	return b, err == nil
}

// appendJSON keeps the value of a JSON column, so that messages in one are found.
func appendJSON(b []byte, v parquet.Value) ([]byte, bool) {
	if jsontext.Value(v.ByteArray()).IsValid() {
		return append(b, v.ByteArray()...), true
	}
	return appendText(b, v)
}

func appendBase64(b []byte, v parquet.Value) ([]byte, bool) {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, v.ByteArray())
	return append(b, '"'), true
}

func appendUUID(b []byte, v parquet.Value) ([]byte, bool) {
	id, err := uuid.FromBytes(v.ByteArray())
	if err != nil {
		return appendBase64(b, v)
	}
	return strconv.AppendQuote(b, id.String()), true
}

func appendUnsigned(b []byte, v parquet.Value) ([]byte, bool) {
	if v.Kind() == parquet.Int32 {
		return strconv.AppendUint(b, uint64(v.Uint32()), 10), true
	}
	return strconv.AppendUint(b, v.Uint64(), 10), true
}

func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, f, 'g', -1, bits)
}

func appendTime(layout string, at func(parquet.Value) time.Time) func(b []byte, v parquet.Value) ([]byte, bool) {
	return func(b []byte, v parquet.Value) ([]byte, bool) {
		return strconv.AppendQuote(b, at(v).UTC().Format(layout)), true
	}
}

func clock(unit format.TimeUnit) func(parquet.Value) time.Time {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return func(v parquet.Value) time.Time { return time.UnixMilli(v.Int64()) }
	case *format.NanoSeconds:
		return func(v parquet.Value) time.Time { return time.Unix(0, v.Int64()) }
	default:
		return func(v parquet.Value) time.Time { return time.UnixMicro(v.Int64()) }
	}
}

// julianClock reads the time stamps of old writers: nanoseconds of the day, then the Julian day.
func julianClock(v parquet.Value) time.Time {
	const epoch = 2_440_588 // the Julian day of 1970-01-01
	i := v.Int96()
	nanoseconds := int64(i[1])<<32 | int64(i[0])
	return time.Unix((int64(i[2])-epoch)*24*60*60, nanoseconds)
}

// maxDigits bounds the digits of a decimal, as other readers do; beyond it the bytes are shown.
const maxDigits = 76

// appendDecimal returns how a decimal is appended, whose value is the integer / 10^scale.
func appendDecimal(scale int) func(b []byte, v parquet.Value) ([]byte, bool) {
	return func(b []byte, v parquet.Value) ([]byte, bool) {
		const maxBytes = 32 // of 76 digits
		if kind := v.Kind(); (kind == parquet.ByteArray || kind == parquet.FixedLenByteArray) && len(v.ByteArray()) > maxBytes {
			return appendBase64(b, v)
		}
		digits := unscaled(v).String()
		sign := ""
		if strings.HasPrefix(digits, "-") {
			sign, digits = "-", digits[1:]
		}
		if scale <= 0 {
			return append(append(b, sign...), digits...), true
		}
		if len(digits) <= scale {
			digits = strings.Repeat("0", scale-len(digits)+1) + digits
		}
		point := len(digits) - scale
		return append(b, sign+digits[:point]+"."+digits[point:]...), true
	}
}

func unscaled(v parquet.Value) *big.Int {
	switch v.Kind() {
	case parquet.Int32:
		return big.NewInt(int64(v.Int32()))
	case parquet.Int64:
		return big.NewInt(v.Int64())
	}
	raw := v.ByteArray()
	n := new(big.Int).SetBytes(raw)
	if len(raw) > 0 && raw[0]&0x80 != 0 { // big-endian two's complement
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	return n
}
