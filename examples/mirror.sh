#!/usr/bin/env bash
# Keeps a mirror of the names in a directory of a fs_notify server, and goes on where it left off.
#
#   mirror.sh http://127.0.0.1:8000 /srv/data mirror.json [IDLE_MS]
#
# mirror.json is flat: {"PARENT/NAME": [file ID, is it a directory]}, PARENT being a file ID too. A renamed
# directory is one changed key; what is inside does not notice. "id" is that of the last block that went
# in. The file is there with the first whole snapshot, and stays what it is until there is another whole state. It is written when the
# stream pauses for ten seconds, or for IDLE_MS, and every five minutes. With IDLE_MS the script ends after so long without a
# change. It ends with 1 when the directory goes away.
#
# Where a token is needed, FS_NOTIFY_TOKEN in the environment is one. A first snapshot has to come within five minutes.
#
# Needs bash 5, curl 7.75 and jq 1.6. jq cannot hold bytes that are not UTF-8: in a NAME they are written \udc80 to \udcff, and \ is written \\.
set -euo pipefail
shopt -s lastpipe # what stands last in a pipeline can set variables
(($# == 3 || $# == 4)) || { sed -n '2,14s/^# \?//p' "$0" >&2; exit 2; }
server=$1 state=$3 idle=${4:-10000}
[[ $server == http://* || $server == https://* ]] || { echo "$server is no address of a server: it should begin with http:// or https://" >&2; exit 2; }
while [[ $server == */ ]]; do server=${server%/}; done
ref=$(jq -rn --arg dir "$2" '$dir | @uri')
trap 'rm -f "$state.new" "$state.status"' EXIT
names=$(printf ',child_%s' {file,dir}_{added,removed,moved_from,moved_to})

fold='
def blocks:                          # a block that was cut off has no empty line behind it and never happened
  foreach inputs as $line ({}; if .done then {} else . end
    | if $line == "" then .done = true
      elif $line | startswith("data:") then .data = ($line[5:] # in names \ becomes \\, and \udc80 text
        | split("\\\\") | map(split("\\udc") | join("\\\\udc")) | join("\\\\\\\\"))
      elif $line | startswith("event:") then .event = ($line[6:] | ltrimstr(" "))
      elif $line | startswith("id:") then .id = ($line[3:] | ltrimstr(" "))
      else . end; select(.done));
def steps:                           # what there is to do for a block
  if .event == "reset" then {reset: true} elif .data then (.data | fromjson[]), {settled: true} else empty end,
  (select(.id) | {id});
def drop($gone):                     # these keys, and everything inside their directories
  if $gone == [] then . else
    [$gone[] | .value | select(.[1])[0] + "/"] as $dirs | delpaths($gone | map([.key]))
    | drop([to_entries[] | select(.key as $k | any($dirs[]; . as $d | $k | startswith($d)))]) end;
# Only keys of the outermost object are ever set: jq 1.6 copies whatever holds an object that it changes.
reduce (blocks | steps) as $s ($old[0] | .gone = false | .away = 0;
  if $s.reset then {away: 0, gone: false}
  elif $s.id then setpath(["id"]; $s.id)
  elif $s.settled then                # what is away still has left
    if .away == 0 then . else drop([to_entries[] | select(.key | startswith("<"))]) | .away = 0 end
  elif $s.type == "self_removed" then setpath(["gone"]; true)
  else
    ($s.type | endswith("removed") or endswith("from")) as $leaves
    | [$s.spine[-1], ($s.type | startswith("child_dir"))] as $entry
    | ($s.spine[-2] + "/" + ($s.path | split("/")[-1])) as $key | ("<" + $entry[0]) as $aside
    | if $leaves != has($key) then error("the stream contradicts the mirror: \($s)")
      elif $leaves then delpaths([[$key]])
        | if $s.type | endswith("from") then setpath([$aside]; $entry) | setpath(["away"]; .away + 1) else . end
      else setpath([$key]; $entry)
        | if has($aside) and ($s.type | endswith("to")) then delpaths([[$aside]]) | setpath(["away"]; .away - 1) else . end end end)
| select(.id and .id != $old[0].id)   # without one, it is a part of a snapshot'

# By way of a file: the arguments of curl can be seen by everybody on this machine.
auth() { [[ -z ${FS_NOTIFY_TOKEN-} ]] || printf 'Authorization: Bearer %s\n' "$FS_NOTIFY_TOKEN"; }

id= due=0
[[ ! -s $state ]] || id=$(jq -r '.id // empty' "$state")
# Each line goes to jq as a string of JSON: raw lines beyond 4 KiB jq 1.6 cuts in the middle of a character.
while :; do
	from=since=snapshot old=/dev/null gone=false
	[[ -z $id ]] || from=last_event_id=$id old=$state
	url="$server/v1/files/$ref/notify?recursive=true&filter=${names:1}&timeout=$idle&$from"
	began=${EPOCHREALTIME//[.,]/}
	{ curl -sfN --max-time 300 -H 'Accept: text/event-stream' -H @<(auth) -w '%{stderr}%{http_code}\n%{exitcode}\n' "$url" 2>"$state.status" || :; } |
		LC_ALL=C sed 's/[\\"]/\\&/g; s/.*/"&"/' | {
		head= heard=
		while IFS= read -r line; do
			head+=$line$'\n'
			[[ $line != '"data:'* && $line != '"event:'* ]] || { heard=true && break; }
		done
		: >"$state.new"
		now=${EPOCHREALTIME//[.,]/} # a mere id is no reason to read and write a large file each time
		if [[ -n $heard ]] || ((now >= due)); then
			{ printf %s "$head" && cat; } | jq -nc --slurpfile old "$old" "$fold" >"$state.new"
			[[ -n $heard ]] || due=$((now + 20 * (${EPOCHREALTIME//[.,]/} - now)))
		fi
	}
	if [[ -s $state.new ]]; then
		mv "$state.new" "$state"
		read -r id gone < <(jq -r '"\(.id) \(.gone)"' "$state")
	fi
	if [[ $gone == true ]]; then
		echo "the directory is gone; once it is back, this goes on when it is started again" >&2
		exit 1
	fi
	{ read -r status; read -r failed; } <"$state.status"
	case $status in
	200)
		lasted=$(((${EPOCHREALTIME//[.,]/} - began) / 1000))
		(($# == 4 && lasted >= idle * 9 / 10)) && [[ -n $id && -z $heard ]] && break
		((failed)) && sleep 1
		;;
	410) id= ;; # gone: what was missed is not kept any more
	429 | 5?? | 000) sleep 1 ;;
	*)
		echo "refused: $(curl -s --max-time 5 -H 'Accept: text/event-stream' -H @<(auth) "$url")" >&2
		exit 1
		;;
	esac
done
