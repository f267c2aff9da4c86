package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"fs_notify/notify"
)

// spreadFilter lets --filter take several words, up to the next flag, as qq does:
// "--filter a b c" becomes "--filter a --filter b --filter c".
func spreadFilter(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		out = append(out, args[i])
		if args[i] != "--filter" {
			continue
		}
		for n := 0; i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"); n++ {
			i++
			if n > 0 {
				out = append(out, "--filter")
			}
			out = append(out, args[i])
		}
	}
	return out
}

// parseFilter reads the values of --filter: words with blanks or commas between them.
func parseFilter(values []string) (notify.TypeSet, error) {
	var words []string
	for _, v := range values {
		words = append(words, strings.Fields(v)...)
	}
	return notify.ParseFilter(words...)
}

// wrongValue says why a flag does not take a value, given the flag's own error.
func wrongValue(f *pflag.Flag, err error) string {
	switch t := f.Value.Type(); {
	case t == "bool":
		return "it should be true or false"
	case t == "int" && errors.Is(err, strconv.ErrRange):
		return "such a number is not possible"
	case t == "int":
		return "it should be a whole number"
	}
	return err.Error()
}

// duration is a flag's value: as Go writes them, with days ("7d"), or a bare number of seconds.
type duration time.Duration

func (d *duration) Set(s string) error {
	v, err := parseDuration(s)
	*d = duration(v)
	return err
}
func (d *duration) Type() string { return "duration" }
func (d *duration) String() string {
	v := time.Duration(*d)
	switch {
	case v == 0:
		return "0"
	case v%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", v/(24*time.Hour))
	case v%time.Hour == 0:
		return fmt.Sprintf("%dh", v/time.Hour)
	}
	return v.String()
}

func parseDuration(s string) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	if err != nil {
		n, unit := s, time.Second
		if days, ok := strings.CutSuffix(s, "d"); ok {
			n, unit = days, 24*time.Hour
		}
		var f float64
		if f, err = strconv.ParseFloat(n, 64); err == nil {
			if v = time.Duration(f * float64(unit)); !(math.Abs(f*float64(unit)) < math.MaxInt64) {
				err = strconv.ErrRange
			}
		} else if _, e := time.ParseDuration(strings.Map(zeroDigit, s)); e == nil {
			err = strconv.ErrRange // written as Go does, but too much
		}
	}
	switch {
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(s, "-"):
		return 0, fmt.Errorf("%q is too long: it may be %dd at most", s, time.Duration(math.MaxInt64)/(24*time.Hour))
	case err != nil, v < 0:
		return 0, fmt.Errorf("%q is no duration: write it like 30s, 5m, 12h or 7d", s)
	}
	return v, nil
}

func zeroDigit(r rune) rune {
	if r >= '1' && r <= '9' {
		return '0'
	}
	return r
}

// size is a flag's value in bytes: "1GiB", "500MB", "1048576".
type size int64

func (n *size) Set(s string) error {
	v, err := humanize.ParseBytes(s)
	switch {
	case err == nil && v > math.MaxInt64, err != nil && strings.HasPrefix(err.Error(), "too large"):
		return fmt.Errorf("%q is too large: it should be less than 8EiB", s)
	case err != nil:
		return fmt.Errorf("%q is no size: write it like 512MiB, 1GiB or 1048576", s)
	}
	*n = size(v)
	return nil
}
func (n *size) Type() string { return "size" }
func (n *size) String() string {
	v, unit := int64(*n), 0
	for v > 0 && v%1024 == 0 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatInt(v, 10) + [...]string{"", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// didYouMean is the end of a message about an unknown word.
func didYouMean(s string, candidates []string) string {
	if n := notify.Nearest(s, candidates); n != "" {
		return ", did you mean " + n + "?"
	}
	return ""
}
