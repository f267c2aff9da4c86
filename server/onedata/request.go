package onedata

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fs_notify/notify"
)

// maxBody is how large a specification may be. Numbers of fields beyond it have no use.
const maxBody = 1 << 20

// query is what stands behind the question mark.
type query struct {
	timeout   time.Duration // the stream ends after so long without a change that triggers; < 0: never
	keepAlive time.Duration // an empty line goes out after so much silence; 0: never
	now       bool          // begin with what is to come, else
	last      notify.Seq    // with the line of this seq
}

// parseQuery reads the query. Parameters that it does not know are passed over; of several, the first counts.
func parseQuery(raw string) (q query, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, badData("query")
	}
	if q.timeout, err = parseMillis(values, "timeout"); err != nil {
		return q, err
	}
	if q.keepAlive, err = parseMillis(values, "keepalive"); err != nil {
		return q, err
	}
	if q.keepAlive < 0 {
		q.keepAlive = 0
	}
	last := first(values, "last_seq", "now")
	if q.now = last == "now"; q.now {
		return q, nil
	}
	n, ok := parseInteger(last)
	if !ok {
		return q, badInteger("last_seq")
	}
	switch {
	case n.Sign() <= 0:
		q.last = 0
	case !n.IsUint64() || n.Uint64() > uint64(notify.MaxSeq):
		q.last = notify.MaxSeq
	default:
		q.last = notify.Seq(n.Uint64())
	}
	return q, nil
}

func first(values url.Values, key, otherwise string) string {
	if v, ok := values[key]; ok {
		return v[0]
	}
	return otherwise
}

// parseMillis reads a number of milliseconds; < 0: infinity.
func parseMillis(values url.Values, key string) (time.Duration, error) {
	s := first(values, key, "infinity")
	if s == "infinity" {
		return -1, nil
	}
	n, ok := parseInteger(s)
	const most = 1 << 40 // milliseconds, 34 years: a time.Duration holds it
	switch {
	case !ok:
		return 0, badInteger(key)
	case n.Sign() < 0:
		return 0, badTooLow(key, 0)
	case !n.IsInt64() || n.Int64() > most:
		return -1, nil
	}
	return time.Duration(n.Int64()) * time.Millisecond, nil
}

// parseInteger reads a decimal integer of any size, with or without sign.
func parseInteger(s string) (*big.Int, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || digits == "" || len(digits) > 1000 || strings.Trim(digits, "0123456789") != "" {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}

// spec is what a client wants to be told.
type spec struct {
	triggers [numRecords]bool // documents whose changes count
	records  [numRecords]*selection
}

// selection is what a client wants to know of one record.
type selection struct {
	always bool     // also in lines about other records
	fields []field  // sorted by name
	names  []string // customMetadata's fields, sorted
	exists []string // and those whose existence is asked for, sorted
}

// triggerNames in the order in which an error names them.
var triggerNames = recordNames[:]

// parseSpec reads the body of a request. Its errors are those of Onedata, in the order in which it finds them: triggers, then the records by name.
func parseSpec(body []byte) (*spec, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, badEmpty()
	}
	var top map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &top) != nil || top == nil {
		return nil, badJSON()
	}
	s := &spec{}
	if raw, ok := top["triggers"]; ok {
		delete(top, "triggers")
		list, ok := parseList(raw)
		if !ok {
			return nil, badList("triggers")
		}
		for _, v := range list {
			name, _ := v.(string)
			r, ok := recordNamed(name)
			if !ok {
				return nil, badNotAllowed("triggers", triggerNames)
			}
			s.triggers[r] = true
		}
	} else {
		s.triggers = [numRecords]bool{true, true, true, true}
	}
	if len(top) == 0 {
		return nil, badEmpty()
	}
	for _, name := range slices.Sorted(maps.Keys(top)) {
		r, known := recordNamed(name)
		var raw map[string]json.RawMessage
		if !known || json.Unmarshal(top[name], &raw) != nil || raw == nil {
			return nil, badData(name)
		}
		sel, err := parseSelection(r, raw)
		if err != nil {
			return nil, err
		}
		s.records[r] = sel
	}
	return s, nil
}

// parseSelection reads what is asked of one record. Keys that it does not know are passed over.
func parseSelection(r record, raw map[string]json.RawMessage) (sel *selection, err error) {
	sel = &selection{}
	if r == customMetadata {
		if sel.names, err = parseNames(raw, r, "fields"); err != nil {
			return nil, err
		}
		if sel.exists, err = parseNames(raw, r, "exists"); err != nil {
			return nil, err
		}
	}
	if v, ok := raw["always"]; ok {
		switch string(v) {
		case "true":
			sel.always = true
		case "false":
		default:
			return nil, badBoolean(r.String() + ".always")
		}
	}
	if r == customMetadata {
		return sel, nil
	}
	key := r.String() + ".fields"
	list, ok := parseList(raw["fields"])
	if !ok {
		return nil, badList(key)
	}
	for _, v := range list {
		name, _ := v.(string)
		i := slices.IndexFunc(fieldsOf[r], func(f field) bool { return fieldNames[f] == name })
		if i < 0 {
			allowed := make([]string, len(fieldsOf[r]))
			for i, f := range fieldsOf[r] {
				allowed[i] = fieldNames[f]
			}
			return nil, badNotAllowed(key, allowed)
		}
		sel.fields = append(sel.fields, fieldsOf[r][i])
	}
	slices.SortFunc(sel.fields, func(a, b field) int { return strings.Compare(fieldNames[a], fieldNames[b]) })
	sel.fields = slices.Compact(sel.fields)
	return sel, nil
}

// parseNames reads a list of names of attributes.
func parseNames(raw map[string]json.RawMessage, r record, key string) (names []string, err error) {
	list, ok := parseList(raw[key])
	for _, v := range list {
		name, isString := v.(string)
		ok = ok && isString
		names = append(names, name)
	}
	if !ok {
		return nil, badList(r.String() + "." + key)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// parseList reads a list; one that is absent is empty.
func parseList(raw json.RawMessage) (list []any, ok bool) {
	if raw == nil {
		return nil, true
	}
	return list, json.Unmarshal(raw, &list) == nil && list != nil
}

// readBody reads the body of a request, as far as it may be long.
func readBody(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, &notify.Error{Op: "onedata.readBody", Kind: notify.Invalid, Err: err}
	}
	if len(b) > maxBody {
		return nil, badData(specification)
	}
	return b, nil
}
