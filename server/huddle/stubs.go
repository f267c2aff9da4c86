package huddle

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"html"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strconv"
	"time"

	"fs_notify/notify"
)

// Every link that is given out leads to something. These resources say no more than that and where to go on.
type (
	userResource struct {
		XMLName    xml.Name    `xml:"http://schema.huddle.net/2011/02/ user" json:"-"`
		Links      []link      `xml:"link" json:"links"`
		Profile    profile     `xml:"profile" json:"profile"`
		Workspaces *membership `xml:"membership" json:"membership,omitempty"`
	}
	profile struct {
		Name  string `xml:"personal>displayname" json:"displayname"`
		Email string `xml:"contacts>email,omitempty" json:"email,omitempty"`
	}
	membership struct {
		Workspaces []workspaceResource `xml:"workspaces>workspace" json:"workspaces"`
	}
	workspaceResource struct {
		Title string `xml:"title,attr" json:"title"`
		Type  string `xml:"type,attr" json:"type"`
		Links []link `xml:"link" json:"links"`
	}
	oneWorkspace struct {
		XMLName xml.Name `xml:"http://schema.huddle.net/2011/02/ workspace" json:"-"`
		workspaceResource
	}
	object struct {
		XMLName xml.Name `json:"-"`
		Title   string   `xml:"title,attr" json:"title"`
		Links   []link   `xml:"link" json:"links"`
		Actors  []actor  `xml:"actor" json:"actors"`
		Created string   `xml:"created,omitempty" json:"created,omitempty"`
		Updated string   `xml:"updated" json:"updated"`
		Size    *int64   `xml:"size" json:"size,omitempty"`
	}
)

// serveEntry lists the workspaces that the client may see.
func (a *API) serveEntry(w http.ResponseWriter, r *http.Request) error {
	grant, links := notify.GrantOf(r.Context()), linkerOf(r)
	out := userResource{Links: []link{{Rel: "self", Href: links.to("entry")}}, Profile: profile{Name: title(grant.Name)}, Workspaces: &membership{}}
	for _, s := range a.Files.Roots() {
		if s.ID != 0 && grant.Touches(s.Name) {
			ws := &workspace{id: s.ID, root: s, grant: grant, links: links}
			out.Workspaces.Workspaces = append(out.Workspaces.Workspaces, ws.resource())
		}
	}
	return answer(w, r, &out, time.Time{})
}

func (ws *workspace) resource() workspaceResource {
	self := ws.links.workspace(ws.id)
	out := workspaceResource{Title: title(ws.root.Name), Type: "shared", Links: []link{
		{Rel: "self", Href: self}, {Rel: "changes", Href: self + "/changes"}}}
	if ws.sees("") {
		out.Links = append(out.Links, link{Rel: "documentLibrary", Href: ws.links.object(ws.id, true)})
	}
	return out
}

// serveWorkspace describes a root.
func (a *API) serveWorkspace(w http.ResponseWriter, r *http.Request, id string) error {
	root, err := parseID(id)
	if err != nil {
		return err
	}
	ws, err := a.workspaceOf(r, root)
	if err != nil {
		return err
	}
	return answer(w, r, &oneWorkspace{workspaceResource: ws.resource()}, time.Time{})
}

// serveChange describes one change.
func (a *API) serveChange(w http.ResponseWriter, r *http.Request, id, seqText string) error {
	subject, err := parseID(id)
	if err != nil {
		return err
	}
	seq, err := notify.ParseSeq(seqText)
	if err != nil {
		return notFound("there is no such change")
	}
	if seq.Batch() <= a.Feed.Log().Bounds().Base {
		return a.gone()
	}
	batches, err := a.Feed.PageBack(r.Context(), 0, seq.Batch(), 1)
	if err != nil {
		return err
	}
	if len(batches) > 0 && batches[0].Number == seq.Batch() {
		b := batches[0]
		ws, err := a.workspaceOf(r, b.Root)
		if err != nil {
			return err
		}
		for _, c := range changesOf(b, ws.sees) {
			if c.seq == seq && c.note.ID() == subject {
				return answer(w, r, &oneChange{change: a.changeOf(ws, &c)}, seq.Time().Truncate(time.Second))
			}
		}
	}
	return notFound("there is no such change")
}

