package onedata

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
)

func TestParseQuery(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"", "-1ns 0s true 0"},
		{"last_seq=now&timeout=infinity", "-1ns 0s true 0"},
		{"last_seq=0", "-1ns 0s false 0"},
		{"last_seq=-17", "-1ns 0s false 0"},
		{"last_seq=00123&timeout=5000", "5s 0s false 123"},
		{"last_seq=%2B5", "-1ns 0s false 5"},
		{"last_seq=5&last_seq=now", "-1ns 0s false 5"},
		{"last_seq=99999999999999999999999999", "-1ns 0s false 9007199254740991"},
		{"timeout=99999999999999999999999999", "-1ns 0s true 0"},
		{"timeout=0&keepalive=1500&other=x", "0s 1.5s true 0"},
		{"last_seq=", "badValueInteger last_seq"},
		{"last_seq=infinity", "badValueInteger last_seq"},
		{"last_seq=1.5", "badValueInteger last_seq"},
		{"last_seq=NOW", "badValueInteger last_seq"},
		{"last_seq=%2B-5", "badValueInteger last_seq"},
		{"last_seq=0x10", "badValueInteger last_seq"},
		{"timeout", "badValueInteger timeout"},
		{"timeout=now", "badValueInteger timeout"},
		{"timeout=abc&last_seq=abc", "badValueInteger timeout"},
		{"timeout=-1", "badValueTooLow timeout"},
		{"keepalive=x", "badValueInteger keepalive"},
		{"last_seq=%zz", "badData query"},
	} {
		q, err := parseQuery(tt.raw)
		got := fmt.Sprint(q.timeout, q.keepAlive, q.now, q.last)
		if err != nil {
			got = told(err)
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.raw, got, tt.want)
		}
	}
}

// told is an error's id and key.
func told(err error) string {
	var f *fault
	if !errors.As(err, &f) || !errors.Is(err, notify.Invalid) {
		return err.Error()
	}
	return fmt.Sprint(f.id, " ", f.details["key"])
}

func TestParseSpec(t *testing.T) {
	const all = "[true true true true]"
	for _, tt := range []struct{ body, want string }{
		{`{"fileMeta":{}}`, all + " fileMeta{false [] [] []}"},
		{`{"fileMeta":{"fields":["type","name","name"],"always":true,"exists":3,"more":{}},"triggers":["times"]}`, "[false false true false] fileMeta{true [0 1] [] []}"},
		{` {"customMetadata":{"fields":["b","onedata_json","a","b"],"exists":["x"],"always":false}} `, all + " customMetadata{false [] [a b onedata_json] [x]}"},
		{`{"triggers":[],"times":{"fields":["atime","mtime","ctime"]}}`, "[false false false false] times{false [11 13 12] [] []}"},
		{`{"fileLocation":{"fields":["provider_id","storage_id","size","space_id","storage_file_created"]}}`, all + " fileLocation{false [4 8 9 10 7] [] []}"},
		{`{"fileMeta":{"fields":["name","type","mode","owner","provider_id","shares","deleted"]}}`, all + " fileMeta{false [6 2 0 3 4 5 1] [] []}"},
	} {
		s, err := parseSpec([]byte(tt.body))
		if err != nil {
			t.Errorf("%s: %v", tt.body, err)
			continue
		}
		got := fmt.Sprint(s.triggers)
		for r, sel := range s.records {
			if sel != nil {
				got += " " + record(r).String() + fmt.Sprint(*sel)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.body, got, tt.want)
		}
	}
}

