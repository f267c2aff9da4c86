package qumulo

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"fs_notify/notify"
)

// errorClasses are Qumulo's names where it has one; its clients print them.
var errorClasses = map[notify.Kind]string{
	notify.Internal:     "internal_error",
	notify.Invalid:      "invalid_request_error",
	notify.NotDirectory: "fs_not_a_directory_error",
	notify.Unauthorized: "http_unauthorized_error",
	notify.Forbidden:    "fs_access_denied_error",
	notify.NotFound:     "fs_no_such_entry_error",
	notify.Gone:         "notify_gone_error",
	notify.TooMany:      "too_many_requests_error",
	notify.Unavailable:  "unavailable_error",
	notify.Corrupt:      "internal_error",
	notify.Closed:       "unavailable_error",
}

// WriteError answers with an error as Qumulo words it: {description, module, error_class, stack,
// user_visible}, and for Gone the oldest and the newest cursor that would do. Of err, only what is
// meant for clients goes out.
func WriteError(w http.ResponseWriter, r *http.Request, status int, err error) {
	body := struct {
		Description string      `json:"description"`
		Module      string      `json:"module"`
		ErrorClass  string      `json:"error_class"`
		Stack       []string    `json:"stack"`
		UserVisible bool        `json:"user_visible"`
		Oldest      *notify.Seq `json:"oldest,omitempty"`
		Head        *notify.Seq `json:"head,omitempty"`
	}{Description: notify.Message(err), Module: "fs_notify", ErrorClass: errorClasses[notify.KindOf(err)], Stack: []string{}, UserVisible: true}
	var e *notify.Error
	if errors.As(err, &e) && e.Kind == notify.Gone {
		oldest, head := e.Bounds.Oldest(), e.Bounds.Newest()
		body.Oldest, body.Head = &oldest, &head
	}
	b, jerr := json.Marshal(body)
	if jerr != nil {
		b = []byte("{}") // cannot be: all of it is strings and numbers
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(append(b, '\n')) // an error breaks the connection, which the client sees
	}
}
