package main

import (
	"context"
	"os"
	"strings"
	"testing"
)

// Whoever types something wrong is told on one line what it is and what would be right; exit code 2 says that
// the command was wrong, 1 that it could not be done.
func TestMisuse(t *testing.T) {
	t.Chdir(t.TempDir())
	os.MkdirAll("d/e", 0o755)
	os.Mkdir("empty", 0o755)
	os.WriteFile("file", nil, 0o644)
	os.Symlink("file", "link")
	os.Symlink("new", "dangling")
	os.Link("file", "hard")
	os.Symlink("d", "todir")
	here, _ := os.Getwd()
	for _, v := range os.Environ() { // the tester's own settings are not the test's
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, "")
		}
	}
	const usage = "\nRun \"fs_notify"
	type mistake struct{ args, says string }
	try := func(c mistake, wantCode, wantLines int) {
		ctx, cancel := context.WithTimeout(t.Context(), patience) // what is not refused would run
		defer cancel()
		code, stdout, stderr := runHere(ctx, strings.NewReader(""), strings.Fields(c.args)...)
		switch {
		case !strings.Contains(stderr, c.says) || !strings.HasPrefix(stderr, "fs_notify: ") || stdout != "":
			t.Errorf("fs_notify %s: stdout %q, stderr %q, want %q", c.args, stdout, stderr, c.says)
		case code != wantCode || strings.Count(stderr, "\n") != wantLines || strings.Contains(stderr, usage) != (code == exitMisuse):
			t.Errorf("fs_notify %s: exit %d with %q", c.args, code, stderr)
		}
	}
	for _, c := range []mistake{
		{``, `fs_notify: what should be watched? Name a directory with --path`},
		{`--path d --recursiv`, `fs_notify: unknown flag: --recursiv, did you mean --recursive?`},
		{`--path`, `flag needs an argument: --path`},
		{`d`, `unexpected word "d": to watch that directory write --path d`},
		{`serv`, `unknown command "serv", did you mean serve?`},
		{`version 1`, `unexpected word "1"`},
		{`--path d --id 7`, `--path and --id both name the directory`},
		{`--id 7`, `--id needs --host`},
		{`--host h --id 007`, `--id: "007" is not a file ID`},
		{`--path d --json --ndjson`, `--json and --ndjson are two forms of output`},
		{`--path d --fields many --json`, `--fields many is neither qumulo nor all`},
		{`--path d --fields all`, `the table has no room for --fields all: add --json or --ndjson`},
		{`--path d --count 0`, `--count 0: it should be 1 or more`},
		{`--path d --timeout soon`, `"soon" is no duration: write it like 30s`},
		{`--path d --since yesterday`, `--since: "yesterday" is no place to begin`},
		{`--path d --since 5m`, `--since 5m needs --state-dir`},
		{`--path d --cursor-file c`, `--cursor-file needs --state-dir`},
		{`--host h --path /d --file file --cursor-file file`, `--cursor-file file is the output, too: each needs a file of its own`},
		{`--path d --state-dir s --file link --cursor-file file`, `--cursor-file file is the output, too`},
		{`--path d --state-dir s --file hard --cursor-file link`, `--cursor-file link is the output, too`},
		{`--path d --state-dir s --file dangling --cursor-file d/../new`, `--cursor-file d/../new is the output, too`},
		{`--path d --state-dir s --file new --cursor-file ` + here + `/new`, `is the output, too`},
		{`--path d --watcher eyes`, `--watcher eyes: there are auto, fsnotify, inotify, fanotify, poll`},
		{`--path d --filter child_file_add`, `--filter: unknown notification type "child_file_add", did you mean "child_file_added"?`},
		{`--path d --filter child_file_added child_dir_gone`, `unknown notification type "child_dir_gone"`},
		{`--path d --port 8000`, `--port needs --host`},
		{`--host h --port 0 --path /d`, `--port 0: it should be 1 to 65535`},
		{`--host h --path d`, `--path d: with --host it should be the absolute path on the server`},
		{`--host h --path /d --state-dir s`, `--state-dir is for watching on this machine`},
		{`--host h --path /d --ndjson --tls-ca f --insecure`, `give one of them`},
		{`--path d --log-level loud`, `--log-level loud is none of`},
		{`serve`, `what should be served? Name at least one directory: --root`},
		{`serve --root d --tls-cert c`, `--tls-cert and --tls-key belong together`},
		{`serve --root d --listen 8000`, `--listen 8000: it should be an address and a port`},
		{`serve --root d --listen 0.0.0.0:8000`, `nothing says who may ask`},
		{`serve --root d --listen :8000`, `nothing says who may ask`},
		{`serve --root d --retain-bytes much`, `"much" is no size: write it like 512MiB`},
		{`serve --root d --exclude [`, `--exclude: "[" is not a glob pattern below the directory`},
		{`serve --root d --exclude /d/x`, `--exclude: "/d/x" is not a glob`},
		{`serve --root d --exclude=`, `--exclude: "" is not a glob`},
		{`serve --root d --exclude a//b`, `--exclude: "a//b" is not a glob`},
		{`--path d --exclude ../x`, `--exclude: "../x" is not a glob`},
		{`--path d --include ./a`, `--include: "./a" is not a glob`},
		{`serve --root d --exclude {/secret/**,../secret}`, `--exclude: "{/secret/**,../secret}" stands for "/secret/**" too, which is not a glob`},
		{`--path d --exclude {secret/**,./secret/**}`, `--exclude: "{secret/**,./secret/**}" stands for "./secret/**" too, which is not a glob`},
		{`serve --root d --allow-host foo:80`, `--allow-host "foo:80": it should be a name alone`},
		{`serve --root d --allow-host a/b`, `--allow-host "a/b": it should be a name alone`},
		{`serve --root d --allow-host=`, `--allow-host "": it should be a name alone`},
		{`serve --root d --max-streams-per-token -2`, `--max-streams-per-token, --max-streams-per-address and --connect-rate should be`},
		{`serve --root d --max-streams-per-address -2`, `or -1 for what is usual`},
		{`serve --root d --connect-rate -2`, `or -1 for what is usual`},
		{`serve --root d --poll-interval 1ns`, `--poll-interval 10ms or more`},
		{`serve --root d --sweep-interval 1ms`, `--sweep-interval should be 1s or more`},
		{`serve --root d --listen 127.0.0.1:99999`, `--listen 127.0.0.1:99999: there is no port 99999, it should be 0 to 65535`},
		{`serve --root d --admin-listen 127.0.0.1:99999`, `--admin-listen 127.0.0.1:99999: there is no port 99999`},
		{`health --listen 127.0.0.1:99999`, `--listen 127.0.0.1:99999: there is no port 99999`},
		{`health --listen 127.0.0.1:0`, `--listen 127.0.0.1:0: it should be the port that the server has`},
		{`--host 127.0.0.1:23160 --path /d`, `--host 127.0.0.1:23160: it should be a name or an address alone: write --host 127.0.0.1 --port 23160`},
		{`--host https://h:8000/ --path /d`, `write --host h --port 8000`},
		{`--host http://h --path /d`, `--host http://h: it should be a name or an address alone, such as files.example`},
		{`login -u joe --token-file f`, `unknown flag: --token-file`},
		{`logout --token-file f`, `unknown flag: --token-file`},
		{`who_am_i --host h/api`, `--host h/api: it should be a name or an address alone`},
		{`token create a --tokens t --expires 2020-01-31T08:00:00Z`, `--expires 2020-01-31T08:00:00Z: that is over`},
		{`--path d --filter foo`, `--filter: unknown notification type "foo": it should be one of child_file_added, child_dir_added`},
		{`serve --root d --max-streams x`, `invalid value "x" for --max-streams: it should be a whole number`},
		{`serve --root d --max-streams 99999999999999999999`, `for --max-streams: such a number is not possible`},
		{`--path d --recursive=yes`, `invalid value "yes" for --recursive: it should be true or false`},
		{`serve --root d --retain-age 99999999d`, `for --retain-age: "99999999d" is too long: it may be 106751d`},
		{`serve --root d --retain-bytes 99999999999999999999GB`, `is too large: it should be less than 8EiB`},
		{`completion tcsh`, `completion tcsh: there are bash, fish, powershell, zsh`},
		{`completion`, `of which shell? There are bash, fish, powershell, zsh`},
		{`help nonsense`, `there is no help on "nonsense"`},
		{`help serv`, `there is no help on "serv", did you mean serve?`},
		{`help journal dmp`, `there is no help on "journal dmp", did you mean dump?`},
		{`serve --root d --root d --listen 127.0.0.1:0`, `is served already`},
		{`serve --root d --root d/e --listen 127.0.0.1:0`, `lie one in the other: serve the outer one`},
		{`serve --root d --state-dir d --listen 127.0.0.1:0`, `--state-dir d: that is the directory to be watched, ` + here + `/d: name another one, which may lie in it`},
		{`serve --root d/e --root /x=d/../todir/../empty --state-dir d/e/../../empty/. --listen 127.0.0.1:0`, `that is the directory to be watched, ` + here + `/empty:`},
		{`serve --root d --state-dir todir --listen 127.0.0.1:0`, `--state-dir todir: that is the directory to be watched`},
		{`--path todir --recursive --state-dir d`, `--state-dir d: that is the directory to be watched, ` + here + `/d:`},
		{`--path d --state-dir todir`, `--state-dir todir: that is the directory to be watched`},
	} {
		try(c, exitMisuse, 2)
	}
	for _, c := range []mistake{
		{`--path file`, `file is not a directory: watch the one that it is in`},
		{`--path d --file nowhere/out`, `the output cannot be written`},
		{`serve --root d --log-level error --tokens nope --listen 127.0.0.1:0`, `fs_notify: --tokens: stat nope: `},
		{`serve --root d --log-level error --users nope --listen 127.0.0.1:0`, `fs_notify: --users: stat nope: `},
		{`serve --root d --root file --listen 127.0.0.1:0`, `file is not a directory`},
		{`serve --root d --tls-cert file --tls-key none.pem --listen 127.0.0.1:0`, `--tls-cert and --tls-key: open none.pem`},
	} {
		try(c, exitFailed, 1)
	}
}
