package box_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// BenchmarkPages reads the past over a socket, page by page, beside an event stream of the same journal.
func BenchmarkPages(b *testing.B) {
	const batches, perBatch = 1000, 100
	tree := servertest.New("/srv/data")
	dirs := notify.Spine{servertest.RootID, 1234567890123456789, 2234567890123456789, 3234567890123456789}
	for i := range batches {
		var notes []notify.Notification
		for j := range perBatch {
			notes = append(notes, notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprintf("home/joe/projects/file-%d-%d.txt", i, j), Attr: notify.Attr{Mode: notify.ModeFile | 0o644, Nlink: 1, Mtime: 1e18},
				Spine: append(slices.Clone(dirs), notify.FileID(4234567890123456789+i*perBatch+j))})
		}
		tree.Log.Append(servertest.RootID, notes...)
	}
	base := serve(b, tree, nil)
	read := func(url, accept string) []byte {
		req, err := http.NewRequestWithContext(b.Context(), "GET", url, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.Status, err)
		}
		return body
	}
	for _, c := range []struct {
		name, query string
		events      int
	}{
		{"changes", "stream_type=changes&limit=500", batches * perBatch}, {"changes, pages of 100", "stream_type=changes", batches * perBatch},
		{"admin_logs", "stream_type=admin_logs&limit=500", batches * perBatch}, {"admin_logs, a type that there is not", "stream_type=admin_logs&limit=500&event_type=DELETE", 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			pages, events := 0, 0
			for b.Loop() {
				for pos := "0"; ; {
					body := read(base+"/2.0/events?"+c.query+"&stream_position="+pos, "application/json")
					b.SetBytes(int64(len(body)))
					head, _, _ := bytes.Cut(body, []byte(`,"entries"`))
					var p struct {
						Size int         `json:"chunk_size"`
						Next json.Number `json:"next_stream_position"`
					}
					if err := json.Unmarshal(append(head, '}'), &p); err != nil {
						b.Fatal(err)
					}
					pages++
					if events += p.Size; p.Next.String() == pos {
						break
					}
					pos = p.Next.String()
				}
			}
			if events != b.N*c.events {
				b.Fatalf("%d events in %d rounds", events, b.N)
			}
			b.ReportMetric(float64(pages)/b.Elapsed().Seconds(), "pages/s")
			b.ReportMetric(float64(b.N*batches*perBatch)/b.Elapsed().Seconds(), "notifications/s")
		})
	}
	b.Run("event stream", func(b *testing.B) {
		for b.Loop() {
			b.SetBytes(int64(len(read(base+"/v1/files/%2Fsrv%2Fdata/notify?since=oldest&timeout=0&recursive=1", "text/event-stream"))))
		}
		b.ReportMetric(float64(b.N*batches*perBatch)/b.Elapsed().Seconds(), "notifications/s")
	})
	b.Run("nothing new", func(b *testing.B) {
		pos := tree.Log.Bounds().Newest().String()
		for b.Loop() {
			read(base+"/2.0/events?stream_position="+pos, "application/json")
		}
	})
}

// BenchmarkWake is the time from an append to the answer of a long poll, and to the page behind it, beside an event stream's: with so many
// polls that wait.
func BenchmarkWake(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("poll, %d others", others), func(b *testing.B) {
			tree := servertest.New("/srv/data")
			w := &watcher{}
			base := serve(b, tree, func(o *server.Options) { o.Metrics = w })
			// The others follow another directory's news: none of theirs.
			tell := func() {
				tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildACLChanged, Path: "f", Spine: notify.Spine{servertest.RootID, 9}, Attr: notify.Attr{Mode: notify.ModeFile}})
			}
			idle := &http.Client{Transport: &http.Transport{}}
			defer idle.CloseIdleConnections()
			answers := poll(b, idle, base+"/2.0/events/poll?stream_type=changes&stream_position=now", others)
			w.until(b, others)
			c := &http.Client{Transport: &http.Transport{}}
			var woken, paged time.Duration
			for b.Loop() {
				pos := tree.Log.Bounds().Newest().String()
				one := poll(b, c, base+"/2.0/events/poll?stream_position="+pos, 1)
				w.until(b, others+1)
				time.Sleep(time.Millisecond) // it sleeps
				start := time.Now()
				tell()
				if got := <-one; got != "new_change" {
					b.Fatal(got)
				}
				woken += time.Since(start)
				get(b, base+"/2.0/events?stream_position="+pos)
				paged += time.Since(start)
				w.until(b, others)
			}
			b.ReportMetric(float64(woken.Microseconds())/float64(b.N), "µs/wake")
			b.ReportMetric(float64(paged.Microseconds())/float64(b.N), "µs/page")
			tree.Create("for all")
			want(b, answers, others, "new_change")
		})
	}
	b.Run("event stream", func(b *testing.B) {
		tree := servertest.New("/srv/data")
		base := serve(b, tree, nil)
		req, _ := http.NewRequestWithContext(b.Context(), "GET", base+"/v1/files/%2Fsrv%2Fdata/notify?recursive=1", nil)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		next := func(prefix string) {
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), prefix) {
					return
				}
			}
			b.Fatal("the stream ended")
		}
		next("id: ")
		var woken time.Duration
		for i := 0; b.Loop(); i++ {
			time.Sleep(time.Millisecond)
			start := time.Now()
			tree.Create(fmt.Sprint("f", i))
			next("data: ")
			woken += time.Since(start)
		}
		b.ReportMetric(float64(woken.Microseconds())/float64(b.N), "µs/wake")
	})
}
