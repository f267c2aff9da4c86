#!/bin/sh
# Not at an upgrade. deb says "remove"; rpm how many versions stay: 0; apk and pacman, which call this at a removal only, the version that goes.
set -e
case "$1" in remove | 0 | *.*)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now fs_notify.service || true
	fi
	;;
esac
