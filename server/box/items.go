package box

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fs_notify/notify"
	"fs_notify/server/etag"
)

const maxItems = 1000 // in a page of a folder

// serveItem answers GET /2.0/files/{id} and GET /2.0/folders/{id}.
func (a *API) serveItem(w http.ResponseWriter, r *http.Request, folder bool, id string) error {
	s, err := a.look(r.Context())
	if err != nil {
		return err
	}
	if folder && id == rootFolder {
		return a.writeRootFolder(w, r, s)
	}
	it, err := a.item(r.Context(), s, folder, id)
	if err != nil {
		return err
	}
	b := appendItem(nil, &it)
	if folder { // its etag does not tell of what is in it
		list, err := a.list(r.Context(), s, &it, firstPage)
		if err != nil {
			return err
		}
		b = append(b[:len(b)-1], `,"item_collection":`...)
		return writeJSON(w, r, append(list.appendPage(b, firstPage), "}\n"...))
	}
	// More than the file's own changes shows in the answer: the names of the folders that it is in do.
	tag := `"` + it.seq.String() + "-" + etag.Sum(b) + `"`
	w.Header().Set("ETag", tag)
	if etag.Known(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeJSON(w, r, append(b, '\n'))
}

// item looks up one item that may be seen.
func (a *API) item(ctx context.Context, s *sight, folder bool, text string) (item, error) {
	kind := "file"
	if folder {
		kind = "folder"
	}
	missing := &notify.Error{Op: "box.item", Kind: notify.NotFound, Msg: "there is no " + kind + " with the id " + strconv.Quote(clip(text))}
	id, err := notify.ParseFileID(text)
	if err != nil {
		return item{}, missing
	}
	seq, err := a.seqOf(ctx, id) // before the look: it is never newer than what is seen
	if err != nil {
		return item{}, err
	}
	names, err := a.Files.LookupNames(everything(ctx), id)
	if err != nil && !errors.Is(err, notify.NotFound) && !errors.Is(err, notify.Unavailable) {
		return item{}, err
	}
	for _, e := range names { // the last ones, of a root that is away
		root, ok := s.roots[e.Root]
		if !ok || e.Attr.IsDir() != folder || !(s.sees(&root, e.Path) || folder && s.touches(&root, e.Path)) {
			continue
		}
		if err != nil {
			return item{}, err
		}
		now, err := a.Files.Stat(everything(ctx), id)
		if errors.Is(err, notify.NotFound) {
			return item{}, missing
		}
		if err != nil {
			return item{}, err
		}
		return item{root: &root, path: e.Path, spine: e.Spine, attr: &now.Attr, seq: seq, status: active}, nil
	}
	if errors.Is(err, notify.Unavailable) && s.grant.Prefixes == nil {
		return item{}, err
	}
	return item{}, missing
}

// seqOf is the sequence_id of an item that is looked at by itself.
func (a *API) seqOf(ctx context.Context, id notify.FileID) (notify.Seq, error) {
	a.tail.mu.Lock()
	defer a.tail.mu.Unlock()
	if _, err := a.tail.advance(ctx); err != nil {
		return 0, err
	}
	return a.tail.seqOf(id), nil
}

// writeRootFolder answers with All Files.
func (a *API) writeRootFolder(w http.ResponseWriter, r *http.Request, s *sight) error {
	list, err := a.listRoots(r.Context(), s)
	if err != nil {
		return err
	}
	b := []byte(rootFolderMini[:len(rootFolderMini)-1])
	b = append(b, `,"description":"","size":0,"path_collection":{"total_count":0,"entries":[]},"parent":null,"trashed_at":null,"purged_at":null,"created_by":`+
		unknownUser+`,"modified_by":`+unknownUser+`,"owned_by":`+unknownUser+`,"shared_link":null,"item_status":"active","item_collection":`...)
	return writeJSON(w, r, append(list.appendPage(b, firstPage), "}\n"...))
}

// serveItems answers GET /2.0/folders/{id}/items.
func (a *API) serveItems(w http.ResponseWriter, r *http.Request, id string) error {
	s, err := a.look(r.Context())
	if err != nil {
		return err
	}
	p, err := parsePaging(r.URL.Query())
	if err != nil {
		return err
	}
	var list listing
	if id == rootFolder {
		list, err = a.listRoots(r.Context(), s)
	} else if it, e := a.item(r.Context(), s, true, id); e != nil {
		err = e
	} else {
		list, err = a.list(r.Context(), s, &it, p)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, r, append(list.appendPage(nil, p), '\n'))
}

// paging is which part of a folder is wanted.
type paging struct {
	limit, offset int
	byMarker      bool
	marker        string // the key of the last item of the page before; "": from the beginning
}

// firstPage is the part that is shown together with a folder.
var firstPage = paging{limit: defaultLimit}

func parsePaging(v url.Values) (paging, error) {
	p := paging{}
	var err error
	if p.limit, err = parseLimit(v.Get("limit"), defaultLimit, maxItems); err != nil {
		return p, err
	}
	if o := v.Get("offset"); o != "" && o != "null" {
		n, err := strconv.ParseUint(o, 10, 31)
		if err != nil {
			return p, badParameter("offset", o, "a number up to "+strconv.Itoa(math.MaxInt32))
		}
		p.offset = int(n)
	}
	switch b := v.Get("usemarker"); strings.ToLower(b) {
	case "", "false", "0":
	case "true", "1":
		p.byMarker = true
	default:
		return p, badParameter("usemarker", b, "true or false")
	}
	if m := v.Get("marker"); p.byMarker && m != "" && m != "null" {
		key, err := base64.RawURLEncoding.DecodeString(m)
		if err != nil || len(key) < 2 {
			return p, badParameter("marker", m, "one that was handed out before")
		}
		p.marker = string(key)
	}
	return p, nil
}

// listing is what is in a folder: folders first, each kind by name.
type listing []item

// key is where an item stands in its folder.
func (it *item) key() string {
	if it.attr.IsDir() {
		return "0" + it.name()
	}
	return "1" + it.name()
}

// list lists a folder, as far as it may be seen; of those outside p, the sequence_id is not known.
func (a *API) list(ctx context.Context, s *sight, it *item, p paging) (listing, error) {
	select {
	case a.listing <- struct{}{}:
		defer func() { <-a.listing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	snap, err := a.Files.Snapshot(everything(ctx), it.id(), false)
	if err != nil {
		return nil, err
	}
	out := make(listing, 0, len(snap.Entries)-1)
	for i := range snap.Entries[1:] {
		e := &snap.Entries[1+i]
		if !s.touches(it.root, e.Path) || !e.Attr.IsDir() && !s.sees(it.root, e.Path) {
			continue
		}
		out = append(out, item{root: it.root, path: e.Path, spine: e.Spine, attr: &e.Attr, status: active})
	}
	out.sort()
	from, end := out.part(p)
	a.tail.mu.Lock() // which all events wait for: no longer than it takes for one page
	defer a.tail.mu.Unlock()
	if _, err = a.tail.advance(ctx); err != nil {
		return nil, err
	}
	for i := range out[from:end] {
		o := &out[from+i]
		o.seq = min(a.tail.seqOf(o.id()), snap.Seq)
	}
	return out, nil
}

// listRoots lists All Files. A root that is away or not yet indexed is not in it.
func (a *API) listRoots(ctx context.Context, s *sight) (listing, error) {
	out := listing{}
	for _, id := range s.order {
		r := s.roots[id]
		if !s.touches(&r, "") {
			continue
		}
		seq, err := a.seqOf(ctx, id)
		if err != nil {
			return nil, err
		}
		now, err := a.Files.Stat(everything(ctx), id)
		if errors.Is(err, notify.Unavailable) || errors.Is(err, notify.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, item{root: &r, spine: notify.Spine{id}, attr: &now.Attr, seq: seq, status: active})
	}
	out.sort()
	return out, nil
}

func (l listing) sort() {
	slices.SortFunc(l, func(a, b item) int {
		if a.attr.IsDir() != b.attr.IsDir() {
			if a.attr.IsDir() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name(), b.name())
	})
}

// part is where a part of a listing begins and ends.
func (l listing) part(p paging) (from, end int) {
	from = min(p.offset, len(l))
	if p.byMarker {
		from, _ = slices.BinarySearchFunc(l, p.marker, func(it item, key string) int {
			if it.key() <= key {
				return -1
			}
			return 1
		})
	}
	return from, min(from+p.limit, len(l))
}

// appendPage appends a part of a listing.
func (l listing) appendPage(b []byte, p paging) []byte {
	from, end := l.part(p)
	b = append(b, `{"total_count":`...)
	b = strconv.AppendInt(b, int64(len(l)), 10)
	b = append(b, `,"entries":[`...)
	for i := from; i < end; i++ {
		if i > from {
			b = append(b, ',')
		}
		b = appendItem(append(b, '\n'), &l[i])
	}
	b = append(b, `],"limit":`...)
	b = strconv.AppendInt(b, int64(p.limit), 10)
	if p.byMarker {
		if end < len(l) && end > 0 { // on the last page it is absent: rclone takes "" for a marker, and org.json null for "null"
			b = append(b, `,"next_marker":"`...)
			b = append(b, base64.RawURLEncoding.EncodeToString([]byte(l[end-1].key()))...)
			b = append(b, '"')
		}
	} else {
		b = append(b, `,"offset":`...)
		b = strconv.AppendInt(b, int64(p.offset), 10)
	}
	return append(b, `,"order":[{"by":"type","direction":"ASC"},{"by":"name","direction":"ASC"}]}`...)
}
