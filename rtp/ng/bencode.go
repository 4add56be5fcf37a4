package ng

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Dict is a bencoded dictionary. Its values are string, int64 (int too, when encoding), []any, []string (when encoding) and
// Dict.
type Dict map[string]any

// errMalformed says that bytes are no bencoded dictionary.
var errMalformed = errors.New("not a bencoded dictionary")

// maxDepth is how deep lists and dictionaries may stand in one another; a daemon's deepest answer has 8 levels.
const maxDepth = 32

// Encode appends a dictionary, keys in order. It panics at a value that no Dict may hold.
func Encode(b []byte, d Dict) []byte {
	b = append(b, 'd')
	for _, key := range slices.Sorted(maps.Keys(d)) {
		b = encodeValue(encodeString(b, key), d[key])
	}
	return append(b, 'e')
}

func encodeString(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

func encodeInt(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, 'i'), n, 10), 'e')
}

// encodeValue panics at what no dictionary may hold: that is a fault of our own.
func encodeValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return encodeString(b, v)
	case int:
		return encodeInt(b, int64(v))
	case int64:
		return encodeInt(b, v)
	case Dict:
		return Encode(b, v)
	case []string:
		b = append(b, 'l')
		for _, s := range v {
			b = encodeString(b, s)
		}
		return append(b, 'e')
	case []any:
		b = append(b, 'l')
		for _, x := range v {
			b = encodeValue(b, x)
		}
		return append(b, 'e')
	}
	panic(fmt.Sprintf("ng: no way to encode a %T", v))
}

// Decode reads one dictionary that fills b.
func Decode(b []byte) (Dict, error) {
	v, rest, err := decodeValue(b, 0)
	if err != nil {
		return nil, err
	}
	d, ok := v.(Dict)
	if !ok || len(rest) > 0 {
		return nil, errMalformed
	}
	return d, nil
}

// decodeValue reads one value and gives what follows it.
func decodeValue(b []byte, depth int) (v any, rest []byte, err error) {
	if len(b) == 0 || depth > maxDepth {
		return nil, nil, errMalformed
	}
	switch b[0] {
	case 'i':
		return decodeInt(b[1:])
	case 'l':
		return decodeList(b[1:], depth+1)
	case 'd':
		return decodeDict(b[1:], depth+1)
	}
	return decodeString(b)
}

// digits reads a number up to its end mark.
func digits(b []byte, mark byte) (n int64, rest []byte, err error) {
	i := slices.Index(b[:min(len(b), 21)], mark) // no int64 is longer
	if i < 0 {
		return 0, nil, errMalformed
	}
	n, err = strconv.ParseInt(string(b[:i]), 10, 64)
	if err != nil || b[0] == '+' {
		return 0, nil, errMalformed
	}
	return n, b[i+1:], nil
}

func decodeInt(b []byte) (any, []byte, error) {
	n, rest, err := digits(b, 'e')
	return n, rest, err
}

func decodeString(b []byte) (any, []byte, error) {
	n, rest, err := digits(b, ':')
	if err != nil || n < 0 || n > int64(len(rest)) {
		return nil, nil, errMalformed
	}
	return string(rest[:n]), rest[n:], nil
}

func decodeList(b []byte, depth int) (any, []byte, error) {
	list := []any{}
	for len(b) > 0 && b[0] != 'e' {
		v, rest, err := decodeValue(b, depth)
		if err != nil {
			return nil, nil, err
		}
		list, b = append(list, v), rest
	}
	if len(b) == 0 {
		return nil, nil, errMalformed
	}
	return list, b[1:], nil
}

func decodeDict(b []byte, depth int) (any, []byte, error) {
	d := Dict{}
	for len(b) > 0 && b[0] != 'e' {
		key, rest, err := decodeString(b)
		if err != nil {
			return nil, nil, err
		}
		v, rest, err := decodeValue(rest, depth)
		if err != nil {
			return nil, nil, err
		}
		d[key.(string)], b = v, rest
	}
	if len(b) == 0 {
		return nil, nil, errMalformed
	}
	return d, b[1:], nil
}

// Text is a string of the dictionary; "" if there is none.
func (d Dict) Text(key string) string {
	s, _ := d[key].(string)
	return s
}

// Int is a number of the dictionary; 0 if there is none.
func (d Dict) Int(key string) int64 {
	n, _ := d[key].(int64)
	return n
}

// Dict is a dictionary within; nil, which can be read, if there is none.
func (d Dict) Dict(key string) Dict {
	in, _ := d[key].(Dict)
	return in
}

// Dicts are the dictionaries of a list within.
func (d Dict) Dicts(key string) []Dict {
	list, _ := d[key].([]any)
	var out []Dict
	for _, v := range list {
		if in, ok := v.(Dict); ok {
			out = append(out, in)
		}
	}
	return out
}
