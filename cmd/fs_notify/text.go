package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable gives s without anything that could steer a terminal or be taken for another line: control characters
// and the invisible are escaped as in JSON, and so is a byte that is not UTF-8 (\udcNN). With backslash, a
// backslash is doubled, so that no two names look the same.
func printable(s string, backslash bool) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) || r == '\\' && backslash {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\udc%02x`, s[i])
		case r == '\\' && backslash:
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.Write(appendEscape(nil, r))
		}
		i += n
	}
	return b.String()
}

// appendEscape appends a character as JSON escapes it.
func appendEscape(b []byte, r rune) []byte {
	switch r {
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	case '"':
		return append(b, `\"`...)
	case '\\':
		return append(b, `\\`...)
	}
	if r >= 0x10000 {
		return fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

// appendOneLine appends a JSON text on one line, safe for a terminal: characters that do not print are escaped.
func appendOneLine(b, raw []byte) []byte {
	var c bytes.Buffer
	if err := json.Compact(&c, raw); err == nil {
		raw = c.Bytes()
	}
	for i := 0; i < len(raw); {
		if raw[i] < utf8.RuneSelf && raw[i] != 0x7f {
			b = append(b, raw[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(raw[i:])
		if unicode.IsPrint(r) {
			b = append(b, raw[i:i+n]...)
		} else {
			b = appendEscape(b, r)
		}
		i += n
	}
	return b
}

// appendPython appends a JSON text as Python's json.dumps(…, sort_keys=True, indent=4) prints it, at
// a depth: what qq does. Strings keep lone surrogates, which stand for bytes that are not UTF-8.
func appendPython(b, raw []byte, depth int) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return b, fmt.Errorf("empty JSON")
	}
	newline := func(depth int) {
		b = append(b, '\n')
		for range depth {
			b = append(b, "    "...)
		}
	}
	var err error
	switch raw[0] {
	case '{':
		var m map[string]json.RawMessage
		if err = json.Unmarshal(raw, &m); err != nil {
			return b, err
		}
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			newline(depth + 1)
			b = append(b, '"')
			for _, r := range k {
				b = appendPythonRune(b, r)
			}
			b = append(b, `": `...)
			if b, err = appendPython(b, m[k], depth+1); err != nil {
				return b, err
			}
		}
		if len(keys) > 0 {
			newline(depth)
		}
		return append(b, '}'), nil
	case '[':
		var list []json.RawMessage
		if err = json.Unmarshal(raw, &list); err != nil {
			return b, err
		}
		b = append(b, '[')
		for i, e := range list {
			if i > 0 {
				b = append(b, ',')
			}
			newline(depth + 1)
			if b, err = appendPython(b, e, depth+1); err != nil {
				return b, err
			}
		}
		if len(list) > 0 {
			newline(depth)
		}
		return append(b, ']'), nil
	case '"':
		return appendPythonString(b, raw), nil
	}
	return append(b, raw...), nil
}

// appendPythonString appends a JSON string, quotes included, in Python's spelling: ASCII only.
func appendPythonString(b, q []byte) []byte {
	b = append(b, '"')
	s := q[1 : len(q)-1]
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			r, n := utf8.DecodeRune(s[i:])
			b = appendPythonRune(b, r)
			i += n
			continue
		}
		switch s[i+1] {
		case 'u':
			v, _ := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
			if r := rune(v); r >= 0xd800 && r < 0xe000 {
				b = fmt.Appendf(b, `\u%04x`, r) // a half of a pair, or a lone one: as it is
			} else {
				b = appendPythonRune(b, r)
			}
			i += 6
			continue
		case '/':
			b = append(b, '/')
		default: // " \ b f n r t
			b = append(b, s[i:i+2]...)
		}
		i += 2
	}
	return append(b, '"')
}

func appendPythonRune(b []byte, r rune) []byte {
	if r >= ' ' && r < 0x7f && r != '"' && r != '\\' {
		return append(b, byte(r))
	}
	return appendEscape(b, r)
}
