//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// samples are the values of one figure, one for each run.
type samples []float64

func (s samples) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(s))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// show prints the median, and the smallest and the largest value if they look different.
func (s samples) show(format func(float64) string) string {
	if len(s) == 0 {
		return "–"
	}
	m, lo, hi := format(s.median()), format(slices.Min(s)), format(slices.Max(s))
	if lo == hi {
		return m
	}
	return fmt.Sprintf("%s (%s–%s)", m, lo, hi)
}

// number prints three significant digits, or the integer part.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a == 0:
		return "0"
	case a >= 1e6:
		return number(v/1e6) + " M"
	case a >= 1e4:
		return grouped(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// grouped prints thousands with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// micros prints microseconds as a latency.
func micros(us float64) string {
	switch {
	case math.IsNaN(us):
		return "–"
	case us >= 1e6:
		return number(us/1e6) + " s"
	case us >= 1e3:
		return number(us/1e3) + " ms"
	}
	return strconv.FormatFloat(us, 'f', 0, 64) + " µs"
}

func megabytes(b float64) string { return number(b/(1<<20)) + " MB" }

// A result is what all runs of one subject gave.
type result struct {
	name    string
	color   string
	skipped string // why it was not measured, or could not be
	values  map[string]samples
	runs    int
}

func (r *result) add(key string, v float64) {
	if r.values == nil {
		r.values = make(map[string]samples)
	}
	r.values[key] = append(r.values[key], v)
}

func (r *result) median(key string) float64 { return r.values[key].median() }

// results are in the order in which they were first asked for.
type results []*result

func (rs *results) of(name, color string) *result {
	for _, r := range *rs {
		if r.name == name {
			return r
		}
	}
	r := &result{name: name, color: color}
	*rs = append(*rs, r)
	return r
}

// A column of a table: a heading and what it shows of a result.
type column struct {
	head string
	show func(r *result) string
}

func figure(head, key string, format func(float64) string) column {
	return column{head, func(r *result) string { return r.values[key].show(format) }}
}

// table writes results as a Markdown table, and below it why some are missing.
func (rs results) table(columns ...column) string {
	out := "| what | runs |"
	line := "| --- | --- |"
	for _, c := range columns {
		out += " " + c.head + " |"
		line += " --- |"
	}
	out += "\n" + line + "\n"
	notes := ""
	for _, r := range rs {
		if r.skipped != "" {
			notes += "\nNot measured: " + r.name + ": " + r.skipped + ".\n"
		}
		if r.runs == 0 {
			continue
		}
		out += fmt.Sprintf("| %s | %d |", r.name, r.runs)
		for _, c := range columns {
			out += " " + c.show(r) + " |"
		}
		out += "\n"
	}
	return out + notes
}

// bars makes the bars of a plot, for those results that have the figure.
func (rs results) bars(key string, format func(float64) string) (out []bar) {
	for _, r := range rs {
		if s := r.values[key]; len(s) > 0 {
			out = append(out, bar{label: r.name, value: s.median(), low: slices.Min(s), high: slices.Max(s), text: format(s.median()), color: r.color})
		}
	}
	return out
}
