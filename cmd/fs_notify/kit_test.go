package main

import (
	"log/slog"
	"testing"

	"fs_notify/server"
	"fs_notify/watch"
)

var quietLog = slog.New(slog.DiscardHandler)

func someRoot(t *testing.T) []watch.Root {
	dir := t.TempDir()
	return []watch.Root{{Name: "/data", Dir: dir}}
}

func someServer(e *engine) *server.Server {
	return server.New(server.Options{Files: e.files, Journal: e.log, Health: e.health()})
}
