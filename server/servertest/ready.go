package servertest

import (
	"net/http"
	"testing"
	"time"
)

// Ready waits until a real server has seen all that is below its roots: what changes before that is not told.
func Ready(t testing.TB, url string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not become ready: %v", url, err)
		}
	}
}
