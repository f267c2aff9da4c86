# syntax=docker/dockerfile:1
#
#   docker build -t fs_notify .
#   docker run --network host -v /srv/data:/data:ro -v fs_notify-state:/var/lib/fs_notify fs_notify
#
# What is mounted at /data is watched, and the journal is kept in /var/lib/fs_notify. The server listens on the
# loopback interface, since it serves this machine only: hence the host's network. Every flag of "fs_notify serve"
# is also an environment variable: -e FS_NOTIFY_LISTEN=127.0.0.1:8001 (which the health check then obeys too).
#
# It runs as user 65532, who sees what that user may read, and needs no capability: it watches with inotify. Two add to that:
#   --cap-add DAC_READ_SEARCH    sees every directory, whoever owns it
#   --cap-add SYS_ADMIN          and, with the former, uses fanotify: no watch for each directory, exact, who did it
# Docker gives added capabilities to root only, so these want --user 0; best with --cap-drop ALL before them, which leaves these two.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -X main.release=$VERSION" -o /out/usr/bin/fs_notify ./cmd/fs_notify
RUN mkdir -p /out/var/lib/fs_notify /out/data /out/tmp /out/etc/ssl/certs \
 && chmod 1777 /out/tmp && chmod 0770 /out/var/lib/fs_notify \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

# No shell, no library, nothing but the program. The state directory is of group 0, so that root without capabilities may write there too.
FROM scratch
COPY --from=build --chown=65532:0 /out/ /
USER 65532:65532
VOLUME /var/lib/fs_notify
ENTRYPOINT ["/usr/bin/fs_notify"]
CMD ["serve", "--root", "/data", "--state-dir", "/var/lib/fs_notify"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s CMD ["/usr/bin/fs_notify", "health"]
