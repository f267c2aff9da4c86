package server_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// BenchmarkReplay reads the past over a socket: journal in memory, one client, an event stream.
func BenchmarkReplay(b *testing.B) {
	const batches, perBatch = 2000, 100
	tree := servertest.New("/srv/data")
	past(tree, batches, perBatch)
	for name, n := range map[string]int{"writers": 0, "goroutines": -1} {
		url := serve(b, tree, func(o *server.Options) { o.Writers = n })
		for _, query := range []string{"", "&fields=all", "&filter=child_file_added"} {
			b.Run(name+"/recursive"+query, func(b *testing.B) {
				for b.Loop() {
					req, err := http.NewRequestWithContext(b.Context(), "GET", url+root+"/notify?since=oldest&timeout=0&recursive=1"+query, nil)
					if err != nil {
						b.Fatal(err)
					}
					req.Header.Set("Accept", "text/event-stream")
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.Copy(io.Discard, resp.Body)
					if err != nil || resp.StatusCode != 200 {
						b.Fatal(resp.Status, err)
					}
					b.SetBytes(n)
					resp.Body.Close()
				}
				b.ReportMetric(float64(b.N*batches*perBatch)/b.Elapsed().Seconds(), "notifications/s")
			})
		}
	}
}

// BenchmarkReplayOnedata reads the same past through Onedata's protocol: a line of one or of three records for each change of a
// size, and a specification that nothing meets.
func BenchmarkReplayOnedata(b *testing.B) {
	const batches, perBatch = 2000, 100
	tree := servertest.New("/srv/data")
	past(tree, batches, perBatch)
	url := serve(b, tree, nil) + "/api/v3/oneprovider/changes/metadata/" + servertest.RootID.String() + "?last_seq=0&timeout=0"
	for name, spec := range map[string]string{
		"one record":    `{"fileLocation":{"fields":["size"]},"triggers":["fileLocation"]}`,
		"three records": `{"fileLocation":{"fields":["size"],"always":true},"fileMeta":{"fields":["name","type","owner"],"always":true},"times":{"fields":["mtime"],"always":true},"triggers":["fileLocation"]}`,
		"nothing":       `{"fileMeta":{},"triggers":["fileMeta"]}`,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				resp, err := http.Post(url, "application/json", strings.NewReader(spec))
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(resp.Status, err)
				}
				b.SetBytes(n)
				resp.Body.Close()
			}
			b.ReportMetric(float64(b.N*batches*perBatch)/b.Elapsed().Seconds(), "notifications/s")
		})
	}
}

// past tells of changes of the sizes of files, four levels deep.
func past(tree *servertest.Tree, batches, perBatch int) {
	dirs := notify.Spine{servertest.RootID, 1234567890123456789, 2234567890123456789, 3234567890123456789}
	for i := range batches {
		var notes []notify.Notification
		for j := range perBatch {
			notes = append(notes, notify.Notification{Type: notify.ChildSizeChanged, Path: fmt.Sprintf("home/joe/projects/file-%d-%d.txt", i, j),
				Spine: append(slices.Clone(dirs), notify.FileID(4234567890123456789+i*perBatch+j)), Attr: notify.Attr{Mode: notify.ModeFile | 0o644}})
		}
		tree.Log.Append(servertest.RootID, notes...)
	}
}
