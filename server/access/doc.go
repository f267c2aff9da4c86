// Package access says who asks and what that one may do: by tokens, whose hashes a file has, by sessions of users, whose password
// hashes another file has, and, where there is neither, by being on this machine.
//
// An [Access] lets a request pass that carries a token or the token of a session, in one of the headers that clients of the protocols
// use, or a session in a cookie, as browsers do. The grant that it puts into the request's context ends when the file no longer has
// the token, or has another one of its name; when it expires; when the user's password changes, or the user logs out. Streams end with it.
// Both files are read again when they change, without touching what stayed the same.
//
// A [Local] lets processes of this machine pass, as far as they may see by themselves what the program sees.
//
// Promised: neither a token nor a password is ever logged, kept or compared but as a hash; comparison takes a time that tells nothing;
// guessing is slowed down for each address and each user. Not promised: that a restart remembers who logged out, unless there is
// a state directory.
package access
