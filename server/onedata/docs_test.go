package onedata

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
)

var update = flag.Bool("update", false, "write the tables in the documentation anew")

// The tables in the documentation are the ones that the program goes by.
func TestDocsHaveTheTables(t *testing.T) {
	const path = "../../docs/protocols/onedata.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := doc
	for name, table := range map[string]string{"rules": rulesTable(), "fields": fieldsTable(), "unknowable": unknowableTable()} {
		begin, end := []byte("<!-- "+name+": `go test ./server/onedata -update` writes it -->\n"), []byte("<!-- end -->\n")
		i := bytes.Index(want, begin)
		if i < 0 {
			t.Fatalf("%s has no place for the table %s", path, name)
		}
		i += len(begin)
		n := bytes.Index(want[i:], end)
		if n < 0 {
			t.Fatalf("the table %s has no end", name)
		}
		want = bytes.Join([][]byte{want[:i], []byte(table), want[i+n:]}, nil)
	}
	switch {
	case bytes.Equal(doc, want):
	case *update:
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s has other tables than the program; -update writes them", path)
	}
}

func rulesTable() string {
	var b strings.Builder
	b.WriteString("| notification | documents, in the order of their seqs | `deleted` | |\n| --- | --- | --- | --- |\n")
	for i := range rules {
		r := &rules[i]
		var types, records []string
		for _, typ := range r.types.Types() {
			types = append(types, "`"+typ.String()+"`")
		}
		for _, rec := range r.records {
			records = append(records, "`"+rec.String()+"`")
		}
		deleted := ""
		if r.deleted {
			deleted = "`true`"
		}
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s |\n", strings.Join(types, " "), []string{"", ", both names in the space", ", the other name elsewhere"}[r.halves],
			strings.Join(records, " · "), deleted, r.means)
	}
	return b.String()
}

func fieldsTable() string {
	var b strings.Builder
	b.WriteString("| record | `fields` |\n| --- | --- |\n")
	for r, fields := range fieldsOf {
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = "`" + fieldNames[f] + "`"
		}
		list := strings.Join(names, " ")
		if record(r) == customMetadata {
			list = "any names of attributes, and `onedata_json` `onedata_rdf` `onedata_keyvalue`"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", record(r), list)
	}
	return b.String()
}

func unknowableTable() string {
	var b strings.Builder
	b.WriteString("| Onedata | what is put here |\n| --- | --- |\n")
	for _, u := range unknowable {
		fmt.Fprintf(&b, "| %s | %s |\n", u.what, u.put)
	}
	return b.String()
}

// Every type has a rule, for both ways in which a rename can be seen. Documents that come late come in the order of their records: a rule has to have them so.
func TestRulesAreComplete(t *testing.T) {
	for typ := range notify.Type(notify.NumTypes) {
		for _, h := range []halves{paired, alone} {
			if ruleFor(typ, h) == nil {
				t.Errorf("%v has no rule", typ)
			}
		}
	}
	for i := range rules {
		if r := &rules[i]; len(r.records) > notify.WideIndexes {
			t.Errorf("rule %d writes %d documents", i, len(r.records))
		}
		if r := &rules[i]; r.types&notify.Wide == 0 && len(r.records) > 1 && !slices.IsSorted(r.records[1:]) {
			t.Errorf("rule %d promises %v behind the first, in this order", i, r.records)
		}
	}
}
