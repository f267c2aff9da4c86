#!/bin/sh
# deb: "remove"; rpm: 0. Not at an upgrade.
set -e
case "$1" in remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now fs_notify.service || true
	fi
	;;
esac
