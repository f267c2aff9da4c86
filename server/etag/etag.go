// Package etag makes entity tags of what the protocols answer, and says whether a client has an answer already (RFC 9110, section 13.1.2). It keeps
// nothing; its functions may be called from any goroutine. Precondition headers other than If-None-Match are not looked at.
package etag

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
)

// Sum is what a tag says of a body: 16 hexadecimal digits.
func Sum(body []byte) string {
	sum := fnv.New64a()
	sum.Write(body)
	return fmt.Sprintf("%016x", sum.Sum64())
}

// Known says whether a request has the answer with this tag, quoted, by the weak comparison. Its list of tags may be in several lines.
func Known(r *http.Request, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, line := range r.Header.Values("If-None-Match") {
		for t := range strings.SplitSeq(line, ",") {
			if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == tag {
				return true
			}
		}
	}
	return false
}