// invalidSpecs are bodies and what Onedata says to them: id, details.
var invalidSpecs = []struct{ body, id, details string }{
	{`"ASD"`, "badValueJSON", `{"key":"changesSpecification"}`},
	{`[]`, "badValueJSON", `{"key":"changesSpecification"}`},
	{`null`, "badValueJSON", `{"key":"changesSpecification"}`},
	{`17`, "badValueJSON", `{"key":"changesSpecification"}`},
	{`{"fileMeta":{}`, "badValueJSON", `{"key":"changesSpecification"}`},
	{`{"fileMeta":{}} {}`, "badValueJSON", `{"key":"changesSpecification"}`},
	{"{\"\xff\":{}}", "badValueJSON", `{"key":"changesSpecification"}`},
	{``, "badValueEmpty", `{"key":"changesSpecification"}`},
	{" \n", "badValueEmpty", `{"key":"changesSpecification"}`},
	{`{}`, "badValueEmpty", `{"key":"changesSpecification"}`},
	{`{"triggers":["times"]}`, "badValueEmpty", `{"key":"changesSpecification"}`},
	{`{"triggers":"ASD"}`, "badValueListOfStrings", `{"key":"triggers"}`},
	{`{"triggers":null,"times":{}}`, "badValueListOfStrings", `{"key":"triggers"}`},
	{`{"triggers":{},"fielMeta":{}}`, "badValueListOfStrings", `{"key":"triggers"}`},
	{`{"triggers":["ASD"]}`, "badValueNotAllowed", `{"allowed":["fileMeta","fileLocation","times","customMetadata"],"key":"triggers"}`},
	{`{"triggers":["fileMeta",1],"fileMeta":{}}`, "badValueNotAllowed", `{"allowed":["fileMeta","fileLocation","times","customMetadata"],"key":"triggers"}`},
	{`{"fielMeta":{}}`, "badData", `{"key":"fielMeta"}`},
	{`{"times":true}`, "badData", `{"key":"times"}`},
	{`{"times":null}`, "badData", `{"key":"times"}`},
	{`{"fileMeta":[]}`, "badData", `{"key":"fileMeta"}`},
	{`{"fileMeta":{"fields":"ASD"}}`, "badValueListOfStrings", `{"key":"fileMeta.fields"}`},
	{`{"fileMeta":{"fields":null}}`, "badValueListOfStrings", `{"key":"fileMeta.fields"}`},
	{`{"customMetadata":{"fields":"ASD"}}`, "badValueListOfStrings", `{"key":"customMetadata.fields"}`},
	{`{"customMetadata":{"fields":[1]}}`, "badValueListOfStrings", `{"key":"customMetadata.fields"}`},
	{`{"customMetadata":{"exists":"ASD"}}`, "badValueListOfStrings", `{"key":"customMetadata.exists"}`},
	{`{"fileMeta":{"fields":["owner","ASD"]}}`, "badValueNotAllowed",
		`{"allowed":["name","type","mode","owner","provider_id","shares","deleted"],"key":"fileMeta.fields"}`},
	{`{"fileMeta":{"fields":["group_owner"]}}`, "badValueNotAllowed",
		`{"allowed":["name","type","mode","owner","provider_id","shares","deleted"],"key":"fileMeta.fields"}`},
	{`{"fileLocation":{"fields":["name"]}}`, "badValueNotAllowed",
		`{"allowed":["provider_id","storage_id","size","space_id","storage_file_created"],"key":"fileLocation.fields"}`},
	{`{"times":{"fields":[{}]}}`, "badValueNotAllowed", `{"allowed":["atime","mtime","ctime"],"key":"times.fields"}`},
	{`{"fileMeta":{"always":"true"}}`, "badValueBoolean", `{"key":"fileMeta.always"}`},
	{`{"customMetadata":{"always":null}}`, "badValueBoolean", `{"key":"customMetadata.always"}`},
	{`{"times":{"fields":["ASD"],"always":1}}`, "badValueBoolean", `{"key":"times.always"}`},
	{`{"times":{"fields":["ASD"]},"fileMeta":{"fields":["ASD"]}}`, "badValueNotAllowed",
		`{"allowed":["name","type","mode","owner","provider_id","shares","deleted"],"key":"fileMeta.fields"}`},
	{strings.Repeat(" ", maxBody+1), "badData", `{"key":"changesSpecification"}`},
	{strings.Repeat("[", 100000), "badValueJSON", `{"key":"changesSpecification"}`},
}

func TestInvalidSpecs(t *testing.T) {
	for _, tt := range invalidSpecs {
		body, err := readBody(strings.NewReader(tt.body))
		if err == nil {
			_, err = parseSpec(body)
		}
		var f *fault
		if !errors.As(err, &f) {
			t.Errorf("%.60q: %v", tt.body, err)
			continue
		}
		details, _ := json.Marshal(f.details)
		if f.id != tt.id || string(details) != tt.details || !strings.HasPrefix(f.text, `Bad value: provided "`+fmt.Sprint(f.details["key"])+`" `) {
			t.Errorf("%.60q: %s %s %q, want %s %s", tt.body, f.id, details, f.text, tt.id, tt.details)
		}
	}
}

// Whatever a client sends is understood or refused with a fault of its own, and what was understood is within its limits.
func FuzzRequest(f *testing.F) {
	for _, tt := range invalidSpecs {
		f.Add("last_seq=5&timeout=7", tt.body[:min(len(tt.body), 1000)])
	}
	f.Add("timeout=-1&keepalive=99999999999999999999", `{"triggers":["times"],"customMetadata":{"fields":["a"],"exists":["onedata_keyvalue"],"always":true}}`)
	f.Fuzz(func(t *testing.T, rawQuery, body string) {
		q, err := parseQuery(rawQuery)
		var bad *fault
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%q: %v is no fault", rawQuery, err)
		}
		if err == nil && (q.timeout < -1 || q.keepAlive < 0 || q.timeout > 40*365*24*time.Hour || q.last > notify.MaxSeq || q.now && q.last != 0) {
			t.Fatalf("%q: %+v", rawQuery, q)
		}
		s, err := parseSpec([]byte(body))
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("%q: %v is no fault", body, err)
			}
			w := httptest.NewRecorder()
			New(Options{}).WriteError(w, httptest.NewRequest("POST", "/", nil), 400, err)
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q is answered with %s", body, w.Body)
			}
			return
		}
		any := false
		for r, sel := range s.records {
			any = any || sel != nil
			if sel != nil && (record(r) == customMetadata) == (len(sel.fields) > 0) && len(sel.fields) > 0 {
				t.Fatalf("%q: %+v", body, sel)
			}
		}
		if !any {
			t.Fatalf("%q asks for nothing and was taken", body)
		}
	})
}

// The samples are from Onedata's own documentation and tests; the check value is from the definition of the checksum.
func TestFileID(t *testing.T) {
	if got := crc16([]byte("123456789")); got != 0xbb3d {
		t.Errorf("crc16 = %#x, want 0xbb3d", got)
	}
	for data, want := range map[string]string{
		"guid#d1023012acb4b374c0bcbc9fe5060415cha5e6#c4a00bdfa54d0dcffec5c40109c7bf65cha5e6": "0000000000527324",
		"guid#e2f765da329c20cbb590a54eb3a7132d#8398219ec0e226045cd7d86c2980410a":             "000000000046600A",
	} {
		if got := string(appendObjectID(nil, append(make([]byte, 8), data...))); got != want+fmt.Sprintf("%X", data) {
			t.Errorf("the object ID of %s is %s, want it to begin with %s", data, got, want)
		}
	}
	raw := append(make([]byte, 8), "guid#11#22"...)
	if got, want := string(appendFileID(nil, 11, 22)), string(appendObjectID(nil, raw)); got != want {
		t.Errorf("the file ID is %s, want %s", got, want)
	}
}
