// The words of the page: types in groups, and names, which come from strangers' file systems: they reach the
// document through textContent only, and the page's policy forbids anything else.

export const $ = (id) => document.getElementById(id);

// What one chip stands for: its text, its colour, the types; false: not shown at first.
export const groups = [
  ["added", "added", ["child_file_added", "child_dir_added"]],
  ["removed", "removed", ["child_file_removed", "child_dir_removed", "self_removed"]],
  ["moved", "moved", ["child_file_moved_from", "child_file_moved_to", "child_dir_moved_from", "child_dir_moved_to"]],
  ["data", "data", ["child_data_written", "child_size_changed"]],
  ["modified", "attr", ["child_mtime_changed"]],
  ["accessed", "attr", ["child_atime_changed"]],
  ["created", "attr", ["child_btime_changed"]],
  ["ACL", "attr", ["child_acl_changed"]],
  ["owner", "attr", ["child_owner_changed", "child_group_changed"]],
  ["attributes", "attr", ["child_extra_attrs_changed"]],
  ["streams", "data", ["child_stream_added", "child_stream_removed", "child_stream_moved_from", "child_stream_moved_to",
    "child_stream_size_changed", "child_stream_data_written"]],
  ["closed", "data", ["child_file_closed"], false],
];

export const colourOf = new Map(groups.flatMap(([, colour, types]) => types.map((t) => [t, colour])));
colourOf.set("self_removed", "self");

// The types that a server tells to those who name none.
export const usual = groups.filter(([, , , on]) => on !== false).flatMap(([, , types]) => types);

// What would be invisible, or change how its neighbours look: control characters, direction marks, and lone
// surrogates, which stand for bytes that are not UTF-8.
const odd = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

function escapeUnit(c) {
  const n = c.charCodeAt(0);
  const named = { 9: "\\t", 10: "\\n", 13: "\\r" }[n];
  if (named) return named;
  const hex = (x, width) => x.toString(16).padStart(width, "0");
  if (n >= 0xdc80 && n <= 0xdcff) return "\\x" + hex(n - 0xdc00, 2);
  return n < 0x100 ? "\\x" + hex(n, 2) : "\\u" + hex(n, 4);
}

// parts splits a name into what can be shown as it is (even places) and what cannot (odd places).
const parts = (name) => name.split(new RegExp(`(${odd.source})`)).map((p, i) => (i % 2 ? escapeUnit(p) : p));

export function showName(el, name) {
  el.replaceChildren(...parts(name).map((p, i) => {
    if (i % 2 === 0) return document.createTextNode(p);
    const span = document.createElement("span");
    span.className = "esc";
    span.textContent = p;
    return span;
  }));
}

export const plain = (name) => parts(name).join("");

// encodeRef makes one path component of a path; lone surrogates become the bytes they stand for.
export function encodeRef(path) {
  return Array.from(path, (c) => {
    const n = c.charCodeAt(0);
    if (c.length === 1 && n >= 0xdc80 && n <= 0xdcff) return "%" + (n - 0xdc00).toString(16).toUpperCase();
    return encodeURIComponent(c.toWellFormed ? c.toWellFormed() : c);
  }).join("");
}

// decodeRef is the way back: what is not UTF-8 becomes lone surrogates. A "+" is a space, as in what forms make.
export function decodeRef(text) {
  return text.replaceAll("+", " ").replace(/%[c-d].%[89ab].|%e.(%[89ab].){2}|%f.(%[89ab].){3}|%[0-9a-f]{2}/gi, (c) => {
    try {
      return decodeURIComponent(c);
    } catch {
      return c.replace(/%(..)/g, (_, hex) => String.fromCharCode(0xdc00 + parseInt(hex, 16)));
    }
  });
}
