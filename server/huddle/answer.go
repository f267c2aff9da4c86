package huddle

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fs_notify/notify"
	"fs_notify/server/etag"
)

// The media types. What a client's Accept does not decide is XML.
const (
	dataXML   = "application/vnd.huddle.data+xml"
	dataJSON  = "application/vnd.huddle.data+json"
	errorXML  = "application/vnd.huddle.error+xml"
	errorJSON = "application/vnd.huddle.error+json"
)

// namespace is the one of the page that describes changes: http, not https.
const namespace = "http://schema.huddle.net/2011/02/"

const timeFormat = "2006-01-02T15:04:05Z"

// What goes out, in the order that Huddle's schema asks for. Each has one form in XML and one in JSON.
type (
	changeList struct {
		XMLName xml.Name `xml:"http://schema.huddle.net/2011/02/ changes" json:"-"`
		Links   []link   `xml:"link" json:"links"`
		Changes []change `xml:"change" json:"changes"`
	}
	change struct {
		Links       []link  `xml:"link" json:"links"`
		Type        string  `xml:"type" json:"type"`
		Actors      []actor `xml:"actor" json:"actors"` // exactly one
		Created     string  `xml:"created" json:"created"`
		Correlation string  `xml:"correlationId,omitempty" json:"correlationId,omitempty"`
	}
	oneChange struct {
		XMLName xml.Name `xml:"http://schema.huddle.net/2011/02/ change" json:"-"`
		change
	}
	actor struct {
		Name  string `xml:"name,attr" json:"name"`
		Email string `xml:"email,attr,omitempty" json:"email,omitempty"`
		Rel   string `xml:"rel,attr" json:"rel"`
		Links []link `xml:"link" json:"links"`
	}
	link struct {
		Rel   string `xml:"rel,attr" json:"rel"`
		Href  string `xml:"href,attr" json:"href"`
		Type  string `xml:"type,attr,omitempty" json:"type,omitempty"`
		Title string `xml:"title,attr,omitempty" json:"title,omitempty"`
	}
	// errorResult is without namespace.
	errorResult struct {
		XMLName    xml.Name `xml:"ErrorResult" json:"-"`
		StatusCode int      `xml:"StatusCode" json:"StatusCode"`
		Messages   messages `xml:"ErrorMessages" json:"ErrorMessages"`
		ErrorCode  string   `xml:"ErrorCode" json:"ErrorCode"`
	}
	messages struct {
		Message []string `xml:"Message" json:"Message"`
	}
)

// title makes text of a name, which may hold any bytes: those that are not UTF-8, and characters that XML cannot hold, are written as escapes.
func title(name string) string {
	var b strings.Builder
	for i, size := 0, 0; i < len(name); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(name[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\udc%02x`, name[i])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(name[i : i+size])
		}
	}
	return b.String()
}

// liking gives how much a client likes something, from 0 to 1, and the place in a header of the part that says so: of those that name it, the most exact.
// exact says how exactly one does, 0 is not at all.
func liking(header []string, exact func(name string) int) (quality float64, place int) {
	best := 0
	for i, part := range strings.Split(strings.Join(header, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		n := exact(name)
		if err != nil || n == 0 {
			continue
		}
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		if n > best || n == best && q > quality {
			best, quality, place = n, q, i
		}
	}
	return quality, place
}

// wantsJSON says whether a client likes JSON better than XML. Of two that it likes as much, it is the first one.
func wantsJSON(r *http.Request) bool {
	of := func(form string) (quality float64, place int) {
		return liking(r.Header.Values("Accept"), func(t string) int {
			switch {
			case strings.HasPrefix(t, "application/vnd.huddle.") && strings.HasSuffix(t, "+"+form):
				return 4
			case t == "application/"+form, t == "text/"+form:
				return 3
			case t == "application/*":
				return 2
			case t == "*/*":
				return 1
			}
			return 0
		})
	}
	asJSON, first := of("json")
	asXML, second := of("xml")
	return asJSON > asXML || asJSON == asXML && first < second
}

// encode gives a value in the form that the client asked for.
func encode(r *http.Request, v any) (body []byte, isJSON bool, err error) {
	if isJSON = wantsJSON(r); isJSON {
		body, err = json.Marshal(v)
	} else {
		body, err = xml.Marshal(v)
		body = append([]byte(xml.Header), body...)
	}
	if err != nil {
		return nil, isJSON, &notify.Error{Op: "huddle.encode", Kind: notify.Internal, Err: err}
	}
	return append(body, '\n'), isJSON, nil
}

func headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "private, no-cache")
	h.Add("Vary", "Accept, Accept-Encoding, Authorization")
}

// answer sends a value. A zero time is none.
func answer(w http.ResponseWriter, r *http.Request, v any, modified time.Time) error {
	body, isJSON, err := encode(r, v)
	if err != nil {
		return err
	}
	contentType := dataXML
	if isJSON {
		contentType = dataJSON
	}
	tag := `W/"` + etag.Sum(body) + `"`
	headers(w)
	h := w.Header()
	if !modified.IsZero() {
		h.Set("Last-Modified", modified.Format(http.TimeFormat))
	}
	h.Set("ETag", tag)
	if etag.Known(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	write(w, r, http.StatusOK, contentType, body)
	return nil
}

// smallest is from how many bytes on an answer is compressed.
const smallest = 512

// write sends a body, compressed if the client takes that.
func write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if len(body) >= smallest && takesGzip(r) {
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		z.Write(body) // neither fails: it is memory
		z.Close()
		h.Set("Content-Encoding", "gzip")
		body = small.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // an error breaks the connection, which the client sees
	}
}

func takesGzip(r *http.Request) bool {
	quality, _ := liking(r.Header.Values("Accept-Encoding"), func(name string) int {
		return map[string]int{"*": 1, "gzip": 2}[name]
	})
	return quality > 0
}

// coded is an error with the code that Huddle has for it.
type coded struct {
	code string
	err  *notify.Error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// codes are Huddle's for errors that do not say theirs.
var codes = map[notify.Kind]string{
	notify.Invalid:      "BadRequest",
	notify.NotDirectory: "BadRequest",
	notify.Unauthorized: "Authentication",
	notify.Forbidden:    "Authorization",
	notify.NotFound:     "ObjectNotFound",
	notify.Gone:         "ObjectDeleted",
	notify.TooMany:      "TooManyRequests",
	notify.Unavailable:  "ServiceUnavailable",
	notify.Closed:       "ServiceUnavailable",
}

// WriteError answers with an error as Huddle words it. Of err, only what is meant for clients goes out.
func WriteError(w http.ResponseWriter, r *http.Request, status int, err error) {
	out := errorResult{StatusCode: status, Messages: messages{[]string{notify.Message(err)}}, ErrorCode: codes[notify.KindOf(err)]}
	var c *coded
	if errors.As(err, &c) {
		out.ErrorCode = c.code
	}
	if out.ErrorCode == "" {
		out.ErrorCode = "InternalError"
	}
	body, isJSON, encErr := encode(r, &out)
	if encErr != nil {
		body = nil // cannot be: all of it is text
	}
	contentType := errorXML
	if isJSON {
		contentType = errorJSON
	}
	headers(w)
	w.Header().Set("Cache-Control", "private")
	write(w, r, status, contentType, body)
}
