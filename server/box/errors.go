package box

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fs_notify/notify"
)

// codes are Box's names of what went wrong, by status.
var codes = map[int]string{
	http.StatusBadRequest:            "bad_request",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "not_found",
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusGone:                  "not_found",
	http.StatusRequestEntityTooLarge: "request_entity_too_large",
	http.StatusTooManyRequests:       "rate_limit_exceeded",
	http.StatusServiceUnavailable:    "unavailable",
}

// parameterError is a parameter that cannot be read.
type parameterError struct{ name, value, want string }

func (e *parameterError) Error() string {
	return fmt.Sprintf("Invalid value %q of %s: it should be %s", clip(e.value), e.name, e.want)
}

func badParameter(name, value, want string) error {
	e := &parameterError{name, value, want}
	return &notify.Error{Op: "box", Kind: notify.Invalid, Err: e, Msg: e.Error()}
}

// clip keeps a hostile input from filling an answer.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

var errScope = errors.New("insufficient scope")

// WriteError answers with an error as Box words it. One of 4xx waits for Options.Delay first: clients of Box repeat a refused request at
// once and for ever. Of err, only what is meant for clients goes out.
func (a *API) WriteError(w http.ResponseWriter, r *http.Request, status int, err error) {
	if status >= 400 && status < 500 && status != http.StatusNotFound && a.Delay > 0 {
		a.delay(r)
	}
	type reason struct {
		Reason  string `json:"reason"`
		Name    string `json:"name"`
		Message string `json:"message"`
	}
	body := struct {
		Type    string `json:"type"`
		Status  int    `json:"status"`
		Code    string `json:"code"`
		Context *struct {
			Errors []reason `json:"errors"`
		} `json:"context_info"`
		Help    string `json:"help_url"`
		Message string `json:"message"`
		Request string `json:"request_id"`
	}{Type: "error", Status: status, Code: codes[status], Message: notify.Message(err), Request: randomID(6)}
	if body.Code == "" {
		body.Code = "internal_server_error"
	}
	var p *parameterError
	switch {
	case errors.As(err, &p):
		body.Context = &struct {
			Errors []reason `json:"errors"`
		}{[]reason{{"invalid_parameter", p.name, p.Error()}}}
	case errors.Is(err, errScope):
		body.Code = "insufficient_scope"
	}
	b, jerr := json.Marshal(body)
	if jerr != nil {
		b = []byte("{}") // cannot be: all of it is strings and numbers
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Box-Request-Id", randomID(16))
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(append(b, '\n')) // an error breaks the connection, which the client sees
	}
}

// delay waits, unless too many do already.
func (a *API) delay(r *http.Request) {
	select {
	case a.delayed <- struct{}{}:
	default:
		return
	}
	defer func() { <-a.delayed }()
	t := time.NewTimer(a.Delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	case <-a.Drain.Done():
	}
}

// randomID gives n random bytes in hexadecimal.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// writeJSON answers with a JSON text.
func writeJSON(w http.ResponseWriter, r *http.Request, b []byte) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		w.Write(b) // an error breaks the connection, which the client sees
	}
	return nil
}
