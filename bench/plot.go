//go:build linux

package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The colors of what is shown: ours, peers, and what nobody can be better than. They can be told apart without color vision.
const (
	ourColor  = "#1f6feb"
	peerColor = "#9aa4b2"
	rawColor  = "#d4d9e0"
)

// style works on light and on dark pages: the text has a color of its own, and the ground is white.
const style = `<style>text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}.s{font-size:12px;fill:#57606a}.g{stroke:#d8dee4}.e{stroke:#24292f;stroke-width:1.5}</style>`

func openSVG(b *strings.Builder, w, h int, title string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">%s<rect width="%d" height="%d" fill="#fff"/>`,
		w, h, w, h, html.EscapeString(title), style, w, h)
	b.WriteByte('\n')
}

func svgText(b *strings.Builder, x, y float64, class, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f"`, x, y)
	if class != "" {
		fmt.Fprintf(b, ` class="%s"`, class)
	}
	if anchor != "" {
		fmt.Fprintf(b, ` text-anchor="%s"`, anchor)
	}
	fmt.Fprintf(b, ">%s</text>\n", html.EscapeString(s))
}

// bar is one value with its spread.
type bar struct {
	label            string
	value, low, high float64
	text             string
	color            string
}

// barPlot draws horizontal bars; on a logarithmic axis if the values differ by more than a factor of 50.
func barPlot(title, subtitle string, bars []bar) string {
	const w, left, right, line, head = 760, 210, 130, 30, 62
	var b strings.Builder
	h := head + len(bars)*line + 12
	openSVG(&b, w, h, title)
	svgText(&b, 14, 24, "t", "", title)
	lo, hi := math.Inf(1), 0.0
	for _, x := range bars {
		if x.value > 0 {
			lo = min(lo, x.value)
		}
		hi = max(hi, x.high)
	}
	logarithmic := hi > 50*lo
	scale := func(v float64) float64 {
		if v <= 0 || hi <= 0 {
			return 0
		}
		if logarithmic {
			from := math.Floor(math.Log10(lo)) - 0.3
			return max(math.Log10(v)-from, 0) / (math.Log10(hi) - from)
		}
		return v / hi
	}
	if logarithmic {
		subtitle += " (logarithmic)"
	}
	svgText(&b, 14, 43, "s", "", subtitle)
	width := float64(w - left - right)
	for i, x := range bars {
		y := float64(head + i*line)
		svgText(&b, left-10, y+16, "", "end", x.label)
		fmt.Fprintf(&b, `<rect x="%d" y="%.1f" width="%.1f" height="20" rx="2" fill="%s"/>`+"\n", left, y+2, max(scale(x.value)*width, 1), x.color)
		end := scale(x.value)
		if x.high > x.low {
			fmt.Fprintf(&b, `<path class="e" d="M%.1f %.1fH%.1f"/>`+"\n", left+scale(x.low)*width, y+12, left+scale(x.high)*width)
			end = scale(x.high)
		}
		svgText(&b, left+end*width+8, y+16, "", "", x.text)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// series is one line of a line plot.
type series struct {
	label string
	color string
	dash  string
	x, y  []float64
}

// linePlot draws series over two logarithmic axes; a straight line with slope 1 is linear growth.
func linePlot(title, subtitle, xLabel string, format func(float64) string, all []series) string {
	const w, h, left, right, top, bottom = 760, 400, 90, 190, 62, 48
	var b strings.Builder
	openSVG(&b, w, h, title)
	svgText(&b, 14, 24, "t", "", title)
	svgText(&b, 14, 43, "s", "", subtitle)
	x0, x1, y0, y1 := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, s := range all {
		for i := range s.x {
			if s.y[i] > 0 {
				x0, x1, y0, y1 = min(x0, s.x[i]), max(x1, s.x[i]), min(y0, s.y[i]), max(y1, s.y[i])
			}
		}
	}
	y0, y1 = math.Pow(10, math.Floor(math.Log10(y0))), math.Pow(10, math.Ceil(math.Log10(y1)))
	px := func(x float64) float64 {
		return left + (math.Log10(x)-math.Log10(x0))/max(math.Log10(x1)-math.Log10(x0), 1e-9)*(w-left-right)
	}
	py := func(y float64) float64 {
		return h - bottom - (math.Log10(y)-math.Log10(y0))/max(math.Log10(y1)-math.Log10(y0), 1e-9)*(h-top-bottom)
	}
	for y := y0; y <= y1*1.001; y *= 10 {
		fmt.Fprintf(&b, `<path class="g" d="M%d %.1fH%d"/>`+"\n", left, py(y), w-right)
		svgText(&b, left-8, py(y)+4, "s", "end", format(y))
	}
	seen := make(map[float64]bool)
	for _, s := range all {
		for _, x := range s.x {
			if !seen[x] {
				seen[x] = true
				svgText(&b, px(x), h-bottom+18, "s", "middle", grouped(int64(x)))
			}
		}
	}
	svgText(&b, (left+w-right)/2, h-10, "s", "middle", xLabel)
	type label struct {
		x, y float64
		text string
	}
	var labels []label
	for _, s := range all {
		path, lastX, lastY := "", 0.0, 0.0
		for i := range s.x {
			if s.y[i] <= 0 || math.IsNaN(s.y[i]) {
				continue
			}
			lastX, lastY = px(s.x[i]), py(s.y[i])
			op := "L"
			if path == "" {
				op = "M"
			}
			path += fmt.Sprintf("%s%.1f %.1f", op, lastX, lastY)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", lastX, lastY, s.color)
		}
		if path == "" {
			continue
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", path, s.color, s.dash)
		labels = append(labels, label{lastX + 9, lastY + 4, s.label})
	}
	slices.SortFunc(labels, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	for i, l := range labels {
		if i > 0 {
			labels[i].y = max(l.y, labels[i-1].y+15)
		}
		svgText(&b, l.x, labels[i].y, "", "", l.text)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