// serveObject describes a file or a directory that is there.
func (a *API) serveObject(w http.ResponseWriter, r *http.Request, text string, dir bool) error {
	id, err := parseID(text)
	if err != nil {
		return err
	}
	e, err := a.Files.LookupID(r.Context(), id)
	if errors.Is(err, notify.NotFound) {
		return a.lost(r, id)
	}
	if err != nil {
		return err
	}
	ws, err := a.workspaceOf(r, e.Root)
	if err != nil {
		return err
	}
	if e.Attr.IsDir() != dir || !ws.sees(e.Path) {
		return notFound("there is no such object")
	}
	out := object{XMLName: xml.Name{Space: namespace, Local: "document"}, Title: title(baseName(ws.full(e.Path))),
		Links:  []link{{Rel: "self", Href: ws.links.object(id, dir)}, {Rel: "workspace", Href: ws.links.workspace(ws.id), Title: title(ws.root.Name)}},
		Actors: []actor{a.actorOf(ws.links, e.Attr.UID, "owner")}, Updated: time.Unix(0, e.Attr.Mtime).UTC().Format(timeFormat)}
	if dir {
		out.XMLName.Local = "folder"
	} else {
		out.Size = &e.Attr.Size
	}
	if e.Attr.Btime != 0 {
		out.Created = time.Unix(0, e.Attr.Btime).UTC().Format(timeFormat)
	}
	if len(e.Spine) > 1 && ws.sees(parentPath(e.Path)) {
		out.Links = append(out.Links, link{Rel: "parent", Href: ws.links.object(e.Spine[len(e.Spine)-2], true)})
	}
	return answer(w, r, &out, time.Time{})
}

// lost says what became of an object that is not there: deleted, if that is told in the newest part of the journal.
func (a *API) lost(r *http.Request, id notify.FileID) error {
	grant := notify.GrantOf(r.Context())
	for _, s := range a.Files.Roots() {
		if !grant.Touches(s.Name) {
			continue
		}
		ws := &workspace{id: s.ID, root: s, grant: grant}
		found, err := a.toldOf(r.Context(), ws, id)
		if err != nil {
			return err
		}
		if found {
			return &coded{"ObjectDeleted", &notify.Error{Op: "huddle", Kind: notify.Gone, Msg: "the object " + id.String() + " is gone"}}
		}
	}
	return notFound("there is no such object")
}

// toldOf says whether the newest batches of a workspace tell of an entry, be it of the end of a directory above it.
func (a *API) toldOf(ctx context.Context, ws *workspace, id notify.FileID) (bool, error) {
	s := &scan{ws: ws}
	for limit, from := 16, a.Feed.Log().Bounds().Head; !s.exhausted(); limit = min(4*limit, 512) {
		batches, err := a.Feed.PageBack(ctx, ws.id, from, limit)
		if err != nil || len(batches) == 0 {
			return false, err
		}
		for _, b := range batches {
			s.batches++
			s.notes += len(b.Notes)
			for i := range b.Notes {
				if n := &b.Notes[i]; len(n.Spine) > 0 && n.ID() == id && ws.sees(n.Path) {
					return true, nil
				}
			}
			if b.Number == 0 {
				return false, nil
			}
			from = b.Number - 1
		}
	}
	return false, nil
}

func parseUID(s string) (uint32, error) {
	uid, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, &coded{"ResourceMatchingFailed", &notify.Error{Op: "huddle", Kind: notify.NotFound, Err: err, Msg: clip(s) + " is not the number of a user"}}
	}
	return uint32(uid), nil
}

// serveUser describes a user, for programs or, as a profile, for people.
func (a *API) serveUser(w http.ResponseWriter, r *http.Request, text string, page bool) error {
	uid, err := parseUID(text)
	if err != nil {
		return err
	}
	act := a.actorOf(linkerOf(r), uid, "owner")
	if !page {
		return answer(w, r, &userResource{Links: act.Links, Profile: profile{Name: act.Name, Email: act.Email}}, time.Time{})
	}
	headers(w)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src 'self'")
	name, picture := html.EscapeString(act.Name), html.EscapeString("/files/users/"+strconv.FormatUint(uint64(uid), 10)+"/avatar")
	write(w, r, http.StatusOK, "text/html; charset=utf-8", []byte("<!doctype html><html lang=en><meta charset=utf-8><title>"+name+"</title><h1>"+name+
		"</h1><p><img alt=\"\" src=\""+picture+"\"><p>"+html.EscapeString(act.Email)+"</html>\n"))
	return nil
}

// serveAvatar draws a pattern that is the user's own.
func (a *API) serveAvatar(w http.ResponseWriter, r *http.Request, text string) error {
	uid, err := parseUID(text)
	if err != nil {
		return err
	}
	const cells, cell = 5, 12
	bits := (uint64(uid) + 1) * 0x9e3779b97f4a7c15 // spreads small numbers over all bits
	ink := color.RGBA{uint8(64 + bits>>56&0x7f), uint8(64 + bits>>48&0x7f), uint8(64 + bits>>40&0x7f), 255}
	m := image.NewPaletted(image.Rect(0, 0, cells*cell, cells*cell), color.Palette{color.RGBA{240, 240, 240, 255}, ink})
	for y := range cells * cell {
		for x := range cells * cell {
			col := x / cell
			col = min(col, cells-1-col)
			m.SetColorIndex(x, y, uint8(bits>>(uint(y/cell*3+col))&1))
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return &notify.Error{Op: "huddle.avatar", Kind: notify.Internal, Err: err}
	}
	headers(w)
	w.Header().Set("Cache-Control", "private, max-age=86400")
	write(w, r, http.StatusOK, "image/png", b.Bytes())
	return nil
}
